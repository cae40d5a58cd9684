"""``FileCheck``: a file that is written, beside the originals: that it hides them, and what is read from it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from deidlib.images import on_device
from deidlib.media import MediaWriteError
from deidlib.media.clip import open_frames
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.look import LastLook, check_alike
from deidlib.protect.memory import give_back
from deidlib.protect.output import Output
from deidlib.protect.pace import Pace
from deidlib.protect.prefetch import WAITING, Prefetch
from deidlib.protect.readback import ReadbackComparison
from deidlib.protect.seen_frames import SeenFrames
from deidlib.protect.segments import SegmentStore


class FileCheck:
    """Looks at every frame of an output before it gets its name.

    Args:
        deidentifier: what was done to the frames.
        check: what the file must show; None: nobody reads it.
        frames: the originals.
        pace: how many at a time.
        output: how it was written; None for an image.
        live: whether there are no originals any more, and it is compared with what was to be written.
    """

    def __init__(
        self,
        deidentifier: Deidentifier,
        check: Check | None,
        frames: SeenFrames,
        pace: Pace,
        output: Output | None,
        *,
        live: bool,
    ) -> None:
        self.deidentifier, self.check, self.frames, self.pace = deidentifier, check, frames, pace
        self.output, self.live = output, live

    def of(self, store: SegmentStore, upto: int, file: Path) -> ReadbackComparison | None:
        """See that a file hides what it is to hide, and let the authorised models read it.

        Args:
            store: what was to be written.
            upto: the round that it is of.
            file: the output.

        Raises:
            ExposedError: it shows something that was to be hidden.
            MediaError: it cannot be read, or not all of its frames.
        """
        comparison = None
        if self.check is not None:
            comparison = ReadbackComparison(self.deidentifier.attacker.named_models(), self.check.min_iou)
        device, first = self.deidentifier.device(), 0
        known = (record.readings for k in store.known() for record in store.records(k, upto))
        with (
            open_frames(file) as reader,
            Prefetch(reader.batches(self.pace.batch), WAITING) as batches,
            self._looks(store, upto) as looks,
        ):
            for look, (images, _) in zip(looks, batches, strict=False):
                numbers = range(first, first + len(images))
                images = on_device(images, device)
                look(images)
                if comparison is not None:
                    comparison.update(images, numbers, [row for _, row in zip(numbers, known, strict=False)])
                first += len(images)
                give_back()
            first += sum(len(images) for images, _ in batches)
        if first != store.frames():
            codec = None if self.output is None else self.output.codec
            raise MediaWriteError(
                f"{store.folder.target}: {store.frames()} frames were written and {first} can be read back. "
                f"Choose another codec; {codec!r} lost some."
            )
        return comparison

    @contextlib.contextmanager
    def _looks(self, store: SegmentStore, upto: int) -> Iterator[Iterator[Callable[[Tensor], None]]]:
        """For every batch of the output, what looks at it: beside the originals, or what is left of a live source."""
        exact = self.output is None or self.output.lossless
        if self.live:
            with Prefetch(store.batches(upto, self.pace.batch), WAITING) as written:
                yield _alike(written, exact)
            return
        look = LastLook(self.deidentifier, exact)
        with Prefetch(self.frames.batches(store, upto, lambda batch: True), WAITING) as seen:
            yield (partial(look, batch, tracked) for batch, tracked in self.deidentifier.follow(seen))


def _alike(written: Iterable[tuple[object, Tensor]], exact: bool) -> Iterator[Callable[[Tensor], None]]:
    """What compares batches with those that were written."""
    first = 0
    for _, images in written:
        yield partial(check_alike, written=images, first=first, exact=exact)
        first += len(images)
