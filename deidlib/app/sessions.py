"""``Sessions``: the session of every user, by a name that only his browser knows."""

from __future__ import annotations

import threading

from deidlib.app.menu import Menu
from deidlib.app.session import Session
from deidlib.app.workplace import Workplace


class Sessions:
    """Who works here at the moment.

    Args:
        place: where their folders lie.
        menu: what they choose from; models are shared.
    """

    def __init__(self, place: Workplace, menu: Menu) -> None:
        self.place, self.menu = place, menu
        self._known: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Session:
        """A user's session, new if there is none yet."""
        with self._lock:
            if name not in self._known:
                self._known[name] = Session(self.place.room(), self.menu)
            return self._known[name]

    def end(self, name: str) -> None:
        """The user is gone: nothing is left of what he did."""
        with self._lock:
            session = self._known.pop(name, None)
        if session is not None:
            session.close()

    def __len__(self) -> int:
        return len(self._known)
