"""`adaptfocus backbones`: what there is to train. Input: the table of backbones. Does: lays it out. Output: a table."""

from __future__ import annotations

from rich.table import Table

from trainers.backbones import BACKBONES


def table_of_backbones() -> Table:
    """A row a backbone; GFLOPs are multiply-adds of one clip, as papers count them."""
    table = Table(box=None)
    for title in ("backbone", "parameters", "GFLOPs", "frames x stride", "pixels", "needs", "public weights"):
        table.add_column(title, justify="right" if title in ("parameters", "GFLOPs", "pixels") else "left")
    for name, entry in BACKBONES.items():
        spec = entry.spec
        needs = "-" if entry.extra is None else f"{entry.extra} ({'installed' if entry.installed else 'not installed'})"
        table.add_row(
            name, f"{entry.parameters_millions:.2f} M", f"{entry.gflops:.1f}", f"{spec.frames} x {spec.frame_stride:g}",
            str(spec.size_pixels), needs, entry.weights,
        )  # fmt: skip
    return table
