"""``FaceTracker``: where faces are in the frames in which detectors miss them, from the frames before and after."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from deidlib.faces import Faces
from deidlib.geometry.boxes import iou
from deidlib.geometry.matching import SAME_FACE_IOU, assign

Treatment = Literal["found", "filled", "held", "whole-frame", "kept", "missing"]

# Perhaps the same face: sizes (larger sides) that it may move in a frame (a walk is 0.3 at 25 frames per second), and
# the factor by which it may change its size.
_STEP = 1.5
_SPEED = 0.2
_ZOOM = 1.5
# Sizes per frame squared by which an edge may change its velocity: 5 m/s^2 for a face of 0.2 m at 25 frames per second.
_ACCELERATION = 0.04
# Sizes: what a detector's box may be off.
_JITTER = 0.1
# Sizes per frame by which a held place grows on each side, and where that ends.
_DRIFT = 0.03
_FARTHEST = 0.4
# Sizes by which a place that stays is larger on each side.
_STAYS = 0.25
# Frames over which velocity is measured.
_HISTORY = 4
# A face seen in fewer frames is too likely a false detection to be remembered for ever.
_SURE = 8

Boxes = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """One frame: its faces, and the places to be hidden beside them.

    Args:
        found: the faces that the detectors found, as they came.
        filled: places of faces missed here and found before and after.
        held: places of faces found before only, or after only.
        smoothed: what keeps the hidden region from trembling: each holds a face found, and reaches beyond it.
        treatment: ``"found"``: there are faces; ``"filled"``: none, and places from both sides; ``"held"``: none, and
            places from one side; ``"whole-frame"``: the whole frame is to be hidden; ``"kept"``: nothing is to be
            hidden, since ``on_missing="keep"`` asked for it; ``"missing"``: an error is to be raised, since
            ``on_missing="error"`` asked for it.
    """

    found: Faces
    filled: Faces
    held: Faces
    smoothed: Faces
    treatment: Treatment

    @property
    def others(self) -> Faces:
        """All places to be hidden beside the faces found."""
        return Faces.cat([self.filled, self.held, self.smoothed])

    def to(self, device: torch.device | str) -> TrackedFrame:
        """The same with every tensor on ``device``."""
        found, filled, held, smoothed = (
            places.to(device) for places in (self.found, self.filled, self.held, self.smoothed)
        )
        return TrackedFrame(found, filled, held, smoothed, self.treatment)


@dataclass(frozen=True)
class FaceTracker:
    """Follow faces through a clip, looking ahead, so that a face that is missed for some frames stays hidden in them.

    A face missed between frames ``a`` and ``b`` is hidden in frame ``t`` where the straight line from one to the other
    has it, each side grown by ``size (0.1 + 0.02 (t - a) (b - t))``; the size is the larger side of the larger box. A
    sequence whose second difference is at most ``A`` leaves its chord by at most ``A (t - a) (b - t) / 2``. So this
    covers every face whose edges change their velocity by at most 0.04 sizes per frame from one frame to the next, and
    a tenth of its size for what a detector's box may be off.

    Before and after, a place is held that grows with time, and moves on as the face last moved.

    A place is given up only when its face is found again beyond doubt: at ``IoU >= 0.3`` with where it was, or would be
    at its last velocity. A face found merely near it, which may be the same after a fast movement, or another one, adds
    places and takes none away; so do faces that cross.

    What comes out depends on the sequence of detections alone.

    Args:
        window: frames of look-ahead: by so many the output is late, and so many are kept.
        hold: frames for which the place of a face that is lost is held.
        on_missing: what to do with a frame in which no face is found: ``"hold"``: hide the places filled and held, or
            the whole frame where there are none; ``"whole-frame"``: hide it altogether unless the face is filled in
            from both sides; ``"error"``: the same frames are ``"missing"``; ``"keep"``: as ``"hold"``, but where
            nothing is filled or held leave the frame as it is, *with any face that the detectors missed*.
        after_hold: what becomes of a face lost for longer than ``hold`` while others are found. ``"stay"``: its place
            stays hidden until a face is found there again, unless it left at the edge of the frame, or had been seen in
            less than eight frames. ``"drop"``: its place is given up. ``"whole-frame"``: as ``"stay"``, and the whole
            frame is hidden.
        smoothing: frames before and after over which the region of a found face is evened out; it only ever grows.
            2 if not given, or half of a window that is shorter than that needs.

    Raises:
        ValueError: a setting that makes no sense.

    Example:
        >>> def face(x):
        ...     return Faces(torch.tensor([[x, 10.0, x + 20.0, 30.0]]), torch.ones(1))
        >>> frames = [face(10.0), Faces.empty(), face(18.0)]
        >>> tracked = list(FaceTracker(window=4).track(frames, height=100, width=100))
        >>> [frame.treatment for frame in tracked]
        ['found', 'filled', 'found']
        >>> tracked[1].filled.boxes
        tensor([[11.6000,  7.6000, 36.4000, 32.4000]])
    """

    window: int = 15
    hold: int = 30
    on_missing: Literal["hold", "whole-frame", "error", "keep"] = "hold"
    after_hold: Literal["stay", "drop", "whole-frame"] = "stay"
    smoothing: int | None = None

    def __post_init__(self) -> None:
        if self.on_missing not in ("hold", "whole-frame", "error", "keep"):
            raise ValueError(f"on_missing must be 'hold', 'whole-frame', 'error' or 'keep', got {self.on_missing!r}.")
        if self.after_hold not in ("stay", "drop", "whole-frame"):
            raise ValueError(f"after_hold must be 'stay', 'drop' or 'whole-frame', got {self.after_hold!r}.")
        if self.hold < 0:
            raise ValueError(f"hold must be >= 0 frames, got {self.hold}.")
        if not 0 <= 2 * (self.smoothing or 0) <= self.window:
            raise ValueError(
                "smoothing looks 2 * smoothing frames ahead, which must be between 0 and window, "
                f"got smoothing={self.smoothing} and window={self.window}."
            )

    @property
    def evened(self) -> int:
        """Frames before and after over which regions are evened out."""
        return min(2, self.window // 2) if self.smoothing is None else self.smoothing

    def start(self, height: int, width: int) -> TrackerState:
        """Begin a clip with frames of this size."""
        return TrackerState(self, height, width)

    def track(self, frames: Iterable[Faces], height: int, width: int) -> Iterator[TrackedFrame]:
        """Follow the faces of a whole clip; one :class:`TrackedFrame` each, at most ``window`` frames late."""
        tracking = self.start(height, width)
        for faces in frames:
            yield from tracking.push(faces)
        yield from tracking.flush()


@dataclass(frozen=True, eq=False)
class _Observation:
    frame: int
    box: Boxes
    score: float

    @property
    def size(self) -> float:
        """The larger side; at least a pixel."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1], 1.0))


@dataclass(eq=False)
class _Track:
    """What is known of one face: sightings in order, the older ones forgotten.

    Args:
        seen: its sightings.
        hint: one before the first, which may be of this face and says how fast it moves.
        count: how many sightings there were.
        released: the first frame in which its place need not stay hidden.
    """

    seen: list[_Observation]
    hint: _Observation | None = None
    count: int = 1
    released: int | None = None

    @property
    def last(self) -> _Observation:
        return self.seen[-1]

    def expected(self) -> Boxes:
        """Pixels by which the edges move per frame, if need be by what may have been a sighting of another face."""
        if self.hint and len(self.seen) == 1:
            return np.asarray((self.last.box - self.hint.box) / (self.last.frame - self.hint.frame))
        return self.velocity(self.last, 1)

    def add(self, sighting: _Observation) -> None:
        """Append a sighting."""
        self.seen.append(sighting)
        self.count += 1
        self.released = None

    def at(self, frame: int) -> _Observation | None:
        """The sighting in a frame."""
        return next((sighting for sighting in self.seen if sighting.frame == frame), None)

    def before(self, frame: int) -> _Observation | None:
        """The last sighting before a frame."""
        return next((sighting for sighting in reversed(self.seen) if sighting.frame < frame), None)

    def after(self, frame: int) -> _Observation | None:
        """The first sighting after a frame."""
        return next((sighting for sighting in self.seen if sighting.frame > frame), None)

    def velocity(self, at: _Observation, direction: Literal[-1, 1]) -> Boxes:
        """Pixels by which the edges move per frame from a sighting on, forwards (1) or backwards (-1) in time."""
        ages = {direction * (at.frame - other.frame): other for other in self.seen}
        age = max((age for age in ages if 0 < age <= _HISTORY), default=0)
        if age == 0:
            return np.zeros(4)
        return np.asarray((at.box - ages[age].box) / age)


@dataclass(eq=False)
class TrackerState:
    """A clip that a :class:`FaceTracker` follows: push each frame's faces, flush at the end.

    Args:
        settings: of the tracker.
        height: of the frames, in pixels.
        width: of the frames, in pixels.

    Example:
        >>> tracking = FaceTracker(window=1, smoothing=0).start(height=100, width=100)
        >>> len(tracking.push(Faces.empty())), len(tracking.push(Faces.empty())), len(tracking.flush())
        (0, 1, 1)
    """

    settings: FaceTracker
    height: int
    width: int
    _waiting: deque[Faces] = field(default_factory=deque, init=False, repr=False)
    _tracks: list[_Track] = field(default_factory=list, init=False, repr=False)
    _links: list[tuple[_Observation, _Observation]] = field(default_factory=list, init=False, repr=False)
    _pushed: int = field(default=0, init=False, repr=False)

    def push(self, faces: Faces) -> list[TrackedFrame]:
        """Take the next frame's faces; return the frame that is ``window`` frames back, if there is one."""
        self._waiting.append(faces)
        self._see(faces)
        self._pushed += 1
        return [self._next()] if len(self._waiting) > self.settings.window else []

    def flush(self) -> list[TrackedFrame]:
        """The clip has ended: return the frames that wait."""
        return [self._next() for _ in range(len(self._waiting))]

    def _see(self, faces: Faces) -> None:
        """Find out which faces are those of the frames before."""
        frame = self._pushed
        news = [
            _Observation(frame, box, score)
            for box, score, shown in zip(_numpy(faces), faces.scores.tolist(), self._shown(faces).tolist(), strict=True)
            if shown
        ]
        recent = [track for track in self._tracks if frame - track.last.frame <= self._memory()]
        sure, likely, near = self._matched(recent, news, frame)
        # A face seen in the frame before explains what it matches; about any other there may be two minds.
        explained = {j for i, j in sure.items() if frame - recent[i].last.frame == 1}
        for i, track in enumerate(recent):
            if frame - track.last.frame > 1:
                ends = [j for j in range(len(news)) if sure.get(i) == j or (near[i, j] > 0 and j not in explained)]
                self._links += [(track.last, news[j]) for j in ends]
        begun = [j for j in range(len(news)) if j not in sure.values()]
        self._release(news, begun, frame)
        hints = {j: recent[i].last for i, j in likely.items()}
        for i, j in sure.items():
            recent[i].add(news[j])
        self._tracks += [_Track([news[j]], hints.get(j)) for j in begun]

    def _memory(self) -> int:
        """Frames for which a face that is lost can be found again."""
        return max(self.settings.window, self.settings.hold, 1)

    def _matched(
        self, tracks: Sequence[_Track], news: Sequence[_Observation], frame: int
    ) -> tuple[dict[int, int], dict[int, int], Boxes]:
        """Which tracks go on in which new sightings: beyond doubt, and likely; and how near each is to each.

        Nearness is 1 in the same place and 0 where a face can hardly get to, or is of another size.
        """
        age = np.array([frame - track.last.frame for track in tracks], dtype=np.float64)[:, None]
        boxes, was = _stack([new.box for new in news]), _stack([track.last.box for track in tracks])
        # A velocity says little about what is farther ahead.
        movement = _stack([track.expected() for track in tracks]) * np.minimum(age, self.settings.window)
        would_be = was + (movement + np.roll(movement, 2, axis=1)) / 2
        overlap = np.maximum(_iou(was, boxes), _iou(would_be, boxes))
        # Beyond doubt the same face: at this overlap with where it was, or would be at its last velocity.
        # Of two that overlap alike, the one seen later.
        sure = _assigned(np.where(overlap >= SAME_FACE_IOU, overlap - 1e-3 * age / self._memory(), 0))
        before, now = _sizes(was)[:, None], _sizes(boxes)[None]
        size = np.maximum(before, now)
        distance = np.minimum(_distances(was, boxes), _distances(would_be, boxes)) / size
        possible = (size <= _ZOOM * np.minimum(before, now)) & (age <= self.settings.window)
        near = np.where(possible, np.maximum(1 - distance / (_STEP + _SPEED * age), 0), 0)
        left = near.copy()
        left[list(sure.keys())] = 0
        left[:, list(sure.values())] = 0
        return sure, _assigned(left), near

    def _release(self, news: Sequence[_Observation], begun: Sequence[int], frame: int) -> None:
        """Give up places that stay when a face is found there: one in the same place, or a new one near it."""
        for track in self._tracks:
            place = self._reach(track, track.last, frame)
            old = frame - track.last.frame > self._memory()
            for j, new in enumerate(news):
                middle = (new.box[:2] + new.box[2:]) / 2
                near = j in begun and bool((middle >= place[:2]).all() and (middle <= place[2:]).all())
                # While it is not old, a face in its place may be another one that passes by.
                if track.released is None and (near or (old and _within(track.last.box, new.box) >= 0.5)):
                    track.released = frame

    def _next(self) -> TrackedFrame:
        """The oldest frame that waits."""
        frame = self._pushed - len(self._waiting)
        found = self._waiting.popleft()
        filled = [
            (self._between(a, b, frame), min(a.score, b.score)) for a, b in self._links if a.frame < frame < b.frame
        ]
        held: list[_Place] = []
        stays: list[_Place] = []
        smoothed: list[_Place] = []
        for track in self._tracks:
            if (here := track.at(frame)) is not None:
                region = self._smoothed(track, frame)
                if (region != here.box).any():
                    smoothed.append((region, here.score))
                continue
            before, after = track.before(frame), track.after(frame)
            if before and after and after.frame - before.frame <= self.settings.window:
                continue
            if before and frame - before.frame <= self.settings.hold:
                held.append((self._reach(track, before, frame), before.score))
            if after and after.frame - frame <= self.settings.window:
                held.append((self._reach(track, after, frame), after.score))
            if before and not after and frame - before.frame > self.settings.hold and self._stays(track, frame):
                stays.append((before.box + _STAYS * before.size * _OUTWARDS, before.score))
        self._forget(frame)
        places = [self._faces(part, found) for part in (filled, held, stays, smoothed)]
        return self._decide(found, *places)

    def _decide(self, found: Faces, filled: Faces, held: Faces, stays: Faces, smoothed: Faces) -> TrackedFrame:
        """What happens to a frame."""
        on_missing = self.settings.on_missing
        treatment: Treatment
        if self._shown(found).any():
            treatment = "found"
        elif len(filled):
            treatment = "filled"
        elif on_missing in ("error", "whole-frame"):
            treatment = "missing" if on_missing == "error" else "whole-frame"
        elif len(held) or (len(stays) and on_missing == "keep"):
            treatment = "held"
        else:
            treatment = "kept" if on_missing == "keep" else "whole-frame"
        if len(stays) and self.settings.after_hold == "whole-frame" and treatment != "missing":
            treatment = "whole-frame"
        if treatment in ("found", "filled", "held"):
            return TrackedFrame(found, filled, Faces.cat([held, stays]), smoothed, treatment)
        nowhere = filled[:0]
        return TrackedFrame(found, nowhere, nowhere, nowhere, treatment)

    def _between(self, a: _Observation, b: _Observation, frame: int) -> Boxes:
        """Where a face is between two sightings."""
        size, since, until = max(a.size, b.size), frame - a.frame, b.frame - frame
        # Over more frames than the window it is held from both sides as well.
        most = max(_ACCELERATION * self.settings.window**2 / 8, _FARTHEST)
        growth = size * (_JITTER + min(_ACCELERATION * since * until / 2, most))
        return np.asarray((a.box * until + b.box * since) / (since + until) + growth * _OUTWARDS)

    def _reach(self, track: _Track, sighting: _Observation, frame: int) -> Boxes:
        """Where a face may be some frames after a sighting, or before."""
        age = abs(frame - sighting.frame)
        movement = track.velocity(sighting, 1 if frame > sighting.frame else -1) * min(age, self.settings.window)
        growth = sighting.size * (_JITTER + min(_DRIFT * age, _FARTHEST))
        # What both edges do is movement; what one does alone is the detector's trembling, or a change of size.
        first, second = movement.reshape(2, 2)
        low, high = np.minimum(np.maximum(first, second), 0), np.maximum(np.minimum(first, second), 0)
        return np.asarray(sighting.box + np.concatenate([low, high]) + growth * _OUTWARDS)

    def _stays(self, track: _Track, frame: int) -> bool:
        """Whether the place of a face lost long ago stays hidden."""
        if self.settings.after_hold == "drop" or track.count < _SURE:
            return False
        if track.released is not None and track.released <= frame:
            return False
        return not self._left(track)

    def _left(self, track: _Track) -> bool:
        """Whether a face, going on as it last moved, is beyond the edge of the frame by now."""
        low, high = track.last.box.reshape(2, 2)
        first, second = (track.velocity(track.last, 1) * self._memory()).reshape(2, 2)
        limit, near = np.array([self.width, self.height]), _JITTER * track.last.size
        # Of a face that is half outside, a detector's box often ends at the frame: the far edge tells then.
        down = ((low <= near) & (high + second < 0)) | (high + np.maximum(first, second) < 0)
        up = ((high >= limit - near) & (low + first > limit)) | (low + np.minimum(first, second) > limit)
        return bool((down | up).any())

    def _smoothed(self, track: _Track, frame: int) -> Boxes:
        """The mean over neighbouring frames of boxes that each hold all boxes of their own neighbourhood.

        Each of them holds the box of this frame, so the mean does.
        """
        radius = self.settings.evened
        near = [sighting for sighting in track.seen if abs(sighting.frame - frame) <= 2 * radius]
        hulls = []
        for middle in range(frame - radius, frame + radius + 1):
            boxes = _stack([sighting.box for sighting in near if abs(sighting.frame - middle) <= radius])
            hulls.append(np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]))
        mean = np.mean(hulls, axis=0)
        # The mean of equal numbers may be rounded.
        here = _stack([sighting.box for sighting in near if sighting.frame == frame])[0]
        return np.concatenate([np.minimum(mean[:2], here[:2]), np.maximum(mean[2:], here[2:])])

    def _forget(self, frame: int) -> None:
        """Forget what no later frame can ask for."""
        self._links = [(a, b) for a, b in self._links if b.frame > frame + 1]
        tracks: list[_Track] = []
        for track in self._tracks:
            old = sum(sighting.frame < frame - 2 * self.settings.evened for sighting in track.seen)
            del track.seen[: max(old - _HISTORY - 1, 0)]
            if frame - track.last.frame > self._memory():
                ghosts = _stack([other.last.box for other in tracks if frame - other.last.frame > self._memory()])
                if not self._stays(track, frame) or (_iou(track.last.box[None], ghosts) >= 0.5).any():
                    continue
            tracks.append(track)
        self._tracks = tracks

    def _shown(self, faces: Faces) -> NDArray[np.bool_]:
        """Which faces have a part in the frame."""
        boxes = self._cut(_numpy(faces))
        return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))

    def _cut(self, boxes: Boxes) -> Boxes:
        return np.asarray(np.clip(boxes, 0, [self.width, self.height, self.width, self.height]))

    def _faces(self, places: Sequence[_Place], found: Faces) -> Faces:
        """Places as ``Faces``, cut off at the frame; those outside are left out."""
        boxes = torch.from_numpy(self._cut(_stack([box for box, _ in places]))).to(found.boxes)
        faces = Faces(boxes, torch.tensor([score for _, score in places], dtype=torch.float64).to(found.scores))
        return faces[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


_Place = tuple[Boxes, float]
_OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])


def _numpy(faces: Faces) -> Boxes:
    return np.asarray(faces.boxes.detach().cpu().double().numpy())


def _stack(boxes: Sequence[Boxes]) -> Boxes:
    return np.stack(boxes) if boxes else np.zeros((0, 4))


def _sizes(boxes: Boxes) -> Boxes:
    return np.asarray(np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0), 1))


def _distances(a: Boxes, b: Boxes) -> Boxes:
    """Between all centres: ``(N, M)``."""
    difference = (a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:]) / 2
    return np.asarray(np.hypot(difference[..., 0], difference[..., 1]))


def _iou(a: Boxes, b: Boxes) -> Boxes:
    return np.asarray(iou(torch.from_numpy(a), torch.from_numpy(b)).numpy())


def _within(a: Boxes, b: Boxes) -> float:
    """The part of the smaller box that lies in the other one."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(float(np.prod(box[2:] - box[:2])) for box in (a, b))
    return float(max(width, 0) * max(height, 0)) / max(smaller, 1e-9)


def _assigned(gain: Boxes) -> dict[int, int]:
    """Pairs of rows and columns with the highest sum; a pair without a gain is none."""
    worth = torch.from_numpy(gain)
    rows, columns = assign(worth, worth > 0)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))
