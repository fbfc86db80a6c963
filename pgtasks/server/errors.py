"""Translate the errors of the driver, in one line and with the way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.errors import lookup

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.report import typed
from pgtasks.server.quoting import quoted
from pgtasks.server.silence import SessionLost
from pgtasks.settings.secret import redact
from pgtasks.settings.target import Target

# SQLSTATEs that end the connection: lost, shut down, timed out
_ENDED = ("08", "57P", "25P03", "25P04")
_WAYS_OUT = {  # tasks are in braces
    r"could not (access|load|open) (file|library)|access to library .* is not allowed": ": if a "
    "setting names that library, run ALTER DATABASE DATABASE_NAME RESET local_preload_libraries (or"
    " RESET session_preload_libraries; a role's: ALTER ROLE) in another database",
    r"is not currently accepting connections": ": {db.recover} opens it",
    # of minor versions that do not mark such a database as invalid
    r"database subdirectory": ": a disk is missing, or an interrupted DROP DATABASE left it so, "
    "which DROP DATABASE completes",
    r'database "[^"]*" does not exist': ": {db.create} creates it",
}
_TASK = re.compile(r"\{([a-z.]+)\}")


class NoAnswer(Unreachable):
    """The server stopped answering, and the session was closed."""


def unreachable(target: Target, exc: Exception) -> str:
    """Return libpq's message in one line, without the password."""
    words = " ".join(redact(str(exc), target.password).split())
    words = words.replace(" Is the server", ": is the server")  # from the second line
    # of several addresses, the error of the last one is the useful one
    words = words.split("connection to server ")[-1]
    if words.startswith(("on socket", "at ")):
        words = "connection to server " + words
    way_out = next((way for sign, way in _WAYS_OUT.items() if re.search(sign, words)), "")
    way_out = _TASK.sub(lambda name: typed.task(name[1]), way_out)
    return f"{target}: {words}{way_out.replace('DATABASE_NAME', quoted(target.database))}"


@contextmanager
def translated() -> Iterator[None]:
    """Translate the driver's errors: a lost server into Unreachable, others into Failed."""
    try:
        yield
    except psycopg2.Error as exc:
        raise translate(exc) from None


@contextmanager
def translated_without_values() -> Iterator[None]:
    """Translate the driver's errors as `translated` does, without the values that a query read."""
    try:
        yield
    except psycopg2.Error as exc:
        raise translate_without_values(exc) from None


def translate_without_values(exc: psycopg2.Error) -> PgtasksError:
    """Return our error for an error of a query that reads masked values, without any of them."""
    if isinstance(exc, SessionLost) or exc.pgcode is None:  # the words are not the server's
        return translate(exc)
    known = _standard(exc.pgcode)
    hidden = "the server's message may show a value, only the log of the source has it"
    if exc.pgcode.startswith(_ENDED):
        return Unreachable(f"the server ended the connection ({known}): {hidden}")
    return Failed(f"a mask or a condition failed ({known}): {hidden}")


def _standard(code: str) -> str:
    """Return the name of an SQLSTATE, and no other one: a function may raise a value as its own."""
    try:
        return f"{lookup(code).__name__}, {code}"
    except KeyError:
        return "an SQLSTATE of its own"


def translate(exc: psycopg2.Error) -> PgtasksError:
    """Return our error for an error of the driver, with its first line as the message.

    An error about the use of the driver is a bug in pgtasks, and raised unchanged.
    """
    if isinstance(exc, SessionLost):
        return NoAnswer(str(exc))
    if exc.pgcode is None and isinstance(exc, psycopg2.ProgrammingError):
        raise exc
    words = str(exc).strip() or exc.__class__.__name__
    first, _, rest = redact(words).partition("\n")
    if exc.pgcode is None or exc.pgcode.startswith(_ENDED):
        return Unreachable(f"the server ended the connection: {first}", hint=rest)
    return Failed(first[:1].lower() + first[1:] if first.startswith("ERROR") else first, hint=rest)
