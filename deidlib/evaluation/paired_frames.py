"""``PairedFrames``: frames of both files in step, and what everybody reads on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deidlib.evaluation.reading import Role
from deidlib.faces import Faces
from deidlib.models.base import FaceModel, TargetModel
from deidlib.models.observe import observe_each, united

Groups = Mapping[Role, Mapping[str, FaceModel]]
"""Who is shown the files: readers by name, the authorised ones and the others."""

Readings = dict[str, list[Faces]]
"""By reader what it reads, one entry per frame."""


@dataclass(frozen=True, eq=False)
class PairedFrames:
    """Frames of both files in step, and what everybody reads on them.

    Args:
        originals: ``(B, 3, H, W)`` in [0, 1].
        protected: ``(B, 3, H, W)`` likewise.
        here: what is read on the originals.
        there: what is read on the protected frames.
        places: B entries, where the faces of the originals are.
        beside: B entries, what only unauthorised detectors take for a face there.
    """

    originals: Tensor
    protected: Tensor
    here: Readings
    there: Readings
    places: list[Faces]
    beside: list[Faces]

    @classmethod
    def read(
        cls, originals: Tensor, protected: Tensor, numbers: Sequence[int], groups: Groups, truth: Sequence[Faces] | None
    ) -> PairedFrames:
        """Let everybody read both.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            protected: ``(B, 3, H, W)`` likewise.
            numbers: the frames' numbers in their clip.
            groups: who reads.
            truth: B entries, what there is to be read on the originals; None if nobody has said.
        """
        truth = None if truth is None else [known.to(originals.device) for known in truth]
        clear: Groups = {role: {name: for_originals(r) for name, r in group.items()} for role, group in groups.items()}
        told: Groups = {role: {name: _at(r, numbers) for name, r in group.items()} for role, group in groups.items()}
        here = _read_by(clear, originals, truth)
        if truth is not None:
            places, beside = truth, [Faces.empty(device=originals.device)] * len(originals)
        else:
            places, beside = _places(groups, here)
        # Where nobody authorised looks for faces, their places are known from elsewhere.
        there = _read_by(told, protected, [Faces(known.boxes, known.scores) for known in places])
        return cls(originals, protected, here, there, places, beside)


def for_originals(reader: FaceModel) -> FaceModel:
    """As whom a reader reads the originals: a model with a key reads them without."""
    return reader.for_originals if isinstance(reader, TargetModel) else reader


def detectors(group: Mapping[str, FaceModel]) -> list[str]:
    """The names of those that find faces by themselves."""
    return [name for name, reader in group.items() if reader.task == "boxes"]


def _at(reader: FaceModel, numbers: Sequence[int]) -> FaceModel:
    return reader.at(numbers) if isinstance(reader, TargetModel) else reader


def _read_by(groups: Groups, images: Tensor, places: Sequence[Faces] | None) -> Readings:
    """Each group on its own; one without a detector is told what the one before it finds, or else the places."""
    read: Readings = {}
    found: list[list[Faces]] = []
    for group in groups.values():
        if not group:
            continue
        read |= observe_each(images, group, united(found) if found else places)
        found += [read[name] for name in detectors(group)]
    return read


def _places(groups: Groups, here: Readings) -> tuple[list[Faces], list[Faces]]:
    """Where the authorised detectors find faces, and where only others do."""
    found = {role: [here[name] for name in detectors(group)] for role, group in groups.items()}
    places = united(found["authorised"] or found["unauthorised"])
    everything = united([places, *found["unauthorised"]])
    return places, [known[len(sure) :] for known, sure in zip(everything, places, strict=True)]
