from __future__ import annotations

import json
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


# The description of a file is a file of settings


def test_a_description_makes_the_same_file_again(image: Path) -> None:
    first, second = image.with_name("first.png"), image.with_name("second.png")
    options = ("--hide", "pixelate", "--blocks", 3, "--shape", "ellipse", "--iterations", 2, "--grid", 4)
    done(deidlib("protect", image, first, *options, "--detectors", "mtcnn", "--silence", "none", "--no-verify"))
    done(deidlib("protect", image, second, "--config", image.with_name("first.png.json")))
    assert second.read_bytes() == first.read_bytes()
    told = [json.loads(path.with_name(f"{path.name}.json").read_text()) for path in (first, second)]
    assert told[0]["fingerprint"] == told[1]["fingerprint"]
    assert told[0]["options"] == told[1]["options"]
    # What is typed goes before it.
    done(deidlib("protect", image, second, "--config", image.with_name("first.png.json"), "--blocks", 5))
    assert second.read_bytes() != first.read_bytes()


def test_a_description_names_no_file_and_nothing_of_the_run(image: Path) -> None:
    target, key = image.with_name("out.png"), image.with_name("secret.key")
    done(deidlib("key", "new", key))
    more = ("--key", key, "--json", image.with_name("told.json"), "--preview", image.with_name("look.png"), "--force")
    done(deidlib("protect", image, target, "--iterations", 0, "--no-verify", "--detectors", "mtcnn", *more))
    options = json.loads(image.with_name("out.png.json").read_text())["options"]
    assert not {"key", "json", "preview", "force", "config", "device", "batch", "words"} & set(options)
    assert str(image.parent) not in json.dumps(options)
    assert options["targets"] == "mtcnn"
    assert options["verify"] is False


def test_what_is_no_description_or_notes_nothing_is_said_to_be(image: Path) -> None:
    from deidlib import MTCNN, Deidentifier, IFGSMAttacker, protect_image

    target, wrong = image.with_name("out.png"), image.with_name("wrong.json")
    wrong.write_text("{}")
    refused(deidlib("protect", image, target, "--config", wrong), "does not describe a protected file")
    protect_image(Deidentifier(IFGSMAttacker([MTCNN()], max_iterations=0)), image, target)
    refused(deidlib("protect", image, target, "--config", image.with_name("out.png.json")), "notes no options")
