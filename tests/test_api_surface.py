from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import deidlib
from deidlib import metrics

# A name more or less here is a decision about what users may rely on. At most thirty: what fewer need comes from the
# packages.
MOST = 30
PUBLIC = [
    "APGDStep",
    "AttackResult",
    "Deidentifier",
    "FAN",
    "Faces",
    "GaussianBlur",
    "GazeResNet",
    "GradientNorm",
    "IFGSMAttacker",
    "Key",
    "Keyed",
    "MTCNN",
    "MomentumSignStep",
    "Pixelate",
    "RetinaFace",
    "SignStep",
    "Solid",
    "Target",
    "TargetModel",
    "Chain",
    "WarpSwapper",
    "frame_mean",
    "from_pixels",
    "observe",
    "protect_image",
    "protect_video",
    "read_image",
    "recommended",
    "to_pixels",
    "write_image",
]
OF_PACKAGES = {
    "attack": [
        *("APGDStep", "Aggregator", "AttackResult", "Blur", "ChromaSubsampling", "Distortion", "GradientNorm", "H264"),
        *("IFGSMAttacker", "JPEG", "Losses", "MomentumSignStep", "OptimizerStep", "ReadingError", "SignStep", "Staged"),
        *("StepRule", "StepState", "Tolerance"),
        *("Sum", "Chain", "recommended", "recommended_detectors", "recommended_chain"),
    ],
    "geometry": ["Camera", "FaceRegion", "angles_to_vectors", "crop_resize", "iou"],
    "media": [
        "MediaError",
        "MediaReadError",
        "MediaWriteError",
        "VideoReader",
        "VideoWriter",
        "read_image",
        "write_image",
    ],
    "models": [
        *("Target", "TargetModel", "frame_mean", "frame_of", "observe", "observe_each", "read_originals", "rows_of"),
    ],
    "protect": [
        *("Check", "Deidentifier", "FileResult", "FolderSummary", "NoFaceError", "Output", "ProtectedBatch", "Sidecar"),
        *(
            "Summary",
            "protect_file",
            "recommended_deidentifier",
            "protect_folder",
            "protect_image",
            "protect_video",
            "with_key",
        ),
    ],
    "swap": ["FaceSwapper", "WarpSwapper", "average_face", "steady"],
}
# They take whatever they are given.
NEVER_RAISE = {"AttackResult", "GradientNorm", "MTCNN", "TargetModel", "frame_mean", "to_pixels"}
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
    assert list(deidlib.__all__) == [*PUBLIC, "__version__"]
    assert dir(deidlib) == sorted(deidlib.__all__)
    assert len(PUBLIC) <= MOST


@pytest.mark.parametrize("name", PUBLIC)
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


@pytest.mark.parametrize("name", PUBLIC)
def test_every_docstring_says_what_comes_what_goes_wrong_and_how_it_is_used(name: str) -> None:
    thing = getattr(deidlib, name)
    said = inspect.getdoc(thing) or ""
    assert "\nExample:\n    >>> " in said
    assert ("\nRaises:\n" in said) == (name not in NEVER_RAISE)
    # A class is called with what its constructor takes; of an abstract one a subclass is.
    taken = [] if inspect.isabstract(thing) else list(inspect.signature(thing).parameters)
    missing = [argument for argument in taken if f"\n    {argument}: " not in said]
    assert not missing, f"{name} does not say what {missing} are"


@pytest.mark.parametrize("package", OF_PACKAGES)
def test_packages_hand_on_what_their_users_need(package: str) -> None:
    module = import_module(f"deidlib.{package}")
    for name in OF_PACKAGES[package]:
        thing = getattr(module, name)
        assert thing.__doc__
        assert thing.__module__.startswith(f"deidlib.{package}.")
        if name in PUBLIC:
            assert getattr(deidlib, name) is thing


@pytest.mark.parametrize(("package", "homes"), [(deidlib, deidlib._HOME), (metrics, metrics._COUNTING)])
def test_what_type_checkers_see_is_what_runs(package: ModuleType, homes: Mapping[str, str]) -> None:
    source = Path(inspect.getfile(package)).read_text(encoding="utf-8")
    (unseen,) = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    assert ast.unparse(unseen.test) == "TYPE_CHECKING"
    seen = {
        alias.asname: str(node.module)
        for node in unseen.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == {name: f"{package.__name__}.{home}" for name, home in homes.items()}
    for name in homes:
        assert getattr(package, name).__name__ == name


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


def test_finding_and_checking_faces_loads_neither_torchvision_nor_torchmetrics_nor_the_package_of_weights() -> None:
    # Each takes as long as torch, in every worker; only torchvision's library of operators is loaded.
    code = (
        "import torch; from deidlib import MTCNN, Faces; from deidlib.protect.readback import ReadbackComparison; "
        "model, images = MTCNN(), torch.rand(1, 3, 40, 40); model.predict(images); "
        "file = ReadbackComparison({'mtcnn': model}, 0.9); "
        "file.update(images, [0], [{'mtcnn': Faces(torch.tensor([[5., 5., 35., 35.]]), torch.ones(1))}]); "
        "assert file.compute(0).models['mtcnn'].faces == 1"
    )
    assert _loaded(code, ["torchvision", "torch._dynamo", "facenet_pytorch", *LATE]) == ""


def test_using_every_name_loads_no_package_of_one_block_alone() -> None:
    assert _loaded("from deidlib import *", LATE) == ""
