"""The notebooks of ``examples/``: what is stored in them is what they show, and they run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra [test]: nbclient")
notebooks = pytest.importorskip("notebooks", reason="needs the extra [test]: nbclient")

EXAMPLES, NOTEBOOKS = notebooks.EXAMPLES, notebooks.NOTEBOOKS
NAMES = ["attack_anatomy", "own_model", "quickstart", "reading_by_key", "what_hides_best"]
# Places, people and machines.
_WHERE = re.compile(r"/(?:root|home|work|tmp|Users|usr|opt|var|mnt)/|[A-Z]:\\\\|site-packages|0x[0-9a-f]{8}")


def kinds(notebook: Any) -> list[list[str]]:
    """Per cell of code what kinds of output it has."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            said = [output.get("name") or ",".join(sorted(output.get("data", {}))) for output in cell.outputs]
            # How a text is cut into pieces is chance.
            found.append([kind for k, kind in enumerate(said) if k == 0 or kind != said[k - 1]])
    return found


def test_there_are_five() -> None:
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_was_shown_and_nothing_else(name: str) -> None:
    path = EXAMPLES / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
    shown = [kind for cell in kinds(notebook) for kind in cell]
    assert sum("image" in kind for kind in shown) >= 2
    text = path.read_text(encoding="utf-8")
    assert not _WHERE.search(text), _WHERE.findall(text)
    assert path.stat().st_size < 1_000_000
    # Storing it again changes nothing.
    assert nbformat.writes(notebooks.cleaned(nbformat.read(path, as_version=4))) == nbformat.writes(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_titles_and_units(name: str) -> None:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and "add_subplot()" in cell.source:
            for word in ("title=", "xlabel=", "figure("):
                assert word in cell.source, cell.source


def test_links_of_notebooks_lead_somewhere() -> None:
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", cell.source):
                    assert link.startswith("http") or (path.parent / link).is_file(), f"{path.name} links to {link}"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_shows_what_is_stored(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel", reason="needs the extra [notebook]")
    if name == "own_model":
        pytest.importorskip("onnx2torch", reason="needs the extra [onnx2torch]")
    root = str(EXAMPLES.parent)
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stored = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    # A cell that raises ends it with an error.
    assert kinds(notebooks.cleaned(notebooks.executed(EXAMPLES / f"{name}.ipynb", tmp_path))) == kinds(stored)
