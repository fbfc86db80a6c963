"""Say what a run has left that Ctrl-C or a signal ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgtasks.errors import Interrupted, PgtasksError

_PLAIN = "interrupted"


@contextmanager
def telling(left: Callable[[], str], *, adds: bool = False) -> Iterator[None]:
    """Say what a block has left if a signal ends it: `left` looks, and returns that in words.

    Of blocks within each other the innermost one speaks; one that `adds` speaks after it. Where
    `left` raises an error, that is not known. A second Ctrl-C ends `left`, too.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _told(_PLAIN, left) from None
    except Interrupted as exc:
        if not adds:
            raise
        raise _told(exc.message, left) from None


def _told(said: str, left: Callable[[], str]) -> Interrupted:
    try:
        words = left()
    except (PgtasksError, OSError) as exc:
        words = f"what it left is not known: {exc}"
    except KeyboardInterrupt:
        words = ""
    mark = ":" if said == _PLAIN else ";"
    return Interrupted(f"{said}{mark} {words}" if words else said)
