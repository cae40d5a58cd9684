"""``html_table``: a table as notebooks show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

# Of a clip's frames a notebook wants the first.
_MOST_ROWS = 12


def html_table(rows: Iterable[Sequence[object]], *, head: Sequence[str] = (), caption: str = "") -> str:
    """A table in HTML, its texts escaped; without styles, since a notebook has its own, light or dark.

    Args:
        rows: cells, as many in each; of many rows the first twelve are shown, and how many more there are. Numbers are
            shown with three digits, None as nothing.
        head: names of the columns.
        caption: above it.

    Example:
        >>> html_table([("a<b", 0.12345)], head=("name", "loss"))
        '<table><tr><th>name</th><th>loss</th></tr><tr><td>a&lt;b</td><td>0.123</td></tr></table>'
    """
    rows = list(rows)
    parts = [f"<caption>{escape(caption)}</caption>"] if caption else []
    parts += [_row("th", head)] if head else []
    parts += [_row("td", row) for row in rows[:_MOST_ROWS]]
    if len(rows) > _MOST_ROWS:
        parts.append(_row("td", (f"and {len(rows) - _MOST_ROWS} more", *[""] * (len(rows[0]) - 1))))
    return f"<table>{''.join(parts)}</table>"


def _row(kind: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(_shown(cell))}</{kind}>' for cell in cells)}</tr>"


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
