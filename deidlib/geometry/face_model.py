"""The generic face: where the 68 landmarks, or five, of an average face lie."""

from __future__ import annotations

import torch
from torch import Tensor

# Right half and midline of the model, by iBUG index; metres, x to the subject's left. The left half mirrors it.
_HALF = {
    0: (-0.07141807, -0.02827123, 0.08114384), 1: (-0.07067417, -0.00961522, 0.08035654),
    2: (-0.06844646, 0.00895837, 0.08046731), 3: (-0.06474301, 0.02708319, 0.08045689),
    4: (-0.05778475, 0.04384917, 0.07802191), 5: (-0.04673809, 0.05812865, 0.07192291),
    6: (-0.03293922, 0.06962711, 0.06106274), 7: (-0.01744018, 0.07850638, 0.04752971),
    8: (0.0, 0.08105961, 0.0425195), 17: (-0.05977758, -0.0447858, 0.04562813),
    18: (-0.05055506, -0.05334294, 0.03834846), 19: (-0.0375633, -0.05609241, 0.03158344),
    20: (-0.02423648, -0.05463779, 0.02510117), 21: (-0.01168798, -0.04986641, 0.02050337),
    27: (0.0, -0.03515768, 0.02038099), 28: (0.0, -0.02350421, 0.01366667),
    29: (0.0, -0.01196914, 0.00658284), 30: (0.0, 0.0, 0.0),
    31: (-0.01479319, 0.00949072, 0.01708772), 32: (-0.00762319, 0.01179908, 0.01419133),
    33: (0.0, 0.01381676, 0.01205559), 36: (-0.045, -0.032415, 0.03976718),
    37: (-0.0370546, -0.0371723, 0.03579593), 38: (-0.0275166, -0.03714814, 0.03425518),
    39: (-0.01919724, -0.03101962, 0.03359268), 40: (-0.02813814, -0.0294397, 0.03345652),
    41: (-0.03763013, -0.02948442, 0.03497732), 48: (-0.02847002, 0.03331642, 0.03667993),
    49: (-0.01796181, 0.02843251, 0.02335485), 50: (-0.00742947, 0.0258057, 0.01630812),
    51: (0.0, 0.0275555, 0.01538404), 57: (0.0, 0.04688623, 0.01716318),
    58: (-0.00808323, 0.04614537, 0.01820142), 59: (-0.0183606, 0.0423393, 0.02523355),
    60: (-0.02409981, 0.03367606, 0.03421466), 61: (-0.00756874, 0.03192644, 0.01851247),
    62: (0.0, 0.03263345, 0.01732347), 66: (0.0, 0.03791103, 0.0180805),
    67: (-0.00771924, 0.03711846, 0.01940396),
}  # fmt: skip


# The iBUG index of each right-hand point's mirror image.
_MIRROR = {
    **{i: 16 - i for i in range(8)},
    **{i: 43 - i for i in range(17, 22)},
    **{31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46},
    **{48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65},
}


_RIGHT_EYE, _LEFT_EYE, _MOUTH, _NOSE, _NOSE_TIP = (36, 39), (42, 45), (48, 54), (31, 35), 30


PARTS = {
    "right eye": _RIGHT_EYE,
    "left eye": _LEFT_EYE,
    "eyes and mouth": (*_RIGHT_EYE, *_LEFT_EYE, *_MOUTH),
    "eyes and nose": (*_RIGHT_EYE, *_LEFT_EYE, *_NOSE),
}


def face_model(points: int = 68) -> Tensor:
    """The generic face: where its landmarks lie.

    Args:
        points: 68 in iBUG order, or 5: right eye, left eye (middle of the corners), nose tip, right and left
            mouth corner.

    Returns:
        ``(points, 3)`` float64 metres, turned like the camera frame: a face that looks straight into the camera
        is this, moved along z. The subject's right is at negative x.

    Raises:
        ValueError: another number of points.

    Example:
        >>> face_model(5)[2].tolist()
        [0.0, 0.0, 0.0]
    """
    if points not in (5, 68):
        raise ValueError(f"the face model has 68 or 5 points, not {points}.")
    model = torch.zeros(68, 3, dtype=torch.float64)
    for index, (x, y, z) in _HALF.items():
        model[index] = torch.tensor([x, y, z], dtype=torch.float64)
        if index in _MIRROR:
            model[_MIRROR[index]] = torch.tensor([-x, y, z], dtype=torch.float64)
    if points == 68:
        return model
    eyes = [model[list(corners)].mean(dim=0) for corners in (_RIGHT_EYE, _LEFT_EYE)]
    return torch.stack([*eyes, model[_NOSE_TIP], *model[list(_MOUTH)]])
