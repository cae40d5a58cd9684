"""The rule of the house, read from the source: imports point down only, and one module prints."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "deidlib"

VOCABULARY = {
    "faces",
    "images",
    "boxes",
    "regions",
    "warp",
    "camera",
    "cascade",
    "channels",
    "local",
    "steps",
    "combinations",
    "weights",
    "onnx",
    "keys",
    "scrambles",
    "nets",
    "overlap",
    "manifest",
    "detections",
    "suffixes",
    "fingerprint",
    "tracking",
}
BLOCKS = {"targets", "obfuscate", "metrics", "readers", "video", "visualize", "swap"}
ATTACK = {"attack"}
# Each may import those before it.
PIPELINE = ("warm_start", "settings", "segments", "readback", "summary", "stream", "live", "job", "still", "pipeline")
ASSEMBLY = {*PIPELINE, "demo", "evaluation", "report"}
TOP = {"cli"}
EVERYTHING = VOCABULARY | BLOCKS | ATTACK | ASSEMBLY | TOP

MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """The modules of deidlib that ``module`` imports anywhere, inside functions too: ``targets.base``, ``boxes`` ..."""
    found = set()
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("deidlib.") for alias in node.names), "write `from deidlib.x import y`"
            assert not any(alias.name == "deidlib" for alias in node.names), "write `from deidlib.x import y`"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import; write where it comes from"
            if node.module == "deidlib":
                found |= {alias.name for alias in node.names if alias.name != "__version__"}
            elif (node.module or "").startswith("deidlib."):
                found.add(str(node.module).removeprefix("deidlib."))
    return found


def home(module: str) -> str:
    """The noun that a module belongs to: of ``targets.base`` or ``targets/base`` it is ``targets``."""
    return module.replace("/", ".").split(".")[0]


def allowed(module: str) -> set[str]:
    """The nouns that a module may import."""
    noun = home(module)
    if noun in VOCABULARY:
        return VOCABULARY
    if noun == "swap":
        # A swapper is an obfuscator, and hides what it cannot swap by another one; its source may be an image file.
        return VOCABULARY | {"swap", "obfuscate", "video"}
    if noun in BLOCKS:
        return VOCABULARY | {noun}
    if noun in ATTACK:
        return VOCABULARY | {"targets"}
    if noun in PIPELINE:
        return VOCABULARY | BLOCKS | ATTACK | set(PIPELINE[: PIPELINE.index(noun)])
    if noun == "evaluation":
        # It measures files, whoever wrote them.
        return VOCABULARY | BLOCKS | {"evaluation"}
    if noun == "report":
        return VOCABULARY | BLOCKS | {"evaluation", "report"}
    if noun == "demo":
        return VOCABULARY | BLOCKS | ATTACK | set(PIPELINE)
    return EVERYTHING


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_imports_point_down_only(module: str) -> None:
    assert home(module) in EVERYTHING, f"{module} has no place in the house yet: add it to a layer above"
    wrong = {name for name in imports(module) if home(name) not in allowed(module)}
    assert not wrong, f"{module} may import {sorted(allowed(module))} of deidlib, and imports {sorted(wrong)}"


def test_the_loop_knows_no_wrapper() -> None:
    for module in ("attack", "pipeline"):
        assert {name for name in imports(module) if home(name) == "targets"} == {"targets.base"}


def test_wrappers_know_only_the_contract_beside_vocabulary() -> None:
    for module in MODULES:
        if home(module) == "targets" and module != "targets/__init__":
            assert {name for name in imports(module) if home(name) == "targets"} <= {"targets.base"}, module


def test_no_two_modules_import_each_other() -> None:
    graph = {module.replace("/", "."): imports(module) for module in MODULES if not module.endswith("__init__")}
    left = dict(graph)
    while ready := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"a circle of imports among {sorted(left)}"


def test_only_the_command_line_prints() -> None:
    for module in MODULES:
        if home(module) in TOP:
            continue
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input"), f"{module}:{node.lineno} calls {node.func.id}()"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
                assert node.attr not in ("stdout", "stderr"), f"{module}:{node.lineno} writes to sys.{node.attr}"


def test_modules_are_called_after_what_they_hold() -> None:
    vague = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
    assert not [module for module in MODULES if set(module.split("/")) & vague]
    folders = {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not folders & vague


def test_every_module_says_what_it_is() -> None:
    assert not [module for module in MODULES if not ast.get_docstring(parse(module))]


def test_nothing_is_imported_wholesale() -> None:
    for module in MODULES:
        for node in ast.walk(parse(module)):
            if isinstance(node, ast.ImportFrom):
                assert not any(alias.name == "*" for alias in node.names), f"{module}:{node.lineno} imports *"
