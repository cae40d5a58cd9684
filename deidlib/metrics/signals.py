"""How far one signal follows another: correlation, RMSE and lag. Row t is frame t; a row with NaN is unknown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deidlib.images import in_double

# Two rows correlate by 1 or -1 whatever they are.
_LEAST = 3
# Correlations closer than this are equal; between equals the shorter lag is the simpler explanation.
_TIE = 1e-9

MAX_LAG = 10
"""Frames to either side among which a lag is looked for, unless told otherwise: 0.4 s at 25 frames per second."""


@dataclass(frozen=True)
class Agreement:
    """How far a signal follows another, as :func:`correlation`, :func:`rmse` and :func:`lag` have it.

    Args:
        correlation: 1: it moves as the other does; 0: not at all; NaN: the other does not move, or too little is known.
        rmse: in the unit of the signals; NaN if no row is known of both.
        lag: frames by which it comes late; NaN where nothing correlates.
        compared: rows that are known of both.
    """

    correlation: float
    rmse: float
    lag: float
    compared: int


def agreement(original: Tensor, protected: Tensor, *, max_lag: int = MAX_LAG) -> Agreement:
    """All that is said about two signals.

    Args:
        original: ``(T, ...)``; see :func:`correlation`.
        protected: of the same shape.
        max_lag: see :func:`lag`.

    Raises:
        ValueError: shapes differ, or as :func:`lag`.

    Example:
        >>> a = torch.tensor([0.0, 1.0, 0.0, -1.0, 0.0])
        >>> agreement(a, 2 * a)
        Agreement(correlation=1.0, rmse=0.6324555320336759, lag=0.0, compared=5)
    """
    return Agreement(
        correlation(original, protected),
        rmse(original, protected),
        lag(original, protected, max_lag=max_lag),
        int(known_of_both(original, protected).sum()),
    )


def correlation(original: Tensor, protected: Tensor) -> float:
    """Pearson's correlation over the rows that are known of both.

    Of a signal of several numbers a row, such as the x and y of points, it is that of all numbers together, each about
    its own mean: ``sum_d cov(a_d, b_d) / sqrt(sum_d var(a_d) sum_d var(b_d))``.

    Args:
        original: ``(T, ...)``.
        protected: of the same shape.

    Returns:
        In [-1, 1]. 0 where the original moves and the other stands still: a frozen reading follows nothing. NaN where
        the original stands still, since there is nothing to follow, or less than three rows are known.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> moving, still = torch.tensor([1.0, 2.0, 4.0]), torch.full((3,), 5.0)
        >>> correlation(moving, moving + 7), correlation(moving, still), correlation(still, moving)
        (1.0, 0.0, nan)
    """
    known = known_of_both(original, protected)
    if int(known.sum()) < _LEAST:
        return torch.nan
    a, b = (_about_its_mean(rows[known]) for rows in (original, protected))
    moves, follows = float((a * a).sum()), float((b * b).sum())
    if moves == 0:
        return torch.nan
    return float((a * b).sum()) / (moves * follows) ** 0.5 if follows else 0.0


def rmse(original: Tensor, protected: Tensor) -> float:
    """The root of the mean squared distance, over the rows that are known of both.

    Args:
        original: ``(T,)`` numbers, ``(T, D)`` vectors, or ``(T, P, D)`` several vectors a row, all counted alike.
        protected: of the same shape.

    Returns:
        In the unit of the signals; NaN if no row is known of both.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> rmse(torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [torch.nan, 0.0]]))
        5.0
    """
    known = known_of_both(original, protected)
    apart = in_double(original[known] - protected[known])
    squares = apart.square() if apart.ndim == 1 else apart.square().sum(dim=-1)
    return float(squares.mean().sqrt())


def lag(original: Tensor, protected: Tensor, *, max_lag: int = MAX_LAG) -> float:
    """How many frames the second signal comes late, by cross-correlation.

    The correlation of row t of the original with row t + k of the other is computed for every k up to ``max_lag``,
    each over the rows that are known of both, at least half of those at k = 0; the parabola through the greatest and
    its two neighbours gives the part of a frame. It says something only where that correlation is high.

    Args:
        original: ``(T, ...)``; see :func:`correlation`.
        protected: of the same shape.
        max_lag: the most frames, to either side.

    Returns:
        Frames, negative where the second comes early; NaN where nothing correlates (no correlation above 0).

    Raises:
        ValueError: shapes differ, or ``max_lag`` is negative.

    Example:
        >>> step = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
        >>> lag(step[2:], step[1:-1], max_lag=2)
        1.0
    """
    if max_lag < 0:
        raise ValueError(f"max_lag must be >= 0 frames, got {max_lag}.")
    least = int(known_of_both(original, protected).sum()) / 2
    found: dict[int, float] = {}
    for late in range(-min(max_lag, len(original) - 1), min(max_lag, len(original) - 1) + 1):
        a = original[max(0, -late) : len(original) - max(0, late)]
        b = protected[max(0, late) : len(protected) - max(0, -late)]
        if int(known_of_both(a, b).sum()) >= least:
            found[late] = correlation(a, b)
    found = {late: value for late, value in found.items() if value == value}
    best = max(found.values(), default=0.0)
    if best <= 0:
        return torch.nan
    middle = min((late for late, value in found.items() if value >= best - _TIE), key=lambda late: (abs(late), late))
    before, after = found.get(middle - 1), found.get(middle + 1)
    # The parabola is through three values over slightly different rows: where all is explained it could only err.
    if before is None or after is None or best >= 1 - _TIE:
        return float(middle)
    bend = before - 2 * found[middle] + after
    return middle + (before - after) / (2 * bend) if bend < 0 else float(middle)


def changes(signal: Tensor) -> Tensor:
    """First differences.

    Args:
        signal: ``(T, ...)``.

    Returns:
        ``(T - 1, ...)``: row t is ``signal[t + 1] - signal[t]``, NaN where either is unknown.

    Example:
        >>> changes(torch.tensor([1.0, 4.0, torch.nan, 9.0]))
        tensor([3., nan, nan])
    """
    return signal[1:] - signal[:-1]


def known_of_both(a: Tensor, b: Tensor) -> Tensor:
    """The rows of two signals that are known of both.

    Args:
        a: ``(T, ...)``.
        b: of the same shape.

    Returns:
        ``(T,)`` bool.

    Raises:
        ValueError: shapes differ.

    Example:
        >>> known_of_both(torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([1.0, 2.0, torch.inf])).tolist()
        [True, False, False]
    """
    if a.shape != b.shape:
        raise ValueError(f"signals must be of one shape, got {tuple(a.shape)} and {tuple(b.shape)}.")
    return (a.isfinite() & b.isfinite()).flatten(1).all(dim=1) if a.ndim > 1 else a.isfinite() & b.isfinite()


def _about_its_mean(rows: Tensor) -> Tensor:
    """Each number about its mean; of one that stands still exactly 0, which the mean alone would not give."""
    moved = in_double(rows - rows[:1])
    return moved - moved.mean(dim=0)
