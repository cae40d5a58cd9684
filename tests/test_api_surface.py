from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import deidlib

# A name more or less here is a decision about what users may rely on.
PUBLIC = [
    "AttackResult",
    "APGDStep",
    "BoxBlur",
    "Deidentifier",
    "FAN",
    "FaceRegion",
    "FaceSwapper",
    "Faces",
    "GaussianBlur",
    "GazeResNet",
    "GradientNorm",
    "IFGSMAttacker",
    "Key",
    "Keyed",
    "MTCNN",
    "MediaError",
    "MomentumSignStep",
    "OptimizerStep",
    "Pixelate",
    "RetinaFace",
    "SignStep",
    "Solid",
    "Staged",
    "StepRule",
    "Sum",
    "Target",
    "TargetModel",
    "VideoReader",
    "VideoWriter",
    "WarmStart",
    "WarpSwapper",
    "observe",
    "read_image",
    "write_image",
    "__version__",
]
# Imported inside the functions that need them, so that one that is missing or slow hurts nobody else.
LATE = [
    "av",
    "cryptography",
    "cv2",
    "face_alignment",
    "facenet_pytorch",
    "kornia",
    "onnxruntime",
    "pooch",
    "torchmetrics",
]


def test_the_public_names_are_these() -> None:
    assert list(deidlib.__all__) == PUBLIC
    assert dir(deidlib) == sorted(PUBLIC)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_every_name_is_there_and_documented(name: str) -> None:
    thing = getattr(deidlib, name)
    assert thing.__name__ == name
    assert thing.__module__ == f"deidlib.{deidlib._HOME[name]}"
    # inspect.getdoc would take a base class's, and dataclass writes a signature where there is none.
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}(")
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and callable(value):
                assert inspect.getdoc(value), f"{name}.{member} has no docstring"


def test_what_type_checkers_see_is_what_runs() -> None:
    source = Path(inspect.getfile(deidlib)).read_text(encoding="utf-8")
    seen = {
        alias.asname: str(node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == {name: f"deidlib.{home}" for name, home in deidlib._HOME.items()}


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'IFGSMAtacker'"):
        getattr(deidlib, "IFGSMAtacker")  # noqa: B009


def _loaded(code: str, packages: list[str]) -> str:
    code = f"import sys; {code}; print(*[name for name in {packages!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_importing_loads_nothing_heavy_and_warns_of_nothing() -> None:
    assert _loaded("import deidlib", ["numpy", "torch", "torchvision", *LATE]) == ""


def test_using_every_name_loads_no_package_of_one_block_alone() -> None:
    assert _loaded("from deidlib import *", LATE) == ""
