"""Listen to all engines of SQLAlchemy for a while: a project's env.py makes its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def listening(**listeners: Callable[..., Any]) -> Iterator[None]:
    """Call functions at events of all engines, by the event's name, for the length of a block."""
    for name, listener in listeners.items():
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(Engine, name, listener)
