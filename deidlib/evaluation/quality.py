"""``QualityResult``: what is left of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deidlib.evaluation.about import about
from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.metrics import LPIPS, ImageQuality
from deidlib.records.fingerprint import described, fingerprint


@dataclass(frozen=True)
class QualitySettings:
    """How the picture is measured.

    Args:
        region: what counts as inside the faces.
        lpips: :class:`deidlib.metrics.LPIPS`, or any ``(images, images) -> (B,)``; left out if not given.
    """

    region: FaceRegion = field(default_factory=FaceRegion)
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON; of LPIPS the network, by name and by a hash of its weights."""
        region = {"factor": self.region.factor, "shape": self.region.shape, "feather": self.region.feather}
        lpips = None if self.lpips is None else about(self.lpips)
        if isinstance(self.lpips, LPIPS):
            lpips = about(self.lpips) | {
                "net": self.lpips.net,
                "fingerprint": fingerprint(described(self.lpips.network)),
            }
        return {"region": region, "lpips": lpips}


@dataclass(frozen=True, eq=False)
class QualityResult:
    """What is left of the picture, against the original.

    Args:
        frames: ``(F,)`` by the names of :class:`~deidlib.metrics.ImageQuality`; NaN where a frame has no such value.
        covered: ``(F,)`` share of each frame's area that is inside the faces.
        known: whether "inside" is what was really hidden, as the file beside the protected one says; else an estimate.
    """

    frames: Mapping[str, Sequence[float]]
    covered: Sequence[float]
    known: bool = False

    def mean(self, name: str) -> float | None:
        """The mean over the frames that have the value, None if none has; infinite if one is unchanged."""
        known = [value for value in self.frames[name] if not math.isnan(value)]
        return sum(known) / len(known) if known else None


class QualityComparison:
    """Compares pictures, clip by clip and batch by batch; keeps numbers only.

    Args:
        settings: how.
    """

    def __init__(self, settings: QualitySettings) -> None:
        self.settings = settings
        self._clips: list[ImageQuality] = []
        self._region = settings.region
        # Whether what was really hidden is known, clip by clip.
        self._known: list[bool] = []
        self._covered: list[float] = []

    def begin(self, *, known: bool = False) -> None:
        """What follows is another clip: its first frame has none before it that it could flicker against.

        Args:
            known: whether the faces that follow are what was really hidden, and no margin is to be guessed.
        """
        self._region = FaceRegion(factor=1.0) if known else self.settings.region
        self._known.append(known)
        self._clips.append(ImageQuality(self._region, lpips=self.settings.lpips))

    def update(self, originals: Tensor, protected: Tensor, faces: Sequence[Faces]) -> None:
        """Add frames, in their order.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            protected: ``(B, 3, H, W)`` likewise.
            faces: B entries, the faces of the originals, or what was hidden.
        """
        self._clips[-1].update(originals, protected, faces)
        inside = self._region.mask(faces, *originals.shape[-2:]) > 0
        self._covered += inside.float().mean(dim=(1, 2, 3)).tolist()

    def compute(self) -> QualityResult:
        """The values of all frames."""
        rows: dict[str, list[float]] = {}
        for metric in self._clips:
            for name, values in metric.per_frame().items():
                if self.settings.lpips is not None or not name.startswith("lpips"):
                    rows.setdefault(name, []).extend(values.tolist())
        return QualityResult(rows, self._covered, all(self._known))
