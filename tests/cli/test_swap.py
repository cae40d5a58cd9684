from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from command import deidlib, refused
from skimage.data import astronaut
from torch import Tensor

from deidlib.cli.astronaut import moving_astronaut
from deidlib.cli.hiding import hiding_of
from deidlib.cli.names import Names
from deidlib.cli.swap import swapper_of
from deidlib.geometry.boxes import iou
from deidlib.media import VideoReader, VideoWriter, read_image, write_image
from deidlib.models.mtcnn import MTCNN
from deidlib.obfuscate import Pixelate
from deidlib.records.fingerprint import described, fingerprint
from deidlib.swap import WarpSwapper, steady
from deidlib.swap.clip import SteadyFaces


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source: the astronaut in green, for want of another."""
    path = tmp_path_factory.mktemp("source") / "face.png"
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    write_image(path, picture[..., :300, 60:400].flip(-1))
    return path


@pytest.fixture(scope="module")
def clip() -> Tensor:
    return moving_astronaut(3)


@pytest.mark.parametrize("arguments", [(), ("--no-steady",)])
def test_swap_writes_the_clip_with_another_face(
    arguments: tuple[str, ...], face: Path, clip: Tensor, tmp_path: Path
) -> None:
    source, out = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with VideoWriter(source, Fraction(12), (256, 256)) as writer:
        writer.write(clip)
    result = deidlib("swap", source, out, "--source", face, *arguments)
    assert result.exit_code == 0, result.output
    assert "of 3 faces and places of lost ones, 3 swapped and 0 hidden instead" in result.output
    assert "attacked" not in result.output
    with VideoReader(out) as reader:
        written = torch.cat([images for images, _ in reader.batches(8)])
    detector = MTCNN()
    known = detector.predict(clip)
    followed = known if arguments else steady(known)
    expected = WarpSwapper(read_image(face), detector)(clip, followed).mul(255).round()
    assert float((written.mul(255) - expected).abs().max()) < 1.5
    for before, after in zip(known, detector.predict(written), strict=True):
        assert float(iou(before.boxes, after.boxes).max()) > 0.8
    # It is no mosaic and not the original.
    mosaic = Pixelate()(clip, known)
    for other in (mosaic, clip):
        assert float((written - other).abs().amax(dim=(1, 2, 3)).min()) > 0.2


def test_several_are_swapped_and_told_of(face: Path, clip: Tensor, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, clip[:1, :, 32:160, 64:192])
    result = deidlib("swap", f"{tmp_path}/?.png", "--source", face, "--json", "-")
    assert result.exit_code == 0, result.output
    files = json.loads(result.stdout)["files"]
    assert [file["status"] for file in files] == ["done"] * 2
    assert [Path(file["target"]).name for file in files] == ["a.swapped.png", "b.swapped.png"]
    assert all(file["summary"]["swaps"] == {"swapped": 1} for file in files)
    # What somebody else has written stays.
    (tmp_path / "mine.png").write_bytes((tmp_path / "a.png").read_bytes())
    refused(deidlib("swap", tmp_path / "a.png", tmp_path / "mine.png", "--source", face), "add --force")
    refused(deidlib("swap", "-", tmp_path / "out.mkv", "--source", face), "what comes live is not swapped")


def test_protect_hides_by_swapping(face: Path, clip: Tensor, tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", clip[:1])
    result = deidlib(
        "protect", tmp_path / "in.png", tmp_path / "out.png", "--hide", f"swap:{face}", "--iterations", "5"
    )
    assert result.exit_code == 0, result.output
    written = read_image(tmp_path / "out.png")
    detector = MTCNN()
    known = detector.predict(clip[:1])
    hidden = hiding_of(f"swap:{face}", 4)(clip[:1], known)
    assert float((written - hidden).abs().max()) <= 8.6 / 255
    assert float((written - clip[:1]).abs().max()) > 0.2


def test_arguments_arrive(face: Path) -> None:
    swap = swapper_of(face, "cpu", keep=Names("eyes, mouth"), blocks=3)
    assert isinstance(swap, WarpSwapper)
    assert swap.keep == ("eyes", "mouth")
    assert swap.fallback == Pixelate(blocks=3)


def test_what_a_user_can_mend_is_one_line(face: Path, clip: Tensor, tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", clip[:1])
    write_image(tmp_path / "grey.png", torch.full((1, 3, 80, 80), 0.5))

    def error(*arguments: str | Path) -> str:
        result = deidlib("swap", tmp_path / "in.png", tmp_path / "out.png", *arguments)
        assert result.exit_code == 1
        assert not (tmp_path / "out.png").exists()
        lines = [line for line in result.stderr.splitlines() if not line.startswith("device:")]
        assert len([line for line in lines if line.startswith("error: ")]) == 1
        return lines[-1]

    assert "grey.png: no face was found in the source" in error("--source", tmp_path / "grey.png")
    assert "keep may hold" in error("--source", face, "--keep", "nose")
    assert "unknown model 'nobody'" in error("--source", face, "--landmarks", "nobody")
    assert "missing.png" in error("--source", tmp_path / "missing.png")
    assert "which must be 0 to 0" in error("--source", face, "--which", "3")


def test_a_folder_is_done_again_when_faces_are_to_be_smoothed_or_no_longer() -> None:
    model = MTCNN()
    smoothed, again = (fingerprint(described(SteadyFaces([model]))) for _ in range(2))
    assert smoothed == again
    assert smoothed != fingerprint(described(None))
