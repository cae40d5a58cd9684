"""``ClipAttacks``: what a clip adds up to, whose picture that is, and the same of a mosaic that must fall."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from deidlib.evaluation.attacks.sums import as_it_is, reading_of
from deidlib.evaluation.attacks.superresolution import SuperResolution, stretched
from deidlib.evaluation.attacks.suspects import Ranking, Suspects, ranked
from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.images import to_grid
from deidlib.metrics import Embedder
from deidlib.nets.precision import full_precision
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.tracking import FaceTracker, TrackerState

Attack = Literal["super-resolution", "perturbation"]
"""``"super-resolution"``: undo the mosaic or blur over all frames. ``"perturbation"``: average what lies on the hidden
frames where the face is, which is the perturbation alone where nothing of the face was left."""
ATTACKS: tuple[Attack, ...] = get_args(Attack)

# What an attacker who is not told tries.
_WAYS: dict[str, Obfuscator] = {"8 blocks": Pixelate(blocks=8), "4 blocks": Pixelate(blocks=4), "blur": GaussianBlur()}
_CONTROL = "8 blocks"
_AVERAGE = "an average"
# Frames that are put together at most, evenly over the clip, and clear pictures of the person among the suspects.
_MOST_FRAMES, _CLEAR = 300, 4
_PERSON = 0


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one attack on one clip came to.

    Args:
        attack: which.
        read_as: as what the attacker took the file.
        control: whether it is on the original hidden by 8 blocks, and not on the file: it must succeed, or a failure
            on the file says nothing.
        clip: number of the clip.
        frames: how many were put together.
        ranking: among clear pictures that went through the same, of the person (from this clip) and of strangers.
        picture: ``(1, 3, 112, 112)`` what he sees.
    """

    attack: Attack
    read_as: str
    control: bool
    clip: int
    frames: int
    ranking: Ranking
    picture: Tensor


class ClipAttacks:
    """Attack clips frame by frame, following the largest face; sums over the face are kept, and no frame.

    The attacker's best case: he is told where the original's points are, and where a protection with the tracker's
    default settings hides.

    Args:
        attacks: which.
        embedder: the recogniser that judges.
        strangers: other people, by numbers above 0.
    """

    def __init__(self, attacks: Sequence[Attack], embedder: Embedder, strangers: Suspects) -> None:
        self.attacks, self.embedder, self.strangers = tuple(dict.fromkeys(attacks)), embedder, strangers
        self.results: list[Attempt] = []
        self._clip = -1

    def begin(self, frames: int) -> None:
        """What follows is another clip of so many frames."""
        self.end()
        self._clip += 1
        self._every, self._clear_every = max(1, math.ceil(frames / _MOST_FRAMES)), max(1, frames // _CLEAR)
        self._number = 0
        self._tracker: TrackerState | None = None
        self._waiting: deque[tuple[Tensor, Tensor, Faces]] = deque()
        self._box: Tensor | None = None
        self._clear = Suspects.none()
        self._solvers: dict[tuple[Attack, str, bool], SuperResolution] = {}
        if "super-resolution" in self.attacks:
            for name, hide in _WAYS.items():
                self._solvers["super-resolution", name, False] = SuperResolution(reading_of(hide))
            self._solvers["super-resolution", _CONTROL, True] = SuperResolution(reading_of(_WAYS[_CONTROL]))
        if "perturbation" in self.attacks:
            self._solvers["perturbation", _AVERAGE, False] = SuperResolution(as_it_is(Solid().region))

    @full_precision()
    @torch.no_grad()
    def update(self, originals: Tensor, protected: Tensor, places: Sequence[Faces]) -> None:
        """Add frames of the clip.

        Args:
            originals: ``(B, 3, H, W)`` in [0, 1].
            protected: ``(B, 3, H, W)`` likewise.
            places: B entries, the faces of the originals.
        """
        if self._tracker is None:
            self._tracker = FaceTracker().start(*originals.shape[2:])
        for original, shown, faces in zip(originals, protected, places, strict=True):
            self._waiting.append((original, shown, faces))
            self._hidden([frame.smoothed for frame in self._tracker.push(faces.to("cpu"))])

    @full_precision()
    def end(self) -> None:
        """The clip is over: put it together and compare."""
        if self._clip < 0:
            return
        if self._tracker is not None:
            self._hidden([frame.smoothed for frame in self._tracker.flush()])
            self._tracker = None
        suspects = self.strangers + self._clear
        for (attack, name, control), solver in self._solvers.items():
            if not solver.frames or not len(self._clear):
                continue
            picture = solver.picture()
            if attack == "perturbation":
                picture = stretched(picture)
            others = solver.parroted(suspects.canvases).to(picture)
            ranking = ranked(self.embedder, picture, others, suspects.people, _PERSON)
            self.results.append(Attempt(attack, name, control, self._clip, solver.frames, ranking, picture))
        self._solvers = {}

    def _hidden(self, places: Sequence[Faces]) -> None:
        """Frames of which it is known where they are hidden."""
        for smoothed in places:
            original, shown, faces = self._waiting.popleft()
            number, self._number = self._number, self._number + 1
            face = self._followed(faces)
            if face is None:
                continue
            if number % self._clear_every == 0 and len(self._clear) < _CLEAR:
                self._clear += Suspects.of(original[None], [face], [_PERSON])
            if number % self._every:
                continue
            place = face.boxes[0]
            if len(smoothed):
                over = iou(place[None].cpu(), smoothed.boxes)[0]
                place = smoothed.boxes[int(over.argmax())] if bool(over.max() > 0) else place
            for (_, name, control), solver in self._solvers.items():
                if control:
                    hidden = to_grid(_WAYS[name](original[None], [face]))[0]
                    solver.add(hidden, face, face.boxes[0])
                else:
                    solver.add(shown, face, place)

    def _followed(self, faces: Faces) -> Faces | None:
        """The face that is followed, if it is there with points: the largest at first, then where it was."""
        if not len(faces) or faces.landmarks is None:
            return None
        if self._box is None:
            sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
            chosen = int(sides.prod(dim=1).argmax())
        else:
            over = iou(self._box.to(faces.boxes)[None], faces.boxes)[0]
            if not bool(over.max() > 0):
                return None
            chosen = int(over.argmax())
        face = faces[[chosen]]
        if face.landmarks is None or not bool(face.landmarks.isfinite().all()):
            return None
        self._box = face.boxes[0]
        return face
