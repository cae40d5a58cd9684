"""``VideoJob``: one video from file to file, in segments that survive an interruption, checked when it is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deidlib.attack.warm_start import PreviousFrame
from deidlib.faces import Faces
from deidlib.media import MediaReadError, MediaWriteError, VideoInfo, VideoReader, read_image
from deidlib.media.errors import reporting
from deidlib.protect.prefetch import Ahead, Behind
from deidlib.protect.readback import Readback, ReadbackTally
from deidlib.protect.segments import FrameRecord, Segments, SegmentWriter, WorkFolder
from deidlib.protect.settings import VideoSettings
from deidlib.protect.stream import NoFaceError, ProtectedBatch, Sighting, Stream, lost_beside
from deidlib.protect.summary import Summary, Tally
from deidlib.records.files import sha256_of, sync_folder, write_json
from deidlib.records.fingerprint import described, fingerprint
from deidlib.records.versions import versions
from deidlib.tracking import Tracked

FORMAT = "deidlib-protection/1"

# Batches that wait between two stages, which work at the same time.
_WAITING = 2


def description(stream: Stream, settings: VideoSettings, faces: Sequence[Faces] | None) -> dict[str, Any]:
    """All settings that the result depends on, as JSON."""
    given = None
    if faces is not None:
        given = fingerprint([described([known.boxes, known.scores, known.landmarks]) for known in faces])
    return {
        "deidentifier": described(stream),
        "video": asdict(settings),
        "given_faces": given,
        "device": stream.device().type,
        "versions": versions(),
    }


class VideoJob:
    """Protect one video file.

    The frames are protected in segments of a fixed length, each stored without loss, with what is needed to go on from
    it, in a work folder beside the output. When all are there, the output is written from them in one pass, read back
    by the authorised models, and, if frames are read badly, those are attacked again and the output is written anew.
    Then it gets its name.

    Args:
        stream: what happens to the frames.
        source: the video.
        target: the file to be written.
        settings: how.
        faces: per frame where faces are, if that is known; no detector then decides what is hidden.
        key: an object whose ``to_dict()`` says with which key the file was authorised.
        progress: told how many frames more are protected.
        stage: told what is being done: ``"protecting"``, ``"writing"``, ``"checking"``, ``"repairing"``.
    """

    def __init__(
        self,
        stream: Stream,
        source: Path,
        target: Path,
        settings: VideoSettings,
        *,
        faces: Sequence[Faces] | None,
        key: Any,
        progress: Callable[[int], object],
        stage: Callable[[str], object],
    ) -> None:
        self.stream, self.source, self.target, self.settings = stream, source, target, settings
        self.faces, self.key, self.progress, self.stage = faces, key, progress, stage
        with VideoReader(source) as reader:
            self.info: VideoInfo = reader.info
        self.described = description(stream, settings, faces)
        try:
            self.input_sha256 = sha256_of(source)
        except OSError as error:
            raise MediaReadError(f"{source} cannot be read to its end ({error.strerror}). Get a sound copy.") from error

    def run(self) -> Summary:
        """Do what is left to do.

        Raises:
            MediaError: a file cannot be read or written, or another process writes the same output.
            NoFaceError: a frame without a face, with ``on_missing="error"``.
        """
        job = {
            "format": "deidlib-work/1",
            "fingerprint": fingerprint(self.described),
            "input_sha256": self.input_sha256,
        }
        with WorkFolder(self.target, job) as folder:
            summary = self._work(folder)
            folder.close(keep=False)
        return summary

    def _work(self, folder: WorkFolder) -> Summary:
        segments = Segments(folder, self.settings.segment)
        try:
            self._fill(segments)
        except (MediaReadError, NoFaceError):
            # Going on would end the same way.
            folder.close(keep=False)
            raise
        repaired: set[int] = set()
        for round_ in range(self._rounds() + 1):
            # A round after which frames were attacked again is known to be read badly: no need to see it twice.
            note = folder.note(f"checked-{round_}")
            if note is None:
                output = self._write(segments, round_)
                tally = self._check(segments, round_, output)
                if tally is None or not tally.bad or round_ == self._rounds():
                    return self._publish(
                        segments, round_, output, None if tally is None else tally.compute(len(repaired))
                    )
                note = {"bad": tally.bad}
                folder.leave(f"checked-{round_}", note)
            repaired.update(note["bad"])
            self._repair(segments, round_ + 1, note["bad"])
        raise AssertionError("the last round is published")

    def _rounds(self) -> int:
        """How often frames that are read badly are attacked again at most."""
        return self.settings.repairs if self.settings.verify and self.stream.attacker.max_iterations else 0

    # The frames

    def _fill(self, segments: Segments) -> None:
        """Complete all segments."""
        length, size = self.settings.segment, self.settings.batch_size
        clip = segments.folder.note("clip")
        if clip is not None and all(segments.latest(k, 0) is not None for k in range(-(-clip["frames"] // length))):
            self.progress(clip["frames"])
            return
        self.stage("protecting")
        done = {k for k in segments.known() if segments.latest(k, 0) is not None}
        frames, last, before = 0, None, None
        with (
            SegmentWriter(segments, 0) as writer,
            Behind[tuple[int, Tensor, list[FrameRecord]]](lambda item: writer.add(*item), _WAITING) as sink,
            Ahead(self._sightings(segments, 0, lambda batch: batch * size // length not in done), _WAITING) as seen,
        ):
            for sighting, tracked in self.stream.follow(seen):
                number, offset = divmod(sighting.first, length)
                if sighting.originals is not None:
                    if number - 1 in done and offset == 0:
                        before = _before(segments, number - 1, last, size)
                    batch = self.stream.protect(sighting, tracked, truth=self.settings.verify, before=before)
                    before = batch.last()
                    sink.put((sighting.first, batch.images.cpu(), _records(sighting, tracked, batch)))
                last = tracked[-1]
                frames += len(tracked)
                self.progress(len(tracked))
        segments.folder.leave("clip", {"frames": frames})

    def _repair(self, segments: Segments, round_: int, bad: Sequence[int]) -> None:
        """Attack frames again, and rewrite the segments that they are in."""
        self.stage("repairing")
        length, size = self.settings.segment, self.settings.batch_size
        todo = {k for k in {frame // length for frame in bad} if segments.latest(k, round_) != round_}
        wanted = {frame // size for frame in bad if frame // length in todo}
        before: Iterator[Tensor] = iter(())
        with (
            SegmentWriter(segments, round_) as writer,
            Ahead(self._sightings(segments, round_ - 1, wanted.__contains__), _WAITING) as seen,
        ):
            for sighting, tracked in self.stream.follow(seen):
                number, offset = divmod(sighting.first, length)
                if number not in todo:
                    continue
                if offset == 0:
                    before = segments.images(number, round_ - 1, size)
                    records = segments.records(number, round_ - 1)
                images, rows = next(before), records[offset : offset + len(tracked)]
                if sighting.originals is not None:
                    mine = [frame - sighting.first for frame in bad if 0 <= frame - sighting.first < len(tracked)]
                    images, losses = self.stream.repair(sighting, tracked, images, mine, 2**round_)
                    rows = [replace(row, losses=losses.get(i, row.losses)) for i, row in enumerate(rows)]
                writer.add(sighting.first, images.cpu(), rows)

    def _sightings(self, segments: Segments, upto: int, wanted: Callable[[int], bool]) -> Iterator[Sighting]:
        """The whole clip: recorded where it is recorded, else looked at; pictures only where they are wanted."""
        size, device, given = self.settings.batch_size, self.stream.device(), self.faces
        number, records = -1, list[FrameRecord]()
        with VideoReader(self.source) as reader:
            for batch, (images, pts) in enumerate(reader.selected(size, wanted)):
                first = batch * size
                if segments.latest(first // segments.length, upto) is None:
                    assert images is not None
                    faces = None if given is None else self._given(first, len(pts))
                    seen = self.stream.look(images.to(device), first, faces=faces, truth=self.settings.verify)
                    yield replace(seen, pts=pts)
                    continue
                if first // segments.length != number:
                    number = first // segments.length
                    records = segments.records(number, upto)
                offset = first - number * segments.length
                known = [record.seen.to(device) for record in records[offset : offset + len(pts)]]
                levels = None if images is None else images.to(device).mul(255).round_().to(torch.uint8)
                yield Sighting(first, levels, (self.info.height, self.info.width), known, pts=pts)

    def _given(self, first: int, count: int) -> Sequence[Faces]:
        assert self.faces is not None
        faces = self.faces[first : first + count]
        if len(faces) < count:
            raise ValueError(
                f"{self.source} has more frames than the {len(self.faces)} that faces are given for. "
                "Give an entry for every frame, an empty one where there is no face."
            )
        return faces

    # The file

    def _frames_of(self, segments: Segments, round_: int) -> Iterator[tuple[list[FrameRecord], Tensor]]:
        """Batches of a round, with their records."""
        for number in sorted(segments.known()):
            records = segments.records(number, round_)
            for images in segments.images(number, round_, self.settings.batch_size):
                yield records[: len(images)], images
                del records[: len(images)]

    def _write(self, segments: Segments, round_: int) -> Path:
        """The output, under a name of its own in the work folder."""
        self.stage("writing")
        output = segments.folder.output()
        sound = self.source if self.settings.audio == "copy" and self.info.has_audio else None
        with (
            self.settings.writer(output, self.info, sound=sound) as writer,
            Ahead(self._frames_of(segments, round_), _WAITING) as batches,
        ):
            for records, images in batches:
                writer.write(images, [record.pts for record in records])
        return output

    def _check(self, segments: Segments, round_: int, output: Path) -> ReadbackTally | None:
        """Read the output back."""
        if not self.settings.verify:
            return None
        self.stage("checking")
        tally = ReadbackTally(self.stream.attacker.named_models(), self.settings.quality_wanted)
        device, number = self.stream.device(), 0
        truth = (record.truth for k in sorted(segments.known()) for record in segments.records(k, round_))
        with Ahead(_read_back(output, self.settings.batch_size), _WAITING) as batches:
            for images in batches:
                numbers = range(number, number + len(images))
                tally.update(images.to(device), numbers, [known for _, known in zip(numbers, truth, strict=False)])
                number += len(images)
        if number != segments.frames():
            raise MediaWriteError(
                f"{self.target}: {segments.frames()} frames were written and {number} can be read back. "
                f"Choose another codec; {self.settings.codec!r} lost some."
            )
        return tally

    def _publish(self, segments: Segments, round_: int, output: Path, readback: Readback | None) -> Summary:
        """Give the output its name."""
        tally = Tally()
        for number in sorted(segments.known()):
            for record in segments.records(number, round_):
                tally.add(record.treatment, record.beside, record.losses)
        summary = tally.summary(readback)
        with reporting(self.target, "the result"):
            # The description first: an output never lies there without it.
            write_json(sidecar_of(self.target), self._sidecar(output, summary), indent=2)
            os.replace(output, self.target)
            sync_folder(self.target.absolute().parent)
        return summary

    def _sidecar(self, output: Path, summary: Summary) -> Mapping[str, Any]:
        numbers = asdict(summary)
        return {
            "format": FORMAT,
            "versions": versions(),
            "fingerprint": fingerprint(self.described),
            "settings": self.described,
            "input": {"sha256": self.input_sha256},
            "output": {"sha256": sha256_of(output)},
            "frames": {name: value for name, value in numbers.items() if isinstance(value, int)},
            "losses": numbers["losses"],
            "readback": numbers["readback"],
            "key": None if self.key is None else self.key.to_dict(),
        }


def sidecar_of(target: Path) -> Path:
    """The file beside an output that describes it: ``out.mkv.json``."""
    return target.with_name(f"{target.name}.json")


def describe(target: Path, key: Any) -> None:
    """Say beside an output that is written in one go by which key it is read.

    Without a key there is nothing to be said, unless something is said already, of an output that this one replaces.

    Args:
        target: the output.
        key: as for :class:`VideoJob`.

    Raises:
        MediaWriteError: it cannot be written.
    """
    path = sidecar_of(target)
    if key is not None or path.exists():
        with reporting(target, "its description"):
            said = None if key is None else key.to_dict()
            write_json(path, {"format": FORMAT, "versions": versions(), "key": said}, indent=2)


def _records(sighting: Sighting, tracked: Sequence[Tracked], batch: ProtectedBatch) -> list[FrameRecord]:
    truth = batch.truth or [{} for _ in batch.treatment]
    return [
        FrameRecord(pts, seen.to("cpu"), frame.treatment, lost_beside(frame), known, losses)
        for pts, seen, frame, known, losses in zip(
            sighting.pts, sighting.faces, tracked, truth, batch.losses(), strict=True
        )
    ]


def _before(segments: Segments, number: int, frame: Tracked | None, size: int) -> PreviousFrame | None:
    """The last frame of a segment that was complete, as it was when it was made."""
    if frame is None or frame.treatment != "found":
        return None
    *_, images = segments.images(number, 0, size)
    return PreviousFrame(images[-1:], frame.found.boxes)


def _read_back(output: Path, size: int) -> Iterator[Tensor]:
    """The frames of a video file, or of a folder of pictures."""
    if output.is_dir():
        for path in sorted(output.glob("*.png")):
            yield read_image(path)
        return
    with VideoReader(output) as reader:
        for images, _ in reader.batches(size):
            yield images
