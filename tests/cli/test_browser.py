from __future__ import annotations

import sys

import pytest
from command import deidlib, refused

import deidlib as library
from deidlib.cli.browser import menu_on
from deidlib.cli.names import targets


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    refused(deidlib("app", "--no-browser"), 'pip install "deidlib[app]"')


def test_a_port_is_a_number_of_one() -> None:
    assert deidlib("app", "--port", 0).exit_code == 2


def test_whoever_is_here_can_be_chosen_and_the_others_are_named() -> None:
    menu = menu_on("cpu")
    assert {*menu.targets, *menu.absent} == set(targets())
    assert not set(menu.targets) & set(menu.absent)
    # They are written down for whoever wants the same in Python.
    assert set(menu.calls) == set(targets())
    for call in menu.calls.values():
        assert hasattr(library, call.split("(")[0].split(".")[0])
    assert menu.models(["mtcnn"])["mtcnn"].task == "boxes"
    # Who may read is no stranger.
    assert "mtcnn" not in menu.readers(["mtcnn"])
