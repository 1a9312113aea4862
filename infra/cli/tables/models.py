"""`adaptfocus backbones`: the table of backbones."""

from __future__ import annotations

from rich.table import Table

from adaptfocus.trainers.backbones import BACKBONES


def _significant(billions: float) -> str:
    """At least three significant digits, so that a small number is not shown as 0."""
    return f"{billions:.1f}" if billions >= 10 else f"{billions:.3g}"


def table_of_backbones() -> Table:
    """One row for each backbone. A clip's cost is in 1e9 multiply-adds of a forward pass, which papers call GFLOPs."""
    table = Table(box=None)
    for title in ("backbone", "parameters", "G multiply-adds", "frames x stride", "pixels", "needs", "public weights"):
        table.add_column(title, justify="right" if title in ("parameters", "G multiply-adds", "pixels") else "left")
    for name, entry in BACKBONES.items():
        spec = entry.spec
        needs = "-" if entry.extra is None else f"{entry.extra} ({'installed' if entry.installed else 'not installed'})"
        table.add_row(
            name, f"{entry.parameters_millions:.2f} M", _significant(entry.gflops),
            f"{spec.frames} x {spec.frame_stride:g}", str(spec.size_pixels), needs, entry.weights,
        )  # fmt: skip
    return table
