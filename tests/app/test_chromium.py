"""The page in headless Chromium, as people see it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from chromium import ARGUMENTS, CHROMIUM, MISSING, fits
from clips import astronauts, make_video

from deidlib.app.menu import Menu
from deidlib.app.server import Server
from deidlib.media import read_image, write_image
from deidlib.models.mtcnn import MTCNN

with warnings.catch_warnings():
    # Gradio's own, and those of what it stands on.
    warnings.simplefilter("ignore")
    pytest.importorskip("gradio", reason="needs the extra [app]")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [app-test]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]

OPEN = Callable[..., Any]
# Milliseconds: the machine may be busy.
_WAIT = 120_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Server(Menu({"mtcnn": MTCNN}, calls={"mtcnn": "MTCNN()"})) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))


@pytest.fixture
def opened(server: Server, browser: Any) -> Iterator[OPEN]:
    """Opens the page for another user; in the end it has asked nobody else for anything, and met no error."""
    contexts, asked, wrong = [], list[str](), list[str]()

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(server.address)
        page.wait_for_selector("#file input[type=file]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    elsewhere = {urlsplit(url).netloc for url in asked if urlsplit(url).scheme not in ("data", "blob")}
    assert elsewhere == {urlsplit(server.address).netloc}
    assert not wrong


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "astronaut.png"
    write_image(path, astronauts(1, side=160)[0])
    return path


def drop(page: Any, path: Path) -> None:
    """A file, into the page."""
    page.set_input_files("#file input[type=file]", str(path))


def looked(page: Any, path: Path) -> None:
    """A file whose faces are seen."""
    drop(page, path)
    page.wait_for_selector("#marked img")
    page.wait_for_selector(f"#status :text({path.name!r})")


def shot(page: Any, name: str) -> None:
    """A picture of the page, where somebody wants to look at it: SHOTS names the folder."""
    if folder := os.environ.get("SHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(1000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark"), (360, "light"), (1280, "dark")])
def test_a_picture_is_dropped_and_protected_and_numbers_appear(
    opened: OPEN, picture: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page, name = opened(width, scheme), f"{width}-{scheme}"
    shot(page, f"{name}-0-open")
    looked(page, picture)
    assert page.locator("#faces input:checked").count() == 1
    assert fits(page)
    shot(page, f"{name}-1-faces")
    page.click("#go")
    # The loss curve, while it is at work.
    page.wait_for_selector("#going polyline")
    shot(page, f"{name}-2-attack")
    page.wait_for_selector("#verdict .head")
    assert "mtcnn may read, and finds 1 of 1 face" in page.inner_text("#verdict")
    assert page.locator("#slider img").count() >= 2
    assert page.locator("#change img").count() == 1
    shot(page, f"{name}-3-result")
    assert fits(page)
    page.get_by_text("The same without this page").click()
    assert "deidlib protect astronaut.png astronaut.protected.png" in page.inner_text("#command")
    page.get_by_text("How the attack went").click()
    page.wait_for_selector("#curves polyline")
    assert fits(page)
    shot(page, f"{name}-4-open")
    with page.expect_download() as download:
        page.click("#get-file")
    download.value.save_as(tmp_path / "protected.png")
    written, original = read_image(tmp_path / "protected.png"), read_image(picture)
    assert written.shape == original.shape
    assert len(MTCNN().predict(written)[0]) == 1


def test_a_missed_face_is_drawn_by_two_clicks_and_an_unchecked_one_is_crossed_out(opened: OPEN, tmp_path: Path) -> None:
    page = opened()
    looked(page, make_video(tmp_path / "clip.mkv", astronauts(3, side=160)))
    found = page.locator("#faces input").count()
    box = page.locator("#marked img").bounding_box()
    for across, down in ((0.65, 0.05), (0.95, 0.4)):
        page.locator("#marked img").click(position={"x": across * box["width"], "y": down * box["height"]})
        page.wait_for_timeout(1500)
    page.wait_for_selector("#faces :text('drawn by hand in frame 0, for all frames')")
    assert page.locator("#faces input").count() == found + 1
    page.locator("#faces input").first.uncheck()
    page.wait_for_selector("#faces-note :text('left as in the original')")
    shot(page, "1280-light-5-clip")
    # Typed, for those who do not click; and a box that is none.
    page.fill("#box input, #box textarea", "1, 2, 3")
    page.click("#add")
    page.wait_for_selector("#status :text('a box is four numbers')")
    assert fits(page)


def test_work_is_stopped_and_nothing_is_made(opened: OPEN, server: Server, picture: Path) -> None:
    page = opened()
    looked(page, picture)
    page.click("#go")
    page.wait_for_selector("#going polyline")
    page.click("#stop")
    page.wait_for_selector("#going :text('stopped; nothing was made')")
    assert not page.locator("#verdict .head").count()
    assert not list(server.place.path.rglob("*protected*"))
    # It can be begun once more.
    page.click("#go")
    page.wait_for_selector("#verdict .head")


@pytest.mark.parametrize("width", [360, 1280])
def test_a_bad_file_gives_a_message(opened: OPEN, server: Server, tmp_path: Path, width: int) -> None:
    page, bad = opened(width), tmp_path / "notes.png"
    bad.write_text("no picture")
    drop(page, bad)
    page.wait_for_selector("#status [role=alert]")
    assert "notes.png is not an image that can be read" in page.inner_text("#status")
    assert str(server.place.path) not in page.content().replace("\\/", "/")
    assert fits(page)
    shot(page, f"{width}-light-6-bad")


def test_two_users_at_once_do_not_see_each_others_files(opened: OPEN, server: Server, picture: Path) -> None:
    one, two = opened(), opened()
    looked(one, picture)
    addresses = re.findall(r"file=([^\"'?]+)", one.content())
    assert any(address.startswith(str(server.place.path)) for address in addresses)
    two.wait_for_timeout(1500)
    assert not two.locator("#marked img").count()
    assert "astronaut" not in two.content()
    other = picture.with_name("other.png")
    write_image(other, astronauts(2, side=160)[1])
    looked(two, other)
    assert "astronaut.png" in one.inner_text("#status")
    assert "other.png" in two.inner_text("#status")
    assert not set(addresses) & set(re.findall(r"file=([^\"'?]+)", two.content()))


def test_a_file_is_read_by_its_key(opened: OPEN, server: Server, tmp_path: Path) -> None:
    from deidlib import Deidentifier, Key, protect_image, recommended

    write_image(tmp_path / "a.png", astronauts(1, side=192)[0])
    # With a key, not every small face is read: docs/keys.md. With this one it is.
    Key(bytes(32)).save(tmp_path / "our.key")
    protected = tmp_path / "protected.png"
    protect_image(Deidentifier(recommended([MTCNN()])), tmp_path / "a.png", protected, key=Key(bytes(32)))
    page = opened()
    page.get_by_role("tab", name="Read a protected file").click()
    files = [protected, protected.with_name("protected.png.json")]
    page.set_input_files("#read-files input[type=file]", [str(path) for path in files])
    page.wait_for_selector("#read-status :text('nothing is readable without a key')")
    page.set_input_files("#read-files input[type=file]", [str(path) for path in [*files, tmp_path / "our.key"]])
    page.wait_for_selector("#read-status :text('mtcnn, by the key: 1 face in frame 0')")
    page.wait_for_selector("#read-picture img")
    assert fits(page)
    shot(page, "1280-light-7-read")
    assert not list(server.place.path.rglob("*.key"))
