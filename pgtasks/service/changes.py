"""Settings that change while an application runs: read again, compared, told to who asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pgtasks import report
from pgtasks.errors import BadConfiguration
from pgtasks.service import forks
from pgtasks.service.statements import LOGGER
from pgtasks.settings import differences
from pgtasks.settings.environment import Environment

_SHOWN = 20  # names in a line of the log
# the connections stay where nothing but these, and what is in their blocks, has changed
_OF_OTHERS = {
    *("settings", "security", "backup", "mask", "mask_key", "mask_key_command", "seeds", "jobs"),
    *("keep_old", "tools", "template", "maintenance", "reader", "reader_password", "ssh"),
}

_PLACE = frozenset(("server", "service", "host", "port", "database", "user", "ssh", "protected"))


@dataclass(frozen=True)
class Change:
    """What has changed in the settings of an environment: names, no values."""

    environment: str
    keys: tuple[str, ...]

    @property
    def reconnects(self) -> bool:
        """Whether connections are to be opened anew."""
        return any(key.partition(".")[0] not in _OF_OTHERS for key in self.keys)


class Configured(Protocol):
    """What has the settings of an environment, and can use others."""

    environment: Environment
    root: Path

    def adopt(self, settings: Environment, *, reconnect: bool) -> None:
        """Use other settings, with `reconnect` in new connections."""


Subscriber = Callable[[Change], object]


class Changes:
    """The changes of a service's settings, and who is told of them."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self._renew()
        forks.in_children(self, Changes._renew)

    def _renew(self) -> None:
        self._reloading = threading.Lock()

    def subscribe(self, call: Subscriber) -> Callable[[], None]:
        """Call a function after each change; return what ends that."""
        self._subscribers.append(call)

        def end() -> None:
            if call in self._subscribers:
                self._subscribers.remove(call)

        return end

    def reload(self, service: Configured, read: Callable[[], Environment]) -> Change:
        """Let a service use the settings that are read now; raises BadConfiguration."""
        with self._reloading:
            before, after = service.environment, read()
            keys = differences.between(differences.flat(before), differences.flat(after))
            if _PLACE.intersection(keys):
                _check_files(before, after, service.root)
            _check(before, after)
            change = Change(before.name, keys)
            if keys:
                service.adopt(after, reconnect=change.reconnects)
                LOGGER.warning("settings of %s changed: %s", before.name, _listed(keys))
        if keys:
            self._tell(change)
        return change

    def _tell(self, change: Change) -> None:
        for call in tuple(self._subscribers):
            try:
                call(change)
            except Exception:
                LOGGER.exception("%r failed, which was told of changed settings", call)


def _check_files(before: Environment, after: Environment, root: Path) -> None:
    """Refuse another place that comes of a file which is gone or empty: it is that of defaults.

    A file is so while it is written, a folder while it is replaced.
    """
    for name in sorted(differences.files(before) - differences.files(after)):
        try:
            fault = "" if (root / name).stat().st_size else "empty"
        except OSError as exc:
            fault = exc.strerror or str(exc)
        if fault:
            raise BadConfiguration(f"{name}: {fault}, restart the application to go on without it")


def _check(before: Environment, after: Environment) -> None:
    """Refuse settings that are not secure, unless those before were not."""
    try:
        before.security()
    except BadConfiguration:
        return
    after.security()


def _listed(keys: tuple[str, ...]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return report.printable(", ".join(keys[:_SHOWN])) + more
