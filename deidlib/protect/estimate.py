"""``Estimator``: what protecting a file will take, from a few of its frames, with nothing written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from deidlib.attack.arithmetic import plain_arithmetic
from deidlib.faces import Faces
from deidlib.media.clip import Clip, open_frames
from deidlib.media.kind import kind_of
from deidlib.models.observe import observe
from deidlib.protect.deidentifier import Deidentifier

T = TypeVar("T")

# Seconds after which no more of a long clip is decoded to sample it.
_PATIENCE = 20.0


class Cost(NamedTuple):
    """Seconds for a frame, as measured on a few.

    Args:
        every: of a frame, with a face or without: the detectors, and the check of what was written.
        first: of the attack on a frame that begins a chain, or on any frame without chains.
        next: of the attack on a frame that follows another one.
        attacked: how many frames were attacked to know; 0: none with a face was seen, and one with a face takes longer.
    """

    every: float
    first: float
    next: float
    attacked: int


@dataclass(frozen=True)
class Estimate:
    """What is known of a file before it is protected.

    Args:
        frames: how many it has, as its header says; or by its time and rate, or counted, where that does not say.
        size: (height, width) in pixels.
        faces: per frame looked at, by number, how many faces were found.
        seconds: how long it will take, about.
        cost: of a frame.
        about: whether the number of frames is by time and rate, and may be one or two off.
    """

    frames: int
    size: tuple[int, int]
    faces: dict[int, int]
    seconds: float
    cost: Cost
    about: bool = False


@dataclass
class Estimator:
    """Looks at a few frames of a file, and measures how long one takes. What was measured for one size is known then.

    Args:
        deidentifier: what would happen to the frames.
        checked: whether the written file would be read back.
        batch_size: frames that would be attacked at a time.
        looks: frames of a clip that are looked at, at most, spread evenly.

    Example:
        >>> import tempfile
        >>> from deidlib import MTCNN, IFGSMAttacker, write_image
        >>> path = Path(tempfile.mkdtemp()) / "a.png"
        >>> write_image(path, torch.rand(3, 32, 32))
        >>> estimate = Estimator(Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=1))).of(path)
        >>> estimate.frames, estimate.faces
        (1, {0: 0})
    """

    deidentifier: Deidentifier
    checked: bool = True
    batch_size: int | None = None
    looks: int = 8
    _known: dict[tuple[int, int], Cost] = field(default_factory=dict)

    def of(self, path: Path, faces: Sequence[Faces] | None = None) -> Estimate:
        """What a file will take.

        Args:
            path: an image, a video, or a folder of frames.
            faces: per frame where they are, if that is known.

        Raises:
            MediaReadError: it cannot be read.
        """
        with open_frames(path) as reader:
            info = reader.info
        # A header's count may be wrong, but that is for the work to find out.
        frames, about = info.frames_about, info.frames is None
        if frames is None:
            frames, about = Clip.open(path).frames, False
        size = (info.height, info.width)
        found: dict[int, int] = {}
        seconds: list[float] = []
        for number, image in self._sample(path, frames):
            began = time.perf_counter()
            given = None if faces is None else faces[number : number + 1]
            batch = self.deidentifier.detect(image.to(self.deidentifier.device()), number, faces=given)
            found[number] = len(batch.faces[0])
            seconds.append(time.perf_counter() - began)
        cost = self._known.get(size)
        if cost is None or (not cost.attacked and any(found.values())):
            where = next((number for number, count in found.items() if count), 0)
            every, first, after, attacked = self._measure(path, where, frames, faces, size)
            # The first look of all takes longer.
            cost = self._known[size] = Cost(min(seconds) + every, first, after, attacked)
        share = sum(count > 0 for count in found.values()) / len(found)
        return Estimate(frames, size, found, self._total(frames, share, cost), cost, about)

    def _sample(self, path: Path, frames: int) -> Iterator[tuple[int, Tensor]]:
        """Some frames ``(1, 3, H, W)`` with their numbers, from the first on."""
        wanted = {k * frames // self.looks for k in range(self.looks)}
        began, count = time.perf_counter(), 0
        with open_frames(path) as reader:
            for number, (image, _) in enumerate(reader.selected(1, wanted.__contains__)):
                if image is not None:
                    count += 1
                    yield number, image
                if count == len(wanted) or (count and time.perf_counter() - began > _PATIENCE):
                    return

    def _measure(
        self, path: Path, number: int, frames: int, faces: Sequence[Faces] | None, size: tuple[int, int]
    ) -> tuple[float, float, float, int]:
        """Protect a few frames from that one on, and look at the clock."""
        deidentifier, device = self.deidentifier, self.deidentifier.device()
        wanted = 2 if deidentifier.chain is not None or device.type == "cpu" else self.batch_size or 8
        numbers = set(range(number, min(number + wanted, max(frames, number + 1))))
        known = Clip(path, kind_of(path), len(numbers), size).some(numbers)
        images = torch.stack([known[n] for n in sorted(known)]).to(device)
        batch = deidentifier.detect(
            images, number, faces=None if faces is None else faces[number : number + len(images)]
        )
        looking, ((batch, tracked),) = _timed(lambda: list(deidentifier.follow([batch])))
        if deidentifier.lookout is not None:
            # The first and the last of so few are looked at by everybody; in a clip, one in so many.
            looking /= min(len(images), 2) * deidentifier.lookout.every
        marks: dict[int, float] = {}
        began = time.perf_counter()
        attacking, protected = _timed(
            lambda: deidentifier.protect(
                batch, tracked, on_step=lambda step: marks.setdefault(step.frames[0], time.perf_counter() - began)
            )
        )
        attacked = sum(frame.treatment == "found" for frame in tracked)
        first = after = attacking / len(images)
        if deidentifier.chain is not None and len(marks) > 1:
            first = sorted(marks.values())[1]
            after = (attacking - first) / (len(marks) - 1)
        reading = 0.0
        if self.checked:
            with plain_arithmetic(device):
                models = [model.at([number]) for model in deidentifier.attacker.named_models().values()]
                reading, _ = _timed(lambda: observe(protected.images[:1], models))
        return looking + reading, first, after, attacked

    def _total(self, frames: int, share: float, cost: Cost) -> float:
        chains = 0 if self.deidentifier.chain is None else -(-frames // self.deidentifier.part)
        attack = chains * cost.first + (frames - chains) * (cost.next if chains else cost.first)
        return frames * cost.every + share * attack


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    """How long it takes, in seconds, and what comes of it."""
    began = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result
