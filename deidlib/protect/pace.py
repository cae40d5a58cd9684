"""``Pace``: how many frames of a clip are worked on at a time: what was asked for, if there is memory for it."""

from __future__ import annotations

from typing import Literal

import torch

from deidlib.protect.memory import chains_that_fit, frames_that_fit, free_memory
from deidlib.protect.workers import workers_of

# Frames at a time if nobody says: on a processor, and on a device that many of them keep busy.
_FEW, _MANY = 8, 16


class Pace:
    """Frames in a batch, chains side by side, and processes. What becomes of a frame depends on none of them.

    Args:
        name: of the clip, for messages.
        size: of its frames, (height, width).
        part: frames in a segment of it.
        device: where the models are.
        attacked: whether frames are attacked, or only hidden.
        live: whether they come live, so that none can wait.
        batch_size: frames at a time that were asked for, if any were.
        workers: processes that were asked for, if any were.

    Raises:
        ValueError: there is not enough memory for a single frame.
    """

    def __init__(
        self,
        name: object,
        size: tuple[int, int],
        part: int,
        device: torch.device,
        *,
        attacked: bool,
        live: bool,
        batch_size: int | None,
        workers: int | Literal["auto"] | None,
    ) -> None:
        self._name, self._size, self._part, self._device, self._live = name, size, part, device, live
        many = device.type != "cpu"
        wanted = batch_size or (_MANY if many else _FEW)
        # Whole batches in a segment, and never more frames at a time than were asked for, or than there is memory for.
        self.batch = self._whole(frames_that_fit(size, min(wanted, part), device, attacked=attacked, name=name))
        self.workers: int | None = None
        if workers is not None:
            # Frames that wait in each, and one that is attacked.
            waiting = chains_that_fit(size, workers_of(workers, device), part, device)
            self.workers = frames_that_fit(size, waiting, device, attacked=attacked, name=name)
        # A processor that attacks one frame at a time is as fast as one that attacks several, and what comes live would
        # have to wait for the chains to come.
        self.chains = 1
        if not live and (many or (batch_size is not None and workers is None)):
            most = frames_that_fit(size, wanted, device, attacked=attacked, name=name)
            self.chains = chains_that_fit(size, min(wanted, most), part, device)

    def _whole(self, most: int) -> int:
        """The largest batch of which a segment holds whole ones."""
        return max(n for n in range(1, most + 1) if self._part % n == 0)

    @property
    def frames(self) -> int:
        """Frames at a time at most."""
        return max(self.batch, self.chains)

    def halve(self, error: Exception) -> None:
        """Take half as many frames at a time, since there was not enough memory.

        Args:
            error: what was raised for want of it.

        Raises:
            ValueError: there was one alone, or what comes live cannot be read again.
        """
        many = self.frames
        if many == 1 or self._live:
            alone = (
                "Scale it down, or work where there is more memory (--device cpu)."
                if many == 1
                else "What comes live cannot be read again: begin with --batch 1."
            )
            raise ValueError(
                f"{self._name}: the memory of {self._device} is not enough for {many} frame{'' if many == 1 else 's'} "
                f"of {self._size[1]}x{self._size[0]} at a time. {alone}"
            ) from error
        free_memory(self._device)
        self.chains = max(1, self.chains // 2)
        self.batch = self._whole(max(1, self.batch // 2))
