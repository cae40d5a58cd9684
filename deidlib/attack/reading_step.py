"""``ReadingStep``: a step of the length that a reading needs, where sign steps of a fixed length overshoot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from deidlib.geometry.boxes import Rectangle
from deidlib.images import in_double, widest

# Halvings in which the slope is found from which on a pixel is changed.
_HALVINGS = 20
# Slopes in a direction of which less than this is new are known by the newer one.
_NEW = 0.3
# Combinations of slopes weaker than this share of the strongest are noise.
_NOISE = 0.01


@dataclass(frozen=True, eq=False)
class Slopes:
    """How a frame's readings depend on its pixels, as far as it is known: gradients seen before, newest first.

    Args:
        window: where they lie in the frame.
        directions: per model ``(M, R)``, of unit length or 0: which combinations of the R numbers it reads.
        gradients: per model ``(M, 3, h, w)``, how these depend on the pixels of the window; 0 for direction 0.
    """

    window: Rectangle
    directions: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]

    def moved(self, window: Rectangle) -> Self:
        """The same for another window: 0 where nothing is known."""
        if window == self.window:
            return self
        (left, top, right, bottom), (x1, y1, x2, y2) = window, self.window
        west, north, east, south = max(left, x1), max(top, y1), min(right, x2), min(bottom, y2)
        gradients = {}
        for name, known in self.gradients.items():
            moved = known.new_zeros(*known.shape[:2], bottom - top, right - left)
            if west < east and north < south:
                there = known[..., north - y1 : south - y1, west - x1 : east - x1]
                moved[..., north - top : south - top, west - left : east - left] = there
            gradients[name] = moved
        return type(self)(window, self.directions, gradients)


@dataclass(frozen=True)
class ReadingStep:
    r"""A step that brings what models read to where it is to be, once it is near.

    A sign step changes every pixel, and so a box by pixels, when a fraction of one is missing. Here the numbers that
    are read (edges of the box, points, gaze) are looked at one by one: with r their offsets from what they are to be,
    and J how they depend on the pixels,

    .. math::
        X_{n+1} = X_n + d, \quad d \in \mathbb{Z}^P / 255, \quad \sigma_i^T J d = - share \cdot \sigma_i^T r,
        \quad i = 1 .. M

    is solved for few pixels that change by one grey level each, those on which most depends (a Gauss-Newton step on the
    grid of uint8, within the ball). One backward pass per model and step tells one row, :math:`\sigma^T J` in the
    direction :math:`\sigma = r / |r|` of what is missing now; the rows of the steps and frames before are kept, since
    neighbouring frames depend on their pixels alike, each cleared of what a newer one says (the adjoint Broyden update,
    Schlenkrich, Griewank and Walther, Mathematical Programming 121, 2010). With one row it is Polyak's step.

    It takes models that say in the pass of their loss, differentiably, what they read
    (:meth:`TargetModel.loss_and_reading`).

    Args:
        rows: M at most, per model; each is as large as the hidden region in float32.
        share: of the offset that a step is to take away.
        near: root mean square of the offsets, in hundredths of the face's size and degrees of gaze, from which on down
            these steps are taken; above it, those of the step rule.
        most: such steps at most in an attack; then the step rule goes on.
        inner: how often pixels are chosen, after each of which what the rows say is still missing is reckoned anew.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> step, picture = ReadingStep(), torch.full((3, 4, 4), 100 / 255)
        >>> slope = torch.zeros(3, 4, 4)
        >>> slope[0, 0] = 255 * torch.tensor([1.2, 1.0, 0.8, 0.5])  # what a grey level more makes of what is read
        >>> ball, window = (picture - 8 / 255, picture + 8 / 255), Rectangle(0, 0, 4, 4)
        >>> moved, _ = step(picture, ball, {"model": torch.tensor([3.9])}, {"model": slope}, window, None)
        >>> (255 * (moved - picture)).round()[0, 0]  # three quarters of what is missing
        tensor([-1., -1., -1.,  0.])
    """

    rows: int = 14
    share: float = 0.75
    near: float = 2.0
    most: int = 40
    inner: int = 6

    def __post_init__(self) -> None:
        if self.rows < 1 or self.inner < 1 or self.most < 0:
            raise ValueError(f"rows and inner must be >= 1, most >= 0: got {self.rows}, {self.inner}, {self.most}.")
        if not 0 < self.share <= 1 or not self.near > 0:
            raise ValueError(f"share must lie in (0, 1] and near be positive, got {self.share} and {self.near}.")

    def is_near(self, offsets: Mapping[str, Tensor]) -> list[bool]:
        """Which frames are read so nearly right that these steps serve.

        Args:
            offsets: per model ``(K, R)``; NaN for what is not read.
        """
        far = [offset.detach().square().mean(dim=1).sqrt() for offset in offsets.values()]
        return [bool(value) for value in (torch.stack(far).amax(dim=0) <= self.near).tolist()]

    def __call__(
        self,
        image: Tensor,
        ball: tuple[Tensor, Tensor],
        offsets: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        window: Rectangle,
        known: Slopes | None,
    ) -> tuple[Tensor, Slopes]:
        """Take a step in one frame.

        Args:
            image: ``(3, H, W)`` the frame, on the uint8 grid.
            ball: lowest and highest values, ``(3, H, W)`` each, on the grid.
            offsets: per model ``(R,)``, what is read less what is to be read.
            gradients: per model ``(3, H, W)``, of the offset's length.
            window: outside of which nothing may change.
            known: slopes from before, of this frame or the one before it.

        Returns:
            The next frame, within the ball and on the grid, and the slopes known by now.
        """
        left, top, right, bottom = window
        part = (slice(None), slice(top, bottom), slice(left, right))
        before = None if known is None else known.moved(window)
        directions, slopes, missing = {}, {}, []
        for name, offset in offsets.items():
            length = torch.linalg.vector_norm(offset)
            direction = offset / length.clamp(min=torch.finfo(offset.dtype).tiny)
            rows = _joined(direction, gradients[name][part] / 255, before, name, self.rows)
            directions[name], slopes[name] = rows
            missing.append(self.share * (rows[0] @ offset))
        levels, low, high = ((255 * values[part]).round().flatten() for values in (image, *ball))
        change = self._solve(
            torch.cat([rows.flatten(1) for rows in slopes.values()]), torch.cat(missing), low - levels, high - levels
        )
        stepped = image.clone()
        stepped[part] = ((levels + change) / 255).view_as(stepped[part])
        return stepped, Slopes(window, directions, slopes)

    def _solve(self, rows: Tensor, missing: Tensor, down: Tensor, up: Tensor) -> Tensor:
        """Whole numbers ``(P,)`` between ``down`` and ``up``, mostly 0, with ``rows @ change`` near ``-missing``.

        Pixels whose change serves all equations together are changed by one, as many as bring away what is missing if
        they did nothing else; then what is still missing is reckoned, and so on. Nothing here waits for a value.
        """
        size = torch.linalg.vector_norm(rows, dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
        rows, rest = rows / size[:, None], missing / size
        values, basis = torch.linalg.eigh(in_double(rows @ rows.T))
        inverse = values / (values.square() + (_NOISE * values[-1]) ** 2)
        weights = ((basis * inverse) @ basis.T).to(rows)
        change, reach = torch.zeros_like(down), torch.ones_like(size[0])
        for _ in range(self.inner):
            factor = weights @ rest
            slope = factor @ rows
            sign = -slope.sign()
            free = torch.where(sign > 0, change < up, change > down)
            gain = slope.abs() * free
            step = sign * (gain > _floor(gain, reach * (factor @ rest)))
            less = rest + rows @ step
            better = torch.linalg.vector_norm(less) < torch.linalg.vector_norm(rest)
            change, rest = torch.where(better, change + step, change), torch.where(better, less, rest)
            reach = torch.where(better, reach, reach / 2)
        return change


def window_of(low: Tensor, high: Tensor) -> Rectangle:
    """The smallest window outside of which a ball ``(3, H, W)`` leaves no freedom; empty if there is none anywhere."""
    rows, columns = torch.nonzero((high > low).any(dim=0), as_tuple=True)
    if not len(rows):
        return Rectangle(0, 0, 0, 0)
    ends = torch.stack([columns.amin(), rows.amin(), columns.amax() + 1, rows.amax() + 1])
    return Rectangle(*ends.tolist())


def offset_length(offset: Tensor) -> Tensor:
    """Of each row ``(K,)``: what a step's gradient is taken of. It points to where the row's length falls.

    Args:
        offset: ``(K, R)`` with a graph; what is NaN counts nothing.
    """
    known = offset.nan_to_num(nan=0.0)
    fixed = known.detach()
    length = torch.linalg.vector_norm(fixed, dim=1, keepdim=True).clamp(min=torch.finfo(fixed.dtype).tiny)
    row: Tensor = (known * (fixed / length)).sum(dim=1)
    return row


def _joined(direction: Tensor, gradient: Tensor, before: Slopes | None, name: str, most: int) -> tuple[Tensor, Tensor]:
    """A new row and what those from before say beside it: directions ``(M, R)`` and gradients ``(M, 3, h, w)``."""
    old = None if before is None else before.directions.get(name)
    if before is None or old is None or old.shape[1] != len(direction):
        # Other faces than before.
        return direction[None], gradient[None]
    part = old @ direction
    beside = old - part[:, None] * direction
    size = torch.linalg.vector_norm(beside, dim=1)
    # Divided by its size, what is hardly new would be an old error many times enlarged.
    scale = torch.where(size > _NEW, 1 / size.clamp(min=_NEW), torch.zeros_like(size))
    slopes = (before.gradients[name] - part[:, None, None, None] * gradient) * scale[:, None, None, None]
    # What is left of none goes first when there are too many.
    order = (scale == 0).to(torch.uint8).argsort(stable=True)[: most - 1]
    return (
        torch.cat([direction[None], (beside * scale[:, None])[order]]),
        torch.cat([gradient[None], slopes[order]]),
    )


def _floor(gain: Tensor, wanted: Tensor) -> Tensor:
    """The gain above which pixels gain together what is wanted, or as much as there is."""
    low, high = torch.zeros_like(wanted), gain.amax()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = (gain * (gain > middle)).sum(dtype=widest(gain.device)) >= wanted
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low
