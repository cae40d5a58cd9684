"""``packed``: rectangles side by side on a canvas, so that a network that strides over pictures sees all at once."""

from __future__ import annotations

from collections.abc import Sequence


def packed(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Stack rectangles in two columns, each at even rows and columns, so that a stride of two falls on them as before.

    Args:
        sizes: height and width of each, largest first for a small canvas.

    Returns:
        Their tops and lefts, and the even height and width of a canvas that holds them.

    Example:
        >>> packed([(4, 6), (3, 3), (2, 2)])
        ([(0, 0), (0, 6), (4, 0)], (6, 10))
    """
    even = [(height + height % 2, width + width % 2) for height, width in sizes]
    columns: list[list[int]] = [[], []]
    heights = [0, 0]
    tops = []
    for k, (height, _) in enumerate(even):
        shorter = heights.index(min(heights))
        columns[shorter].append(k)
        tops.append(heights[shorter])
        heights[shorter] += height
    first, second = (max((even[k][1] for k in column), default=0) for column in columns)
    places = [(top, 0 if k in columns[0] else first) for k, top in enumerate(tops)]
    return places, (max(heights), first + second)
