from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import recipe
import torch
from torch import Tensor, nn

from deidlib.faces import Faces
from deidlib.geometry.region import FaceRegion
from deidlib.images import to_grid
from deidlib.nets.bisenet import FACE_CLASSES, FaceParser
from deidlib.nets.cosegmentation.blocks import Shrink
from deidlib.nets.cosegmentation.checkpoint import build
from deidlib.nets.cosegmentation.dense_motion import DenseMotion
from deidlib.nets.cosegmentation.motion import Parts, SegmentMotion, coordinate_grid, part_motions, sample
from deidlib.nets.cosegmentation.part_swap import PartSwap
from deidlib.nets.cosegmentation.reconstruction import Generator, Reconstruction
from deidlib.nets.cosegmentation.segmentation import PartSegmentation
from deidlib.obfuscate import Pixelate, Solid
from deidlib.swap.cosegmentation import CoSegmentationSwapper, CropSwapper, SourceFace
from deidlib.weights import CorruptWeights, WeightsNotFound

# What the vectors' own noise allows; a factor of ten below what is asked for.
ATOL = 1e-5
ATOL_MOVED = 5e-5

MODULE = "segmentation_module"


@functools.cache
def vectors(folder: Path, file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "parity" / "cosegmentation" / file, weights_only=True)
    return loaded


@pytest.fixture
def layout_a(shared: Path) -> dict[str, Any]:
    return copy.deepcopy(vectors(shared, "ckpt_layout_a.pt"))


@pytest.fixture
def layout_b(shared: Path) -> dict[str, Any]:
    return copy.deepcopy(vectors(shared, "ckpt_layout_b.pt"))


@pytest.fixture
def modules(shared: Path) -> dict[str, Any]:
    return vectors(shared, "modules_io.pt")


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def close(got: Tensor | None, expected: Tensor, atol: float = ATOL) -> None:
    assert got is not None
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= atol


def parts_of(vectors: dict[str, Any], name: str) -> Parts:
    return Parts(vectors[name]["shift"], vectors[name].get("affine"), vectors[name]["segmentation"])


# --- the modules, one by one ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["source", "target"])
@pytest.mark.parametrize("layout", ["layout_a", "layout_b"])
def test_segmentation(which: str, layout: str, modules: dict[str, Any], request: pytest.FixtureRequest) -> None:
    segmentation, _ = build(request.getfixturevalue(layout), align_corners=False)
    parts, expected = segmentation(modules[f"input_{which}_nchw"]), parts_of(modules, f"seg_{which}")
    for got, want in zip(parts, expected, strict=True):
        assert want is not None
        close(got, want)


def test_dense_motion_inside_and_out(layout_b: dict[str, Any], modules: dict[str, Any]) -> None:
    net = build(layout_b, align_corners=False)[1].motion
    assert isinstance(net, DenseMotion)
    assert net.down is not None
    image, source, target = (
        modules["input_source_nchw"],
        parts_of(modules, "seg_source"),
        parts_of(modules, "seg_target"),
    )
    inside, outside = modules["dense_motion_internal"], modules["dense_motion"]
    small = net.down(image)
    close(small, inside["source_down"])
    close(net.differences(source, target, small), inside["heatmap"])
    motions = part_motions(source, target, 16, 16)
    close(motions, inside["sparse_motion"])
    moved = net.moved(small, motions)
    close(moved, outside["sparse_deformed"])
    seen = torch.cat([net.differences(source, target, small), moved], dim=2).flatten(1, 2)
    follows = net.mask(net.hourglass(seen)).softmax(dim=1)
    close(follows, outside["mask"])
    motion = net(image, source, target)
    close(motion.field, outside["deformation"])
    close(motion.visibility, outside["visibility"])


@pytest.mark.parametrize("case", ["reconstruction", "reconstruction_no_visibility", "reconstruction_shift_only"])
def test_reconstruction(case: str, layout_a: dict[str, Any], modules: dict[str, Any]) -> None:
    if case == "reconstruction_shift_only":
        layout_a[MODULE] = {key: value for key, value in layout_a[MODULE].items() if not key.startswith("affine.")}
    visibility = case != "reconstruction_no_visibility"
    segmentation, swap = build(layout_a, visibility=visibility, align_corners=False)
    image = modules["input_source_nchw"]
    source, target = segmentation(image), segmentation(modules["input_target_nchw"])
    assert (source.affine is None) == (case == "reconstruction_shift_only")
    got = Reconstruction(swap.generator, swap.motion, align_corners=False)(image, source, target)
    close(got.images, modules[case]["prediction"])
    close(got.moved, modules[case]["deformed"], ATOL_MOVED)
    if visibility:
        close(got.visibility, modules[case]["visibility_maps"])
    else:
        assert got.visibility is None


def test_segment_motion(modules: dict[str, Any]) -> None:
    source, target = parts_of(modules, "seg_source"), parts_of(modules, "seg_target")
    close(part_motions(source, target, 16, 16), modules["segment_motion"])


@pytest.mark.parametrize(("layout", "case"), [("layout_b", "part_swap_fom"), ("layout_a", "part_swap_no_fom")])
def test_part_swap(layout: str, case: str, modules: dict[str, Any], request: pytest.FixtureRequest) -> None:
    segmentation, swap = build(request.getfixturevalue(layout), align_corners=False)
    image, target = modules["input_source_nchw"], modules["input_target_nchw"]
    parts = segmentation(target)
    assert parts.masks is not None
    mask = parts.masks[:, [1, 2, 5]].sum(dim=1, keepdim=True)
    close(mask, modules["part_swap_blend_mask"])
    got = swap(swap.source(image, segmentation(image)), target, parts, target_mask=mask)
    close(got, modules[case])


def test_coordinate_grid(modules: dict[str, Any]) -> None:
    close(coordinate_grid(5, 7, torch.zeros(1)), modules["coordinate_grid_5x7"], 1e-6)


@pytest.mark.parametrize("scale", ["0.5", "0.25", "0.125", "0.03125"])
def test_shrink(scale: str, modules: dict[str, Any]) -> None:
    expected = modules["antialias"][scale]
    shrink = Shrink(1, round(1 / float(scale)))
    assert list(shrink.weight.shape) == expected["weight_shape"]
    close(shrink.weight[0, 0, shrink.reach], expected["weight_center_row"], 1e-7)
    # The vectors were summed in single precision: that of 1/32, of 125 x 125 products, is 3e-6 from the sum in double,
    # and which single one comes out depends on the machine's order.
    close(shrink.double()(recipe.image((1, 1, 96, 128), 11).double()).float(), expected["out"], 1e-5)
    assert Shrink.factor_of(shrink.weight) == shrink.factor


# --- whole swaps ------------------------------------------------------------------------------------------

RUNS = [
    f"layout_{layout}/fom_{fom}/hard_{hard}/use_source_{use_source}{rest}"
    for layout, fom, hard, use_source, rest in [
        *(("a", False, hard, use, "") for hard in (False, True) for use in (False, True)),
        *(("b", fom, hard, use, "") for fom in (False, True) for hard in (False, True) for use in (False, True)),
        ("a", False, False, True, "/grid_sample_align_corners_True"),
        ("b", True, False, True, "/grid_sample_align_corners_True"),
    ]
]
RUNS += [
    f"stub_parser/layout_b/fom_True/hard_{hard}/use_source_{use}" for hard in (False, True) for use in (False, True)
]


def swapper_of(run: str, shared: Path) -> CropSwapper:
    video = vectors(shared, "make_video_io.pt")
    checkpoint = vectors(shared, "ckpt_layout_a.pt" if "layout_a" in run else "ckpt_layout_b.pt")
    segmentation, swap = build(checkpoint, first_order="fom_True" in run, align_corners="align_corners_True" in run)
    mask_from: Literal["source", "target"] = "source" if "use_source_True" in run else "target"
    if not run.startswith("stub_parser"):
        return CropSwapper(segmentation, swap, parts=video["swap_index"], mask_from=mask_from, hard="hard_True" in run)
    net = nn.Conv2d(3, 19, 1)
    net.load_state_dict({key: video["stub_parser"][key] for key in ("weight", "bias")})
    names = [FACE_CLASSES[number] for number in video["stub_parser"]["swap_index"]]
    return CropSwapper(segmentation, swap, FaceParser(net), parts=names, mask_from=mask_from, hard="hard_True" in run)


def test_no_run_of_the_vectors_is_left_out(shared: Path) -> None:
    assert sorted(RUNS) == sorted(vectors(shared, "make_video_io.pt")["runs"])


@pytest.mark.parametrize("run", RUNS)
def test_swaps_as_upstream_does(run: str, shared: Path) -> None:
    video = vectors(shared, "make_video_io.pt")
    swapper = swapper_of(run, shared)
    source = swapper.source(video["source"].permute(2, 0, 1)[None])
    targets = video["targets"].permute(0, 3, 1, 2)
    got = swapper(source, targets)
    close(got.permute(0, 2, 3, 1), video["runs"][run])
    # A frame's result is its own, whatever lies beside it in the batch.
    close(swapper(source, targets[1:]), got[1:], 5e-6)


def test_blend_masks_of_the_stub_parser(shared: Path) -> None:
    video = vectors(shared, "make_video_io.pt")
    swapper = swapper_of("stub_parser/layout_b/fom_True/hard_False/use_source_True", shared)
    source = swapper.source(video["source"].permute(2, 0, 1)[None])
    assert source.mask is not None
    expected = video["stub_parser"]
    close(source.mask[0, 0, ::8, ::8], expected["mask_stride8"][0])
    close(Shrink(1, 32)(source.mask), expected["blend_downsampled_soft_source"])


def test_the_published_sampling_is_the_default(shared: Path, layout_b: dict[str, Any]) -> None:
    # The published nets were trained with corners on corners; the vectors show that it matters.
    video = vectors(shared, "make_video_io.pt")
    swapper = CropSwapper(*build(layout_b), parts=video["swap_index"], mask_from="source")
    got = swapper(swapper.source(video["source"].permute(2, 0, 1)[None]), video["targets"].permute(0, 3, 1, 2)).permute(
        0, 2, 3, 1
    )
    run = "layout_b/fom_True/hard_False/use_source_True"
    close(got, video["runs"][f"{run}/grid_sample_align_corners_True"])
    assert float((got - video["runs"][run]).abs().max()) > 0.01


# --- properties -------------------------------------------------------------------------------------------


def test_part_motions_by_hand() -> None:
    quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    source = Parts(torch.tensor([[[0.5, 0.0]]]), 2 * torch.eye(2)[None, None], None)
    target = Parts(torch.tensor([[[0.0, 0.25]]]), quarter_turn[None, None], None)
    motions = part_motions(source, target, 3, 3)
    grid = coordinate_grid(3, 3, torch.zeros(1))
    torch.testing.assert_close(motions[0, 0], grid)
    # 2 * turned back by a quarter: (x, y) to 2 (y, -x); about the part's place.
    x, y = grid[..., 0], grid[..., 1] - 0.25
    torch.testing.assert_close(motions[0, 1], torch.stack([2 * y + 0.5, -2 * x], dim=-1))


def test_nothing_moves_where_source_and_target_agree() -> None:
    masks = torch.rand(2, 4, 8, 8).softmax(dim=1)
    parts = Parts(torch.rand(2, 3, 2), torch.eye(2) + 0.1 * torch.rand(2, 3, 2, 2), masks)
    image = torch.rand(2, 5, 8, 8)
    motion = SegmentMotion()(image, parts, parts)
    torch.testing.assert_close(sample(image, motion.field, align_corners=True), image, atol=1e-5, rtol=0)


def test_what_was_a_part_and_is_background_is_not_visible() -> None:
    part, background = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    shift = torch.zeros(1, 1, 2)
    # Four pixels in a row: source part, part, background, background; target part, background, part, background.
    source = Parts(shift, None, torch.stack([part, part, background, background], dim=1)[None, :, None])
    target = Parts(shift, None, torch.stack([part, background, part, background], dim=1)[None, :, None])
    visibility = SegmentMotion()(torch.zeros(1, 3, 1, 4), source, target).visibility
    assert visibility is not None
    assert visibility.flatten().tolist() == [1, 0, 1, 1]


def small_nets(parts: int = 3) -> tuple[PartSegmentation, PartSwap]:
    segmentation = PartSegmentation(parts, (4, 6, 8), shrink=2)
    swap = PartSwap(Generator((4, 6), 1), DenseMotion(parts, (5, 7), shrink=2))
    for net in (segmentation, swap):
        net.load_state_dict(recipe.filled(net))
    return segmentation.eval(), swap.eval()


@pytest.mark.parametrize(("mask", "depends"), [(0.0, False), (1.0, True)])
def test_outside_the_mask_nothing_of_the_source_is_left(mask: float, depends: bool) -> None:
    segmentation, swap = small_nets()
    target, parts = torch.rand(1, 3, 16, 16), segmentation(torch.rand(1, 3, 16, 16))
    results = []
    for image in (torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)):
        source = swap.source(image, segmentation(image))
        results.append(swap(source, target, parts, target_mask=torch.full((1, 1, 8, 8), mask)))
    assert (float((results[0] - results[1]).abs().max()) > 1e-3) == depends
    if not depends:
        assert torch.equal(results[0], swap.generator.decode(swap.generator.encode(target)))


def test_of_two_masks_the_larger_share_counts() -> None:
    segmentation, swap = small_nets()
    image, target = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    source, parts = swap.source(image, segmentation(image)), segmentation(target)
    nothing, everything = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    replaced = swap(source, target, parts, target_mask=everything)
    assert torch.equal(swap(source, target, parts, source_mask=nothing, target_mask=everything), replaced)
    some = torch.rand(1, 1, 8, 8)
    moved = swap(source, target, parts, source_mask=some)
    assert torch.equal(swap(source, target, parts, source_mask=some, target_mask=nothing), moved)
    assert not torch.equal(moved, replaced)


def test_with_both_masks_the_drivers_own_face_is_covered() -> None:
    # A source without a face: nothing to move, and only the target's mask says what to replace.
    segmentation, swap = small_nets()

    def parse(images: Tensor) -> Tensor:
        shares = images.new_zeros(len(images), 19, 8, 8)
        shares[:, 1] = images.amax(dim=(1, 2, 3), keepdim=True)[:, 0] > 0.5
        return shares

    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    results = {}
    for mask_from in ("source", "target", "both"):
        swapper = CropSwapper(segmentation, swap, parse, mask_from=mask_from)
        results[mask_from] = swapper(swapper.source(black), white)
    kept = swap.generator.decode(swap.generator.encode(white))
    assert torch.equal(results["source"], kept)
    assert torch.equal(results["both"], results["target"])
    assert float((results["both"] - kept).abs().max()) > 1e-3


def test_a_mask_that_fits_no_whole_number_of_times() -> None:
    segmentation, swap = small_nets()
    target = torch.rand(1, 3, 16, 16)
    source = swap.source(target, segmentation(target))
    for size in (4, 12):
        with pytest.raises(ValueError, match=r"the mask must be \(8, 8\)"):
            swap(source, target, segmentation(target), target_mask=torch.zeros(1, 1, size, size))
    with pytest.raises(ValueError, match="Give source_mask, target_mask, or both"):
        swap(source, target, segmentation(target))


@pytest.mark.parametrize("motion", [DenseMotion(3, (5, 7), shrink=2), SegmentMotion()], ids=["dense", "segments"])
def test_every_tensor_is_made_on_the_images_device(motion: DenseMotion | SegmentMotion) -> None:
    # The meta device computes shapes only, and refuses tensors of another device as a GPU does.
    segmentation = PartSegmentation(3, (4, 6, 8), shrink=2).to("meta")
    swap = PartSwap(Generator((4, 6), 1), motion).to("meta")
    parser = FaceParser(nn.Conv2d(3, 19, 1), side=64).to("meta")
    images = torch.zeros(2, 3, 16, 16, device="meta")
    source = swap.source(images[:1], segmentation(images[:1]))
    mask = parser(images)[:, :1]
    assert swap(source, images, segmentation(images), source_mask=mask).shape == (2, 3, 16, 16)


# --- checkpoints ------------------------------------------------------------------------------------------


def checkpoint_of(segmentation: PartSegmentation, swap: PartSwap) -> dict[str, Any]:
    """In the first-order layout."""
    names = {"shift.": "kp.", "affine.": "jacobian.", "segmentation.": "semantic_seg."}
    detector = {}
    for key, value in segmentation.state_dict().items():
        prefix = next((ours for ours in names if key.startswith(ours)), "")
        detector[names.get(prefix, "") + key.removeprefix(prefix)] = value
    generator = dict(swap.generator.state_dict())
    generator |= {f"dense_motion_network.{key}": value for key, value in swap.motion.state_dict().items()}
    return {"kp_detector": detector, "generator": generator}


@pytest.mark.parametrize("parts", [3, 15])
def test_sizes_are_read_from_the_checkpoint(parts: int) -> None:
    segmentation, swap = small_nets(parts)
    other_segmentation, other_swap = build(checkpoint_of(segmentation, swap))
    images = recipe.image((2, 3, 16, 16), 1)
    mask = recipe.image((2, 1, 8, 8), 2)
    results = []
    for net, swapper in ((segmentation, swap), (other_segmentation, other_swap)):
        source = swapper.source(images[:1], net(images[:1]))
        results.append(swapper(source, images, net(images), source_mask=mask))
    assert torch.equal(*results)


def test_training_state_is_not_needed(layout_b: dict[str, Any]) -> None:
    layout_b |= {"discriminator": {"x": torch.zeros(1)}, "optimizer_generator": {}, "epoch_generator": 99}
    layout_b["generator"] = {f"module.{key}": value for key, value in layout_b["generator"].items()}
    assert isinstance(build(layout_b)[1].motion, DenseMotion)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("segmentation_module", "predictor.encoder.down_blocks.1.norm.running_mean"),
        ("segmentation_module", "predictor.encoder.down_blocks.2.conv.weight"),
        ("segmentation_module", "predictor.decoder.up_blocks.2.conv.weight"),
        ("segmentation_module", "shift.bias"),
        ("segmentation_module", "affine.weight"),
        ("reconstruction_module", "first.conv.weight"),
        ("reconstruction_module", "down_blocks.1.conv.weight"),
        ("reconstruction_module", "bottleneck.r1.norm2.running_var"),
        ("reconstruction_module", "final.bias"),
        ("kp_detector", "kp.weight"),
        ("kp_detector", "jacobian.bias"),
        ("kp_detector", "semantic_seg.bias"),
        ("generator", "dense_motion_network.mask.weight"),
        ("generator", "dense_motion_network.occlusion.bias"),
        ("generator", "dense_motion_network.hourglass.decoder.up_blocks.0.norm.bias"),
        ("generator", "up_blocks.0.conv.bias"),
    ],
)
def test_a_missing_tensor_is_named(entry: str, key: str, layout_a: dict[str, Any], layout_b: dict[str, Any]) -> None:
    checkpoint = layout_a if entry in layout_a else layout_b
    del checkpoint[entry][key]
    with pytest.raises(CorruptWeights, match=re.escape(f"{entry}.{key}") + r"\b"):
        build(checkpoint)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("segmentation_module", "predictor.extra.weight"),
        ("reconstruction_module", "blend_downsample.weight"),
        ("kp_detector", "shift.weight"),
        ("generator", "dense_motion_network.kp.weight"),
        ("generator", "sixth.weight"),
    ],
)
def test_an_unknown_tensor_is_named(entry: str, key: str, layout_a: dict[str, Any], layout_b: dict[str, Any]) -> None:
    checkpoint = layout_a if entry in layout_a else layout_b
    checkpoint[entry][key] = torch.zeros(1)
    with pytest.raises(CorruptWeights, match=f"{entry}.{key} has no place"):
        build(checkpoint)


def test_a_wrong_shape_is_named(layout_b: dict[str, Any]) -> None:
    layout_b["generator"]["dense_motion_network.mask.bias"] = torch.zeros(6)
    with pytest.raises(CorruptWeights, match=r"dense_motion_network.mask.bias has shape \(6,\) instead of \(11,\)"):
        build(layout_b)


def test_another_kind_of_checkpoint(layout_a: dict[str, Any], layout_b: dict[str, Any]) -> None:
    with pytest.raises(CorruptWeights, match=r"kp_detector and generator.*got weights"):
        build({"weights": {}})
    with pytest.raises(CorruptWeights, match="got nothing"):
        build({})
    with pytest.raises(CorruptWeights, match=r"expected segmentation_module"):
        build(layout_a | layout_b)
    with pytest.raises(CorruptWeights, match="generator must hold names and tensors, got a list"):
        build(layout_b | {"generator": [1, 2]})


def test_layout_a_has_no_first_order_motion(layout_a: dict[str, Any], layout_b: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"first-order motion needs.*Take vox-first-order\.pth\.tar"):
        build(layout_a, first_order=True)
    assert isinstance(build(layout_a)[1].motion, SegmentMotion)
    assert isinstance(build(layout_b)[1].motion, DenseMotion)
    assert isinstance(build(layout_b, first_order=False)[1].motion, SegmentMotion)


def test_a_first_order_checkpoint_without_segmentation_head(layout_b: dict[str, Any]) -> None:
    # So the published one is: key points, but no segments.
    for name in ("weight", "bias"):
        del layout_b["kp_detector"][f"semantic_seg.{name}"]
    with pytest.raises(ValueError, match=r"no kp_detector\.semantic_seg\.weight.*vox-\*segments"):
        build(layout_b, first_order=False)
    segmentation, swap = build(layout_b)
    with pytest.raises(ValueError, match="give a parser"):
        CropSwapper(segmentation, swap, parts="all")
    parser = FaceParser(nn.Conv2d(3, 19, 1), side=64)
    swapper = CropSwapper(segmentation, swap, parser, parts="face")
    out = swapper(swapper.source(torch.rand(1, 3, 64, 64)), torch.rand(2, 3, 64, 64))
    assert out.shape == (2, 3, 64, 64)
    with pytest.raises(ValueError, match="needs the parts' masks"):
        SegmentMotion()(torch.rand(1, 3, 8, 8), *[segmentation(torch.rand(1, 3, 64, 64))] * 2)


def test_default_sizes_are_those_of_the_published_nets() -> None:
    # The settings that were published with the checkpoints (vox-256), as they show in the tensors.
    with torch.device("meta"):
        segmentation, motion, generator = PartSegmentation(), DenseMotion(), Generator()
    nets = nn.ModuleDict({"segmentation": segmentation, "motion": motion, "generator": generator})
    shapes = {key: tuple(value.shape) for key, value in nets.state_dict().items()}
    expected = {
        "segmentation.predictor.encoder.down_blocks.0.conv.weight": (64, 3, 3, 3),
        "segmentation.predictor.encoder.down_blocks.4.conv.weight": (1024, 512, 3, 3),
        "segmentation.predictor.decoder.up_blocks.4.conv.weight": (32, 128, 3, 3),
        "segmentation.shift.weight": (10, 35, 7, 7),
        "segmentation.affine.weight": (40, 35, 7, 7),
        "segmentation.down.weight": (3, 1, 13, 13),
        "motion.hourglass.encoder.down_blocks.0.conv.weight": (128, 44, 3, 3),
        "motion.hourglass.encoder.down_blocks.4.conv.weight": (1024, 1024, 3, 3),
        "motion.hourglass.decoder.up_blocks.1.conv.weight": (512, 2048, 3, 3),
        "motion.mask.weight": (11, 108, 7, 7),
        "generator.down_blocks.1.conv.weight": (256, 128, 3, 3),
        "generator.bottleneck.r5.conv2.weight": (256, 256, 3, 3),
        "generator.final.weight": (3, 64, 7, 7),
    }
    assert expected.items() <= shapes.items()
    assert not [key for key in shapes if "down_blocks.5" in key or "r6" in key]
    assert all(256 % net.multiple == 0 for net in (segmentation, motion, generator))


# --- what may be asked for --------------------------------------------------------------------------------


def one_class(number: int) -> Any:
    """A parser that sees one class everywhere."""

    def parse(images: Tensor) -> Tensor:
        shares = images.new_zeros(len(images), 19, 8, 8)
        shares[:, number] = 1
        return shares

    return parse


def swapped_share(parts: Any, number: int) -> float:
    segmentation, swap = small_nets()
    swapper = CropSwapper(segmentation, swap, one_class(number), parts=parts)
    mask = swapper.source(torch.rand(1, 3, 16, 16)).mask
    assert mask is not None
    return float(mask.mean())


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        ("face", set(FACE_CLASSES) - {"background", "clothes", "hair", "hat"}),
        ("hair", set(FACE_CLASSES) - {"background", "clothes", "hat"}),
        ("all", set(FACE_CLASSES) - {"background"}),
        (["left_eye", "nose"], {"left_eye", "nose"}),
    ],
)
def test_parts_by_name(parts: Any, names: set[str]) -> None:
    swapped = {name for number, name in enumerate(FACE_CLASSES) if swapped_share(parts, number) == 1}
    assert swapped == names


@pytest.mark.parametrize("parts", ["nose", [], ["nostril"], [10], ["nose", 4]])
def test_parts_that_no_parser_knows(parts: Any) -> None:
    with pytest.raises(ValueError, match=r"parts must be 'face', 'hair', 'all', or a list of names"):
        CropSwapper(*small_nets(), one_class(0), parts=parts)


@pytest.mark.parametrize("parts", ["face", [], [0], [4], ["nose"]])
def test_segments_that_do_not_exist(parts: Any) -> None:
    with pytest.raises(ValueError, match="without a parser parts must be 'all', or a list of numbers from 1 to 3"):
        CropSwapper(*small_nets(), parts=parts)


def test_all_segments_are_all_but_the_background() -> None:
    segmentation, swap = small_nets()
    image = torch.rand(1, 3, 16, 16)
    mask = CropSwapper(segmentation, swap, parts="all").source(image).mask
    masks = segmentation(image).masks
    assert mask is not None
    assert masks is not None
    torch.testing.assert_close(mask, 1 - masks[:, :1])


def test_crops_that_the_nets_cannot_take() -> None:
    swapper = CropSwapper(*small_nets(), parts="all")
    with pytest.raises(ValueError, match="divisible by 8 for these nets, got 20 x 16"):
        swapper.source(torch.rand(1, 3, 20, 16))
    with pytest.raises(ValueError, match="a source is one image, got 2"):
        swapper.source(torch.rand(2, 3, 16, 16))
    source = swapper.source(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match=r"as large as the source's, \(16, 16\), got \(24, 24\)"):
        swapper(source, torch.rand(1, 3, 24, 24))
    with pytest.raises(TypeError, match="crops must be float32"):
        swapper(source, torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="mask_from must be 'source', 'target' or 'both', got 'neither'"):
        CropSwapper(*small_nets(), parts="all", mask_from="neither")  # type: ignore[arg-type]


# --- in frames --------------------------------------------------------------------------------------------


class Painted(CropSwapper):
    """Shows one value in place of every crop, or the crop itself."""

    def __init__(self, value: float | None) -> None:
        super().__init__(*small_nets(), parts="all")
        self.value = value

    def forward(self, source: SourceFace, crops: Tensor) -> Tensor:
        return crops if self.value is None else torch.full_like(crops, self.value)


def face(*box: float) -> Faces:
    return Faces(torch.tensor([box]), torch.ones(1))


SOURCE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "box",
    [
        (30.0, 20.0, 70.0, 75.0),
        (30.3, 20.6, 70.4, 75.9),
        (0.0, 0.0, 40.0, 40.0),
        (-20.0, 50.5, 30.0, 130.0),
        (60.0, -8.0, 110.0, 30.0),
        (-10.0, -10.0, 140.0, 120.0),
        (2.0, 2.0, 118.0, 40.0),
    ],
)
@pytest.mark.parametrize("shape", ["box", "ellipse"])
def test_nothing_of_the_face_shows_and_nothing_around_it_changes(
    box: tuple[float, ...], shape: Literal["box", "ellipse"]
) -> None:
    # The ellipse that touches the face's box is cut at its corners; one and a half times as large it holds the box.
    fallback = Pixelate(blocks=4, region=FaceRegion(1.2 if shape == "box" else 1.5, shape))
    swapper = CoSegmentationSwapper(SOURCE, net=Painted(1.0), fallback=fallback)
    image = torch.rand(1, 3, 100, 120) * 0.5
    before = image.clone()
    out = swapper(image, [face(*box)])
    assert torch.equal(image, before)
    x0, y0, x1, y1 = box
    rows, columns = slice(max(int(y0), 0), int(-(-y1 // 1))), slice(max(int(x0), 0), int(-(-x1 // 1)))
    assert float(out[:, :, rows, columns].min()) > 1 - 1e-6
    outside = (swapper.mask([face(*box)], 100, 120) == 0).expand_as(out)
    assert torch.equal(out[outside], image[outside])


def test_a_crop_goes_back_to_where_it_came_from() -> None:
    # 231 * 1.1, rounded up, and one more: a square of 256 pixels, which nothing resizes.
    swapper = CoSegmentationSwapper(SOURCE, net=Painted(None), margin=0.1)
    image = to_grid(torch.rand(1, 3, 300, 320))
    out = swapper(image, [face(40.0, 30.0, 250.0, 261.0)])
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [60, 100, 150])
def test_a_resized_crop_goes_back_to_where_it_came_from(size: int) -> None:
    # Bilinear resizing leaves a plane as it is: a shift of a tenth of a pixel would show.
    swapper = CoSegmentationSwapper(SOURCE, net=Painted(None))
    x, y = torch.arange(320) / 320, torch.arange(300) / 600
    image = (x + y[:, None]).div(2).expand(1, 3, -1, -1)
    out = swapper(image, [face(100.0, 90.0, 100.0 + size, 80.0 + size)])
    assert float((out - image).abs().max()) < 0.1 / 640


def test_a_frame_is_its_own_whatever_lies_beside_it() -> None:
    swapper = CoSegmentationSwapper(SOURCE, net=CropSwapper(*small_nets(), parts="all"), batch_size=2)
    images = torch.rand(3, 3, 80, 90)
    two = Faces(torch.tensor([[5.0, 5.0, 40.0, 40.0], [45.0, 30.0, 85.0, 70.0]]), torch.ones(2))
    faces = [two, Faces.empty(), face(20.0, 10.0, 60.0, 70.0)]
    out = swapper(images, faces)
    assert torch.equal(out[1], images[1])
    for number in (0, 2):
        alone = swapper(images[number : number + 1], faces[number : number + 1])
        torch.testing.assert_close(out[number], alone[0], atol=5e-6, rtol=0)
        assert not torch.equal(out[number], images[number])
    # Faces that do not overlap are swapped one without the other.
    first = swapper(images[:1], [two[[0]]])
    torch.testing.assert_close(first[0, :, :, :41], out[0, :, :, :41], atol=5e-6, rtol=0)
    assert torch.equal(first[0, :, :, 45:], images[0, :, :, 45:])


@pytest.mark.parametrize(
    ("value", "box"),
    [
        (float("nan"), (20.0, 10.0, 60.0, 70.0)),
        (1.0, (20.0, 10.0, 43.0, 30.0)),
        (1.0, (20.0, 10.0, 20.0, 10.0)),
        (1.0, (-1e6, -1e6, 1e6, 1e6)),
    ],
)
def test_what_cannot_be_swapped_is_hidden_by_the_fallback(value: float, box: tuple[float, ...]) -> None:
    swapper = CoSegmentationSwapper(SOURCE, net=Painted(value))
    image = torch.rand(1, 3, 80, 90)
    assert torch.equal(swapper(image, [face(*box)]), Solid()(image, [face(*box)]))


def test_the_source_is_cut_out_by_its_face() -> None:
    net = CropSwapper(*small_nets(), parts="all")
    picture = torch.rand(3, 300, 320)
    swapper = CoSegmentationSwapper(picture, source_faces=face(40.0, 30.0, 250.0, 261.0), net=net, margin=0.1)
    # Centre (145, 145.5), 256 pixels wide.
    torch.testing.assert_close(swapper.source.look.image[0], picture[:, 17:273, 17:273], atol=1e-6, rtol=0)


def test_sources_that_show_no_one_face() -> None:
    net = Painted(1.0)
    two = Faces(torch.tensor([[0.0, 0.0, 9.0, 9.0]] * 2), torch.ones(2))
    with pytest.raises(ValueError, match="no face was found in the source"):
        CoSegmentationSwapper(SOURCE, source_faces=Faces.empty(), net=net)
    with pytest.raises(ValueError, match=r"the source shows 2 faces\. Choose one: source_faces=faces\[\[0\]\]"):
        CoSegmentationSwapper(SOURCE, source_faces=two, net=net)
    with pytest.raises(ValueError, match=r"must be a square crop of one face, got 64 x 32"):
        CoSegmentationSwapper(SOURCE[:, :, :32], net=net)
    with pytest.raises(ValueError, match=r"source must lie in \[0, 1\]"):
        CoSegmentationSwapper(SOURCE * 255, net=net)
    with pytest.raises(ValueError, match=r"source must be one image \(1, 3, H, W\), got 2"):
        CoSegmentationSwapper(torch.stack([SOURCE, SOURCE]), net=net)
    with pytest.raises(ValueError, match="margin must be >= 0"):
        CoSegmentationSwapper(SOURCE, net=net, margin=-0.1)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        CoSegmentationSwapper(SOURCE, net=net, batch_size=0)


def test_nets_are_loaded_from_a_file(tmp_path: Path, layout_b: dict[str, Any]) -> None:
    torch.save(layout_b, tmp_path / "small.pth.tar")
    image = torch.rand(1, 3, 64, 64)
    nets = (
        CropSwapper.load(tmp_path / "small.pth.tar", parser=None, parts=[1, 2]),
        CropSwapper(*build(layout_b), parts=[1, 2]),
        CropSwapper.load(layout_b, parser=None, parts=[1, 2], align_corners=False),
    )
    results = [net(net.source(image), image) for net in nets]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_weights_that_are_missing_or_something_else(
    tmp_path: Path, layout_b: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEIDLIB_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("DEIDLIB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFound, match=r"vox-first-order\.pth\.tar.*drive\.google\.com"):
        CropSwapper.load()
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CorruptWeights, match=r"got conv\.weight"):
        CropSwapper.load(tmp_path / "other.pth")
    with pytest.raises(CorruptWeights, match=r"other\.pth is not of this net \(BiSeNet\)"):
        CropSwapper.load(layout_b, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CorruptWeights, match=r"list\.pth holds a list"):
        CropSwapper.load(tmp_path / "list.pth")
