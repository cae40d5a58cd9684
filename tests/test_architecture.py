"""The rule of the house, read from the source: imports point down only, within a package none runs in a circle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "deidlib"

# From the ground up. A room imports rooms of lower layers only: none that stands beside it.
LAYERS = (
    ("currency", {"bounded", "faces", "images", "weights"}),
    ("vocabulary", {"geometry", "records", "keys", "nets", "storage"}),
    ("blocks", {"media", "models", "obfuscate", "tracking", "metrics", "visualize"}),
    ("methods", {"attack", "swap", "evaluation"}),
    ("protect", {"protect"}),
    ("elsewhere", {"cluster", "app"}),
    ("people", {"cli"}),
)
FLOOR = {room: floor for floor, (_, rooms) in enumerate(LAYERS) for room in rooms}
# What still breaks the rule: (module, room). The list is to become empty and stay so.
EXCEPTIONS: set[tuple[str, str]] = set()
MOST_ROOMS, MOST_FLOORS = 22, 7

MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


def parse(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports(module: str) -> set[str]:
    """The modules of deidlib that ``module`` imports anywhere, inside functions too: ``models/base``, ``faces`` ..."""
    found = set()
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "deidlib" for alias in node.names), (
                "write `from deidlib.x import y`"
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import; write where it comes from"
            name = node.module or ""
            if name == "deidlib" or name.startswith("deidlib."):
                base = name.removeprefix("deidlib").removeprefix(".").replace(".", "/")
                for alias in node.names:
                    inner = f"{base}/{alias.name}" if base else alias.name
                    found.add(inner if _is_module(inner) else base)
    return found


def _is_module(name: str) -> bool:
    return (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name).is_dir()


def room(module: str) -> str:
    """The file or folder at the root that a module lies in: of ``models/base`` it is ``models``."""
    return module.split("/")[0]


def rooms() -> set[str]:
    return {room(module) for module in MODULES} - {"__init__"}


def arrows() -> dict[str, set[str]]:
    """Per room the other rooms that it imports."""
    graph: dict[str, set[str]] = {name: set() for name in rooms()}
    for module in MODULES:
        if room(module) != "__init__":
            graph[room(module)] |= {room(name) for name in imports(module)} - {room(module)}
    return graph


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """How long the longest chain of imports below each node is; a circle leaves nodes out."""
    level: dict[str, int] = {}
    while ready := [name for name in graph if name not in level and graph[name] <= level.keys()]:
        level |= {name: 1 + max((level[below] for below in graph[name]), default=0) for name in ready}
    return level


def test_every_room_has_its_layer() -> None:
    assert rooms() == set(FLOOR), (
        "add a room to its layer in LAYERS, or, better, put the file into a room that is there"
    )


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_imports_point_down_only(module: str) -> None:
    mine = room(module)
    wrong = {
        other for other in map(room, imports(module)) if other != mine and FLOOR.get(other, len(LAYERS)) >= FLOOR[mine]
    }
    wrong -= {other for name, other in EXCEPTIONS if name == module}
    assert not wrong, f"{module} stands on the floor {LAYERS[FLOOR[mine]][0]!r} and imports {sorted(wrong)}"


def test_exceptions_are_needed() -> None:
    for module, other in EXCEPTIONS:
        assert other in {room(name) for name in imports(module)}, f"{module} imports {other} no more: strike it out"


def test_the_house_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    graph = arrows()
    level = floors(graph)
    assert level.keys() == graph.keys(), f"a circle among the rooms {sorted(graph.keys() - level.keys())}"
    count, height, lines = len(graph), max(level.values()), sum(map(len, graph.values()))
    with capsys.disabled():
        print(f"\n{count} rooms on {height} floors, {lines} arrows between rooms")
    assert count <= MOST_ROOMS
    assert height <= MOST_FLOORS


def test_no_two_modules_import_each_other() -> None:
    # A package's __init__ only hands on what its modules hold.
    graph = {
        module: {name for name in imports(module) if name in MODULES}
        for module in MODULES
        if not module.endswith("__init__")
    }
    level = floors(graph)
    assert level.keys() == graph.keys(), f"a circle of imports among {sorted(graph.keys() - level.keys())}"


def test_the_loop_knows_no_wrapper() -> None:
    for module in ("attack/attacker", "attack/loop", "protect/deidentifier"):
        known = {name for name in imports(module) if room(name) == "models"}
        assert known <= {"models/base", "models/observe", "models/keyed"}, module


def test_wrappers_know_only_the_contract_beside_vocabulary() -> None:
    # Parts of one model may be files of their own.
    parts = {"models/gaze": {"models/equalize"}}
    for module in MODULES:
        if module.startswith("models/") and module.count("/") == 1 and not module.endswith("__init__"):
            known = {name for name in imports(module) if room(name) == "models"}
            assert known <= {"models/base"} | parts.get(module, set()), module


def test_only_the_command_line_prints() -> None:
    for module in MODULES:
        if room(module) == "cli":
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


def test_classes_are_told_by_their_names_alone() -> None:
    # Fingerprints name classes of deidlib without their module, so that a move changes none.
    names: dict[str, str] = {}
    for module in MODULES:
        for node in parse(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert node.name not in names, f"{module} and {names[node.name]} both hold a class {node.name}"
                names[node.name] = module
