"""``SuperResolution``: the picture of a face that the frames of a clip add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, diags, identity, kron
from torch import Tensor
from torch.nn.functional import interpolate

from deidlib.evaluation.attacks.sums import ReadsSums
from deidlib.faces import Faces, five_points
from deidlib.geometry.warp import carried
from deidlib.metrics.alignment import ARCFACE_TEMPLATE, SIZE, aligned, similarity

# The canvas: an aligned face with so much around it, in the aligned face's pixels, since what is hidden reaches there;
# and its own pixels along a side: a clip tells nothing finer.
_MARGIN, _SIDE = 24, 64
_WIDTH = SIZE + 2 * _MARGIN
_PITCH = _WIDTH / _SIDE


class SuperResolution:
    """Undo a mosaic or a blur over a clip, from what its frames show and where the face's points are.

    A mosaic is a linear measurement: the colour of a cell in frame t is a mean over the face, whose place is known from
    its points. Over a clip the face moves against the cells, so that the means are of other parts of it in every frame.
    With A the matrix of all of them, y the colours and D the differences between neighbouring pixels, the picture is

        x = argmin |A x - y|^2 + smoothness tr(A^T A) / n |D x|^2,

    solved by Cholesky's factors. No network takes part and nothing has been learnt of faces: a prior that knows faces
    (Menon et al., arXiv 2003.03808; Wang et al., arXiv 2101.04061) goes further.

    Args:
        read: how a frame is read: :func:`~deidlib.evaluation.attacks.sums.cells` and others.
        smoothness: how little neighbouring pixels should differ.
    """

    def __init__(self, read: ReadsSums, *, smoothness: float = 5.0) -> None:
        self.read, self.smoothness = read, smoothness
        self._columns: list[Tensor] = []
        self._weights: list[Tensor] = []
        self._values: list[Tensor] = []
        self.frames = 0
        self._solver: tuple[Any, Any] | None = None

    @torch.no_grad()
    def add(self, image: Tensor, face: Faces, place: Tensor) -> None:
        """Add a frame.

        Args:
            image: ``(3, H, W)`` in [0, 1], hidden.
            face: the one face, with landmarks, where the attacker takes it to be.
            place: ``(4,)`` xyxy pixels, the box that was hidden.

        Raises:
            ValueError: not one face with finite landmarks.
        """
        if len(face) != 1 or face.landmarks is None or not bool(face.landmarks.isfinite().all()):
            raise ValueError(f"one face with landmarks is needed to align a frame by, got {face}.")
        source = five_points(face.landmarks).to(image)
        matrix = similarity(source, image.new_tensor(ARCFACE_TEMPLATE))[0]
        scale = float(torch.linalg.vector_norm(matrix[:2, 0]))
        sums = self.read(image, place.to(image), _PITCH / scale)
        there = carried(matrix, sums.points)[..., :2]
        spots = ((there + _MARGIN + 0.5) / _PITCH - 0.5).clamp(0, _SIDE - 1)
        low = spots.floor().clamp(max=_SIDE - 2)
        x, y = (spots - low).unbind(-1)
        first = (low[..., 1] * _SIDE + low[..., 0]).long()
        columns = torch.stack([first, first + 1, first + _SIDE, first + _SIDE + 1], dim=-1)
        shares = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], dim=-1)
        self._columns.append(columns.flatten(1))
        self._weights.append((shares * sums.weights[:, None]).flatten(1))
        self._values.append(sums.values)
        self.frames += 1
        self._solver = None

    def picture(self) -> Tensor:
        """What the frames add up to: ``(1, 3, 112, 112)`` in [0, 1], aligned as :func:`deidlib.metrics.align` does.

        Raises:
            ValueError: no frame was added.
        """
        self._check()
        return self.put_together(torch.cat(self._values)[None])

    def parroted(self, canvases: Tensor) -> Tensor:
        """Pictures of others as they would have come out of this clip: what a restored picture is to be compared with.

        Args:
            canvases: ``(N, 3, 64, 64)`` from :func:`on_canvas`.

        Returns:
            ``(N, 3, 112, 112)`` in [0, 1].

        Raises:
            ValueError: no frame was added.
        """
        return self.put_together(self.sums_of(canvases))

    @torch.no_grad()
    def sums_of(self, canvases: Tensor) -> Tensor:
        """What the frames would show of others.

        Args:
            canvases: ``(N, 3, 64, 64)`` from :func:`on_canvas`.

        Returns:
            ``(N, M, 3)``: a row for each of the frames' M sums.

        Raises:
            ValueError: no frame was added.
        """
        system, _ = self._solved()
        pictures = canvases.cpu().double().flatten(2).mT.numpy()
        rows = [torch.from_numpy(system @ picture).float() for picture in pictures]
        return torch.stack(rows) if rows else torch.zeros(0, system.shape[0], 3)

    @torch.no_grad()
    def put_together(self, sums: Tensor) -> Tensor:
        """The pictures that explain sums best.

        Args:
            sums: ``(N, M, 3)`` from :meth:`sums_of`, of this clip or of one that moves alike.

        Returns:
            ``(N, 3, 112, 112)`` in [0, 1].

        Raises:
            ValueError: no frame was added.
        """
        system, factor = self._solved()
        canvases = sums.new_zeros(len(sums), 3, _SIDE * _SIDE)
        for canvas, values in zip(canvases, sums.cpu().double().numpy(), strict=True):
            mean = values.mean(axis=0)
            solved = cho_solve(factor, system.T @ (values - mean), check_finite=False) + mean
            canvas.copy_(torch.from_numpy(solved).T)
        if not len(canvases):
            return sums.new_zeros(0, 3, SIZE, SIZE)
        large = interpolate(
            canvases.reshape(-1, 3, _SIDE, _SIDE), size=(_WIDTH, _WIDTH), mode="bicubic", align_corners=False
        )
        return large[:, :, _MARGIN : _MARGIN + SIZE, _MARGIN : _MARGIN + SIZE].clamp(0, 1)

    def _system(self) -> Any:
        """A: a sparse matrix, a row per sum, a column per pixel of the canvas."""
        self._check()
        counts = np.concatenate([np.full(len(part), part.shape[1]) for part in self._columns])
        parts = tuple(
            torch.cat([part.flatten() for part in rows]).cpu().numpy() for rows in (self._weights, self._columns)
        )
        system = csr_matrix((*parts, np.concatenate([[0], np.cumsum(counts)])), shape=(len(counts), _SIDE**2))
        # Several points of a cell lie in one pixel of the canvas.
        system.sum_duplicates()
        return system.astype(np.float64)

    def _solved(self) -> tuple[Any, Any]:
        """A, and Cholesky's factor of what is to be solved; kept until another frame is added."""
        if self._solver is None:
            system = self._system()
            square = system.T @ system
            smooth = self.smoothness * square.diagonal().mean()
            # A little of the plain norm: nothing may be known of a part of the canvas.
            normal = square + smooth * (_roughness(_SIDE) + 1e-6 * identity(_SIDE**2))
            self._solver = system, cho_factor(normal.toarray(), overwrite_a=True, check_finite=False)
        return self._solver

    def _check(self) -> None:
        if not self.frames:
            raise ValueError("no frame was added, so there is nothing to put together.")


def on_canvas(images: Tensor, faces: Sequence[Faces]) -> Tensor:
    """Faces cut out with what lies around them, at the resolution at which clips are put together.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1], clear.
        faces: B entries with landmarks.

    Returns:
        ``(F, 3, 64, 64)``, for :meth:`SuperResolution.parroted`.
    """
    return interpolate(aligned(images, faces, margin=_MARGIN), size=(_SIDE, _SIDE), mode="area")


def stretched(picture: Tensor, deviation: float = 0.2) -> Tensor:
    """A picture with the contrast of a photograph, for whoever looks at a faint one.

    Args:
        picture: ``(1, 3, H, W)`` in [0, 1].
        deviation: that its grey levels are to have.

    Returns:
        ``(1, 3, H, W)`` in [0, 1]; a picture without contrast is grey.
    """
    faint = picture - picture.mean(dim=(2, 3), keepdim=True)
    return (0.5 + faint * (deviation / faint.std().clamp(min=1e-4))).clamp(0, 1)


def _roughness(side: int) -> Any:
    """D^T D of a square canvas, row by row: a sparse matrix."""
    step = diags([-1.0, 1.0], [0, 1], shape=(side - 1, side))
    line = step.T @ step
    return (kron(identity(side), line) + kron(line, identity(side))).tocsr()
