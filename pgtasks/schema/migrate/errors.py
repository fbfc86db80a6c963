"""Translate exceptions of a project's code, Alembic and SQLAlchemy into one line with the place."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from alembic.util import CommandError
from psycopg2.errorcodes import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE
from sqlalchemy import exc

from pgtasks.errors import BadConfiguration, Failed, PgtasksError, Refused, Unreachable
from pgtasks.report import typed
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server.errors import translate
from pgtasks.settings.secret import redact
from pgtasks.settings.target import Target

# both take the statement's whole transaction back, and another attempt may succeed
_GAVE_UP = (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)


class LockTimeout(Failed):
    """A statement waited for a lock of another session, and gave up."""


_NO_PLACE = "migrations"  # of an error that no line of the project's code has raised


class Translation:
    """Translate the exceptions of a block. `fault` is an error of pgtasks that was raised in it."""

    def __init__(self, scripts: Scripts, target: Target | None = None) -> None:
        self.scripts = scripts
        self.password = target.password if target else None
        self.fault: PgtasksError | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Translate the exceptions of a block."""
        try:
            yield
        except PgtasksError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the project's code may raise what is no Exception
            # the user needs our own error, not the one that env.py made of it
            raise self.fault or self._translated(error) from error

    def _translated(self, error: BaseException) -> PgtasksError:
        if isinstance(error, CommandError):
            return Refused(_in_our_words(one_line(str(error))))
        if isinstance(error, exc.DBAPIError):
            return self._database_error(error)
        place = self._place(error)
        if isinstance(error, OSError) and error.filename and place == _NO_PLACE:
            reason = (error.strerror or str(error)).lower()
            return Failed(f"{self.scripts.shown(str(error.filename))}: {reason}")
        # code that cannot be loaded is an error in the configuration of the project
        kind = BadConfiguration if isinstance(error, (ImportError, SystemExit)) else Failed
        return kind(f"{place}: {type(error).__name__}: {self._words(error)}")

    def _database_error(self, error: exc.DBAPIError) -> PgtasksError:
        place = self._place(error)
        if not isinstance(error.orig, psycopg2.Error):
            gave_up = getattr(error.orig, "sqlstate", None) in _GAVE_UP
            return (LockTimeout if gave_up else Failed)(f"{place}: {self._words(error.orig)}")
        if error.statement is None:
            return Unreachable(f"{place}: cannot connect: {self._words(error.orig)}")
        error_of_ours = translate(error.orig)
        kind = LockTimeout if error.orig.pgcode in _GAVE_UP else type(error_of_ours)
        statement = one_line(error.statement)[:200]
        hint = "\n".join(filter(None, [error_of_ours.hint, f"in: {statement}"]))
        return kind(f"{place}: {self._words(error_of_ours.message)}", hint=hint)

    def _place(self, error: BaseException) -> str:
        """Return the file and the line of the project's code that raised an error."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{self.scripts.shown(error.filename)}:{error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if self._is_own(frame.filename)]
        return f"{self.scripts.shown(own[-1].filename)}:{own[-1].lineno}" if own else _NO_PLACE

    def _is_own(self, filename: str) -> bool:
        path = Path(filename)
        return path.is_relative_to(self.scripts.root) and "site-packages" not in path.parts

    def _words(self, error: object) -> str:
        return redact(one_line(str(error)), self.password)


def _in_our_words(words: str) -> str:
    if "does not provide a MetaData" not in words:
        return words
    return (
        "env.py gives Alembic no models to compare with the database: "
        "`models: MODULE:METADATA` in invoke.yaml below pgtasks, or target_metadata there; "
        f"or write the file by hand: {typed.task('migrate.new', '--empty -m TEXT')}"
    )


def one_line(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())
