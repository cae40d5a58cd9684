"""The two layouts in which the co-segmentation nets are published, and nets of the size that a checkpoint has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from deidlib.nets.cosegmentation.blocks import Shrink
from deidlib.nets.cosegmentation.dense_motion import DenseMotion
from deidlib.nets.cosegmentation.motion import SegmentMotion
from deidlib.nets.cosegmentation.part_swap import PartSwap
from deidlib.nets.cosegmentation.reconstruction import Generator
from deidlib.nets.cosegmentation.segmentation import PartSegmentation
from deidlib.weights import CorruptWeights, plain_state

_DENSE_MOTION = "dense_motion_network."
# What a first-order model calls the heads of its key point detector.
_FIRST_ORDER_NAMES = {"shift.": "kp.", "affine.": "jacobian.", "segmentation.": "semantic_seg."}


class _Layout(NamedTuple):
    segmentation: str
    generator: str
    names: Mapping[str, str]  # of the segmentation net's heads: ours, the checkpoint's


_CO_SEGMENTATION = _Layout("segmentation_module", "reconstruction_module", {})
_FIRST_ORDER = _Layout("kp_detector", "generator", _FIRST_ORDER_NAMES)


def build(
    checkpoint: Mapping[str, Any],
    *,
    first_order: bool | None = None,
    visibility: bool = True,
    temperature: float = 0.1,
    variance: float = 0.01,
    align_corners: bool = True,
) -> tuple[PartSegmentation, PartSwap]:
    """The nets of a checkpoint, in evaluation mode, their sizes read from its tensors.

    Two layouts are published. Co-segmentation (``vox-5segments`` and so on) has ``segmentation_module`` and
    ``reconstruction_module``. First-order (``vox-first-order``) has ``kp_detector`` and ``generator``, the latter
    with a dense motion net; the segmentation head may be missing. Every tensor of these two entries must be where
    it belongs. Other entries (epoch, optimisers, discriminator) serve training and are not read.

    Args:
        checkpoint: what is in the file.
        first_order: whether parts move as the dense motion net says, or each on its own; ``None``: the former if
            the checkpoint has such a net. With ``False`` that net is left out.
        visibility: with motion by segments, whether to dim what of the source is not visible.
        temperature: of the key points' softmax, not in the checkpoint; 0.1 for all published ones.
        variance: of the dense motion net's Gaussians, likewise; 0.01.
        align_corners: how pictures are sampled, see :func:`sample`. The published checkpoints were trained with
            torch 1.0, where it was always true; code that runs them with a later torch and says nothing gets false.

    Raises:
        CorruptWeights: neither layout, or a tensor is missing, unknown, or of a wrong shape: it is named.
        ValueError: the checkpoint cannot move parts in the way that was asked for.
    """
    layout = _layout_of(checkpoint)
    kept = _state(checkpoint, layout.generator)
    generator_state = {key: value for key, value in kept.items() if not key.startswith(_DENSE_MOTION)}
    motion_state = {key.removeprefix(_DENSE_MOTION): kept[key] for key in kept.keys() - generator_state.keys()}
    segmentation_state = _state(checkpoint, layout.segmentation)

    segmentation = _segmentation(segmentation_state, layout, temperature)
    generator = _generator(generator_state, layout)
    if first_order is None:
        first_order = bool(motion_state)
    motion: DenseMotion | SegmentMotion
    if first_order:
        if not motion_state:
            raise ValueError(
                f"first-order motion needs a dense motion net, and this checkpoint ({layout.segmentation} and "
                f"{layout.generator}) has none. Take vox-first-order.pth.tar, or leave first_order out."
            )
        motion = _dense_motion(motion_state, layout, segmentation.shift.out_channels, variance, align_corners)
    else:
        if segmentation.segmentation is None:
            raise ValueError(
                f"motion by segments needs a segmentation head, and this checkpoint has no "
                f"{layout.segmentation}.{_spelt('segmentation.weight', layout)}. Take one of the vox-*segments "
                "checkpoints, or use first_order=True."
            )
        motion = SegmentMotion(visibility=visibility)
    return segmentation.eval(), PartSwap(generator, motion, align_corners=align_corners).eval()


def _layout_of(checkpoint: Mapping[str, Any]) -> _Layout:
    fitting = [
        layout
        for layout in (_CO_SEGMENTATION, _FIRST_ORDER)
        if layout.segmentation in checkpoint and layout.generator in checkpoint
    ]
    if len(fitting) != 1:
        raise CorruptWeights(
            "expected segmentation_module and reconstruction_module (co-segmentation), or kp_detector and generator "
            f"(first-order), got {', '.join(sorted(map(str, checkpoint))[:8]) or 'nothing'}. "
            "Is it another kind of checkpoint?"
        )
    return fitting[0]


def _state(checkpoint: Mapping[str, Any], entry: str) -> dict[str, Tensor]:
    state = checkpoint[entry]
    if not isinstance(state, Mapping):
        raise CorruptWeights(f"{entry} must hold names and tensors, got a {type(state).__name__}.")
    return plain_state(state, entry)


def _segmentation(state: Mapping[str, Tensor], layout: _Layout, temperature: float) -> PartSegmentation:
    where = f"{layout.segmentation}."
    net = PartSegmentation(
        len(_named(state, _spelt("shift.bias", layout), where)),
        _hourglass_widths(state, "predictor.", where),
        affine=_any(state, _spelt("affine.", layout)),
        masks=_any(state, _spelt("segmentation.", layout)),
        shrink=_shrink(state),
        temperature=temperature,
    )
    _fill(net, state, where, layout.names)
    return net


def _generator(state: Mapping[str, Tensor], layout: _Layout) -> Generator:
    where = f"{layout.generator}."
    blocks = ["first", *(f"down_blocks.{level}" for level in range(_count(state, "down_blocks.")))]
    widths = [len(_named(state, f"{block}.conv.weight", where)) for block in blocks]
    net = Generator(widths, _count(state, "bottleneck.r"))
    _fill(net, state, where)
    return net


def _dense_motion(
    state: Mapping[str, Tensor], layout: _Layout, parts: int, variance: float, align_corners: bool
) -> DenseMotion:
    where = f"{layout.generator}.{_DENSE_MOTION}"
    net = DenseMotion(
        parts,
        _hourglass_widths(state, "hourglass.", where),
        visibility=_any(state, "occlusion."),
        shrink=_shrink(state),
        variance=variance,
        align_corners=align_corners,
    )
    _fill(net, state, where)
    return net


def _hourglass_widths(state: Mapping[str, Tensor], prefix: str, where: str) -> list[int]:
    levels = _count(state, f"{prefix}encoder.down_blocks.")
    blocks = [f"decoder.up_blocks.{max(levels, 1) - 1}"]  # the last one up is at full size
    blocks += [f"encoder.down_blocks.{level}" for level in range(levels)]
    return [len(_named(state, f"{prefix}{block}.conv.weight", where)) for block in blocks]


def _shrink(state: Mapping[str, Tensor]) -> int:
    return Shrink.factor_of(state["down.weight"]) if "down.weight" in state else 1


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks there are: one more than the highest number."""
    numbers = [key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)]
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def _any(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(key.startswith(prefix) for key in state)


def _named(state: Mapping[str, Tensor], key: str, where: str) -> Tensor:
    if key not in state:
        raise CorruptWeights(f"the checkpoint has no {where}{key}. It is incomplete: get it again.")
    return state[key]


def _spelt(key: str, layout: _Layout) -> str:
    """How the layout's checkpoints spell a name of our net."""
    for ours, theirs in layout.names.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def _fill(net: nn.Module, state: Mapping[str, Tensor], where: str, names: Mapping[str, str] | None = None) -> None:
    """Load all of a state dict into all of a net, and name what does not fit as the checkpoint calls it."""
    layout = _Layout("", "", names or {})
    own = {_spelt(key, layout): key for key in net.state_dict()}
    shapes = {theirs: tuple(net.state_dict()[ours].shape) for theirs, ours in own.items()}
    wrong = [f"{where}{key} is missing" for key in sorted(own.keys() - state.keys())]
    wrong += [f"{where}{key} has no place" for key in sorted(state.keys() - own.keys())]
    wrong += [
        f"{where}{key} has shape {tuple(state[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CorruptWeights(f"the checkpoint does not fit the net: {', '.join(wrong[:5])}{more}.")
    net.load_state_dict({ours: state[theirs] for theirs, ours in own.items()})
