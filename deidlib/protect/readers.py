"""``Readers``: who reads the originals, and what they read there: where faces are, and what is to be kept of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deidlib.faces import Faces
from deidlib.geometry.matching import same_face
from deidlib.images import read_together, to_uint8
from deidlib.models.base import TargetModel
from deidlib.models.observe import observe, observe_each, united
from deidlib.protect.batches import DetectedBatch, FaceCount
from deidlib.protect.given import check_places
from deidlib.tracking import TrackedFrame


@dataclass(frozen=True)
class Readers:
    """The models that read the originals.

    Args:
        authorised: by name.
        hiders: the detectors that say where faces are.
        at_times: whether only those of them look at every frame that read it anyway, or else the first.
    """

    authorised: Mapping[str, TargetModel[Any]]
    hiders: Sequence[TargetModel[Any]]
    at_times: bool

    @classmethod
    def of(
        cls,
        models: Mapping[str, TargetModel[Any]],
        detectors: Sequence[TargetModel[Any]] | None,
        *,
        at_times: bool = False,
    ) -> Readers:
        """Authorised models and detectors, as each reads originals.

        Args:
            models: the authorised ones, by name.
            detectors: those that hide; of the authorised models, if not given.
            at_times: see above.
        """
        hiders = [
            model.for_originals
            for model in (models.values() if detectors is None else detectors)
            if model.task == "boxes"
        ]
        return cls({name: model.for_originals for name, model in models.items()}, hiders, at_times)

    @property
    def watching(self) -> Sequence[TargetModel[Any]]:
        """Those detectors that look at every frame."""
        if not self.at_times:
            return self.hiders
        # One network may serve both: modules are told apart by identity.
        return [
            model for model in self.hiders if any(model is reader for reader in self.authorised.values())
        ] or self.hiders[:1]

    def detect(self, images: Tensor, first: int) -> DetectedBatch:
        """Let those look that look at every frame.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            first: the number of the first of them.
        """
        authorised = {name: model for name, model in self.authorised.items() if model.task == "boxes"}
        watching = self.watching
        read: dict[TargetModel[Any], list[Faces]] = {
            model: [
                known for part in read_together(len(images), images.device) for known in observe(images[part], [model])
            ]
            for model in dict.fromkeys([*watching, *authorised.values()])
        }
        return DetectedBatch(
            first,
            to_uint8(images),
            (images.shape[2], images.shape[3]),
            united([read[model] for model in watching]),
            [{name: read[model][i] for name, model in authorised.items()} for i in range(len(images))],
            counts=[FaceCount({model.name: len(read[model][i]) for model in watching}) for i in range(len(images))],
            complete=not self.at_times,
        )

    def told(self, images: Tensor, first: int, faces: Sequence[Faces]) -> DetectedBatch:
        """What is known without a look.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1].
            first: the number of the first of them.
            faces: where they are, which every detector then reads; so are landmarks and gaze where all have them.

        Raises:
            ValueError: boxes that hide no face.
        """
        size = (images.shape[2], images.shape[3])
        check_places(faces, size, first)
        faces = [known.map(lambda values: values.to(images)) for known in faces]
        readings: list[dict[str, Faces]] = [
            {name: known for name, model in self.authorised.items() if _tells(known, model.task)} for known in faces
        ]
        return DetectedBatch(first, to_uint8(images), size, faces, readings)

    def read(
        self, batch: DetectedBatch, tracked: Sequence[TrackedFrame], rows: Sequence[int], originals: Tensor
    ) -> list[dict[str, Faces]]:
        """What each authorised model reads of the faces that were found, frame by frame; no detector looks again.

        Args:
            batch: the frames.
            tracked: where faces were found in each.
            rows: which of them.
            originals: ``(B, 3, H, W)`` all of them.
        """
        read = list[dict[str, Faces]]()
        for row in rows:
            # Of what else detectors have seen, nothing is hidden, so nothing is to be read.
            found, seen = tracked[row].found, batch.readings[row]
            read.append(
                {
                    name: _among(seen[name], found) if model.task == "boxes" else seen[name]
                    for name, model in self.authorised.items()
                    if name in seen
                }
            )
        missing = [k for k, known in enumerate(read) if known.keys() < self.authorised.keys()]
        # Those of which as much is known are read together.
        for names in {tuple(read[k]) for k in missing}:
            mine = [k for k in missing if tuple(read[k]) == names]
            for part in read_together(len(mine), originals.device):
                at = mine[part]
                now = observe_each(
                    originals[[rows[k] for k in at]],
                    self.authorised,
                    None if names else [tracked[rows[k]].found for k in at],
                    read={name: [read[k][name] for k in at] for name in names},
                )
                for n, k in enumerate(at):
                    read[k] = {name: known[n] for name, known in now.items()}
        return [{name: known[name] for name in self.authorised} for known in read]


def _tells(faces: Faces, task: str) -> bool:
    """Whether all that a model of that task reads is known of the faces."""
    if task == "landmarks":
        return not len(faces) or (faces.landmarks is not None and faces.landmarks.shape[1] == 68)
    return task == "boxes" or not len(faces) or faces.gaze is not None


def _among(seen: Faces, wanted: Faces) -> Faces:
    """Those of the faces seen that show one of the wanted."""
    return seen[same_face(seen.boxes, wanted.boxes)]
