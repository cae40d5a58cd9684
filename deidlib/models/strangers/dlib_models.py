"""dlib's detectors, landmarks and recogniser (extra ``[dlib]``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from deidlib.faces import Faces
from deidlib.images import Pixels, to_pixels
from deidlib.models.strangers.net_points import needs_faces
from deidlib.models.strangers.pixel_detector import PixelDetector

_PACKAGE = "face_recognition_models"
# dlib's predictor was trained on boxes of its own detector: squares from the brows to the chin. Of the box of another
# detector, forehead to chin, that is about this: how far down the square begins, and its side, as shares of the height.
_SQUARE_TOP, _SQUARE_SIDE = 0.165, 0.79


class DlibHOG(PixelDetector):
    """dlib's frontal face detector: a linear classifier of gradient histograms (Dalal and Triggs, 2005), five views.

    It reads what a file would hold: frames are rounded to uint8 first. Needs ``pip install deidlib[dlib]``.

    Args:
        upsample: how many times the frame is doubled first; without it no face below 80 pixels is found.
        adjust: added to its threshold: above 0 it finds less.

    Raises:
        ModuleNotFoundError: dlib is not installed.
    """

    name: ClassVar[str] = "dlib-hog"

    def __init__(self, *, upsample: int = 1, adjust: float = 0.0) -> None:
        self._detector: Any = _dlib().get_frontal_face_detector()
        self._upsample, self._adjust = upsample, adjust

    def find(self, frame: Pixels) -> Faces:
        """Boxes and scores of one frame; a score is the sigmoid of the distance from its plane."""
        boxes, scores, _ = self._detector.run(frame, self._upsample, self._adjust)
        return _faces(boxes, torch.tensor(list(scores)).sigmoid())


class DlibCNN(PixelDetector):
    """dlib's detector by a small network and a margin (King, Max-Margin Object Detection, arXiv 1502.00046).

    It reads what a file would hold: frames are rounded to uint8 first. Needs ``pip install deidlib[dlib]``, and
    seconds for a frame.

    Args:
        weights: dlib's file; the one in ``face_recognition_models`` if not given.
        upsample: how many times the frame is doubled first.

    Raises:
        FileNotFoundError: the file is not there.
        ModuleNotFoundError: dlib or the package of its models is not installed.
    """

    name: ClassVar[str] = "dlib-cnn"

    def __init__(self, weights: str | Path | None = None, *, upsample: int = 0) -> None:
        path = weights or _model("mmod_human_face_detector.dat")
        self._detector: Any = _dlib().cnn_face_detection_model_v1(_file(path))
        self._upsample = upsample

    def find(self, frame: Pixels) -> Faces:
        """Boxes and scores of one frame; a score is the sigmoid of dlib's confidence."""
        rows = list(self._detector(frame, self._upsample))
        return _faces([row.rect for row in rows], torch.tensor([row.confidence for row in rows]).sigmoid())


class DlibPoints:
    """dlib's 68 landmarks, by trees (Kazemi and Sullivan, CVPR 2014), of faces that a detector has found.

    It reads what a file would hold: frames are rounded to uint8 first. Needs ``pip install deidlib[dlib]``.

    Args:
        weights: dlib's file; the one in ``face_recognition_models`` if not given.

    Raises:
        FileNotFoundError: the file is not there.
        ModuleNotFoundError: dlib or the package of its models is not installed.
    """

    task: ClassVar[Literal["boxes", "landmarks", "gaze"]] = "landmarks"
    name: ClassVar[str] = "dlib-points"

    def __init__(self, weights: str | Path | None = None) -> None:
        path = weights or _model("shape_predictor_68_face_landmarks.dat")
        self._predictor: Any = _dlib().shape_predictor(_file(path))

    def predict(self, images: Tensor, faces: Sequence[Faces] | None = None) -> list[Faces]:
        """``faces`` with their 68 landmarks, in pixels.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1].
            faces: B entries, the faces that a detector has found; boxes from forehead to chin, as most give.

        Raises:
            TypeError, ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
        """
        read = []
        for frame, known in zip(to_pixels(images), needs_faces(self, images, faces), strict=True):
            points = known.boxes.new_zeros(len(known), 68, 2)
            for row, box in enumerate(_squares(known.boxes).round().long().tolist()):
                shape = self._predictor(frame, _dlib().rectangle(*box))
                points[row] = known.boxes.new_tensor([(part.x, part.y) for part in shape.parts()])
            # dlib names a pixel by its number, which is half a pixel from its corner.
            read.append(known.replace(landmarks=points + 0.5))
        return read


class DlibRecogniser:
    """dlib's recogniser: two faces are one person's if their vectors are less than 0.6 apart (99.4 % on LFW).

    It aligns faces in its own way, which shows more of the chin than :func:`deidlib.metrics.align`, so it takes frames
    and 68 points. Needs ``pip install deidlib[dlib]``.

    Args:
        weights: dlib's file; the one in ``face_recognition_models`` if not given.

    Raises:
        FileNotFoundError: the file is not there.
        ModuleNotFoundError: dlib or the package of its models is not installed.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        path = weights or _model("dlib_face_recognition_resnet_model_v1.dat")
        self._net: Any = _dlib().face_recognition_model_v1(_file(path))

    def __call__(self, images: Tensor, faces: Sequence[Faces]) -> Tensor:
        """Vectors of all frames' faces, ``(F, 128)``; the distance of two is Euclid's.

        Args:
            images: ``(B, 3, H, W)`` RGB in [0, 1]; rounded to uint8 first.
            faces: B entries with 68 landmarks. They need not be read on ``images``: the original's points give an
                attacker the best case.

        Raises:
            TypeError, ValueError: images are no valid batch, or faces have no 68 landmarks.
        """
        vectors = [images.new_zeros(0, 128)]
        for frame, known in zip(to_pixels(images), needs_faces(self, images, faces), strict=True):
            if not len(known):
                continue
            if known.landmarks is None or known.landmarks.shape[1] != 68:
                raise ValueError("DlibRecogniser needs 68 landmarks: run DlibPoints().predict(images, faces) first.")
            for box, points in zip(known.boxes, known.landmarks, strict=True):
                vectors.append(images.new_tensor([list(self._vector(frame, box, points))]))
        return torch.cat(vectors)

    def _vector(self, frame: Pixels, box: Tensor, points: Tensor) -> Any:
        dlib = _dlib()
        whole = (points - 0.5).round().long().tolist()
        shape = dlib.full_object_detection(
            dlib.rectangle(*box.round().long().tolist()), [dlib.point(x, y) for x, y in whole]
        )
        return self._net.compute_face_descriptor(frame, shape)


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise ModuleNotFoundError("dlib is not installed. Run `pip install deidlib[dlib]`.") from error
    return dlib


def _model(name: str) -> Path:
    # Looked up without being imported: the package wants pkg_resources, which setuptools has dropped.
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{name} is in the package {_PACKAGE}, which is not installed. Run `pip install deidlib[dlib]`."
        )
    return Path(found.submodule_search_locations[0]) / "models" / name


def _file(path: str | Path) -> str:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model of dlib's at {str(path)!r}.")
    return str(path)


def _faces(boxes: Sequence[Any], scores: Tensor) -> Faces:
    """dlib's rectangles name the last pixel, not the edge behind it."""
    corners = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in boxes]
    return Faces(torch.tensor(corners, dtype=torch.float32).reshape(-1, 4), scores)


def _squares(boxes: Tensor) -> Tensor:
    """From other detectors' boxes to squares such as dlib's own detector finds, ``(N, 4)``."""
    side = (boxes[:, 3] - boxes[:, 1]) * _SQUARE_SIDE
    middle, top = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * _SQUARE_TOP
    return torch.stack([middle - side / 2, top, middle + side / 2, top + side], dim=1)
