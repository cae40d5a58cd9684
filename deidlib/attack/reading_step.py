"""``ReadingStep``: a step of the length that a reading needs, where sign steps of a fixed length overshoot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from deidlib.geometry.boxes import Rectangle
from deidlib.images import in_double, widest

# Parts into which the range of gains is cut, and cut again, to find the gain from which on a pixel is changed.
_PARTS = 1024
# Combinations of slopes whose square is weaker than this share of the strongest are noise where slopes were kept from
# step to step, and where all of them were just taken. How the nose lies against the eyes, as a head turns, is of
# those between.
_KEPT, _FRESH = 0.01, 0.001


@dataclass(frozen=True, eq=False)
class Slopes:
    """How what is read of a face depends on the pixels around it, as far as it is known.

    Args:
        window: where these lie in the frame.
        gradients: per model ``(R, 3, h, w)``: of each of the R numbers it reads, by grey levels; 0 where nothing is
            known.
    """

    window: Rectangle
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
        return type(self)(window, gradients)

    def learned(self, offsets: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Self:
        r"""The same, with what a backward pass says of one combination of each model's numbers.

        .. math::
            J \leftarrow J + \sigma (g - J^T \sigma)^T, \quad \sigma = r / |r|

        so that :math:`J^T \sigma = g`, and as little else is changed as can be (the adjoint Broyden update,
        Schlenkrich, Griewank and Walther, Mathematical Programming 121, 2010).

        Args:
            offsets: per model ``(R,)``, r.
            gradients: per model that was asked ``(3, h, w)``, g: of the length of r, by grey levels.
        """
        known = dict(self.gradients)
        for name, gradient in gradients.items():
            offset = offsets[name]
            before = known.get(name)
            if before is None or len(before) != len(offset):
                before = gradient.new_zeros(len(offset), *gradient.shape)
            direction = offset / torch.linalg.vector_norm(offset).clamp(min=torch.finfo(offset.dtype).tiny)
            rows = before.flatten(1)
            known[name] = torch.addr(rows, direction, gradient.flatten() - direction @ rows).view_as(before)
        return type(self)(self.window, known)


@dataclass(frozen=True)
class ReadingStep:
    r"""A step that brings what models read to where it is to be, once it is near.

    A sign step changes every pixel, and so a box by pixels, when a fraction of one is missing. Here the numbers that
    are read of a face (edges of the box, points, gaze) are looked at one by one: with r their offsets from what they
    are to be, and J how they depend on the pixels,

    .. math::
        X_{n+1} = X_n + d, \quad d \in \mathbb{Z}^P / 255, \quad J d = - share \cdot r

    is solved for few pixels that change by one grey level each, those on which most depends (a Gauss-Newton step on the
    grid of uint8, within the ball). J is kept from step to step and from frame to frame, since neighbouring frames
    depend on their pixels alike: where a step did what J said, the next one needs no gradient, only the reading itself
    (a chord method). Where it did not, one backward pass corrects J for what is missing now (:meth:`Slopes.learned`).
    The first step of all knows one row, and is Polyak's. Where many corrections did not do, J is taken anew as a whole,
    a backward pass for each number; only then do combinations count on which pixels have little influence, since of a J
    that was kept these are its errors.

    It takes models that say in the pass of their loss, differentiably, what they read
    (:meth:`TargetModel.loss_and_reading`).

    Args:
        share: of the offset that a step is to take away.
        poor: a step that left more than this share of a model's offset asks for that model's gradient.
        renew: gradients that correct a model's slopes of a face, after which, in place of one more, all of them are
            taken anew: as many backward passes as numbers are read of it.
        near: root mean square of the offsets, in hundredths of the face's size and degrees of gaze, from which on down
            these steps are taken; above it, those of the step rule.
        most: such steps at most in an attack; then the step rule goes on.
        inner: how often pixels are chosen, after each of which what J says is still missing is reckoned anew.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> step, picture = ReadingStep(share=0.75), torch.full((3, 4, 4), 100 / 255)
        >>> slope = torch.zeros(1, 3, 4, 4)
        >>> slope[0, 0, 0] = torch.tensor([1.2, 1.0, 0.8, 0.5])  # what a grey level more makes of what is read
        >>> ball, window = (picture - 8 / 255, picture + 8 / 255), Rectangle(0, 0, 4, 4)
        >>> moved = step(picture, ball, {"model": torch.tensor([3.9])}, Slopes(window, {"model": slope}))
        >>> (255 * (moved - picture)).round()[0, 0]  # three quarters of what is missing
        tensor([-1., -1., -1.,  0.])
    """

    share: float = 1.0
    poor: float = 0.6
    renew: int = 8
    near: float = 2.0
    most: int = 40
    inner: int = 6

    def __post_init__(self) -> None:
        if self.inner < 1 or self.most < 0 or self.renew < 0:
            raise ValueError(f"inner must be >= 1, most and renew >= 0: got {self.inner}, {self.most}, {self.renew}.")
        if not 0 < self.share <= 1 or not self.near > 0 or not self.poor >= 0:
            raise ValueError(
                f"share must lie in (0, 1], near be positive and poor >= 0: got {self.share}, {self.near}, {self.poor}."
            )

    def __call__(
        self,
        image: Tensor,
        ball: tuple[Tensor, Tensor],
        offsets: Mapping[str, Tensor],
        slopes: Slopes,
        *,
        fresh: bool = False,
    ) -> Tensor:
        """Take a step for a face of a frame.

        Args:
            image: ``(3, H, W)`` the frame, on the uint8 grid.
            ball: lowest and highest values, ``(3, H, W)`` each, on the grid.
            offsets: per model ``(R,)``, what is read of the face less what is to be read.
            slopes: how these depend on the pixels; nothing changes outside of their window.
            fresh: whether they were taken at this very frame, all of a model's at once.

        Returns:
            The next frame, within the ball and on the grid.
        """
        left, top, right, bottom = slopes.window
        part = (slice(None), slice(top, bottom), slice(left, right))
        levels, low, high = ((255 * values[part]).round().flatten() for values in (image, *ball))
        rows = torch.cat([slopes.gradients[name].flatten(1) for name in offsets])
        missing = self.share * torch.cat(list(offsets.values()))
        change = self._solve(rows, missing, low - levels, high - levels, _FRESH if fresh else _KEPT)
        stepped = image.clone()
        stepped[part] = ((levels + change) / 255).view_as(stepped[part])
        return stepped

    def _solve(self, rows: Tensor, missing: Tensor, down: Tensor, up: Tensor, noise: float) -> Tensor:
        """Whole numbers ``(P,)`` between ``down`` and ``up``, mostly 0, with ``rows @ change`` near ``-missing``.

        Pixels whose change serves all equations together are changed by one, as many as bring away what is missing if
        they did nothing else; then what is still missing is reckoned, and so on. Nothing here waits for a value.
        """
        size = torch.linalg.vector_norm(rows, dim=1).clamp(min=torch.finfo(rows.dtype).tiny)
        rows, rest = rows / size[:, None], missing / size
        values, basis = torch.linalg.eigh(in_double(rows @ rows.T))
        inverse = values / (values.square() + (noise * values[-1]) ** 2)
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


def offset_length(offset: Tensor) -> Tensor:
    """Of each row ``(..., R)``: what a backward pass is taken of. Its gradient points to where the row gets longer.

    What is NaN counts nothing.
    """
    known = offset.nan_to_num(nan=0.0)
    fixed = known.detach()
    length = torch.linalg.vector_norm(fixed, dim=-1, keepdim=True).clamp(min=torch.finfo(fixed.dtype).tiny)
    row: Tensor = (known * (fixed / length)).sum(dim=-1)
    return row


def _floor(gain: Tensor, wanted: Tensor) -> Tensor:
    """The gain above which pixels gain together what is wanted, or as much as there is.

    Found in the part of the range in which it lies, by what all pixels of each part gain, and once more within that
    one: a few passes over the pixels, where twenty halvings take sixty.
    """
    low, size, kind = torch.zeros_like(wanted), gain.amax() / _PARTS, widest(gain.device)
    for _ in range(2):
        # Part 0 is what is not above `low`; the last one, what is above all.
        part = ((gain - low) / size.clamp(min=torch.finfo(gain.dtype).tiny)).ceil_().nan_to_num_().clamp_(0, _PARTS + 1)
        gains = torch.zeros(_PARTS + 2, dtype=kind, device=gain.device)
        gains.scatter_add_(0, part.to(torch.int64), gain.to(kind))
        # How many parts it takes, from above: at most all but part 0.
        many = (gains.flip(0).cumsum(0)[:-1] < wanted).sum() + 1
        low, size = low + size * (_PARTS + 1 - many).clamp(min=0), size / _PARTS
    # Rounded down, lest the last pixel be missed: a tenth of the last part.
    return (low - 0.1 * _PARTS * size).clamp(min=0)
