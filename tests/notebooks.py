"""The notebooks of ``examples/``: run them, and store them with what they show and nothing else.

``python tests/notebooks.py [NAME ...]`` runs all, or those, and stores them again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# Seconds a cell: a machine that is busy takes many times the forty that a notebook should take.
_PATIENCE = 600


def executed(path: Path, folder: Path) -> Any:
    """A notebook with what its cells show, run in an empty folder.

    Raises:
        CellExecutionError: a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    resources = {"metadata": {"path": str(folder)}}
    patience = {"timeout": _PATIENCE, "startup_timeout": _PATIENCE}
    return NotebookClient(notebook, kernel_name="python3", resources=resources, **patience).execute()


def cleaned(notebook: Any) -> Any:
    """The same without a trace of who ran it where and when."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = nbformat.from_dict({}), f"cell-{number}"
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "data" in output:
                # A picture comes in both; of photographs this one is a tenth.
                if "image/jpeg" in output.data:
                    output.data.pop("image/png", None)
                if {"text/html", "image/png", "image/jpeg"} & output.data.keys():
                    # Beside what is shown, words that nobody sees, with addresses in memory.
                    output.data.pop("text/plain", None)
    return notebook


def main(names: list[str]) -> None:
    """Run notebooks and store them."""
    import tempfile

    for path in NOTEBOOKS:
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                nbformat.write(cleaned(executed(path, Path(folder))), path)
            sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
