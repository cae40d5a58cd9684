"""``FaceSwapper``: what hides a face by putting another one in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from deidlib.faces import Faces, check_per_frame
from deidlib.geometry.boxes import Rectangle
from deidlib.images import check_images
from deidlib.nets.precision import full_precision
from deidlib.obfuscate import Obfuscator, Solid


class Patch(NamedTuple):
    """What is shown in place of one face.

    Args:
        inside: the pixels that it fills, within the frame.
        pixels: ``(3, h, w)`` in [0, 1], as large as ``inside``; computed, never the original's own.
        share: ``(h, w)`` in [0, 1], how much of each pixel is shown: 1 all over the face, falling to 0 around it.
    """

    inside: Rectangle
    pixels: Tensor
    share: Tensor


SWAPPED = "swapped"
"""What became of a face that was swapped; of any other it is said why not."""


class FaceSwapper(ABC):
    """Hides faces by others, and nothing else; usable wherever an :class:`~deidlib.Obfuscator` is.

    Per frame: a frame's result does not depend on the frames beside it. Which faces are swapped is said by the faces
    given: ``swapper(images, [known[[0]] for known in faces])`` takes the first of each frame and leaves the others
    as they are.

    A face that cannot be swapped is hidden by the fallback, and never shown. Subclasses say only what is shown in
    place of a face, and of which faces they cannot say that.

    Args:
        fallback: hides the faces that cannot be swapped, and whole frames. Its region is the swapper's too: no pixel
            outside of it changes. :class:`~deidlib.Solid` by default.

    Example:
        >>> class Grey(FaceSwapper):
        ...     def swap(self, images, faces):
        ...         inside = Rectangle(2, 2, 4, 4)
        ...         patch = Patch(inside, torch.full((3, 2, 2), 0.5), torch.ones(2, 2))
        ...         return [[patch for _ in known.boxes] for known in faces]
        >>> faces = Faces(torch.tensor([[2., 2., 4., 4.]]), torch.ones(1))
        >>> Grey()(torch.zeros(1, 3, 6, 6), [faces])[0, 0].sum()
        tensor(2.)
    """

    follows_face = True

    def __init__(self, fallback: Obfuscator | None = None) -> None:
        self.fallback = Solid() if fallback is None else fallback

    @abstractmethod
    def swap(self, images: Tensor, faces: Sequence[Faces]) -> Sequence[Sequence[Patch | str | None]]:
        """What to show in place of the faces.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1], the originals; not to be modified.
            faces: B entries; some may be empty.

        Returns:
            For each frame one entry per face, in order; for a face that cannot be swapped why that is so, in a few
            words, or ``None``. What a patch shows outside of the face's region is cut off.
        """

    @final
    @torch.no_grad()
    def __call__(self, images: Tensor, faces: Sequence[Faces]) -> Tensor:
        """Swap the faces.

        Where faces overlap, the later one lies on top; faces that cannot be swapped lie below all others.

        Args:
            images: ``(B, 3, H, W)`` in [0, 1]; not modified.
            faces: one :class:`~deidlib.Faces` per frame.

        Returns:
            ``(B, 3, H, W)`` in [0, 1]; pixels outside :meth:`mask` are the input's, bit for bit.

        Raises:
            TypeError: images are not a float tensor.
            ValueError: images are no valid batch, or there is not one ``Faces`` per frame.
        """
        return self.with_outcomes(images, faces)[0]

    @full_precision()
    @final
    @torch.no_grad()
    def with_outcomes(self, images: Tensor, faces: Sequence[Faces]) -> tuple[Tensor, list[list[str]]]:
        """Swap the faces, and say what became of each: :data:`SWAPPED`, or why it was hidden by the fallback instead.

        Args:
            images: as for a call.
            faces: likewise.

        Returns:
            What a call returns, and for each frame one entry per face, in order.

        Raises:
            TypeError, ValueError: likewise.
        """
        check_images(images)
        check_per_frame(faces, images)
        faces = [known.to(images.device) for known in faces]
        if not any(len(known) for known in faces):
            return images.clone(), [[] for _ in faces]
        height, width = images.shape[2:]
        patches = self.swap(images, faces)
        hopeless = [
            known[[i for i, patch in enumerate(found) if not isinstance(patch, Patch)]]
            for known, found in zip(faces, patches, strict=True)
        ]
        out = self.fallback(images, hopeless)
        for frame, (known, found) in enumerate(zip(faces, patches, strict=True)):
            for i, patch in enumerate(found):
                if not isinstance(patch, Patch):
                    continue
                inside = patch.inside
                rows, columns = slice(inside.top, inside.bottom), slice(inside.left, inside.right)
                region = self.fallback.region.cover(known[[i]], height, width)[0, rows, columns].to(images)
                share = torch.minimum(patch.share.to(images), region)
                # Exact at both ends: share 0 keeps the pixel, share 1 keeps nothing of it.
                old, new = out[frame, :, rows, columns], patch.pixels.to(images).clamp(0, 1)
                out[frame, :, rows, columns] = old * (1 - share) + new * share
        outcomes = [
            [SWAPPED if isinstance(patch, Patch) else patch or "it cannot be swapped" for patch in found]
            for found in patches
        ]
        return out, outcomes

    @final
    def mask(self, faces: Sequence[Faces], height: int, width: int) -> Tensor:
        """Where faces may be hidden: ``(B, 1, H, W)`` in [0, 1], the fallback's region, swapped or not."""
        return self.fallback.mask(faces, height, width)

    @final
    def hide_frame(self, images: Tensor) -> Tensor:
        """Hide whole frames ``(B, 3, H, W)``, every pixel of them, by the fallback."""
        return self.fallback.hide_frame(images)
