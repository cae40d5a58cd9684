"""``read_coco``: boxes of faces in COCO's JSON, as annotation tools and data sets write it."""

from __future__ import annotations

from typing import Any

import torch

from deidlib.bounded import MOST_FRAMES, BoundsError, fields, listed, number, text, whole
from deidlib.records.annotated import MOST_BOXES, Annotated, by_frame, face_labels, in_order, table

_ID = whole(-(2**62), 2**62)
_SIDE = whole(1, 1_000_000)
_SHAPE = fields(
    {
        "images": listed(
            fields({"id": _ID, "file_name": text(), "width": _SIDE, "height": _SIDE}), MOST_FRAMES, least=1
        ),
        "annotations": listed(
            fields({"image_id": _ID, "category_id": _ID, "bbox": listed(number, 4, 4)}, {"score": number}), MOST_BOXES
        ),
    },
    {"categories": listed(fields({"id": _ID, "name": text(200)}), 100_000)},
)


def is_coco(data: Any) -> bool:
    """Whether a JSON value is one of COCO's: its annotations, or its results, which are a list."""
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], dict) and "image_id" in data[0]
    return isinstance(data, dict) and "annotations" in data and "images" in data


def read_coco(data: Any) -> Annotated:
    """Boxes of faces, frame by frame: the pictures are the clip's frames, in the order of their names.

    Of several categories the one called ``face`` is taken. Key points are passed over: nobody knows in which order they
    are. A box without a ``score`` has 1.

    Args:
        data: the JSON value.

    Raises:
        BoundsError: another shape, pictures of several sizes, or categories none of which is called face.

    Example:
        >>> picture = {"id": 7, "file_name": "a.png", "width": 64, "height": 48}
        >>> box = {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 25]}
        >>> read_coco({"images": [picture], "annotations": [box]}).faces[0].boxes
        tensor([[10., 20., 40., 45.]])
    """
    if isinstance(data, list):
        raise BoundsError(
            "it is a list of COCO's results, which does not say which pictures there are. Put it under "
            "'annotations', beside the 'images' of the data set"
        )
    _SHAPE(data, "it")
    images, annotations = data["images"], data["annotations"]
    sizes = {(image["height"], image["width"]) for image in images}
    if len(sizes) > 1:
        raise BoundsError(
            f"its pictures have {len(sizes)} sizes, and the frames of a clip have one. Keep those of one clip in a file"
        )
    order = in_order([image["file_name"] for image in images])
    places = {images[place]["id"]: number for number, place in enumerate(order)}
    if len(places) < len(images):
        raise BoundsError("two of its images have one id")
    names = {category["id"]: category["name"] for category in data.get("categories", [])}
    used = {one["category_id"] for one in annotations}
    if used - names.keys() and (names or len(used) > 1):
        raise BoundsError(f"it has boxes of the category {sorted(used - names.keys())[0]}, which its categories lack")
    # A category that is there and is drawn nowhere is still one that a box could have been of.
    wanted = face_labels([names[one] for one in names]) if names else set()
    faces = [one for one in annotations if not names or names[one["category_id"]] in wanted]
    if unknown := [one["image_id"] for one in faces if one["image_id"] not in places]:
        raise BoundsError(f"it has a box in the image {unknown[0]}, which its images lack")
    boxes = table((one["bbox"] for one in faces), 4)
    if bool((boxes[:, 2:] < 0).any()):
        raise BoundsError("a box has a negative width or height; bbox is [x, y, width, height]")
    boxes[:, 2:] += boxes[:, :2]
    frames = torch.tensor([places[one["image_id"]] for one in faces], dtype=torch.long)
    scores = table(([one.get("score", 1.0)] for one in faces), 1)[:, 0]
    return Annotated(by_frame(frames, boxes, scores, len(images)), sizes.pop())
