"""``Presentation``: how the pixels of a video are to be shown, which is not in the pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Self

Fields = Literal["progressive", "top", "bottom"]

UNSPECIFIED = 2
"""Of primaries and transfer: nobody says."""

_PRIMARIES = (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22)
_TRANSFERS = (1, *range(4, 19))


@dataclass(frozen=True)
class Presentation:
    """How the pixels of a video are to be shown.

    Args:
        pixel_aspect: the width of a pixel by its height; 2 is twice as wide as high.
        fields: ``"progressive"``, or which field of a frame was taken first: that of its ``"top"`` line or the
            ``"bottom"`` one.
        primaries: what red, green and blue are, as ITU-T H.273 numbers them: 1 is BT.709, 9 BT.2020, 2 unspecified.
        transfer: how levels become light, numbered there too: 1 is BT.709, 13 sRGB, 2 unspecified.

    Raises:
        ValueError: an aspect that is not positive, or another word for the fields.

    Example:
        >>> Presentation(Fraction(2), "top").to_json()
        {'pixel_aspect': '2', 'fields': 'top'}
        >>> Presentation.from_json({"pixel_aspect": "2"}).turned().pixel_aspect
        Fraction(1, 2)
    """

    pixel_aspect: Fraction = Fraction(1)
    fields: Fields = "progressive"
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    def __post_init__(self) -> None:
        if self.pixel_aspect <= 0:
            raise ValueError(f"pixel_aspect must be positive, got {self.pixel_aspect}.")
        if self.fields not in ("progressive", "top", "bottom"):
            raise ValueError(f"fields must be progressive, top or bottom, got {self.fields!r}.")
        # What no standard has is nobody's word.
        for name, known in (("primaries", _PRIMARIES), ("transfer", _TRANSFERS)):
            if getattr(self, name) not in known:
                object.__setattr__(self, name, UNSPECIFIED)

    def turned(self) -> Self:
        """The same of frames turned by a quarter: their fields are columns by then, which no player takes apart."""
        return replace(self, pixel_aspect=1 / self.pixel_aspect, fields="progressive")

    def flipped(self, height: int) -> Self:
        """The same of frames put upside down: of an even number of lines, the top one was of the bottom field."""
        other: dict[Fields, Fields] = {"top": "bottom", "bottom": "top", "progressive": "progressive"}
        return self if height % 2 else replace(self, fields=other[self.fields])

    def to_json(self) -> dict[str, Any]:
        """As JSON; what is as usual is left out."""
        every = {
            "pixel_aspect": str(self.pixel_aspect),
            "fields": self.fields,
            "primaries": self.primaries,
            "transfer": self.transfer,
        }
        usual = ("1", "progressive", UNSPECIFIED, UNSPECIFIED)
        return {name: value for (name, value), plain in zip(every.items(), usual, strict=True) if value != plain}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What :meth:`to_json` gave.

        Raises:
            ValueError: it is none.
        """
        fields = data.get("fields", "progressive")
        numbers = (int(data.get(name, UNSPECIFIED)) for name in ("primaries", "transfer"))
        return cls(Fraction(str(data.get("pixel_aspect", 1))), fields, *numbers)
