"""Real clips that lie beside the project, and some of their frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from deidlib.media import VideoReader

SHARED = Path(__file__).resolve().parents[2] / "shared"
# A driver who talks, and large frames with heads that turn: the clip, and the frames of it that are looked at.
T002 = (SHARED / "media" / "T002_talk.mp4", range(0, 57, 8))
TALK = (SHARED / "media" / "talk_video00.mp4", range(0, 433, 40))


def frames(video: Path, wanted: Sequence[int]) -> Tensor:
    """``(N, 3, H, W)``, the frames of those numbers, counted from 0."""
    picked = []
    with VideoReader(video) as reader:
        for number, frame in enumerate(reader):
            if number in wanted:
                picked.append(frame.image)
            if number >= max(wanted):
                break
    return torch.stack(picked)
