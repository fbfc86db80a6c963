"""A check: its category, its name, and the function that raises if something is not as promised."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.errors import NotProven, PgtasksError

if TYPE_CHECKING:
    from pgtasks.verify.place import Place

CATEGORIES = ("backup", "restore", "copy", "migrate", "trigger", "env", "inspect", "service")
SETUP = "setup"  # what all others stand on
MIGRATIONS, TRIGGERS = "the migrations", "the trigger files"  # what the setup gives

_REFUSED = "refused, as it should be: "
_COMMAND = re.compile(r"\binv (?:\S+ )*?[a-z_-]+\.[a-z_.-]+|(?<!\S)--[a-z]")
_ADVICE = ("or ", "and ", "choose ")  # what else a message advises, before the command
_CLAUSE = re.compile(r"[,:;] ")


class Skipped(Exception):
    """A check that does not apply here; the message is the reason."""


@dataclass(frozen=True)
class Check:
    """One check. Its work returns what it saw; with `bare`, it needs no database.

    A check of the setup `gives` something. Where that failed, the checks that need it are skipped.
    """

    category: str
    name: str
    work: Callable[[Place], str]
    bare: bool = False
    gives: str = ""
    needs: tuple[str, ...] = ()


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


def as_refused(message: str) -> str:
    """Return what a check says that has met a refusal, which is what it wanted."""
    return f'{_REFUSED}"{without_command(message)}"'


def is_refused(text: str) -> bool:
    """Return whether a text is one of `as_refused`."""
    return text.startswith(_REFUSED)


def names_command(line: str) -> bool:
    """Return whether a line advises a command."""
    return bool(_COMMAND.search(line))


def without_command(message: str) -> str:
    """Return a message up to the command that it advises, which is for a scratch database here."""
    found = _COMMAND.search(message)
    ends = [each.start() for each in _CLAUSE.finditer(message, 0, found.start())] if found else []
    while ends:
        message = message[: ends.pop()]
        if not ends or not message[ends[-1] + 2 :].startswith(_ADVICE):
            break
    return message
