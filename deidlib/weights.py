"""Checkpoints: where each comes from, what it must hash to, what its net expects, and how to get it.

A checkpoint is looked for in this order: the path that the caller gives, the folder named by
``DEIDLIB_WEIGHTS``, the cache (``DEIDLIB_CACHE``, or the system's cache folder), and last its published
address. Nothing is loaded whose hash is not the one on record.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

_FOLDER_VARIABLE = "DEIDLIB_WEIGHTS"
_CACHE_VARIABLE = "DEIDLIB_CACHE"
_SUFFIXES = (".pth", ".pt", ".tar", ".zip", ".onnx", ".ckpt", ".bin", ".safetensors")


class WeightsNotFound(FileNotFoundError):
    """A checkpoint is in none of the folders and could not be downloaded."""


class CorruptWeights(ValueError):
    """A file is not the checkpoint that it should be, or no checkpoint at all."""


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Args:
        name: what code and the command line call it.
        file: its file name, in a folder of weights as in the cache.
        url: where it is downloaded from; ``None``: only by hand, from ``origin``.
        sha256: hash of the file.
        sha256_prefix: the first digits of it, where no more is known; of the file or, if that is a zip
            archive, of what is in it.
        git_blob: git's id of the content, ``sha1(b"blob <size>\\0" + content)``, where that is known.
        licence: of the weights, and what is known to restrict their training data.
        paper: what to cite.
        origin: the page that publishes it.
        conventions: what a net must be given and how to read it with these weights. Images are described
            by ``channels`` ("RGB", "BGR", "grey"), ``scale`` (the value of white, 1 or 255), ``mean`` and
            ``std`` (per channel in that order and scale) and ``size`` (height, width).
    """

    name: str
    file: str
    url: str | None
    sha256: str | None = None
    sha256_prefix: str | None = None
    git_blob: str | None = None
    licence: str = ""
    paper: str = ""
    origin: str = ""
    conventions: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "conventions", MappingProxyType(dict(self.conventions)))

    @property
    def pinned(self) -> bool:
        """Whether a hash of the published file is known."""
        return bool(self.sha256 or self.sha256_prefix or self.git_blob)


@dataclass(frozen=True)
class Status:
    """What is known about a checkpoint on this machine.

    Args:
        checkpoint: which.
        path: where it was found, ``None`` if nowhere.
        state: ``"missing"``; ``"verified"``: its hash is the published one; ``"recorded"``: no hash is
            published, and it is the file that was first downloaded; ``"unknown"``: no hash is published or
            recorded; ``"mismatch"``: it is another file, and would be refused.
    """

    checkpoint: Checkpoint
    path: Path | None
    state: Literal["missing", "verified", "recorded", "unknown", "mismatch"]


_IMAGENET = MappingProxyType(
    {"channels": "RGB", "scale": 1, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
)
_RETINAFACE = MappingProxyType(
    {
        "channels": "BGR",
        "scale": 255,
        "mean": (104.0, 117.0, 123.0),
        "std": (1.0, 1.0, 1.0),
        "anchors": ((16, 32), (64, 128), (256, 512)),
        "strides": (8, 16, 32),
        "variances": (0.1, 0.2),
    }
)
_RETINAFACE_PAPER = "Deng et al., RetinaFace: Single-stage Dense Face Localisation in the Wild, arXiv:1905.00641"
_COSEGMENTATION = MappingProxyType(
    # Trained with torch 1.0, whose grid_sample meant corners on corners.
    {"channels": "RGB", "scale": 1, "size": (256, 256), "align_corners": True}
)
_COSEGMENTATION_PAPER = "Siarohin et al., Motion-supervised Co-Part Segmentation, ICPR 2020, arXiv:2004.03234"
_COSEGMENTATION_ORIGIN = (
    "https://drive.google.com/open?id=1SsBifjoM_qO0iFzb8wLlsz_4qW2j8dZe, "
    "see https://github.com/AliaksandrSiarohin/motion-cosegmentation"
)
_RAW = "https://raw.githubusercontent.com"

# Addresses of files in repositories name the commit, so that the content behind them cannot change.
CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType(
    {
        checkpoint.name: checkpoint
        for checkpoint in (
            Checkpoint(
                name="retinaface_mobilenet0.25",
                file="retinaface_mobilenet0.25.pth",
                url=f"{_RAW}/cunjian/pytorch_face_landmark/6f34bf9f034aa2f521952f825e6ccc567deb42d6/"
                "Retinaface/weights/mobilenet0.25_Final.pth",
                sha256="5f88f7957d9eaef82b49b9e0202bc56e97292e2aede2999209accd34442cc4df",
                licence="MIT",
                paper=_RETINAFACE_PAPER,
                origin="https://github.com/biubug6/Pytorch_Retinaface",
                conventions={**_RETINAFACE, "backbone": "mobilenet0.25", "negative_slope": 0.1},
            ),
            # Same layers as the one above, and it loads into its net without complaint: only with its own
            # anchors and plain ReLU does it read faces.
            Checkpoint(
                name="retinaface_mobilenet0.25_1mb",
                file="retinaface_mobilenet0.25_1mb.pth",
                url=f"{_RAW}/biubug6/Face-Detector-1MB-with-landmark/2b075657aef954b9426f938ac7fce100b6910fe6/"
                "weights/mobilenet0.25_Final.pth",
                sha256="ed6fa7d45a5179f03cb5ce82c73b0c6711372968e53782e88395acee88d319e1",
                licence="MIT",
                paper=_RETINAFACE_PAPER,
                origin="https://github.com/biubug6/Face-Detector-1MB-with-landmark",
                conventions={
                    **_RETINAFACE,
                    "anchors": ((10, 20), (32, 64), (128, 256)),
                    "backbone": "mobilenet0.25",
                    "negative_slope": 0.0,
                },
            ),
            Checkpoint(
                name="retinaface_resnet50",
                file="retinaface_resnet50_2020-07-20-f168fae3c.zip",
                url="https://github.com/ternaus/retinaface/releases/download/0.01/"
                "retinaface_resnet50_2020-07-20-f168fae3c.zip",
                sha256_prefix="f168fae3c",
                licence="MIT",
                paper=_RETINAFACE_PAPER,
                origin="https://github.com/ternaus/retinaface",
                conventions={
                    **_RETINAFACE,
                    "channels": "RGB",
                    "mean": (123.675, 116.28, 103.53),  # ImageNet's, times 255
                    "std": (58.395, 57.12, 57.375),
                    "backbone": "resnet50",
                    "negative_slope": 0.0,
                },
            ),
            # The release of facexlib holds the weights that biubug6 published on a file sharing site.
            Checkpoint(
                name="retinaface_resnet50_biubug6",
                file="detection_Resnet50_Final.pth",
                url="https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
                sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
                licence="MIT",
                paper=_RETINAFACE_PAPER,
                origin="https://github.com/biubug6/Pytorch_Retinaface",
                conventions={**_RETINAFACE, "backbone": "resnet50", "negative_slope": 0.0},
            ),
            Checkpoint(
                name="2dfan4",
                file="2DFAN4-11f355bf06.pth.tar",
                url="https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
                sha256="11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
                licence="BSD-3-Clause",
                paper="Bulat and Tzimiropoulos, How far are we from solving the 2D & 3D Face Alignment problem?, "
                "ICCV 2017, arXiv:1703.07332",
                origin="https://github.com/1adrianb/face-alignment",
                conventions={"channels": "RGB", "scale": 1, "size": (256, 256), "modules": 4},
            ),
            Checkpoint(
                name="mpiigaze",
                file="mpiigaze_resnet_preact.pth",
                url="https://github.com/hysts/pytorch_mpiigaze_demo/releases/download/v0.1.0/"
                "mpiigaze_resnet_preact.pth",
                sha256="93e82f852b1c2d5bc5ca2228c87561fec6743cb17adec698eb57491cbcaf13ed",
                licence="MIT; trained on MPIIGaze (CC BY-NC-SA 4.0)",
                paper="Zhang et al., MPIIGaze: Real-World Dataset and Deep Appearance-Based Gaze Estimation, "
                "TPAMI 2019, arXiv:1711.09017",
                origin="https://github.com/hysts/pytorch_mpiigaze_demo",
                conventions={
                    "channels": "grey",
                    "equalised": True,
                    "scale": 1,
                    "size": (36, 60),
                    "focal_length": 960.0,
                    "distance": 0.6,
                    "input": "eye patch, the subject's right eye mirrored; head pose (pitch, yaw)",
                    "output": ("pitch", "yaw"),
                },
            ),
            Checkpoint(
                name="mpiifacegaze",
                file="mpiifacegaze_resnet_simple.pth",
                url="https://github.com/hysts/pytorch_mpiigaze_demo/releases/download/v0.1.0/"
                "mpiifacegaze_resnet_simple.pth",
                git_blob="c646e03b7dad533c512b12c25f30326b2c826f67",
                licence="MIT; trained on MPIIFaceGaze (CC BY-NC-SA 4.0)",
                paper="Zhang et al., It's Written All Over Your Face: Full-Face Appearance-Based Gaze Estimation, "
                "CVPRW 2017, arXiv:1611.08860",
                origin="https://github.com/hysts/pytorch_mpiigaze_demo",
                conventions={
                    "channels": "BGR",
                    "scale": 1,
                    "mean": (0.406, 0.456, 0.485),
                    "std": (0.225, 0.224, 0.229),
                    "size": (224, 224),
                    "focal_length": 1600.0,
                    "distance": 1.0,
                    "output": ("pitch", "yaw"),
                },
            ),
            Checkpoint(
                name="eth_xgaze",
                file="eth-xgaze_resnet18.pth",
                url="https://github.com/hysts/pytorch_mpiigaze_demo/releases/download/v0.2.2/eth-xgaze_resnet18.pth",
                git_blob="45d86ff2a27f5f75a0c4e10f9d755d4c6d1ed915",
                licence="MIT; trained on ETH-XGaze (CC BY-NC-SA 4.0)",
                paper="Zhang et al., ETH-XGaze: A Large Scale Dataset for Gaze Estimation under Extreme Head Pose "
                "and Gaze Variation, ECCV 2020, arXiv:2007.15837",
                origin="https://github.com/hysts/pytorch_mpiigaze_demo",
                conventions={
                    **_IMAGENET,
                    "size": (224, 224),
                    "focal_length": 960.0,
                    "distance": 0.6,
                    "output": ("pitch", "yaw"),
                },
            ),
            Checkpoint(
                name="mobilefacenet",
                file="mobilefacenet_112.onnx",
                url=f"{_RAW}/foamliu/MobileFaceNet/a6cc9032a659b615f477833e1a70b5e7931bcccc/weights/MobileFaceNet.onnx",
                sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
                licence="Apache-2.0",
                paper="Chen et al., MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on "
                "Mobile Devices, CCBR 2018, arXiv:1804.07573",
                origin="https://github.com/foamliu/MobileFaceNet",
                conventions={**_IMAGENET, "size": (112, 112), "aligned": "ArcFace, five points", "embedding": 128},
            ),
            Checkpoint(
                name="inception_resnet_v1",
                file="20180402-114759-vggface2.pt",
                url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
                sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
                licence="MIT",
                paper="Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015, "
                "arXiv:1503.03832; Cao et al., VGGFace2, FG 2018, arXiv:1710.08092",
                origin="https://github.com/timesler/facenet-pytorch",
                conventions={
                    "channels": "RGB",
                    "scale": 255,
                    "mean": (127.5, 127.5, 127.5),
                    "std": (128.0, 128.0, 128.0),
                    "size": (160, 160),
                    "embedding": 512,
                },
            ),
            Checkpoint(
                name="pfld",
                file="pfld_68.onnx",
                url=f"{_RAW}/cunjian/pytorch_face_landmark/6f34bf9f034aa2f521952f825e6ccc567deb42d6/onnx/pfld.onnx",
                sha256="7d7bbd5c6a1d9272e58d9773898284a1905d872eba9a662df9b5f20f1ba6f83e",
                licence="not stated by its publisher",
                paper="Guo et al., PFLD: A Practical Facial Landmark Detector, arXiv:1902.10859",
                origin="https://github.com/cunjian/pytorch_face_landmark",
                conventions={"channels": "RGB", "scale": 1, "size": (112, 112), "landmarks": 68},
            ),
            Checkpoint(
                name="yunet",
                file="yunet_n_320_320.onnx",
                url=f"{_RAW}/ShiqiYu/libfacedetection.train/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/"
                "onnx/yunet_n_320_320.onnx",
                sha256="81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
                licence="Apache-2.0",
                paper="Wu et al., YuNet: A Tiny Millisecond-level Face Detector, Machine Intelligence Research 2023",
                origin="https://github.com/ShiqiYu/libfacedetection.train",
                conventions={"channels": "BGR", "scale": 255, "size": (320, 320)},
            ),
            Checkpoint(
                name="bisenet",
                file="79999_iter.pth",
                url=f"{_RAW}/kaylode/mediaeval21-drsf/7efe5031ed54936dc54e526a10a884c63fafcd30/"
                "face-swap/face_parsing/cp/79999_iter.pth",
                git_blob="a125015ae1683490d4e23d15295b1a4e7cb829d2",
                licence="MIT; trained on CelebAMask-HQ (non-commercial research only)",
                paper="Yu et al., BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation, "
                "ECCV 2018, arXiv:1808.00897",
                origin="https://github.com/zllrunning/face-parsing.PyTorch",
                conventions={**_IMAGENET, "size": (512, 512), "classes": 19},
            ),
            # One shared folder that only a browser opens. Nobody publishes a hash of these files.
            Checkpoint(
                name="cosegmentation_vox_first_order",
                file="vox-first-order.pth.tar",
                url=None,
                licence="CC BY-NC 4.0",
                paper=f"{_COSEGMENTATION_PAPER}; Siarohin et al., First Order Motion Model for Image Animation, "
                "NeurIPS 2019, arXiv:2003.00196",
                origin=_COSEGMENTATION_ORIGIN,
                conventions={**_COSEGMENTATION, "parts": 10, "motion": "first-order", "needs_parser": True},
            ),
            *(
                Checkpoint(
                    name=f"cosegmentation_vox_{parts}segments",
                    file=f"vox-{parts}segments.pth.tar",
                    url=None,
                    licence="CC BY-NC 4.0",
                    paper=_COSEGMENTATION_PAPER,
                    origin=_COSEGMENTATION_ORIGIN,
                    conventions={**_COSEGMENTATION, "parts": parts, "motion": "segments", "needs_parser": False},
                )
                for parts in (5, 10, 15)
            ),
        )
    }
)
"""Every checkpoint that deidlib knows, by name."""


def checkpoint(name: str) -> Checkpoint:
    """The table's entry for a name, in any case and with ``-`` or ``_``.

    Raises:
        ValueError: there is none; the message lists the names.

    Example:
        >>> checkpoint("ETH-XGaze").file
        'eth-xgaze_resnet18.pth'
    """
    found = _by_name(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), list(CHECKPOINTS), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"no weights are called {name!r}.{hint} Known names: {', '.join(CHECKPOINTS)}. "
            "For a file of your own give its path."
        )
    return found


def find(name_or_path: str | Path) -> Path:
    """The file of a checkpoint, downloaded if it is nowhere on this machine, with its hash verified.

    Args:
        name_or_path: a name of :data:`CHECKPOINTS`, or the path of a file, which is taken as it is.

    Raises:
        ValueError: neither a known name nor a path.
        WeightsNotFound: no such file; or no network, and then the message says what to put where.
        CorruptWeights: the file is not the published one. In the cache it is removed, elsewhere left alone.
    """
    wanted = _by_name(name_or_path) if isinstance(name_or_path, str) else None
    if wanted is None:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
        if isinstance(name_or_path, str) and path.name == name_or_path and path.suffix not in _SUFFIXES:
            checkpoint(name_or_path)
        raise WeightsNotFound(
            f"no weights file at {str(name_or_path)!r}. Give an existing file or one of: {', '.join(CHECKPOINTS)}."
        )
    path = locate(wanted.name) or _fetch(wanted)
    state = _state(wanted, path)
    if state == "mismatch":
        raise CorruptWeights(_refuse(wanted, path))
    if state == "unknown" and path.parent == cache_folder():
        # Nobody publishes a hash: later readers at least get what the first one got.
        with contextlib.suppress(OSError):  # a cache that is shared and read-only
            _record_of(path).write_text(f"{_digests(path).sha256}  {path.name}\n")
    return path


def locate(name: str) -> Path | None:
    """Where a checkpoint is on this machine, ``None`` if it is not; nothing is downloaded or verified.

    Raises:
        ValueError: unknown name.
        WeightsNotFound: ``DEIDLIB_WEIGHTS`` names no folder.
    """
    file = checkpoint(name).file
    for folder in (weights_folder(), cache_folder()):
        if folder is not None and (folder / file).is_file():
            return folder / file
    return None


def weights_folder() -> Path | None:
    """The user's own folder of weights, from ``DEIDLIB_WEIGHTS``; ``None`` if not set.

    Raises:
        WeightsNotFound: the variable names no folder.
    """
    value = os.environ.get(_FOLDER_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise WeightsNotFound(f"{_FOLDER_VARIABLE} is {value!r}, which is no folder. Correct or unset the variable.")
    return folder


def cache_folder() -> Path:
    """Where downloads are kept: ``DEIDLIB_CACHE``, or ``deidlib`` in the system's cache folder."""
    value = os.environ.get(_CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    import pooch

    return Path(pooch.os_cache("deidlib"))


def status(name: str) -> Status:
    """Where a checkpoint is and whether it is the published one; nothing is downloaded or removed.

    Raises:
        ValueError: unknown name.
    """
    wanted, path = checkpoint(name), locate(name)
    return Status(wanted, path, "missing" if path is None else _state(wanted, path))


def checkpoint_of(path: str | Path) -> Checkpoint | None:
    """Which known checkpoint a file is, by its hash, whatever its name; ``None`` if it is none.

    A file that no hash is published for is known by its name and the hash recorded at its download.

    Raises:
        WeightsNotFound: no such file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsNotFound(f"no weights file at {str(path)!r}.")
    for known in CHECKPOINTS.values():
        state = _state(known, path)
        if state == "verified" or (state == "recorded" and path.name == known.file):
            return known
    return None


def load(name_or_path: str | Path) -> Any:
    """What is in a checkpoint, on the CPU. Only tensors and plain containers are read, never code.

    Raises:
        ValueError, WeightsNotFound: as :func:`find`.
        CorruptWeights: the file is no checkpoint, is cut short, or holds more than data.
    """
    path = find(name_or_path)
    try:
        return torch.load(_content(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with open(path, "rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        if not is_pickle:
            raise CorruptWeights(f"{path} is no file of PyTorch weights. Get it again, or give another one.") from error
        raise CorruptWeights(
            f"{path} holds more than tensors, and deidlib runs no code from weight files. If you trust where it "
            "comes from, save its state dict once: "
            f"torch.save(torch.load({path.name!r}, weights_only=False).state_dict(), 'new.pth')."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CorruptWeights(
            f"{path} cannot be read as PyTorch weights: it is cut short or another kind of file ({error}). "
            "Get it again."
        ) from error


def load_state(name_or_path: str | Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, on the CPU.

    It may lie under ``state_dict``, ``model`` or ``model_state``, and its keys may carry the ``module.`` of
    ``DataParallel``: both are taken off.

    Raises:
        ValueError, WeightsNotFound: as :func:`find`.
        CorruptWeights: as :func:`load`, or the file holds something else than a state dict.
    """
    state = load(name_or_path)
    for key in ("state_dict", "model", "model_state"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        found = f"keys {list(state)[:5]}" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise CorruptWeights(
            f"{name_or_path} holds no state dict (names and tensors), found {found}. "
            "Save one: torch.save(net.state_dict(), 'new.pth')."
        )
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _by_name(name: str) -> Checkpoint | None:
    return CHECKPOINTS.get(name.lower().replace("-", "_"))


# --- hashes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Digests:
    sha256: str
    git_blob: str
    member_sha256: str | None  # of the one file in a zip archive


def _digests(path: Path) -> _Digests:
    stat = path.stat()
    return _digests_once(str(path.resolve()), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _digests_once(path: str, mtime: int, size: int) -> _Digests:
    """Hashes of a file, computed once per process for as long as time stamp and size stay the same."""
    sha256, git_blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            git_blob.update(block)
    member = _single_member(Path(path))
    if member is None:
        return _Digests(sha256.hexdigest(), git_blob.hexdigest(), None)
    inner = hashlib.sha256()
    with zipfile.ZipFile(path) as archive, archive.open(member) as content:
        while block := content.read(1 << 20):
            inner.update(block)
    return _Digests(sha256.hexdigest(), git_blob.hexdigest(), inner.hexdigest())


def _state(wanted: Checkpoint, path: Path) -> Literal["verified", "recorded", "unknown", "mismatch"]:
    digests = _digests(path)
    if wanted.pinned:
        fits = (
            (wanted.sha256 is None or digests.sha256 == wanted.sha256)
            and (wanted.git_blob is None or digests.git_blob == wanted.git_blob)
            and (
                wanted.sha256_prefix is None
                or digests.sha256.startswith(wanted.sha256_prefix)
                or (digests.member_sha256 or "").startswith(wanted.sha256_prefix)
            )
        )
        return "verified" if fits else "mismatch"
    record = _record_of(path)
    if not record.is_file():
        return "unknown"
    return "recorded" if record.read_text().split()[:1] == [digests.sha256] else "mismatch"


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _refuse(wanted: Checkpoint, path: Path) -> str:
    """Remove a wrong file if it is ours to remove, and say what happened."""
    digests = _digests(path)
    if wanted.sha256:
        expected, got = f"sha256 {wanted.sha256}", digests.sha256
    elif wanted.git_blob:
        expected, got = f"git blob {wanted.git_blob}", digests.git_blob
    elif wanted.sha256_prefix:
        expected, got = f"sha256 beginning with {wanted.sha256_prefix}", digests.sha256
    else:
        recorded = _record_of(path).read_text().split()[:1]
        expected, got = f"sha256 {' '.join(recorded)} as first downloaded", digests.sha256
    message = f"{path} is not {wanted.name}: expected {expected}, got {got}."
    if path.parent == cache_folder():
        path.unlink(missing_ok=True)
        return f"{message} The file was corrupt or has been exchanged; it was removed: try again to download it."
    return f"{message} Replace the file, or remove it to have it downloaded from {wanted.url or wanted.origin}."


def _single_member(path: Path) -> zipfile.ZipInfo | None:
    """The one file in a zip archive. PyTorch's own format is a zip as well, but of many files."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
    return files[0] if len(files) == 1 else None


def _content(path: Path) -> Path | io.BytesIO:
    """What torch.load is to read: the file, or what a zip archive around it holds."""
    member = _single_member(path)
    if member is None:
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(member))


# --- download ---------------------------------------------------------------------------------------------


def _fetch(wanted: Checkpoint) -> Path:
    """Download into the cache; the caller verifies."""
    cache = cache_folder()
    cause: Exception | None = None
    if wanted.url is not None:
        try:
            _download(wanted.url, cache / wanted.file)
            return cache / wanted.file
        except (OSError, ValueError) as error:  # requests' exceptions are OSErrors
            cause = error
    tried = f"could not be downloaded ({cause})" if cause else "cannot be downloaded by a program"
    raise WeightsNotFound(
        f"the weights {wanted.name} ({wanted.file}) are not on this machine and {tried}. "
        f"Get the file from {wanted.url or wanted.origin} and put it, under that name, into "
        f"{weights_folder() or cache}, or into a folder that the environment variable {_FOLDER_VARIABLE} names."
    ) from cause


def _download(url: str, path: Path) -> None:
    """Download with a progress bar and retries; ``path`` appears only when complete."""
    import pooch

    registry = pooch.create(
        path.parent, base_url="", registry={path.name: None}, urls={path.name: url}, retry_if_failed=2
    )
    registry.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=True))
