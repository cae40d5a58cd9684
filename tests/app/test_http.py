"""The page over HTTP, as a browser or a script asks for it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from desk import menu, upload
from patches import LEFT, RIGHT

from deidlib.app.guard import POLICY
from deidlib.app.server import Server
from deidlib.media import read_image

with warnings.catch_warnings():
    # Gradio's own, and those of what it stands on.
    warnings.simplefilter("ignore")
    gradio_client = pytest.importorskip("gradio_client", reason="needs the extra [app]")
    pytest.importorskip("gradio", reason="needs the extra [app]")

pytestmark = pytest.mark.filterwarnings("ignore")

SAID = (["red"], "solid", 8, 3, "never", "hold", "ffv1")
"""What is chosen on the page, in its order."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Server(menu()) as running:
            yield running
    assert not running.place.path.exists()


@pytest.fixture
def user(server: Server, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Opens the page for another user."""
    opened: list[Any] = []

    def another() -> Any:
        place = tmp_path / f"user-{len(opened)}"
        opened.append(gradio_client.Client(server.address, verbose=False, download_files=str(place)))
        return opened[-1]

    yield another
    for client in opened:
        client.close()


def dropped(client: Any, path: Path) -> Any:
    return client.predict(gradio_client.handle_file(str(path)), *SAID, api_name="/take")


def status(answer: Any) -> str:
    """The message that an answer holds."""
    return next(str(part) for part in answer if "class=" in str(part))


def kept(server: Server) -> list[str]:
    """The files with anything in them that lie in the workplace."""
    return sorted(path.name for path in server.place.path.rglob("*") if path.is_file() and path.stat().st_size)


def fetched(address: str, **headers: str) -> tuple[int, Any, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            return answer.status, answer.headers, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, ""


def test_from_a_file_that_is_dropped_to_one_that_is_downloaded(
    server: Server, user: Callable[[], Any], tmp_path: Path
) -> None:
    client = user()
    seen = str(dropped(client, upload(tmp_path / "up", LEFT, RIGHT)))
    assert "people.png: 128 x 96 pixels" in seen
    assert "1: found" in seen
    assert "2: found" in seen
    unchecked = str(client.predict([0], 0, *SAID, api_name="/check"))
    assert "left as in the original, for everybody to see: 2." in unchecked
    assert "3: drawn by hand" in str(client.predict("54, 5, 66, 15", -1, 0, *SAID, api_name="/draw"))
    assert "drawn by hand" not in str(client.predict(0, *SAID, api_name="/undraw"))
    answer = client.predict(0, *SAID, api_name="/protect")
    assert "1 face left as in the original, since you unchecked it" in str(answer)
    assert "deidlib protect people.png people.protected.png --faces faces.json" in str(answer)
    files = {
        Path(part["value"]).name: Path(part["value"]) for part in answer if isinstance(part, dict) and part.get("value")
    }
    assert sorted(files) == ["faces.json", "people.protected.png", "people.protected.png.json", "report.html"]
    written = read_image(files["people.protected.png"])[0]
    assert bool(((written[:, 20:80, 10:50] - 128 / 255).abs() * 255 < 8.5).all())
    assert torch.equal(written[0, 20:80, 70:110], torch.ones(60, 40))
    # All of it goes when the user does.
    assert kept(server)
    client.close()
    wait(lambda: not kept(server))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no picture", "notes.png is not an image that can be read"), (b"", "notes.png is empty")],
)
def test_a_bad_file_gives_a_message(
    server: Server, user: Callable[[], Any], tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    said = str(dropped(user(), path))
    assert words in said
    assert str(server.place.path) not in said
    assert not [name for name in kept(server) if name == "notes.png"]


def test_two_users_at_once_do_not_see_each_others_files(
    server: Server, user: Callable[[], Any], tmp_path: Path
) -> None:
    one, two = user(), user()
    dropped(one, upload(tmp_path / "up", LEFT, name="hers.png"))
    # The same picture, too: what is uploaded lies in one place for a moment.
    dropped(two, upload(tmp_path / "up", LEFT, RIGHT, name="his.png"))
    hers = str(one.predict([0], 0, *SAID, api_name="/check"))
    his = str(two.predict([0, 1], 0, *SAID, api_name="/check"))
    assert "hers.png" in hers
    assert "his.png" not in hers
    assert "his.png" in his
    assert "hers.png" not in his
    folders = {path.parent.parent for path in server.place.path.rglob("*.png")}
    assert len(folders) == 2
    for folder in folders:
        assert folder.parent == server.place.path
        # Nobody guesses that.
        assert len(folder.name) >= 32
        status, *_ = fetched(f"{server.address}gradio_api/file={server.place.path}/{folder.name[:-1]}/1/hers.png")
        assert status == 403
    one.close()
    wait(lambda: "hers.png" not in kept(server))
    assert "his.png" in kept(server)


def test_a_key_that_is_waited_for_is_asked_for(server: Server, user: Callable[[], Any], tmp_path: Path) -> None:
    client = user()
    dropped(client, upload(tmp_path / "up", LEFT))
    client.predict("file", api_name="/key")
    assert "the key file is missing" in str(client.predict(0, *SAID, api_name="/protect"))
    made = client.predict("new", api_name="/key")
    assert "alone" in str(made)
    answer = str(client.predict(0, *SAID, api_name="/protect"))
    assert "red with the key" in answer
    assert "--key deidlib.key" in answer


def test_a_file_outside_of_the_workplace_is_not_to_be_had(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"a face")
    for address in (
        f"file={secret}",
        f"file={server.place.path}/../../{secret}",
        "file=/etc/hosts",
        f"file={Path(__file__)}",
    ):
        status, _, text = fetched(f"{server.address}gradio_api/{address}")
        assert status in (403, 404)
        assert "face" not in text


def test_it_talks_to_this_machine_alone(server: Server) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    assert server.blocks.server_name == "127.0.0.1"
    assert not server.blocks.share
    assert not server.blocks.analytics_enabled
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    status, headers, text = fetched(server.address)
    assert status == 200
    assert headers["content-security-policy"] == POLICY
    assert headers["cache-control"] == "no-store"
    for needed in ("fonts.googleapis", "cdnjs", "unpkg", "jsdelivr"):
        assert needed not in text
    assert fetched(server.address, Host="rebound.example")[0] == 403
    assert fetched(server.address, Origin="https://evil.example")[0] == 403
    assert fetched(f"{server.address}gradio_api/file=https://example.org/a.png")[0] == 403
    # What came in before is not kept in the browser, or elsewhere.
    assert fetched(f"{server.address}gradio_api/runs")[0] == 404


@pytest.mark.slow
@pytest.mark.usefixtures("_signals_are_heard")
@pytest.mark.skipif(os.name != "posix", reason="signals are told to a process by their number here")
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_ended_leaves_nothing(tmp_path: Path, told: signal.Signals) -> None:
    command = [sys.executable, "-m", "deidlib.cli", "app", "--no-browser", "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("the page: http://127.0.0.1:")
        (place,) = tmp_path.glob("deidlib-app-*")
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        running.send_signal(told)
        assert running.wait(300) == 0
    assert not list(tmp_path.glob("deidlib-app-*"))


def wait(until: Callable[[], bool]) -> None:
    """Until it is so; the server is told in its time that a user is gone."""
    import time

    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end
        time.sleep(0.2)
