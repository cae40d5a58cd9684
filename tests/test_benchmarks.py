from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from benchmarks import __main__ as suite
from benchmarks.measure import Spread, Table, interleaved
from benchmarks.rules import MOST, _share
from benchmarks.scale import Farm, simulate

CURVED = Table("A", ["x", "y"], [["a", Spread(2.0, 1.0, 3.0, 9)]], {"one": ([0.0, 1.0], [0.5, 1.0])}, ("x", "y"))


def test_a_spread_is_median_and_outer_tenths() -> None:
    # Of 0 to 10 the tenths are 1, ..., 9, whatever the order.
    assert Spread.of([float(k) for k in (10, 3, 0, 1, 2, 4, 9, 8, 5, 7, 6)]) == Spread(5.0, 1.0, 9.0, 11)
    assert Spread.of([4.0]) == Spread(4.0, 4.0, 4.0, 1)
    assert Spread.of([1.0, 3.0]).times(10).median == 20


def test_works_are_done_in_turns() -> None:
    done = list[str]()
    found = interleaved({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, turns=3)
    assert done == ["a", "b"] * 4
    assert [spread.count for spread in found.values()] == [3, 3]


def test_a_share_is_of_those_that_are_done_by_then() -> None:
    numbers, share = _share(torch.tensor([0.0, 2.0, 2.0, MOST + 1.0]))
    assert numbers[:4] == [0, 1, 2, 3]
    assert share[:4] == [0.25, 0.25, 0.75, 0.75]
    assert share[-1] == 0.75  # who never was within is not at the end either


def test_everything_is_written(tmp_path: Path) -> None:
    suite.write(tmp_path, {"date": "today"}, {"a": CURVED, "b": Table("B", ["x"], [[0.12345]])})
    data = json.loads((tmp_path / "results.json").read_text())
    assert data["about"] == {"date": "today"}
    assert data["tables"]["a"]["rows"] == [["a", {"median": 2.0, "low": 1.0, "high": 3.0, "count": 9}]]
    assert data["tables"]["a"]["curves"] == {"one": [[0.0, 1.0], [0.5, 1.0]]}
    text = (tmp_path / "results.md").read_text()
    assert "Measured: date today." in text
    assert "| x | y |\n|---|---|\n| a | 2.0 (1.0 to 3.0) |" in text
    assert "| 0.123 |" in text
    assert not (tmp_path / "b.png").exists()


def test_curves_are_drawn_where_that_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures of benchmarks need matplotlib (pip install .[dev])")
    suite.draw(tmp_path / "a.png", CURVED)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with patch.dict("sys.modules", {"matplotlib.figure": None}):
        suite.draw(tmp_path / "b.png", CURVED)
    assert not (tmp_path / "b.png").exists()


def test_a_part_that_is_asked_for_is_measured_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = list[tuple[bool, str]]()

    def table(quick: bool, device: str) -> Table:
        asked.append((quick, device))
        return CURVED

    monkeypatch.setattr(suite, "PARTS", {"a": table, "b": table})
    monkeypatch.setattr("sys.argv", ["benchmarks", "b", "--quick", "--folder", str(tmp_path / "out")])
    threads = torch.get_num_threads()
    try:
        suite.main()
    finally:
        torch.set_num_threads(threads)
    assert asked == [(True, "cpu")]
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["tables"]) == ["b"]
    monkeypatch.setattr("sys.argv", ["benchmarks", "none"])
    with pytest.raises(SystemExit):
        suite.main()
    assert "unknown part none; choose from a, b" in capsys.readouterr().err


def test_the_page_names_every_part() -> None:
    page = (Path(__file__).parents[1] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert not [name for name in suite.PARTS if f"`{name}`" not in page]


def test_a_simulated_farm_does_all_the_work_and_loses_what_it_must() -> None:
    alone = simulate(Farm(1, clips=5, seconds=100.0, start=10.0, give=1.0))
    # Start, then clip after clip, each given out first.
    assert alone.seconds == pytest.approx(10 + 5 * 1 + alone.efficiency * alone.seconds)
    # The driver gives out one clip a second: ten workers with clips of a second wait for it.
    slow = simulate(Farm(10, clips=1000, seconds=1.0, start=0.0, give=1.0))
    assert 1000 <= slow.seconds < 1010
    anew, kept = (
        simulate(Farm(32, clips=2000, seconds=100.0, between=2000.0, segment=segment)) for segment in (0.0, 5.0)
    )
    assert anew.failures
    assert kept.lost < anew.lost / 5
    assert anew.efficiency < kept.efficiency < 1
    # Whatever fails, the work that is done is the work that there was: 2000 clips, whose lengths are drawn.
    for play in (anew, kept):
        assert play.efficiency * play.seconds * 32 == pytest.approx(2000 * 100.0, rel=0.05)
