"""Curves over the frames, or over steps, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from deidlib.evaluation.report.palette import LIGHT

_WIDTH, _HEIGHT = 760, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 34

# More points than pixels cannot be seen: of each group the least and the greatest value are drawn.
_MOST_POINTS = 700


@dataclass(frozen=True)
class Line:
    """One value per frame, or per step; None, where there is none, is a gap.

    Args:
        name: in the legend.
        values: per frame.
        colour: a number from 0.
        dashed: tells lines apart on paper.
    """

    name: str
    values: Sequence[float | None]
    colour: int
    dashed: bool = False


def chart(
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    top: float | None = None,
    bottom: float | None = 0.0,
    mark: float | None = None,
    over: str = "frame",
) -> str:
    """A figure: the curves, axes with numbers, and a legend.

    Args:
        title: above it.
        unit: of the values.
        lines: of one length.
        top: greatest value that is to be seen; what fits the lines if not given.
        bottom: value that is to be seen if all are greater; None for what fits the lines.
        mark: a value at which a line runs across.
        over: what is counted from left to right, from 0.

    Returns:
        HTML with an SVG in it.

    Example:
        >>> html = chart("Overlap", "IoU", [Line("mtcnn", [1.0, None, 0.5], 0)], top=1)
        >>> html.count("<circle"), "mtcnn" in html
        (2, True)
    """
    known = [value for line in lines for value in line.values if value is not None]
    known += [value for value in (bottom, mark) if value is not None] or [0.0][: not known]
    low, high = min(known), top if top is not None else max(known)
    ticks = _ticks(low, high if high > low else low + 1)
    low, high = ticks[0], ticks[-1]
    count = max(len(line.values) for line in lines)

    def x(frame: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (frame / (count - 1) if count > 1 else 0.5)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (min(value, high) - low) / (high - low)

    parts = []
    width = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}"'
    for tick in ticks:
        parts.append(
            f'<line stroke="currentColor" stroke-opacity="0.25" {width} y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        )
        parts.append(
            f'<text fill="currentColor" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    parts += [
        f'<text class="under" fill="currentColor" x="{x(frame):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="middle">{frame}</text>'
        for frame in _frame_ticks(count)
    ]
    parts.append(
        f'<text class="axis" fill="currentColor" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">'
        f"{escape(over)}</text>"
    )
    if mark is not None:
        stroke = 'stroke="currentColor" stroke-width="1.5" stroke-dasharray="2 4"'
        parts.append(f'<line {stroke} {width} y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
    for line in lines:
        style = _stroke(line)
        for run in _runs(line.values):
            points = [(x(frame), y(value)) for frame, value in run]
            if len(points) == 1:
                parts.append(f'<circle {style} cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>')
            else:
                parts.append(f'<polyline {style} points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
    legend = "".join(
        '<li><svg viewBox="0 0 28 8" class="key" aria-hidden="true">'
        f'<line {_stroke(line)} x1="0" x2="28" y1="4" y2="4"/></svg>{escape(line.name)}</li>'
        for line in lines
    )
    label = escape(f"{title}, {unit}, over {count} {over}s")
    return (
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong> ({escape(unit)})</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _stroke(line: Line) -> str:
    """Attributes that do without a style sheet; the page's replaces the colour where the ground is dark."""
    k = line.colour % len(LIGHT)
    dashes = ' stroke-dasharray="7 4"' if line.dashed else ""
    return f'class="c{k}" fill="none" stroke="{LIGHT[k]}" stroke-width="2" stroke-linejoin="round"{dashes}'


def _runs(values: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """Stretches without a gap, thinned out where there are more points than can be seen."""
    runs: list[list[tuple[float, float]]] = []
    step = max(1, math.ceil(len(values) / _MOST_POINTS * 2))
    fresh = True
    for start in range(0, len(values), step):
        group = [(frame, values[frame]) for frame in range(start, min(start + step, len(values)))]
        known = [(float(frame), value) for frame, value in group if value is not None and math.isfinite(value)]
        if not known:
            fresh = True
            continue
        if fresh:
            runs.append([])
        ends = {min(known, key=lambda point: point[1]), max(known, key=lambda point: point[1])}
        runs[-1] += sorted(ends)
        fresh = step == 1 and group[-1][1] is None
    return runs


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that hold everything between them, three to seven of them."""
    rough = (high - low) / 4
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


def _frame_ticks(count: int) -> list[int]:
    if count <= 10:
        return list(range(count))
    return [int(tick) for tick in _ticks(0, count - 1) if tick <= count - 1 and tick == int(tick)]


def _number(value: float) -> str:
    return f"{value:.6g}"
