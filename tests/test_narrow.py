"""Pages and reports on a phone: nothing but tables, code and pictures, each in its own place, moves sideways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import ARGUMENTS, CHROMIUM, MISSING, fits
from clips import make_video
from patches import LEFT, Patches, frame

from deidlib.evaluation import evaluate
from deidlib.evaluation.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [app-test]")

SITE = Path(__file__).resolve().parents[1] / "site"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]


@pytest.fixture(scope="module")
def phone() -> Iterator[Any]:
    """A page of 360 pixels' width."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser.new_page(viewport={"width": 360, "height": 800})


def test_the_pages_fit(phone: Any) -> None:
    pages = sorted(SITE.glob("*.html"))
    if not pages:
        pytest.skip("needs the pages: `zensical build`")
    wide = []
    for path in pages:
        phone.goto(path.as_uri(), wait_until="domcontentloaded")
        if not fits(phone):
            wide.append(path.name)
    assert not wide


def test_a_report_fits(phone: Any, tmp_path: Path) -> None:
    name = "a-clip-with-a-name-that-is-longer-than-a-telephone-is-wide-and-has-no-space"
    before = make_video(tmp_path / "before.mkv", [frame(LEFT)] * 2)
    after = make_video(tmp_path / f"{name}.mkv", [frame(LEFT, channel=2)] * 2)
    readers = {"an-authorised-reader-with-a-long-name": Patches(2)}
    result = evaluate(before, after, authorised=readers, unauthorised={"red": Patches()})
    write_report(tmp_path / "report.html", result, show_originals=True)
    phone.goto((tmp_path / "report.html").as_uri())
    assert fits(phone)
