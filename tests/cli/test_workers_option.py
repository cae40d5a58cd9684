"""``--workers``: what may be said, and where it makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import make_video
from command import deidlib, refused

from deidlib.cli.names import workers_named


def test_a_number_or_auto() -> None:
    assert workers_named(None) is None
    assert workers_named("auto") == "auto"
    assert workers_named("3") == 3
    for wrong in ("0", "-1", "two", "1.5", ""):
        with pytest.raises(ValueError, match="--workers must be auto, or a number from 1 on"):
            workers_named(wrong)


def test_what_is_wrong_is_said_before_anything_is_done(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "in.mkv", torch.rand(2, 3, 32, 32))
    refused(deidlib("protect", clip, tmp_path / "out.mkv", "--workers", "none"), "--workers must be auto", "'none'")
    refused(deidlib("protect", "s3://here/in", tmp_path / "out", "--workers", 2), "--workers", "--ray")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv"]


def test_a_camera_has_none(tmp_path: Path) -> None:
    refused(deidlib("protect", "-", tmp_path / "out.mkv", "--workers", 2), "workers need a file")
