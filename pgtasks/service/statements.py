"""Log statements with their time and the line of the application that sent them, on demand.

Values are never logged, only their number: they may be secrets. SQLAlchemy's own echo shows them.
"""

from __future__ import annotations

import inspect
import logging
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

LOGGER = logging.getLogger("pgtasks.service")
_LONGEST = 2000  # characters of a statement
_BEGAN = "pgtasks_began"
_OURS = (f"{__package__}.", "sqlalchemy.")
_FORMAT = "%(asctime)s %(name)s: %(message)s"


class Log:
    """Logs the statements of an engine while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()

    def listen(self, engine: Engine) -> None:
        """Watch the statements of an engine while this is on: each listener takes its time."""
        self._engines.add(engine)
        if self.is_on:
            self._attach(engine, event.listen)

    def _attach(self, engine: Engine, way: Callable[..., None]) -> None:
        way(engine, "before_cursor_execute", self._begin)
        way(engine, "after_cursor_execute", self._end)
        way(engine, "handle_error", self._fail)

    def turn(self, on: bool) -> None:
        """Start or stop; a program without a log of its own sees them on stderr."""
        if on != self.is_on:
            for engine in self._engines:
                self._attach(engine, event.listen if on else event.remove)
        self.is_on = on
        LOGGER.setLevel(logging.DEBUG if on else logging.NOTSET)
        if on and not LOGGER.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(_FORMAT))
            LOGGER.addHandler(handler)

    def _begin(self, conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if self.is_on:
            conn.info.setdefault(_BEGAN, []).append(time.perf_counter())

    def _end(
        self, conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if began := self._began(conn):
            self._write(began, "", statement, parameters, many=many)

    def _fail(self, context: ExceptionContext) -> None:
        if context.statement is not None and (began := self._began(context.connection)):
            failure = f"failed ({type(context.original_exception).__name__})  "
            many = bool(getattr(context.execution_context, "executemany", False))
            self._write(began, failure, context.statement, context.parameters, many=many)

    def _began(self, conn: Any) -> float:
        """Return when the statement of a connection began, 0 where that is not known."""
        known: list[float] = conn.info.get(_BEGAN, []) if self.is_on and conn is not None else []
        return known.pop() if known else 0.0

    def _write(
        self, began: float, failure: str, statement: str, parameters: Any, *, many: bool
    ) -> None:
        LOGGER.debug(
            "%.1f ms  %s%s  %s%s",
            (time.perf_counter() - began) * 1000,
            failure,
            _caller(),
            " ".join(statement.split())[:_LONGEST],
            _values(parameters, many=many),
        )


def _values(parameters: Any, *, many: bool) -> str:
    if not parameters:
        return ""
    if many:
        return f"  [{len(parameters)} rows of values]"
    return f"  [{len(parameters)} value{'s' if len(parameters) > 1 else ''}]"


def _caller() -> str:
    """Return the place in the application that is nearest to the statement."""
    frame = inspect.currentframe()
    while frame is not None and _is_between(frame):
        frame = frame.f_back
    if frame is None:
        return "?"
    code = frame.f_code
    return f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"


def _is_between(frame: FrameType) -> bool:
    """Return whether a frame is of the service, or of SQLAlchemy and the code that it generates."""
    module = frame.f_globals.get("__name__", "sqlalchemy")
    return module == "contextlib" or f"{module}.".startswith(_OURS)
