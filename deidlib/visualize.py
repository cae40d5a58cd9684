"""Look at results: boxes, landmarks, gaze and head axes drawn on frames, and sheets that compare frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from deidlib.faces import Faces, check_per_frame
from deidlib.geometry.camera import Camera, head_pose, project_axes
from deidlib.images import check_images, to_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Color = tuple[float, float, float]
GREEN: Color = (0.0, 0.9, 0.25)
CYAN: Color = (0.0, 0.85, 1.0)
YELLOW: Color = (1.0, 0.85, 0.0)
AXES: tuple[Color, Color, Color] = ((1.0, 0.2, 0.2), (0.2, 0.9, 0.2), (0.3, 0.4, 1.0))
"""Colours of the head's x, y and z axis."""


def draw_faces(
    images: Tensor,
    faces: Faces | Sequence[Faces],
    *,
    color: Color = GREEN,
    axes: bool = False,
    camera: Camera | None = None,
) -> Tensor:
    """Draw whatever is known about the faces: boxes, landmarks as dots, gaze as yellow arrows.

    A gaze arrow starts between the eyes, or in the middle of the box where there are no landmarks, and is as long
    as the box is wide when the subject looks at right angles to the camera's axis (parallel projection).

    Args:
        images: ``(B, 3, H, W)``, or one frame ``(3, H, W)``; in [0, 1]; not modified.
        faces: one :class:`Faces` per frame; for one frame, its :class:`Faces`.
        color: of the boxes.
        axes: also draw the head's axes, from the pose that fits the landmarks: red to the subject's left, green
            down, blue into the head.
        camera: that took the frames, for ``axes``; by default :meth:`Camera.default`.

    Returns:
        New tensor of the shape of ``images``.

    Raises:
        TypeError: images are not a float tensor.
        ValueError: images are no valid batch, or there is not one ``Faces`` per frame.

    Example:
        >>> faces = Faces(boxes=torch.tensor([[8., 8., 40., 40.]]), scores=torch.ones(1))
        >>> drawn = draw_faces(torch.zeros(3, 64, 64), faces)
        >>> drawn[:, 8, 24], drawn[:, 24, 24]
        (tensor([0.0000, 0.4500, 0.1250]), tensor([0., 0., 0.]))
    """
    single = isinstance(images, Tensor) and images.ndim == 3
    batch = check_images(images[None] if single else images)
    frames = [faces] if isinstance(faces, Faces) else list(faces)
    check_per_frame(frames, batch)
    drawn = []
    for image, known in zip(batch, frames, strict=True):
        image = draw_boxes(image, known.boxes, color)
        if known.landmarks is not None:
            # 68 dots of the size of 5 would hide the face.
            radius = (1.2 if known.landmarks.shape[1] == 5 else 0.6) * _width(image)
            image = draw_points(image, known.landmarks.reshape(-1, 2), radius=radius)
            if axes and len(known):
                seen_by = camera or Camera.default(image.shape[2], image.shape[1])
                image = draw_axes(image, project_axes(*head_pose(known.landmarks, seen_by), seen_by))
        if known.gaze is not None:
            start = _between_eyes(known)
            length = (known.boxes[:, 2:3] - known.boxes[:, :1]).clamp(min=1)
            image = draw_arrows(image, torch.stack([start, start + length * known.gaze[:, :2]], dim=1))
        drawn.append(image)
    return drawn[0] if single else torch.stack(drawn)


def draw_boxes(image: Tensor, boxes: Tensor, color: Color = GREEN, *, width: float | None = None) -> Tensor:
    """Outlines of ``boxes`` ``(N, 4)`` xyxy pixels on ``image`` ``(3, H, W)``.

    Args:
        image: not modified.
        boxes: the middle of the line runs along their edges.
        color: red, green, blue in [0, 1].
        width: of the line in pixels; by default it fits the frame's size.
    """
    ring = boxes[:, [0, 1, 2, 1, 2, 1, 2, 3, 2, 3, 0, 3, 0, 3, 0, 1]]
    return _stroked(image, ring.reshape(-1, 2, 2), width or _width(image), color)


def draw_points(image: Tensor, points: Tensor, color: Color = CYAN, *, radius: float | None = None) -> Tensor:
    """Dots at ``points`` ``(N, 2)`` pixels on ``image`` ``(3, H, W)``.

    Args:
        image: not modified.
        points: centres.
        color: red, green, blue in [0, 1].
        radius: in pixels; by default it fits the frame's size.
    """
    # A dot is a line without length.
    return _stroked(image, torch.stack([points, points], dim=1), 2 * (radius or _width(image)), color)


def draw_arrows(image: Tensor, lines: Tensor, color: Color = YELLOW, *, width: float | None = None) -> Tensor:
    """Arrows from start to end of ``lines`` ``(N, 2, 2)`` pixels on ``image`` ``(3, H, W)``.

    Args:
        image: not modified.
        lines: starts and ends.
        color: red, green, blue in [0, 1].
        width: of the line in pixels; by default it fits the frame's size.
    """
    start, end = lines[:, 0], lines[:, 1]
    back = 0.25 * (start - end)
    aside = 0.6 * back.flip(1) * back.new_tensor([-1.0, 1.0])
    wings = [torch.stack([end, end + back + side], dim=1) for side in (aside, -aside)]
    return _stroked(image, torch.cat([lines, *wings]), width or _width(image), color)


def draw_axes(image: Tensor, axes: Tensor, *, width: float | None = None) -> Tensor:
    """Head axes, x red, y green, z blue, on ``image`` ``(3, H, W)``.

    Args:
        image: not modified.
        axes: ``(N, 4, 2)`` pixels: origin and ends, as :func:`deidlib.geometry.camera.project_axes` gives.
        width: of the line in pixels; by default it fits the frame's size.
    """
    for k, color in enumerate(AXES):
        image = draw_arrows(image, axes[:, [0, k + 1]], color, width=width)
    return image


def amplified(protected: Tensor, obfuscated: Tensor, factor: float = 16.0) -> Tensor:
    """A perturbation made visible: mid-grey plus ``factor`` times the difference, cut off at [0, 1].

    Args:
        protected: any float tensor of images in [0, 1].
        obfuscated: the same shape.
        factor: 16 shows 8/255 as full black or white.

    Example:
        >>> amplified(torch.tensor([0.5, 0.51, 0.4]), torch.tensor([0.5, 0.5, 0.5])).round(decimals=2)
        tensor([0.5000, 0.6600, 0.0000])
    """
    if protected.shape != obfuscated.shape:
        raise ValueError(f"both must have the same shape, got {tuple(protected.shape)} and {tuple(obfuscated.shape)}.")
    return (0.5 + factor * (protected - obfuscated)).clamp(0, 1)


def sheet(
    rows: Sequence[Sequence[Tensor]],
    titles: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
) -> Tensor:
    """Panels side by side, for comparing: original, obfuscated, protected, perturbation.

    Panels narrower than 240 pixels are enlarged by a whole factor, each pixel to a square.

    Args:
        rows: panels ``(3, h, w)`` in [0, 1], all of one size; every row has the same number.
        titles: one for every column, above it.
        labels: one for every row, to its left.
        captions: one for every panel, below it; ``""`` for none.

    Returns:
        ``(3, H, W)`` float32 on the CPU, in [0, 1], dark text on white.

    Raises:
        TypeError: a panel is not a float tensor.
        ValueError: no panels, panels of different sizes, rows of different lengths, or a wrong number of titles,
            labels or captions.

    Example:
        >>> panel = torch.rand(3, 240, 320)
        >>> page = sheet([[panel, panel], [panel, panel]], titles=["before", "after"], labels=["frame 1", "frame 2"])
        >>> page.shape[1] > 2 * 240, page.shape[2] > 2 * 320
        (True, True)
    """
    columns = len(rows[0]) if rows else 0
    if not columns or any(len(row) != columns for row in rows):
        raise ValueError(f"rows must hold the same number of panels, at least one, got {[len(row) for row in rows]}.")
    for name, texts, wanted in (("titles", titles, columns), ("labels", labels, len(rows))):
        if texts is not None and len(texts) != wanted:
            raise ValueError(f"{name} must hold {wanted} texts, got {len(texts)}.")
    if captions is not None and [len(texts) for texts in captions] != [columns] * len(rows):
        raise ValueError(f"captions must be {len(rows)} rows of {columns}, got {[len(texts) for texts in captions]}.")
    size = tuple(rows[0][0].shape)
    for k, panel in enumerate(panel for row in rows for panel in row):
        if tuple(panel.shape) != size:
            raise ValueError(f"panels must have one size: the first is {size}, number {k} {tuple(panel.shape)}.")
        check_images(panel[None], name=f"panel {k}")
    enlarge = -(-240 // size[2]) if size[2] < 240 else 1
    height, width = size[1] * enlarge, size[2] * enlarge

    # Everything else is measured by the height of the text.
    text = max(13, round(width / 22))
    gap = text // 2
    head = 2 * text if titles else 0
    foot = round(1.7 * text) if captions else 0
    margin = max(_text_width(label, text) for label in labels) + 2 * text if labels else 0
    step_x, step_y = width + gap, height + foot + gap
    page = torch.ones(3, head + gap + len(rows) * step_y, margin + gap + columns * step_x)

    for r, row in enumerate(rows):
        top = head + gap + r * step_y
        if labels:
            _write(page, labels[r], text, (margin + gap) / 2, top + height / 2, margin - text)
        for c, panel in enumerate(row):
            left = margin + gap + c * step_x
            shown = panel.detach().to("cpu", torch.float32)
            page[:, top : top + height, left : left + width] = repeat(
                shown, "c h w -> c (h down) (w across)", down=enlarge, across=enlarge
            )
            if captions:
                _write(page, captions[r][c], round(0.85 * text), left + width / 2, top + height + foot / 2, width)
    for c, title in enumerate(titles or ()):
        _write(page, title, text, margin + gap + c * step_x + width / 2, (head + gap) / 2, width)
    return page


def picture(image: Tensor) -> Image:
    """A frame or a sheet as an image of Pillow, which notebooks show; ``.save("a.png")`` keeps it.

    Args:
        image: ``(3, H, W)``, or a batch of one, in [0, 1], on any device.

    Raises:
        ValueError: several frames: lay them out by :func:`sheet`.

    Example:
        >>> picture(torch.zeros(3, 4, 5)).size
        (5, 4)
    """
    from PIL import Image

    batch = check_images(image[None] if isinstance(image, Tensor) and image.ndim == 3 else image, name="image")
    if len(batch) != 1:
        raise ValueError(f"picture shows one frame, got {len(batch)}. Lay them out: picture(sheet([list(images)])).")
    return Image.fromarray(to_pixels(batch)[0])


def figure(width: float, height: float) -> Figure:
    """An empty figure of matplotlib, which notebooks show, once: nothing of pyplot is asked or changed.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModuleNotFoundError(
            "curves are drawn by matplotlib, which is not installed. Run `pip install deidlib[notebook]`."
        ) from error

    class Shown(Figure):
        """Shown where it is the last word of a cell, with pyplot and without."""

        def _repr_png_(self) -> bytes:
            file = BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Shown(figsize=(width, height), dpi=100, layout="constrained")


_INK: Color = (0.13, 0.13, 0.15)


def _width(image: Tensor) -> int:
    """Line width for a frame: 3 pixels at 480, 4 at 720, 6 at 1080."""
    return max(1, round(min(image.shape[1:]) / 180))


def _stroked(image: Tensor, segments: Tensor, width: float, color: Color) -> Tensor:
    """Straight strokes ``(S, 2, 2)`` with round ends, smooth, with a thin dark seam so that any ground shows them.

    By hand: torchvision and supervision draw in whole pixels, without a seam, and round the rest of the picture.
    """
    height, across = image.shape[1:]
    distance = torch.full((height, across), torch.inf, dtype=torch.float64)
    reach = width / 2 + 2
    for (x0, y0), (x1, y1) in segments.detach().cpu().double().tolist():
        if not math.isfinite(x0 + y0 + x1 + y1):
            continue
        left, right = max(0, math.floor(min(x0, x1) - reach)), min(across, math.ceil(max(x0, x1) + reach))
        top, bottom = max(0, math.floor(min(y0, y1) - reach)), min(height, math.ceil(max(y0, y1) + reach))
        if left >= right or top >= bottom:
            continue
        # From each pixel's centre to the nearest point of the stroke.
        x = torch.arange(left, right, dtype=torch.float64) + 0.5 - x0
        y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5 - y0)[:, None]
        dx, dy = x1 - x0, y1 - y0
        along = ((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12)).clamp(0, 1)
        near = distance[top:bottom, left:right]
        torch.minimum(near, torch.hypot(x - along * dx, y - along * dy), out=near)
    image = _blend(image, (width / 2 + 1.5 - distance).clamp(0, 1) * 0.45, (0.0, 0.0, 0.0))
    return _blend(image, (width / 2 + 0.5 - distance).clamp(0, 1), color)


def _blend(image: Tensor, share: Tensor, color: Color) -> Tensor:
    """Exactly the image where share is 0, exactly the colour where it is 1."""
    share = share.to(image)
    return image * (1 - share) + image.new_tensor(color)[:, None, None] * share


def _between_eyes(faces: Faces) -> Tensor:
    """``(N, 2)`` pixels; the middle of the box where there are no landmarks."""
    if faces.landmarks is None:
        return (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    eyes = slice(36, 48) if faces.landmarks.shape[1] == 68 else slice(0, 2)
    return faces.landmarks[:, eyes].mean(dim=1)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _text_width(text: str, size: int) -> int:
    length: float = _font(size).getlength(text)
    return round(length)


def _write(page: Tensor, text: str, size: int, x: float, y: float, room: int) -> None:
    """Write onto ``page`` in place, centred at (x, y), smaller if there is no room for it."""
    from PIL import Image, ImageDraw

    if not text:
        return
    size = max(9, min(size, int(size * room / max(1, _text_width(text, size)))))
    # Only the strip around the line of text.
    top, bottom = max(0, int(y - size)), min(page.shape[1], int(y + size) + 1)
    strip = Image.new("L", (page.shape[2], bottom - top))
    ImageDraw.Draw(strip).text((x, y - top), text, fill=255, font=_font(size), anchor="mm")
    page[:, top:bottom] = _blend(page[:, top:bottom], torch.from_numpy(np.array(strip)) / 255, _INK)
