"""``TemporalFidelity``: whether what moves on the originals is read as moving on the protected frames."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from deidlib.faces import Faces, check_per_frame
from deidlib.geometry.camera import Camera
from deidlib.geometry.matching import match
from deidlib.metrics.movement import SIGNALS, movement
from deidlib.metrics.pairing import check_min_iou, pair
from deidlib.metrics.signals import MAX_LAG, Agreement, agreement, changes, known_of_both

# A face that is not read for longer begins anew when it is read again.
_MEMORY = 30
# Rows are joined when so many pieces have come together: a tensor takes more memory than the few numbers in it.
_MOST_PIECES = 1024
# Of a row: whose it is, the face, the frame, whether it is found.
_HEAD = 4


@dataclass(frozen=True, eq=False)
class FollowedFace:
    """One face through a clip, from the first frame in which the original shows it to the last.

    Args:
        first: number of its first frame.
        original: by the names of :data:`~deidlib.metrics.movement.SIGNALS` ``(T, ...)`` float64, row t is frame
            ``first + t``; NaN where the original has no such value. Angles go on past 180 degrees without a jump.
        protected: likewise; NaN where the face is not found, too.
        compared: frames in which both show it.
        missed: frames in which only the original does.
        unread: frames in between in which the original's reader itself has missed it.
    """

    first: int
    original: Mapping[str, Tensor]
    protected: Mapping[str, Tensor]
    compared: int
    missed: int
    unread: int

    def __len__(self) -> int:
        """Frames from the first to the last."""
        return len(self.original["centre_px"])


@dataclass(frozen=True)
class Fidelity:
    """How far a signal is followed, and how far its movement is.

    Args:
        values: the signal itself.
        changes: its first differences, from frame to frame: what is left of a signal without what varies slowly.
    """

    values: Agreement
    changes: Agreement


class TemporalFidelity(Metric):
    r"""How far what a model reads over time on protected frames follows what it reads on the originals.

    Distances frame by frame, as :class:`ReadingDifference` has them, cannot tell a reading that trembles from one that
    is frozen at the mean of a movement. Here box centre, size, points, openings of mouth and eyes, head pose and gaze
    of each face (see :func:`~deidlib.metrics.movement`) are compared as signals, and so are their first differences:

    .. math::
        r = \frac{\sum_t (a_t - \bar a)(b_t - \bar b)}{\sqrt{\sum_t (a_t - \bar a)^2 \sum_t (b_t - \bar b)^2}},
        \quad \mathrm{RMSE} = \sqrt{\tfrac1T \sum_t |a_t - b_t|^2},
        \quad \mathrm{lag} = \arg\max_k \, r(a_t, b_{t+k})

    as :mod:`deidlib.metrics.signals` defines them. Frames in which a face is not read on either side are left out, and
    counted. A face is followed on the originals by the overlap of its boxes (IoU >= 0.3) from frame to frame; one that
    is not read for more than 30 frames begins anew.

    Frames are given in their order, those of one clip to one metric: :meth:`reset` begins another. Where several
    processes each have a clip, their faces are joined when the metric is computed. Memory grows by some 180 bytes per
    face and frame.

    Args:
        min_iou: boxes must overlap by more than this to be the same face on original and protected frame.
        max_lag: frames to either side among which a lag is looked for.

    Raises:
        ValueError: ``min_iou`` is not in [0, 1), or ``max_lag`` is negative.

    Example:
        >>> def face(x):
        ...     return Faces(torch.tensor([[x, 0.0, x + 40.0, 90.0]]), torch.ones(1))
        >>> metric = TemporalFidelity()
        >>> metric.update([face(x) for x in (0.0, 1.0, 3.0, 2.0)], [face(x) for x in (0.0, 2.0, 6.0, 4.0)])
        >>> values = metric.compute()
        >>> [round(values[f"centre_px{name}"].item(), 3) for name in ("_correlation", "_rmse", "_lag")]
        [1.0, 1.871, 0.0]
        >>> values["compared"].item(), values["missed"].item()
        (4.0, 0.0)
    """

    is_differentiable = False
    full_state_update = False
    signals: ClassVar[tuple[str, ...]] = tuple(SIGNALS)
    """What is followed; the unit is in the name."""

    rows: list[Tensor]

    def __init__(self, *, min_iou: float = 0.0, max_lag: int = MAX_LAG) -> None:
        super().__init__()
        check_min_iou(min_iou)
        if max_lag < 0:
            raise ValueError(f"max_lag must be >= 0 frames, got {max_lag}.")
        self.min_iou, self.max_lag = min_iou, max_lag
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self._begin()

    def _begin(self) -> None:
        self._frame = self._faces = 0
        # Per face that may be read again: where it was last, and when.
        self._last: dict[int, tuple[Tensor, int]] = {}

    def reset(self) -> None:
        """Forget everything; what follows is another clip."""
        super().reset()
        self._begin()

    def update(self, original: Sequence[Faces], protected: Sequence[Faces], *, camera: Camera | None = None) -> None:
        """Add the next frames of the clip.

        Args:
            original: the faces of each original frame.
            protected: the faces of each protected frame, as read by the model to be measured.
            camera: that took them, for head poses.

        Raises:
            ValueError: the two are not of one length.
        """
        check_per_frame(protected, original)
        for known, read in zip(original, protected, strict=True):
            if len(known):
                self.rows.append(self._row(known, read, camera).to(self.device))
            self._frame += 1
        if len(self.rows) > _MOST_PIECES:
            self.rows[:] = [torch.cat(self.rows)]

    def compute(self) -> dict[str, Tensor]:
        """What is followed how far, over all faces together: each about its own mean.

        Returns:
            For each of :attr:`signals` ``NAME_correlation``, ``NAME_rmse`` and ``NAME_lag`` (frames), and of its first
            differences ``NAME_change_correlation`` and so on; NaN where the originals show no such thing, or it
            does not move. Counts: ``faces`` followed; ``compared``, ``missed`` and ``unread`` frames, over all faces.
            Zero-dimensional tensors.
        """
        faces = self.per_face()
        values: dict[str, float] = {}
        for name, fidelity in fidelities(faces, max_lag=self.max_lag).items():
            for label, found in ((name, fidelity.values), (f"{name}_change", fidelity.changes)):
                values |= {f"{label}_{measure}": getattr(found, measure) for measure in ("correlation", "rmse", "lag")}
        values["faces"] = float(len(faces))
        for count in ("compared", "missed", "unread"):
            values[count] = float(sum(getattr(face, count) for face in faces))
        table = torch.tensor(list(values.values()), device=self.device)
        return dict(zip(values, table.unbind(), strict=True))

    def per_face(self) -> list[FollowedFace]:
        """Each face through the clip, in the order of their first frames."""
        if isinstance(self.rows, list) and not self.rows:
            return []
        table = dim_zero_cat(self.rows).detach().to("cpu", torch.float64)
        order = np.lexsort(table[:, :_HEAD].numpy().T[[2, 1, 0]])
        table = table[torch.from_numpy(order)]
        bounds = (table[1:, :2] != table[:-1, :2]).any(dim=1).nonzero().flatten() + 1
        faces = [_followed(rows) for rows in torch.tensor_split(table, bounds)]
        return sorted(faces, key=lambda face: face.first)

    def _row(self, known: Faces, read: Faces, camera: Camera | None) -> Tensor:
        """A row per face of the original: its head, its signals, and those of its partner."""
        found = pair(known, read, min_iou=self.min_iou)
        here = _flat(movement(known, camera=camera))
        there = torch.full_like(here, torch.nan)
        partners = read.to(known.boxes.device)[found.protected]
        there[found.original.cpu()] = _flat(movement(partners, camera=camera))
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        head = here.new_zeros(len(known), _HEAD)
        head[:, 0] = torch.distributed.get_rank() if distributed else 0
        head[:, 1] = torch.tensor(self._follow(known.boxes.detach().cpu()))
        head[:, 2] = self._frame
        head[found.original.cpu(), 3] = 1
        return torch.cat([head, here, there], dim=1).float()

    def _follow(self, boxes: Tensor) -> list[int]:
        """Which face each box is of."""
        self._last = {face: seen for face, seen in self._last.items() if self._frame - seen[1] <= _MEMORY + 1}
        faces = list(self._last)
        places = torch.stack([self._last[face][0] for face in faces]) if faces else boxes.new_zeros(0, 4)
        same = match(boxes, places)
        numbers = []
        for row, box in enumerate(boxes):
            if row in same:
                number = faces[same[row]]
            else:
                number, self._faces = self._faces, self._faces + 1
            self._last[number] = box, self._frame
            numbers.append(number)
        return numbers


def fidelities(faces: Sequence[FollowedFace], *, max_lag: int = MAX_LAG) -> dict[str, Fidelity]:
    """How far each signal is followed, over all these faces together.

    Args:
        faces: any number of them; each signal of each face is taken about its own mean, so that faces in different
            places do not pass for movement.
        max_lag: frames to either side among which a lag is looked for.

    Returns:
        By the names of :data:`~deidlib.metrics.movement.SIGNALS`; of no faces nothing is known.
    """
    found = {}
    for name, shape in SIGNALS.items():
        pairs = [(face.original[name], face.protected[name]) for face in faces]
        moved = [(changes(a), changes(b)) for a, b in pairs]
        found[name] = Fidelity(_together(pairs, shape, max_lag), _together(moved, shape, max_lag))
    return found


def _together(pairs: Sequence[tuple[Tensor, Tensor]], shape: tuple[int, ...], max_lag: int) -> Agreement:
    """Signals one after the other, so far apart that no lag reaches from one into the next."""
    gap = torch.full((max_lag, *shape), torch.nan, dtype=torch.float64)
    plain: list[list[Tensor]] = [[gap[:0]], [gap[:0]]]
    centred: list[list[Tensor]] = [[gap[:0]], [gap[:0]]]
    for signals in pairs:
        known = known_of_both(*signals)
        for side, signal in enumerate(signals):
            plain[side].append(signal)
            # One value is taken off first, so that what stands still is exactly 0.
            moved = signal - signal[known][:1].sum(dim=0)
            middle = moved[known].mean(dim=0) if bool(known.any()) else 0
            centred[side] += [moved - middle, gap]
    about = agreement(torch.cat(centred[0]), torch.cat(centred[1]), max_lag=max_lag)
    apart = agreement(torch.cat(plain[0]), torch.cat(plain[1]), max_lag=0)
    return Agreement(about.correlation, apart.rmse, about.lag, apart.compared)


def _followed(rows: Tensor) -> FollowedFace:
    """A face from its rows, in the order of their frames."""
    frames = rows[:, 2].long()
    first, length = int(frames[0]), int(frames[-1] - frames[0]) + 1
    dense = rows.new_full((length, rows.shape[1] - _HEAD), torch.nan)
    dense[frames - first] = rows[:, _HEAD:]
    original, protected = (_by_name(half) for half in dense.chunk(2, dim=1))
    for name in SIGNALS:
        if name.endswith("_deg"):
            original[name], protected[name] = _continuous(original[name], protected[name])
    found = int(rows[:, 3].sum())
    return FollowedFace(first, original, protected, found, len(rows) - found, length - len(rows))


def _continuous(original: Tensor, protected: Tensor) -> tuple[Tensor, Tensor]:
    """Angles without jumps of a whole turn: over time on the originals, and to the other reading of the same frame."""
    known = original.isfinite()
    turned = original.clone()
    turned[known] = torch.from_numpy(np.unwrap(original[known].numpy(), period=360.0))
    return turned, turned + torch.remainder(protected - turned + 180, 360) - 180


def _flat(values: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([values[name].reshape(len(values[name]), math.prod(shape)) for name, shape in SIGNALS.items()], 1)


def _by_name(table: Tensor) -> dict[str, Tensor]:
    parts = torch.split(table, [math.prod(shape) for shape in SIGNALS.values()], dim=1)
    return {name: part.reshape(-1, *shape) for (name, shape), part in zip(SIGNALS.items(), parts, strict=True)}
