"""What is run on a pretended accelerator: work of every kind, and how often it may wait for the device and send to it.

A case is told a :class:`Scene`, makes what it needs, and gives the work that is counted. Networks have weights of
nobody where they can; what runs a file of the shared weights says so.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import PIL.Image
import pytest
import recipe
import torch
from clips import make_video
from facenet_pytorch import InceptionResnetV1
from footage import SHARED
from skimage.data import astronaut
from torch import Tensor, nn
from torchvision.models import resnet18

from deidlib import metrics
from deidlib.attack.aggregation import GradientNorm, Losses, Staged, Sum
from deidlib.attack.chain import Chain
from deidlib.attack.distortions import H264, JPEG, Blur, ChromaSubsampling
from deidlib.attack.presets import recommended
from deidlib.attack.reading_step import ReadingStep
from deidlib.attack.steps import Annealed, APGDStep, MomentumSignStep, OptimizerStep, SignStep, StepRule
from deidlib.attack.tolerance import Tolerance
from deidlib.evaluation.attacks import ClipAttacks, Identified, Learned, SuperResolution, Suspects
from deidlib.evaluation.attacks.sums import reading_of
from deidlib.evaluation.evaluate import evaluate
from deidlib.evaluation.identity import IdentitySettings
from deidlib.faces import Faces
from deidlib.geometry.camera import Camera, head_pose, normalizing_rotation, part_centers
from deidlib.geometry.face_model import face_model
from deidlib.geometry.quarter_turn import QuarterTurn
from deidlib.geometry.region import FaceRegion
from deidlib.images import to_pixels
from deidlib.keys.key import Key
from deidlib.metrics.embedders import FacenetEmbedder, OnnxEmbedder
from deidlib.metrics.identity import Linkage, Naive, Parrot
from deidlib.models import strangers
from deidlib.models.base import TargetModel
from deidlib.models.cropped import CroppedDetector
from deidlib.models.discreet import Discreet
from deidlib.models.fan import FAN
from deidlib.models.gaze import GazeResNet
from deidlib.models.keyed import Keyed
from deidlib.models.mtcnn import MTCNN
from deidlib.models.retinaface import RetinaFace
from deidlib.models.silent import Silent
from deidlib.models.turned import Turned
from deidlib.nets.bisenet import BiSeNet, FaceParser
from deidlib.nets.cosegmentation.dense_motion import DenseMotion
from deidlib.nets.cosegmentation.motion import SegmentMotion
from deidlib.nets.cosegmentation.part_swap import PartSwap
from deidlib.nets.cosegmentation.reconstruction import Generator, Reconstruction
from deidlib.nets.cosegmentation.segmentation import PartSegmentation
from deidlib.nets.mpiifacegaze import MPIIFaceGazeNet
from deidlib.nets.mpiigaze import MPIIGazeNet
from deidlib.nets.retinaface_mobilenet import RetinaFaceMobileNet
from deidlib.nets.retinaface_resnet50 import RetinaFaceResNet50
from deidlib.obfuscate import GaussianBlur, Obfuscator, Pixelate, Solid
from deidlib.protect.deidentifier import Deidentifier
from deidlib.protect.image import protect_image
from deidlib.protect.share import Share, every, mean_face
from deidlib.protect.transform import Deidentify
from deidlib.protect.video import protect_video
from deidlib.swap.average import average_face
from deidlib.swap.clip import SteadyFaces, steady
from deidlib.swap.cosegmentation import CoSegmentationSwapper, CropSwapper
from deidlib.swap.warp import WarpSwapper
from deidlib.tracking import FaceTracker

SIDE = 128
Work = Callable[[], object]


class Scene:
    """Two frames of 128 x 128 with a face each, on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        picture = torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255
        frames = [picture[:, y : y + SIDE, x : x + SIDE] for y, x in ((20, 160), (24, 164))]
        self.on_host = torch.stack(frames)
        self.images = self.on_host.to(device)
        self.hidden = torch.full_like(self.images, 128 / 255)
        self.faces = self._faces()

    def _faces(self) -> list[Faces]:
        """One a frame, with 68 points and a gaze, of which all is known."""
        points = face_model(68).float()
        points = points - points.mean(dim=0)
        points = (points[:, :2] * (70 / (points[:, 0].max() - points[:, 0].min())))[None]
        gaze = torch.tensor([[0.1, 0.1, -0.99]])
        found = []
        for x, y in ((70.0, 62.0), (66.0, 58.0)):
            middle = torch.tensor([x, y])
            box = torch.cat([middle - torch.tensor([36.0, 46.0]), middle + torch.tensor([36.0, 46.0])])[None]
            known = Faces(box, torch.tensor([0.9]), points + middle, gaze / gaze.norm())
            found.append(known.to(self.device))
        return found

    def put(self, model: Any) -> Any:
        """The model, there."""
        return model.to(self.device)


def needed(what: str) -> None:
    """Skip where something is missing."""
    for name in what.split():
        if name == "shared" and not SHARED.is_dir():
            pytest.skip(f"needs the shared weights, which are not at {SHARED}")
        if name == "cascades":
            import cv2

            if not hasattr(cv2, "CascadeClassifier"):
                pytest.skip("this OpenCV has no cascades")
        if name not in ("shared", "cascades") and importlib.util.find_spec(name) is None:
            pytest.skip(f"needs the package {name}")


@dataclass(frozen=True)
class Case:
    """One kind of work.

    Args:
        make: from a scene to the work.
        waits: for the device, at most.
        sent: to the device, at most.
        needs: a package or ``"shared"``, without which it cannot be.
    """

    make: Callable[[Scene], Work]
    waits: int
    sent: int
    needs: str | None = None


CASES: dict[str, Case] = {}
"""By name: all work but iterations of an attack."""


def case(
    waits: int, sent: int, *, needs: str | None = None
) -> Callable[[Callable[[Scene], Work]], Callable[[Scene], Work]]:
    """The function makes a case of its name."""

    def known(make: Callable[[Scene], Work]) -> Callable[[Scene], Work]:
        CASES[make.__name__.replace("_", " ")] = Case(make, waits, sent, needs)
        return make

    return known


# Models


def retinaface() -> RetinaFace:
    """RetinaFace with weights of nobody, that finds nothing."""
    torch.manual_seed(0)
    return RetinaFace(RetinaFaceMobileNet(0.1).state_dict(), score_threshold=0.9)


def fan() -> FAN:
    """A small FAN with weights of nobody."""
    torch.manual_seed(0)
    return FAN("random", modules=1)


def gaze(net: Callable[[], nn.Module], mode: Any) -> GazeResNet:
    """A network with weights of nobody."""
    torch.manual_seed(0)
    return GazeResNet(net(), mode)


MODELS: dict[str, Callable[[], TargetModel[Any]]] = {
    "retinaface": retinaface,
    "retinaface-resnet50": lambda: RetinaFace(
        RetinaFaceResNet50().state_dict(), backbone="resnet50", score_threshold=0.99
    ),
    "windows": lambda: CroppedDetector(retinaface(), context=16),
    "mtcnn": MTCNN,
    "fan": fan,
    "mpiigaze": lambda: gaze(MPIIGazeNet, "mpiigaze"),
    "mpiifacegaze": lambda: gaze(MPIIFaceGazeNet, "mpiifacegaze"),
    "eth-xgaze": lambda: gaze(lambda: resnet18(num_classes=2), "eth-xgaze"),
    "silent": lambda: Silent(retinaface()),
    "discreet": lambda: Discreet(retinaface(), [Silent(MTCNN())]),
    "keyed": lambda: Keyed(MTCNN(), Key(bytes(32)), nonce="00"),
}
"""Every authorised model, by name."""


def whole_of(model: TargetModel[Any], scene: Scene) -> object:
    """All that a model is for."""
    read = model.at([0, 1]).predict(scene.images, scene.faces)
    target = model.at([0, 1]).target(scene.faces, (SIDE, SIDE))
    leaf = scene.hidden.clone().requires_grad_()
    loss, _ = model.at([0, 1]).loss_and_reading(leaf, target)
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    chosen = model.loss(scene.hidden[:1], target.select(torch.tensor([1], device=scene.device)))
    assert gradient.device == scene.device
    return read, chosen


# What they wait for and send, in reading, target, a loss with its gradient and another loss.
_OF_MODELS = {
    "retinaface": (20, 6),
    "retinaface-resnet50": (20, 3),
    "windows": (27, 13),
    "mtcnn": (172, 62),
    "fan": (15, 9),
    "mpiigaze": (13, 11),
    "mpiifacegaze": (13, 12),
    "eth-xgaze": (13, 12),
    "silent": (9, 3),
    "discreet": (23, 4),
    "keyed": (159, 62),
}

for _name, (_waits, _sent) in _OF_MODELS.items():

    def _model(scene: Scene, name: str = _name) -> Work:
        model = scene.put(MODELS[name]())
        return lambda: whole_of(model, scene)

    CASES[f"model {_name}"] = Case(_model, _waits, _sent)


@case(6, 7, needs="shared")
def yunet_reads(scene: Scene) -> Work:
    model = strangers.YuNet()
    return lambda: model.predict(scene.images)


@case(12, 12, needs="shared")
def centerface_reads(scene: Scene) -> Work:
    model = strangers.CenterFace()
    return lambda: model.predict(scene.images)


@case(14, 9, needs="shared ai_edge_litert")
def blazeface_reads(scene: Scene) -> Work:
    model = strangers.BlazeFace()
    return lambda: model.predict(scene.images)


@case(7, 3, needs="shared onnxruntime")
def pfld_reads(scene: Scene) -> Work:
    model = strangers.PFLD()
    return lambda: model.predict(scene.images, scene.faces)


@case(7, 6, needs="shared ai_edge_litert")
def facemesh_reads(scene: Scene) -> Work:
    model = strangers.FaceMesh()
    return lambda: model.predict(scene.images, scene.faces)


@case(13, 7, needs="cascades")
def haar_reads(scene: Scene) -> Work:
    model = strangers.Cascade()
    return lambda: model.predict(scene.images)


@case(20, 9, needs="dlib")
def dlib_reads(scene: Scene) -> Work:
    detector, points = strangers.DlibHOG(upsample=0), strangers.DlibPoints()
    recogniser = strangers.DlibRecogniser()

    def work() -> object:
        detector.predict(scene.images)
        return recogniser(scene.images, points.predict(scene.images, scene.faces))

    return work


@case(23, 9)
def turned_frames_are_read(scene: Scene) -> Work:
    model = Turned(scene.put(MTCNN()), QuarterTurn(1))
    return lambda: model.predict(QuarterTurn(1).image(scene.images))


# Hiding

_OBFUSCATORS: dict[str, Obfuscator] = {
    "solid": Solid(region=FaceRegion(shape="ellipse", feather=3)),
    "pixelate": Pixelate(),
    "blur": GaussianBlur(),
}

for _name, _hide in _OBFUSCATORS.items():

    def _hides(scene: Scene, hide: Obfuscator = _hide) -> Work:
        def work() -> object:
            hide.mask(scene.faces, SIDE, SIDE)
            return hide(scene.images, scene.faces), hide.hide_frame(scene.images)

        return work

    CASES[f"hide {_name}"] = Case(_hides, 48, 10)


@case(37, 26)
def swap_by_warping(scene: Scene) -> Work:
    swapper = WarpSwapper(scene.images[:1], source_faces=scene.faces[0])
    return lambda: (swapper(scene.images, scene.faces), swapper.mask(scene.faces, SIDE, SIDE))


def small_nets(parts: int = 3) -> tuple[PartSegmentation, PartSwap]:
    """Nets of the co-segmentation model, as small as they can be."""
    segmentation = PartSegmentation(parts, (4, 6, 8), shrink=2)
    swap = PartSwap(Generator((4, 6), 1), DenseMotion(parts, (5, 7), shrink=2))
    for net in (segmentation, swap):
        net.load_state_dict(recipe.filled(net))
    return segmentation.eval(), swap.eval()


@case(19, 9)
def swap_by_cosegmentation(scene: Scene) -> Work:
    net = scene.put(CropSwapper(*small_nets(), parts="all"))
    swapper = CoSegmentationSwapper(scene.images[:1], source_faces=scene.faces[0], net=net)
    return lambda: swapper(scene.images, scene.faces)


@case(0, 0)
def networks_alone(scene: Scene) -> Work:
    segmentation, _ = small_nets()
    parser = scene.put(FaceParser(BiSeNet().eval(), side=32))
    rebuild = scene.put(Reconstruction(Generator((4, 6), 1), SegmentMotion()).eval())
    scene.put(segmentation)
    small = scene.images[:, :, ::4, ::4]
    resnet, mobilenet = scene.put(RetinaFaceResNet50().eval()), scene.put(RetinaFaceMobileNet(0.1).eval())

    def work() -> object:
        with torch.no_grad():
            parts = segmentation(small)
            return parser(small), rebuild(small, parts, parts), resnet(small), mobilenet(small)

    return work


@case(11, 2)
def an_average_face(scene: Scene) -> Work:
    pictures = [scene.images[:1], scene.images[1:]]
    return lambda: average_face(pictures, faces=scene.faces, size=48)


# Metrics


def _measured(metric: Any, *updates: Sequence[Any]) -> object:
    for update in updates:
        metric.update(*update)
    more = [getattr(metric, name)() for name in ("per_frame", "per_face") if hasattr(metric, name)]
    return metric.compute(), more


@case(9, 0)
def lpips(scene: Scene) -> Work:
    import torchvision

    # Its weights are nobody's: nothing is downloaded.
    backbone = torchvision.models.alexnet(weights=None)
    with patch.object(torchvision.models, "alexnet", lambda weights=None: backbone):
        measure = metrics.LPIPS()
    measure(scene.images[:1], scene.hidden[:1])
    return lambda: measure(scene.images, scene.hidden)


@case(64, 42)
def diffscore(scene: Scene) -> Work:
    ones = [scene.put(metrics.DiffScore()), scene.put(metrics.NormalisedDiffScore())]
    return lambda: [_measured(metric, (scene.faces, scene.faces[::-1])) for metric in ones]


@case(47, 24)
def reading_difference(scene: Scene) -> Work:
    metric, camera = scene.put(metrics.ReadingDifference()), Camera.default(SIDE, SIDE)

    def work() -> object:
        metric.update(scene.faces, scene.faces[::-1], camera=camera)
        return _measured(metric)

    return work


@case(128, 41)
def temporal_fidelity(scene: Scene) -> Work:
    metric = scene.put(metrics.TemporalFidelity())
    return lambda: _measured(metric, *[(scene.faces, scene.faces[::-1])] * 3)


@case(59, 0)
def image_quality(scene: Scene) -> Work:
    metric = scene.put(metrics.ImageQuality(FaceRegion()))
    return lambda: _measured(metric, (scene.images, scene.hidden, scene.faces))


def mean_colours(crops: Tensor) -> Tensor:
    """An embedder."""
    return crops.mean(dim=(2, 3))


@case(91, 40)
def reidentification(scene: Scene) -> Work:
    attackers = Naive(), Parrot(Solid()), Linkage()
    ones = [metrics.ReIdentification(mean_colours, attacker).to(scene.device) for attacker in attackers]
    frames = scene.images.repeat(2, 1, 1, 1), scene.hidden.repeat(2, 1, 1, 1)
    people = [[0], [1], [0], [1]]
    return lambda: [_measured(metric, (*frames, scene.faces * 2, people)) for metric in ones]


@case(0, 3)
def facenet_embeds(scene: Scene) -> Work:
    embed = FacenetEmbedder(InceptionResnetV1(pretrained=None).state_dict())
    # It goes where its first pictures are.
    embed(scene.images.new_zeros(1, 3, 112, 112))
    return lambda: embed(metrics.align(scene.images, scene.faces)[:1])


@case(2, 6, needs="shared onnxruntime")
def mobilefacenet_embeds(scene: Scene) -> Work:
    embed = OnnxEmbedder()
    return lambda: embed(metrics.align(scene.images, scene.faces))


@case(2, 0)
def head_poses(scene: Scene) -> Work:
    camera = Camera.default(SIDE, SIDE)
    landmarks = torch.cat([faces.landmarks for faces in scene.faces if faces.landmarks is not None])

    def work() -> object:
        rotation, translation = head_pose(landmarks, camera)
        return normalizing_rotation(part_centers(rotation, translation, "eyes and mouth"), rotation)

    return work


# What is done to readings


@case(62, 18)
def shared_in_part(scene: Scene) -> Work:
    share = Share(pixels=4, degrees=5)
    return lambda: (
        [share(faces) for faces in scene.faces],
        every(scene.faces * 2, 2),
        mean_face(scene.faces, (SIDE, SIDE)),
        steady(scene.faces * 2),
    )


@case(59, 35)
def faces_are_followed(scene: Scene) -> Work:
    gap = Faces.empty(device=scene.device)
    frames = [*scene.faces, gap, scene.faces[1]]
    return lambda: list(FaceTracker(window=2).track(frames, SIDE, SIDE))


# From frames and files to frames and files


def deidentifier(scene: Scene, **settings: Any) -> Deidentifier:
    """One that finds faces by two detectors, and attacks what costs least; detectors are among the iterations."""
    eyes = scene.put(gaze(MPIIGazeNet, "mpiigaze"))
    attacker = recommended([eyes], max_iterations=1, until=Tolerance(gaze=1e-3))
    return Deidentifier(attacker, detectors=[scene.put(MTCNN()), scene.put(retinaface())], **settings)


@case(620, 191)
def frames_are_protected(scene: Scene) -> Work:
    protector = deidentifier(scene, chain=Chain(iterations=2, newcomers=2), share=Share())

    def work() -> object:
        batches = list(protector.frames([scene.images]))
        assert all(batch.images.device == scene.device for batch in batches)
        assert batches[0].treatment == ["found", "found"]
        return batches

    return work


@case(112, 62)
def swapped_frames_are_protected(scene: Scene) -> Work:
    swapper = WarpSwapper(scene.images[:1], source_faces=scene.faces[0])
    protector = replace(deidentifier(scene), obfuscator=swapper)
    return lambda: list(protector.frames([scene.images], faces=scene.faces))


@case(238, 67)
def a_transform_protects(scene: Scene) -> Work:
    hide = Deidentify(deidentifier(scene))
    picture = PIL.Image.fromarray(to_pixels(scene.on_host)[0])
    return lambda: hide(picture)


@case(1698, 271)
def a_video_is_protected(scene: Scene) -> Work:
    protector = deidentifier(scene)

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            source = make_video(Path(folder) / "a.mkv", scene.on_host)
            summary = protect_video(protector, source, Path(folder) / "b.mkv", batch_size=1, key=Key(bytes(32)))
            assert summary.found == 2
            return SteadyFaces([scene.put(MTCNN())], device=scene.device)(source)

    return work


@case(765, 101)
def an_image_is_protected(scene: Scene) -> Work:
    protector = deidentifier(scene)

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "a.png"
            PIL.Image.fromarray(to_pixels(scene.on_host)[0]).save(source)
            return protect_image(protector, source, Path(folder) / "b.png")

    return work


@case(604, 73)
def files_are_compared(scene: Scene) -> Work:
    detector, eyes = scene.put(MTCNN()), scene.put(gaze(MPIIGazeNet, "mpiigaze"))
    identity = IdentitySettings(mean_colours)

    def work() -> object:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("a.mkv", "b.mkv")]
            for path, frames in zip(paths, (scene.on_host, scene.on_host.flip(0)), strict=True):
                make_video(path, frames)
            return evaluate(
                *paths,
                authorised={"mtcnn": detector, "gaze": eyes},
                unauthorised={"other": detector},
                identity=identity,
                device=str(scene.device),
            )

    return work


@case(69, 34)
def clips_are_attacked(scene: Scene) -> Work:
    people = Suspects.of(scene.images, scene.faces, [1, 2])
    attacks = ClipAttacks(["perturbation"], mean_colours, people)
    vectors, names = mean_colours(scene.images).repeat(2, 1), torch.tensor([0, 1, 0, 1], device=scene.device)
    cells = SuperResolution(reading_of(Pixelate()))

    def work() -> object:
        attacks.begin(2)
        attacks.update(scene.images, Pixelate()(scene.images, scene.faces), scene.faces)
        attacks.end()
        assert attacks.results
        cells.add(scene.images[0], scene.faces[0], scene.faces[0].boxes[0])
        return Identified.of(Learned(steps=2).scores(vectors, names, vectors), names)

    return work


# Iterations


@dataclass(frozen=True)
class Iteration:
    """An iteration of an attack.

    Args:
        models: that are attacked.
        settings: of the attacker.
        waits: for the device, at most, an iteration.
        sent: to the device, at most, an iteration.
    """

    models: Sequence[str]
    settings: dict[str, Any]
    waits: float
    sent: float


_RULES: dict[str, StepRule[Any]] = {
    "sign": SignStep(),
    "momentum": MomentumSignStep(),
    "apgd": APGDStep(),
    "annealed": Annealed(MomentumSignStep(8 / 255), steps=3),
    "optimizer": OptimizerStep(lambda parameters: torch.optim.RMSprop(parameters, lr=0.004)),
}

ITERATIONS: dict[str, Iteration] = {
    "nets": Iteration(["eth-xgaze"], {}, 0, 0),
    **{name: Iteration(["mpiigaze"], {"step": rule}, 0, 0) for name, rule in _RULES.items()},
    "retinaface": Iteration(["retinaface"], {}, 0, 0),
    "windows": Iteration(["windows"], {}, 0, 0),
    "mtcnn": Iteration(["mtcnn"], {}, 3, 0),
    "keyed": Iteration(["keyed"], {}, 3, 0),
    "sum": Iteration(["retinaface", "mpiigaze"], {"aggregate": Sum()}, 0, 0),
    "gradient norm": Iteration(["retinaface", "mpiigaze"], {"aggregate": GradientNorm()}, 0, 0),
    "staged": Iteration(["retinaface", "mpiigaze"], {"aggregate": Staged({"retinaface": 0.3, "mpiigaze": 0.3})}, 0, 0),
    "jpeg": Iteration(["mpiigaze"], {"distortions": [JPEG(quality=75)]}, 0, 0),
    "h264": Iteration(["mpiigaze"], {"distortions": [H264(crf=28)]}, 0, 0),
    "blur": Iteration(["mpiigaze"], {"distortions": [Blur(sigma=1.0)]}, 0, 0),
    "chroma": Iteration(["mpiigaze"], {"distortions": [ChromaSubsampling()]}, 0, 0),
    "fine steps": Iteration(["mpiigaze"], {"until": Tolerance(gaze=1e-6), "fine": ReadingStep(near=1e9)}, 2, 1),
    "all slopes": Iteration(
        ["mpiigaze"], {"until": Tolerance(gaze=1e-6), "fine": ReadingStep(near=1e9, renew=0)}, 2, 2
    ),
    "tolerance": Iteration(["retinaface"], {"until": Tolerance(iou=0.999)}, 1, 0),
    "threshold": Iteration(["mpiigaze"], {"threshold": 1e-9}, 1, 0),
}
"""By name."""

__all__ = ["CASES", "ITERATIONS", "MODELS", "SIDE", "Case", "Iteration", "Losses", "Scene"]
