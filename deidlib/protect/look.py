"""``LastLook``: what was written, against what it is to hide; whatever went before, no face leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from deidlib.faces import Faces
from deidlib.geometry.boxes import Rectangle, clip, outwards
from deidlib.obfuscate import Obfuscator
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.work_folder import ChangedError
from deidlib.records.files import sha256_of
from deidlib.tracking import TrackedFrame


class ExposedError(ChangedError):
    """What was written is not what hides the original there."""


@dataclass(frozen=True)
class Written:
    """An output that is complete and has no name yet.

    Args:
        path: where it lies.
        sha256: of it, from before anybody looked at it.
    """

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Written:
        """Of a file or a folder that has just been written."""
        return cls(path, sha256_of(path))

    def check(self) -> None:
        """Make sure that it is still what was looked at.

        Raises:
            ChangedError: it is not.
        """
        if sha256_of(self.path) != self.sha256:
            raise ChangedError(
                f"{self.path.name} was changed between the last look at it and its publication, so that nothing was "
                "published and the unfinished work was removed. Run again."
            )


# Of 256 levels: what a second computation of the same may differ by.
_ROUNDING = 1 / 255
# Frames between two that are hidden again where that costs as much as protecting them.
_SAMPLE = 20
# Where hiding changes a colour by less, nobody sees whether it is hidden.
_VISIBLE = 4 / 255
# Means over cells of a place, so many to a side: what a codec does to single pixels cancels.
_CELLS = 6
# Beyond what the perturbation may do: the share of the way back from what is hidden to the original, and the distance
# of the cells from what is hidden, over that of cells where nothing is hidden. What leaves has at most 0.02, and less
# than nothing, at every codec's worst quality (docs/security.md).
_RETURNED, _FOREIGN = 0.08, 0.01
# Where everything is hidden, nothing tells what the codec does.
_CODEC = 0.1


@dataclass(frozen=True)
class LastLook:
    """Compares written frames with the originals, hidden once more.

    Where nothing is lost, every pixel must be within epsilon of the hidden original, in the region, and that original
    itself outside of it. Where the codec loses something, or the way of hiding never does the same twice, the places
    hidden are judged by cells: they must neither have gone back towards the original nor be far from what hides it.

    Args:
        deidentifier: what was done to the frames.
        exact: whether the file holds the very pixels that it was given.
    """

    deidentifier: Deidentifier
    exact: bool

    def __call__(self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], images: Tensor) -> None:
        """Look at frames that were written.

        Args:
            batch: the originals.
            tracked: where faces are hidden in them.
            images: ``(B, 3, H, W)`` in [0, 1], as they are read from the file.

        Raises:
            ExposedError: a frame shows what is to be hidden, or something else in its place.
        """
        originals = batch.originals()
        images = images.to(originals.device)
        rows = self._worth_hiding_again(batch, tracked, originals, images)
        if not rows:
            return
        hidden = self._hidden(batch, tracked, originals, rows)
        allowed = self._allowed(batch, tracked, rows).to(images)
        exposed = self._exposed(tracked, rows, originals, images, hidden, allowed, exact=self.exact)
        if exposed and self.exact:
            # A way of hiding that draws by chance, or a device that sums in any order, is held to no pixel.
            again = self._hidden(batch, tracked, originals, exposed)
            first = hidden[[rows.index(row) for row in exposed]]
            if bool(((again - first).abs() > _ROUNDING).any()):
                exposed = self._exposed(tracked, rows, originals, images, hidden, allowed, exact=False)
        if exposed:
            raise ExposedError(
                f"frame {batch.first + exposed[0]} of what was written is not what hides the original there, so that "
                "nothing was published and the unfinished work was removed. Something changed it on the way: run again."
            )

    def _worth_hiding_again(
        self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], originals: Tensor, images: Tensor
    ) -> list[int]:
        """All frames where hiding costs little; else some, and those that look much like the original."""
        rows = [i for i, frame in enumerate(tracked) if frame.treatment != "kept"]
        if not rows or isinstance(self.deidentifier.obfuscator, Obfuscator):
            return rows
        place = self._mask(batch, tracked, rows).to(images) > 0
        near = (images[rows] - originals[rows]).abs().amax(dim=1, keepdim=True) <= 2 * _VISIBLE
        alike = (near & place).sum(dim=(1, 2, 3)) > 0.8 * place.sum(dim=(1, 2, 3))
        return [i for i, same in zip(rows, alike.tolist(), strict=True) if same or (batch.first + i) % _SAMPLE == 0]

    def _hidden(
        self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], originals: Tensor, rows: Sequence[int]
    ) -> Tensor:
        return self.deidentifier.hide(originals[list(rows)], [tracked[i] for i in rows])

    def _mask(self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], rows: Sequence[int]) -> Tensor:
        """Where a frame is attacked."""
        found = [tracked[i].found for i in rows]
        return self.deidentifier.obfuscator.mask(found, *batch.size)

    def _allowed(self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], rows: Sequence[int]) -> Tensor:
        """How far each pixel may be from the hidden original, ``(R, 1, H, W)``."""
        epsilon = self.deidentifier.attacker.epsilon
        most = float(epsilon.max()) if isinstance(epsilon, Tensor) else epsilon
        attacked = torch.tensor([tracked[i].treatment == "found" for i in rows])[:, None, None, None]
        mask = self._mask(batch, tracked, rows).cpu()
        return most * ((mask > 0) & attacked) + 1.5 * _ROUNDING

    def _exposed(
        self,
        tracked: Sequence[TrackedFrame],
        rows: Sequence[int],
        originals: Tensor,
        images: Tensor,
        hidden: Tensor,
        allowed: Tensor,
        *,
        exact: bool,
    ) -> list[int]:
        shown = images[list(rows)]
        if exact:
            bad = ((shown - hidden).abs() > allowed).flatten(1).any(dim=1)
            return [i for i, is_bad in zip(rows, bad.tolist(), strict=True) if is_bad]
        return [
            i
            for k, i in enumerate(rows)
            if any(
                _goes_back(shown[k], originals[i], hidden[k], allowed[k], place)
                for place in _places(tracked[i], (shown.shape[2], shown.shape[3]))
            )
        ]


def check_alike(images: Tensor, written: Tensor, first: int, *, exact: bool) -> None:
    """Make sure that frames in the file are those that were written, where no original is left to compare them with.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1] read from the file.
        written: ``(B, 3, H, W)`` given to its writer.
        first: the number of the first of them.
        exact: whether the file holds the very pixels that it was given.

    Raises:
        ExposedError: they are others.
    """
    images = images.to(written)
    distance = (images - written).abs()
    if exact:
        bad = distance.flatten(1).amax(dim=1) > _ROUNDING / 2
    else:
        cells = adaptive_avg_pool2d(images - written, 4 * _CELLS).abs()
        bad = cells.flatten(1).amax(dim=1) > 2 * _CODEC
    if bool(bad.any()):
        raise ExposedError(
            f"frame {first + int(bad.nonzero()[0])} in the file is not the one that was written, so that nothing was "
            "published. Something changed it on the way: record again."
        )


def _places(frame: TrackedFrame, size: tuple[int, int]) -> list[Rectangle]:
    """The places hidden in a frame: each is looked at by itself, since most of a frame says little of a small one."""
    height, width = size
    if frame.treatment == "whole-frame":
        return [Rectangle(0, 0, width, height)]
    boxes = clip(Faces.cat([frame.found, frame.others]).boxes.cpu(), height, width)
    corners = outwards(boxes).long().tolist()
    return [Rectangle(*corner) for corner in corners if corner[2] > corner[0] and corner[3] > corner[1]]


def _goes_back(shown: Tensor, original: Tensor, hidden: Tensor, allowed: Tensor, place: Rectangle) -> bool:
    """Whether a place shows what it hid, or what neither hiding nor the perturbation put there."""
    at = (slice(None), slice(place.top, place.bottom), slice(place.left, place.right))
    taken, change, most = original[at] - hidden[at], shown[at] - hidden[at], allowed[at]
    seen = taken.abs().amax(dim=0, keepdim=True) > _VISIBLE
    if bool(seen.any()):
        # Least squares: change = share * taken, of which the perturbation alone may be `bound`.
        weighed = taken * seen
        energy = weighed.square().sum()
        share = (change * weighed).sum() / energy
        bound = (most * weighed.abs()).sum() / energy
        if float(share - bound) > _RETURNED:
            return True
    cells = adaptive_avg_pool2d(change, _CELLS).abs() - adaptive_avg_pool2d(most, _CELLS)
    foreign = float(cells.clamp(min=0).square().mean().sqrt())
    # What the codec does elsewhere has to be known of few places only.
    if foreign <= _FOREIGN:
        return False
    side = max(1, round((place.right - place.left) / _CELLS))
    return foreign > _codec_noise(shown, original, hidden, side) + _FOREIGN


def _codec_noise(shown: Tensor, original: Tensor, hidden: Tensor, side: int) -> float:
    """How far means over cells are from the original where nothing is hidden."""
    left = (hidden == original).all(dim=0, keepdim=True).to(shown)
    change = avg_pool2d(((shown - original) * left)[None], side)
    whole = avg_pool2d(left[None], side).expand_as(change) > 1 - 1e-4
    return float(change[whole].square().mean().sqrt()) if bool(whole.any()) else _CODEC
