from __future__ import annotations

from pathlib import Path

import pytest
from clips import astronauts
from command import deidlib, done, refused

from deidlib.cli.config import settings_of
from deidlib.media import write_image


@pytest.fixture
def image(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", astronauts(1))
    return tmp_path / "in.png"


def written(folder: Path, text: str) -> Path:
    path = folder / "deidlib.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_what_would_be_typed(tmp_path: Path) -> None:
    path = written(tmp_path, 'on-missing = "keep"\ntargets = ["mtcnn", "fan"]\nhide_only = true\nepsilon = 4.5\n')
    wanted = {"on_missing": "keep", "targets": "mtcnn,fan", "hide_only": True, "epsilon": 4.5}
    assert settings_of(path, set(wanted)) == wanted


def test_the_file_decides_what_is_not_typed(image: Path) -> None:
    config = written(image.parent, "hide-only = true\nblocks = 3\n")
    # A mosaic is wanted, so that the number of its cells is no mistake.
    target = image.with_name("out.png")
    done(deidlib("protect", image, target, "--config", config, "--hide", "pixelate"))
    mosaic = target.read_bytes()
    done(deidlib("protect", image, target, "--config", config, "--hide", "pixelate", "--blocks", 3))
    assert target.read_bytes() == mosaic
    done(deidlib("protect", image, target, "--config", config, "--hide", "pixelate", "--blocks", 5))
    assert target.read_bytes() != mosaic


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epsilo = 4", ("epsilo is no option", "Did you mean epsilon?")),
        ("a" * 200_000 + " = 4", (": " + "a" * 60 + " is no option",)),
        ("= 4", ("no TOML",)),
        ("[attack]\nepsilon = 4", ("attack is no option",)),
        ("[epsilon]\nlevels = 4", ("epsilon is a table",)),
        ('config = "other.toml"', ("config is no option",)),
    ],
)
def test_a_file_that_cannot_be_used_is_said_to_be(image: Path, text: str, words: tuple[str, ...]) -> None:
    config = written(image.parent, text)
    refused(deidlib("protect", image, image.with_name("out.png"), "--config", config), *words)


def test_what_is_no_file_is_not_read(image: Path) -> None:
    for wrong in (image.parent, image.with_name("nowhere.toml")):
        refused(deidlib("protect", image, image.with_name("out.png"), "--config", wrong), "no file of settings")


def test_a_value_out_of_range_is_refused_as_if_typed(image: Path) -> None:
    config = written(image.parent, "epsilon = 300\n")
    result = deidlib("protect", image, image.with_name("out.png"), "--config", config)
    assert result.exit_code == 2
    assert "less than or equal to 255" in result.stderr
