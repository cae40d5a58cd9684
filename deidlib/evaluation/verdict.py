"""``Condition``: what an evaluation must not show, such as ``found(yunet) > 0``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deidlib.evaluation.reading import ReaderResult
from deidlib.evaluation.result import Evaluation

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"\s*(\w+)\s*(?:\(\s*([\w.-]+)\s*\))?\s*(<=|>=|<|>)\s*([-+\d.eE]+)\s*(%?)\s*")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


_OF_READERS: Mapping[str, Callable[[ReaderResult], float]] = {
    "found": lambda reader: float(reader.found),
    "found_share": lambda reader: _share(reader.found, reader.faces),
    "missed": lambda reader: float(reader.faces - reader.found),
    "extra": lambda reader: float(reader.extra),
    "iou": lambda reader: _mean(reader.all("iou")),
    "least_iou": lambda reader: min(reader.all("iou"), default=float("nan")),
    "nme": lambda reader: _mean(reader.all("nme_box")),
    "gaze": lambda reader: _mean(reader.all("gaze_deg")),
    "head_pose": lambda reader: _mean(reader.all("head_pose_deg")),
    "diffscore": lambda reader: reader.score["score"],
    "normalised": lambda reader: reader.normalised["score"],
}
_OF_ALL: Mapping[str, Callable[[Evaluation], float | None]] = {
    "accepted": lambda result: None if result.identity is None else result.identity.accepted,
    "cosine": lambda result: None if result.identity is None else result.identity.mean,
    "psnr_outside": lambda result: None if result.quality is None else result.quality.mean("psnr_outside"),
}


@dataclass(frozen=True)
class Condition:
    """A comparison of one measure with a number.

    Of a reader: ``found`` (faces), ``found_share``, ``missed``, ``extra``, ``iou``, ``least_iou``, ``nme`` (landmarks,
    as a share of the face), ``gaze`` and ``head_pose`` (degrees), ``diffscore``, ``normalised``. Of the files:
    ``accepted`` (share of faces taken for the person), ``cosine``, ``psnr_outside`` (dB).

    Args:
        measure: one of those.
        reader: whose, by name; None for what is of the files.
        comparison: ``<``, ``<=``, ``>`` or ``>=``.
        number: what it is compared with.

    Example:
        >>> Condition.parse("iou(retinaface) < 95 %")
        Condition(measure='iou', reader='retinaface', comparison='<', number=0.95)
    """

    measure: str
    reader: str | None
    comparison: str
    number: float

    def __str__(self) -> str:
        return f"{self.measure}{f'({self.reader})' if self.reader else ''} {self.comparison} {self.number:g}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """A condition from words.

        Args:
            text: ``measure(reader) comparison number``; ``%`` divides by 100.

        Raises:
            ValueError: another form, or no such measure.
        """
        form = _FORM.fullmatch(text)
        known = f"{', '.join(_OF_READERS)} of a reader; {', '.join(_OF_ALL)}"
        if form is None:
            raise ValueError(f"{text!r} is no condition. Write 'found(yunet) > 0'; measures: {known}.")
        measure, reader, comparison, digits, percent = form.groups()
        if (measure not in _OF_READERS) if reader else (measure not in _OF_ALL):
            raise ValueError(
                f"{text!r}: no measure {measure!r} {'of a reader' if reader else 'of the files'}: {known}."
            )
        try:
            number = float(digits)
        except ValueError:
            raise ValueError(f"{text!r}: {digits!r} is no number.") from None
        return cls(measure, reader, comparison, number / 100 if percent else number)

    def value(self, result: Evaluation) -> float:
        """The measure.

        Raises:
            ValueError: nobody of that name read, or it was not measured.
        """
        if self.reader is not None:
            if self.reader not in result.readers:
                raise ValueError(
                    f"{self}: {self.reader} read nothing; there are {', '.join(result.readers) or 'no readers'}. "
                    f"Add --against {self.reader}."
                )
            return _OF_READERS[self.measure](result.readers[self.reader])
        value = _OF_ALL[self.measure](result)
        if value is None:
            wanted = "--quality" if self.measure == "psnr_outside" else "--embedder, and a threshold"
            raise ValueError(f"{self}: {self.measure} was not measured. Add {wanted}.")
        return value

    def holds(self, result: Evaluation) -> bool:
        """Whether the comparison is true.

        What has no value, since there was nothing to measure, holds: who asks for a verdict is not told that all is
        well because nothing was looked at.

        Raises:
            ValueError: as for :meth:`value`.
        """
        value = self.value(result)
        return value != value or _COMPARISONS[self.comparison](value, self.number)
