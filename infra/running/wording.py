"""Numbers with their nouns."""

from __future__ import annotations

from rich.console import Console


def counts_line(out: Console, title: str, counts: dict[str, int], examples: list[str] | None = None) -> None:
    """One line of counts by kind, and the first examples; nothing if there are none."""
    if not counts:
        return
    out.print(f"  {title}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))
    for example in (examples or [])[:3]:
        out.print(f"    {example}", markup=False, highlight=False, soft_wrap=True)


def many(count: int, noun: str) -> str:
    """``1 video``, ``2 videos``, ``3 classes``, ``4 batches``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"
