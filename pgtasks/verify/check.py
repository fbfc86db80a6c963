"""A check: its category, its name, and the function that raises if something is not as promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.errors import NotProven, PgtasksError

if TYPE_CHECKING:
    from pgtasks.verify.place import Place

CATEGORIES = ("backup", "restore", "copy", "migrate", "trigger", "env", "inspect", "service")
SETUP = "setup"  # what all others stand on


class Skipped(Exception):
    """A check that does not apply here; the message is the reason."""


@dataclass(frozen=True)
class Check:
    """One check. Its work returns what it saw; with `bare`, it needs no database."""

    category: str
    name: str
    work: Callable[[Place], str]
    bare: bool = False


def expect(holds: object, fault: str) -> None:
    """Raise NotProven with the fault unless something holds."""
    if not holds:
        raise NotProven(fault)


def refusal(kind: type[PgtasksError], word: str, attempt: Callable[[], object]) -> str:
    """Return the message with which an attempt is refused, which must contain a word.

    Raises NotProven if it is not refused, or otherwise than as promised.
    """
    try:
        attempt()
    except PgtasksError as exc:
        if not isinstance(exc, kind):
            raise NotProven(
                f"refused with exit code {exc.exit_code}, expected {kind.exit_code}: {exc.message}"
            ) from exc
        if word not in exc.message:
            raise NotProven(f"the refusal does not name {word!r}: {exc.message}") from exc
        return exc.message
    raise NotProven("it was not refused")
