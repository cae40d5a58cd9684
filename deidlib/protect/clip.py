"""``ClipJob``: one clip from file to file, in segments that survive an interruption, checked when it is written."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from deidlib.attack.attack_step import AttackStep
from deidlib.keys.key import Key
from deidlib.keys.record import KeyRecord
from deidlib.media import MediaReadError, write_image
from deidlib.media.errors import reporting
from deidlib.media.images import image_size
from deidlib.protect.batches import DetectedBatch
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier, NoFaceError
from deidlib.protect.description import described_output, known_input
from deidlib.protect.file_check import FileCheck
from deidlib.protect.forwards import Forwards
from deidlib.protect.frame_record import FrameRecord
from deidlib.protect.given import Given, given_faces
from deidlib.protect.keyed import nonce_of, with_key
from deidlib.protect.look import LastLook, Written
from deidlib.protect.memory import frames_that_fit, give_back, is_out_of_memory
from deidlib.protect.output import Output
from deidlib.protect.pace import Pace
from deidlib.protect.prefetch import WAITING, BackgroundSink, Prefetch
from deidlib.protect.protected_frames import ProtectedFrames
from deidlib.protect.readback import Readback
from deidlib.protect.seen_frames import SeenFrames
from deidlib.protect.segments import CHECKED, COUNTED, SegmentStore, SegmentWriter
from deidlib.protect.sidecar import check_place, publish
from deidlib.protect.source import ClipSource
from deidlib.protect.spread import Plan, Spread
from deidlib.protect.summary import Summary
from deidlib.protect.work_folder import ChangedError, WorkFolder
from deidlib.protect.workers import one_thread
from deidlib.records.fingerprint import described, fingerprint
from deidlib.records.versions import versions
from deidlib.tracking import TrackedFrame

_log = logging.getLogger(__name__)


class ClipJob:
    """Protect one clip: an image, a video, a folder of frames, or what a camera gives.

    The frames are protected in segments of a fixed length, each stored without loss, with what is needed to go on from
    it, in a work folder beside the output. When all are there, the output is written from them in one pass, read back
    by the authorised models, and, if frames are read badly, those are attacked again and the output is written anew.
    Then it gets its name. What becomes of a frame depends on its segment, never on the batches.

    What comes live can be read once only: it is neither continued nor mended, and an interrupt ends it, so that what
    was protected until then is written and checked.

    Args:
        deidentifier: what happens to the frames.
        source: the clip.
        target: the file to be written; an image becomes a ``.png``.
        output: how a video is written; None for an image.
        check: what the written file must show; None: it is not read back.
        batch_size: frames attacked at a time; with chains, as many chains side by side. None: as suits the device.
        workers: processes that do the work; None: this one.
        faces: per frame where faces are, if that is known; no detector then decides what is hidden. What
            :class:`~deidlib.records.detections.Detections` say of size and file must be this clip's.
        key: for whose holder alone the models read; or the record of the key that they have been wrapped with.
        options: noted in the description of the output; nothing depends on them.
        progress: told how many frames more are protected.
        stage: told what is being done: ``"protecting"``, ``"writing"``, ``"checking"``, ``"repairing"``.
        on_step: told how the attacks go, step by step.

    Raises:
        MediaError: the source cannot be read.
        TypeError: an entry of ``faces`` is no :class:`~deidlib.Faces`; ``options`` that JSON does not hold.
        ValueError: a batch of less than a frame, ``faces`` that are not of this clip, or frames too large for the
            memory that is free.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        source: ClipSource,
        target: Path,
        output: Output | None,
        check: Check | None,
        *,
        batch_size: int | None = None,
        workers: int | Literal["auto"] | None = None,
        faces: Given | None = None,
        key: Key | KeyRecord | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Callable[[int], object] | None = None,
        stage: Callable[[str], object] | None = None,
        on_step: Callable[[AttackStep], object] | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 frame, got {batch_size}.")
        check_place(target)
        # What cannot be written is told now, not when all is done.
        self.options = dict(options or {})
        json.dumps(self.options)
        self.source, self.target, self.output, self.check = source, target, output, check
        self.progress, self.stage, self.on_step = Forwards(progress or _ignore), stage or _ignore, on_step
        attacked = deidentifier.attacker.max_iterations > 0
        if source.path is not None and (known := image_size(source.path)) is not None:
            # Before all of a picture is in memory.
            frames_that_fit(known, 1, deidentifier.device(), attacked=attacked, name=source.path)
        reader = source.open()
        # What was opened must be what was hashed.
        source.check()
        # Whether it was said that memory is short.
        self._told = False
        # Whether something was taken from the source long after it was hashed.
        self.reread = False
        self.info = reader.info
        size, name = (self.info.height, self.info.width), source.path or "the clip"
        self.faces = None if faces is None else given_faces(faces, size, source.sha256, name)
        work = {"output": described(output), "check": described(check), "given_faces": self.faces is not None}
        # A hash of what is given would confirm whoever guesses it: it decides about the job, and is not published.
        given = {"given": None if self.faces is None else described(list(self.faces))}
        self.key: KeyRecord | None = key if isinstance(key, KeyRecord) else None
        self._secret = key if isinstance(key, Key) else None
        if isinstance(key, Key):
            nonce = nonce_of(key, source.sha256, {"deidentifier": described(deidentifier)} | work | given)
            deidentifier, self.key = with_key(deidentifier, key, nonce=nonce)
        self.deidentifier = deidentifier
        self.settings = {"deidentifier": described(deidentifier)} | work
        self.settings |= {"device": deidentifier.device().type, "versions": versions()}
        self.work = self.settings | given
        # A segment is what is lost at most when a job is interrupted. It depends on none of the others.
        self.length = deidentifier.part
        self.pace = Pace(
            name,
            size,
            self.length,
            deidentifier.device(),
            attacked=attacked,
            live=self.live,
            batch_size=batch_size,
            workers=workers,
        )
        self.frames = SeenFrames(deidentifier, source, self.pace, reader, self.faces)
        self._file_check = FileCheck(deidentifier, check, self.frames, self.pace, output, live=self.live)

    @property
    def live(self) -> bool:
        """Whether the clip can be read once only."""
        return self.source.sha256 is None

    @property
    def rounds(self) -> int:
        """How often frames that are read badly are attacked again at most."""
        steps = self.deidentifier.attacker.max_iterations
        return self.check.repairs if self.check is not None and steps and not self.live else 0

    def run(self) -> Summary:
        """Do what is left to do.

        Raises:
            MediaError: a file cannot be read or written, or another process writes the same output.
            NoFaceError: a frame without a face, with ``on_missing="error"``.
            ValueError: ``faces`` are not as many as the frames.
        """
        job = {
            "format": "deidlib-work/5",
            "fingerprint": fingerprint(self.work),
            # What comes live never comes again: nothing that was left is of the same work.
            "input_sha256": self.source.sha256 or uuid.uuid4().hex,
        }
        alone = contextlib.nullcontext() if self.pace.workers is None else one_thread(self.deidentifier.device())
        with alone, WorkFolder(self.target, job, self._secret) as folder:
            try:
                summary = self._work(SegmentStore(folder, self.length))
            except BaseException as error:
                # Going on would end the same way, or cannot be.
                if self.live or isinstance(error, MediaReadError | NoFaceError | ChangedError):
                    folder.close(keep=False)
                raise
            folder.close(keep=False)
        return summary

    def _work(self, store: SegmentStore) -> Summary:
        """What is left to do, on as many frames at a time as there turns out to be memory for."""
        while True:
            try:
                return self._whole(store)
            except Exception as error:  # of other processes, too
                if not is_out_of_memory(error):
                    raise
                why = error.with_traceback(None)
            # Here nothing of the attempt is held any more. What segments it finished are there.
            self._take_fewer(why)
            self.progress.again()

    def _take_fewer(self, error: Exception) -> None:
        """Half as many frames at a time: what becomes of a frame depends on none beside it.

        Raises:
            ValueError: there was one alone, or what comes live cannot be read again.
        """
        many = self.pace.frames
        self.pace.halve(error)
        _log.log(
            logging.INFO if self._told else logging.WARNING,
            "%s: the memory of %s is not enough for %d frames at a time; going on with %d",
            *(self.target, self.deidentifier.device(), many, self.pace.frames),
        )
        self._told = True

    def _whole(self, store: SegmentStore) -> Summary:
        self._fill(store)
        repaired: set[int] = set()
        for number in range(self.rounds + 1):
            # A round after which frames were attacked again is known to be read badly: no need to see it twice.
            note = store.folder.note(f"checked-{number}", CHECKED)
            if note is None:
                file = Written.of(self._write(store, number))
                self._begin("checking")
                comparison = self._file_check.of(store, number, file.path)
                bad = [] if comparison is None else self._to_be_mended(store, number, comparison.bad)
                if not bad or number == self.rounds:
                    break
                note = {"bad": bad}
                store.folder.leave(f"checked-{number}", note)
            repaired.update(note["bad"])
            _log.info("%s: %d frames are read badly, and attacked again", self.target, len(note["bad"]))
            self._repair(store, number + 1, note["bad"])
        return self._publish(store, number, file, None if comparison is None else comparison.compute(len(repaired)))

    def _to_be_mended(self, store: SegmentStore, upto: int, bad: Sequence[int]) -> Sequence[int]:
        """Of frames that are read badly those for which a chain has not tried everything, with far more steps, before.

        To write and to read the whole clip twice more for the others would change nothing.
        """
        if self.deidentifier.chain is None or not bad:
            return bad
        within = [record.within for k in store.known() for record in store.records(k, upto)]
        return [frame for frame in bad if within[frame] is not False]

    def _begin(self, stage: str) -> None:
        _log.info("%s: %s", self.target, stage)
        give_back()
        self.stage(stage)

    # The frames

    def _fill(self, store: SegmentStore) -> None:
        """Complete all segments."""
        clip = store.folder.note("clip", COUNTED)
        if clip is not None and all(store.latest(k, 0) is not None for k in range(-(-clip["frames"] // self.length))):
            self.progress(clip["frames"])
            return
        self._begin("protecting")
        done = {k for k in store.known() if store.latest(k, 0) is not None}
        if done:
            _log.info("%s: %d segments of %d frames were finished before", self.target, len(done), self.length)
        if self.pace.workers is not None and self.output is not None:
            frames = self._spread(store, self.pace.workers)
        else:
            frames = self._fill_here(store, done)
        if self.faces is not None and len(self.faces) != frames:
            raise ValueError(
                f"faces are given for {len(self.faces)} frames, and the clip has {frames}. "
                "Give an entry for every frame, an empty one where there is no face."
            )
        store.folder.leave("clip", {"frames": frames})

    def _spread(self, store: SegmentStore, workers: int) -> int:
        """Complete all segments by workers; how many frames there are."""
        # For its first frame it has been opened; the workers read.
        self.frames.close()
        size, chains = (self.info.height, self.info.width), self.pace.chains
        if self.info.frames is not None:
            # Enough parts for all of them.
            workers = min(workers, -(-self.info.frames // self.length) or 1)
            chains = min(chains, -(-self.info.frames // (self.length * workers)) or 1)
        # They open it long after it was hashed.
        self.reread = True
        spread = Spread(
            self.deidentifier,
            self.source,
            store,
            Plan(size, self.length, self.pace.batch, chains),
            self.faces,
            self.progress,
        )
        return spread.fill(workers)

    def _fill_here(self, store: SegmentStore, done: Collection[int]) -> int:
        """Complete all segments; how many frames there are."""
        frames = 0
        # Later there is no original to compare with.
        look = LastLook(self.deidentifier, exact=True) if self.live else None

        def is_missing(batch: int) -> bool:
            return batch * self.pace.batch // self.length not in done

        def missing(
            followed: Iterable[tuple[DetectedBatch, list[TrackedFrame]]],
        ) -> Iterator[tuple[DetectedBatch, list[TrackedFrame]]]:
            nonlocal frames
            for batch, tracked in followed:
                if batch.levels is not None:
                    yield batch, tracked
                else:
                    frames += len(tracked)
                    self.progress(len(tracked))

        # The frames of a chain leave one by one; of chains side by side, all but the last have come when they begin.
        behind = WAITING if self.deidentifier.chain is None else WAITING * self.pace.batch
        ahead = WAITING if self.pace.chains == 1 else max(WAITING, self.pace.chains * self.length // self.pace.batch)
        with (
            SegmentWriter(store, 0) as writer,
            BackgroundSink[ProtectedFrames](lambda item: writer.add(*item), behind) as sink,
            Prefetch(self.frames.batches(store, 0, is_missing), ahead) as seen,
        ):
            try:
                followed = missing(self.deidentifier.follow(seen))
                for some in ProtectedFrames.of(
                    self.deidentifier, followed, self.pace.chains, look=look, on_step=self.on_step
                ):
                    sink.put(some)
                    frames += len(some.records)
                    if frames % self.length == 0:
                        give_back()
                    self.progress(len(some.records))
            except KeyboardInterrupt:
                # The end of a recording, unless there is nothing to be kept.
                if not self.live or not frames:
                    raise
        return frames

    def _repair(self, store: SegmentStore, number: int, bad: Sequence[int]) -> None:
        """Attack frames again, and rewrite the segments that they are in."""
        self._begin("repairing")
        self.reread = True
        todo = {k for k in {frame // self.length for frame in bad} if store.latest(k, number) != number}
        wanted = {frame // self.pace.batch for frame in bad if frame // self.length in todo}
        images: Iterator[Tensor] = iter(())
        records: list[FrameRecord] = []
        with (
            SegmentWriter(store, number) as writer,
            Prefetch(self.frames.batches(store, number - 1, lambda batch: batch in wanted), WAITING) as seen,
        ):
            for batch, tracked in self.deidentifier.follow(seen):
                segment, offset = divmod(batch.first, self.length)
                if segment not in todo:
                    continue
                if offset == 0:
                    images = store.images(segment, number - 1, self.pace.batch)
                    records = store.records(segment, number - 1)
                shown, rows = next(images), records[offset : offset + len(tracked)]
                if batch.levels is not None:
                    mine = [frame - batch.first for frame in bad if 0 <= frame - batch.first < len(tracked)]
                    shown, losses = self.deidentifier.repair(
                        batch, tracked, shown, mine, 2**number, on_step=self.on_step
                    )
                    rows = [replace(row, losses=losses.get(i, row.losses)) for i, row in enumerate(rows)]
                writer.add(batch.first, shown.cpu(), rows)

    # The file

    def _write(self, store: SegmentStore, upto: int) -> Path:
        """The output, under a name of its own in the work folder."""
        self._begin("writing")
        file = store.folder.output()
        if self.output is None:
            ((_, image),) = store.batches(upto, self.pace.batch)
            write_image(file, image)
            return file
        sound = self.source.path if self.output.audio == "copy" and self.info.has_audio else None
        if sound is not None:
            self.source.check()
            self.reread = True
        with (
            self.output.writer(file, self.info, sound=sound) as writer,
            Prefetch(store.batches(upto, self.pace.batch), WAITING) as batches,
        ):
            for records, images in batches:
                writer.write(images, [record.pts for record in records])
        return file

    def _publish(self, store: SegmentStore, upto: int, file: Written, readback: Readback | None) -> Summary:
        """Give the output its name."""
        self.source.check(thoroughly=self.reread)
        file.check()
        summary = Summary.of((record for k in store.known() for record in store.records(k, upto)), readback)
        with reporting(self.target, "the result"):
            description = described_output(
                self.deidentifier,
                self.settings,
                sha256=file.sha256,
                summary=summary,
                segments=(store.records(number, upto) for number in store.known()),
                known_input=known_input(self._secret, self.source.sha256),
                key=self.key,
                options=self.options,
            )
            publish(file.path, self.target, description)
        _log.info("%s: %d frames written", self.target, summary.frames)
        return summary


def _ignore(_: object) -> None:
    pass
