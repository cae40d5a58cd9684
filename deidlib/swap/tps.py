"""Thin-plate splines: the smoothest map of the plane that takes some points to others (Bookstein, 1989)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ThinPlate:
    """A map of the plane, fitted to points; affine far away from them.

    It is computed in float64 and where the points are. (kornia's ``get_tps_transform`` meets all points exactly and
    knows no ``stiffness``, without which a landmark that is a pixel off bends the face around it.)

    Args:
        centres: ``(P, 2)`` where its values are known.
        weights: ``(P + 3, 2)`` of the radial functions and of 1, x, y.
        origin: ``(2,)`` subtracted from every point first, and ``scale`` divided by, for precision.
        scale: a number.
    """

    centres: Tensor
    weights: Tensor
    origin: Tensor
    scale: Tensor

    @classmethod
    def fit(cls, points: Tensor, values: Tensor, *, stiffness: float = 0.0) -> ThinPlate:
        """The spline with the given values at the given points.

        Args:
            points: ``(P, 2)``, P >= 3, not all on one line.
            values: ``(P, 2)``.
            stiffness: how much bending counts against missing the values; 0 meets them exactly.

        Raises:
            ValueError: the points do not determine a map.

        Example:
            >>> square = torch.tensor([[0., 0.], [1., 0.], [1., 1.], [0., 1.]], dtype=torch.float64)
            >>> ThinPlate.fit(square, 2 * square)(torch.tensor([[0.25, 3.0]])).round(decimals=6)
            tensor([[0.5000, 6.0000]], dtype=torch.float64)
        """
        points, values = points.double(), values.double()
        count = len(points)
        origin = points.mean(dim=0)
        scale = (points - origin).square().sum(dim=1).mean().sqrt().clamp(min=1e-9)
        unit = (points - origin) / scale
        affine = torch.cat([torch.ones_like(unit[:, :1]), unit], dim=1)
        system = unit.new_zeros(count + 3, count + 3)
        system[:count, :count] = _bending(unit, unit) + stiffness * torch.eye(count, device=unit.device)
        system[:count, count:], system[count:, :count] = affine, affine.T
        right = torch.cat([values, values.new_zeros(3, 2)])
        weights, problem = torch.linalg.solve_ex(system, right)
        if int(problem) or not bool(torch.isfinite(weights).all()):
            raise ValueError(f"{count} points on one line, or twice in one place, do not determine a map of the plane.")
        return cls(unit, weights, origin, scale)

    def __call__(self, at: Tensor) -> Tensor:
        """Values ``(..., 2)`` float64 at points ``(..., 2)``."""
        unit = (at.double() - self.origin) / self.scale
        flat = unit.reshape(-1, 2)
        affine = torch.cat([torch.ones_like(flat[:, :1]), flat], dim=1)
        basis = torch.cat([_bending(flat, self.centres), affine], dim=1)
        return (basis @ self.weights).reshape(at.shape)


def _bending(a: Tensor, b: Tensor) -> Tensor:
    """r^2 log r, ``(A, B)``."""
    squared = (a[:, None] - b[None]).square().sum(dim=-1)
    return squared * squared.clamp(min=1e-30).log() / 2
