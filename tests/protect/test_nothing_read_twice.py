"""How often each model reads each frame while a clip is protected, counted by spies that know a frame by its corner."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from clips import make_video
from torch import Tensor
from toys import Sees

from deidlib.attack.attacker import IFGSMAttacker
from deidlib.attack.chain import Chain
from deidlib.attack.tolerance import Tolerance
from deidlib.faces import Faces
from deidlib.obfuscate import Solid
from deidlib.protect.check import Check
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.video import protect_video
from deidlib.tracking import FaceTracker

COUNT = 11
FACE = Faces(torch.tensor([[12.0, 12.0, 28.0, 28.0]]), torch.ones(1))


class Spy(Sees):
    """Reads the same face everywhere, and notes which frames it was shown."""

    def __init__(self, name: str) -> None:
        super().__init__(self._look)
        self._name, self.shown = name, Counter[int]()

    @property
    def name(self) -> str:
        return self._name

    def _look(self, image: Tensor, number: int) -> Faces:
        # Far from the face, so that it is on the protected frame too.
        self.shown[round(255 * float(image[1, 0, 0]))] += 1
        return FACE


@pytest.mark.parametrize("until", [None, Tolerance(iou=0.9)])
@pytest.mark.parametrize("chain", [None, Chain(length=4)])
def test_every_frame_is_read_once_and_once_more_in_the_file(
    tmp_path: Path, until: Tolerance | None, chain: Chain | None
) -> None:
    frames = torch.full((COUNT, 3, 48, 64), 0.5)
    frames[:, 1, 0, 0] = torch.arange(COUNT) / 255
    authorised, hider = Spy("authorised"), Spy("hider")
    deidentifier = Deidentifier(
        IFGSMAttacker([authorised], max_iterations=3, until=until),
        obfuscator=Solid(),
        detectors=[authorised, hider],
        tracker=FaceTracker(hold=0, window=0),
        chain=chain,
        # Every detector looks at every frame, in one turn; what a lookout leaves out is in test_lookout.py.
        lookout=None,
    )
    source = make_video(tmp_path / "in.mkv", frames)
    summary = protect_video(deidentifier, source, tmp_path / "out.mkv", check=Check(), batch_size=4)
    assert summary.readback is not None
    assert summary.readback.models["authorised"].found == 1
    every = range(COUNT)
    # The detector that only hides: on the original.
    assert hider.shown == dict.fromkeys(every, 1)
    # The authorised one: there and in the file. Told a tolerance, the attack asks it once more before the frame leaves.
    assert authorised.shown == dict.fromkeys(every, 2 if until is None else 3)
