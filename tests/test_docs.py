from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import deidlib
from deidlib import cli, weights

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)


def blocks(page: Path) -> list[tuple[int, str]]:
    """The code of a page that is to be run, and the line at which each block begins."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start("code")), match["code"])
        for match in FENCE.finditer(text)
        if match["reason"] is None
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclass looks its own module up
    for line, code in blocks(page):
        # Blank lines in front make a traceback name the line of the page.
        exec(compile("\n" * line + code, str(page), "exec", dont_inherit=True), vars(module))


def test_every_fence_of_python_is_seen() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(FENCE.findall(text)) == len(re.findall(r"^\s*```py", text, re.MULTILINE)), page


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).is_file(), f"{page.name} links to {link}"


def test_every_option_that_a_page_names_is_one() -> None:
    known: set[str] = set()
    commands = [typer.main.get_command(cli.app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        known |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    # Of other programs.
    known |= {"--index-url", "--help", "--strict"}
    # Of the benchmarks, which say themselves what they take.
    known |= {"--quick", "--folder", "--cache", "--every", "--clip", "--setting", "--minutes", "--seed"}
    for page in PAGES:
        for line, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
                assert option in known, f"{page.name}:{line} names {option}"


def test_the_table_of_weights_is_the_one_in_the_code() -> None:
    page = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \|(.*)\|$", page, re.MULTILINE))
    assert list(rows) == list(weights.CHECKPOINTS)
    for name, checkpoint in weights.CHECKPOINTS.items():
        assert f" `{checkpoint.file}` " in rows[name]
        assert f" {checkpoint.licence} " in rows[name]
        assert checkpoint.origin.split(", see ")[-1] in rows[name]


def test_the_reference_holds_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    entries = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    assert {f"deidlib.{home}.{name}" for name, home in deidlib._HOME.items()} <= entries


def test_the_tree_on_the_page_is_the_house() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    tree = page.split("```\n")[1]
    rooms = re.findall(r"^  ([a-z_]+(?:\.py|/)) ", tree, re.MULTILINE)
    there = [path.name + "/" * path.is_dir() for path in (ROOT / "deidlib").iterdir() if path.suffix in ("", ".py")]
    assert sorted(rooms) == sorted(name for name in there if name not in ("__pycache__/", "py.typed/"))


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="needs the extra [docs]")
    # It writes beside its configuration.
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "deidlib").symlink_to(ROOT / "deidlib")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert 'id="deidlib.attack.attacker.IFGSMAttacker"' in reference
    # Markup that Markdown does not know would be shown as it is.
    assert not re.search(r":(class|func|meth|mod|math):|\.\. math::", reference)
    # Nothing is loaded from elsewhere.
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img)[^>]* src=\"?https?:|<link[^>]* href=\"?https?:[^>]*stylesheet", text), page


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that the test's own name names."""
    name = request.function.__name__.removeprefix("test_example_")
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_all_examples_are_run_below() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {"protect_image", "own_target_model", "compare_step_rules", "swap_face"}


def test_example_protect_image(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(target=tmp_path / "protected.png", iterations=15)
    assert (tmp_path / "protected.png").is_file()
    assert "MTCNN finds 1 faces in the original and 1 in the protected" in capsys.readouterr().out


def test_example_swap_face(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(target=tmp_path / "swapped.png", iterations=5)
    assert (tmp_path / "swapped.png").is_file()
    assert capsys.readouterr().out.count("IoU with the original's box: [0.") == 3


def test_example_own_target_model(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(iterations=15)
    off = {row.split()[0]: float(row.split()[2]) for row in capsys.readouterr().out.splitlines()[1:]}
    assert off["original"] == 0
    assert off["protected"] < off["hidden"]


def test_example_compare_step_rules(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(iterations=2)
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["I-FGSM", "MI-FGSM", "NI-FGSM", "RMSprop", "APGDStep"]
    assert all(0 <= int(row[3]) <= 2 for row in rows)
