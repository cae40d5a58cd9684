"""``Clock``: the time stamps of a stream, and what becomes of them where the file's own clock goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Clock:
    """Gives time stamps that increase strictly, and are those of the file wherever those make sense.

    A file that was joined from several, or cut out of a broadcast, has a clock that steps back, or leaps: what follows
    goes on one frame after the last, and keeps its own differences. A single time stamp that is not later than the one
    before it is a slip, which leaves those after it alone: it comes one tick later. So is one that is later than the
    one after it: it comes a frame later, as does one that is missing.

    Args:
        step: ticks from one frame to the next, where nothing else is known.
        leap: ticks; more than these at once are the clock's and not a pause, in formats whose clocks do leap.

    Example:
        >>> def mended(*raw, **settings):
        ...     clock = Clock(10, **settings)
        ...     return [clock.tick(now, then) for now, then in zip(raw, [*raw[1:], None])]
        >>> mended(0, 10, 20, 0, 10, 25), mended(0, 10, 10, 30)
        ([0, 10, 20, 30, 40, 55], [0, 10, 11, 30])
        >>> mended(0, 10, 9000, 9010), mended(0, 10, 9000, 9010, leap=1000)
        ([0, 10, 9000, 9010], [0, 10, 20, 30])
    """

    step: int
    leap: int | None = None
    _last: int | None = field(default=None, init=False)
    _raw: int | None = field(default=None, init=False)
    _offset: int = field(default=0, init=False)

    def tick(self, raw: int | None, following: int | None) -> int:
        """The time stamp of the next frame.

        Args:
            raw: what the file says of it; None for nothing.
            following: what the file says of the one after it, if there is one.
        """
        if self._last is None:
            self._last, self._raw = (raw or 0), raw
            return self._last
        if raw is None:
            self._last += self.step
            return self._last
        if self._raw is not None and self._restarts(raw, following, self._raw):
            self._offset = self._last + self.step - raw
            self._raw = raw
        elif self._raw is not None and following is not None and self._raw < following < raw - self.step:
            self._last = max(min(self._last + self.step, following + self._offset - 1), self._last + 1)
            return self._last
        self._raw = raw if self._raw is None else max(raw, self._raw)
        self._last = max(raw + self._offset, self._last + 1)
        return self._last

    def _restarts(self, raw: int, following: int | None, last: int) -> bool:
        """Whether the clock is another one from here on."""
        if raw < last - self.step:
            return following is None or following <= last
        return self.leap is not None and raw - last > self.leap and (following is None or following >= raw)
