"""Say what a run has left that Ctrl-C or a signal ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

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


@contextmanager
def telling_files(
    files: Callable[[], Iterable[Path]], shown: Callable[[Path], str]
) -> Iterator[None]:
    """Say which of some files a block has written or replaced, if a signal ends it."""
    before = _seen(files())
    with telling(lambda: _written(before, _seen(files()), shown)):
        yield


@contextmanager
def unanswered() -> Iterator[None]:
    """Leave it to a block around to say what was done before a question that a signal ended."""
    try:
        yield
    except Interrupted:  # the console says that nothing was done
        raise KeyboardInterrupt from None


def _seen(files: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    found = {}
    for path in files:
        with suppress(FileNotFoundError):
            status = path.stat()
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _written(
    before: Mapping[Path, object], after: Mapping[Path, object], shown: Callable[[Path], str]
) -> str:
    names = [shown(path) for path in sorted(after) if after[path] != before.get(path)]
    if not names:
        return "no file was written"
    return f"{', '.join(names)} {'are' if names[1:] else 'is'} written"


def _told(said: str, left: Callable[[], str]) -> Interrupted:
    try:
        words = left()
    except (PgtasksError, OSError) as exc:
        words = f"what it left is not known: {exc}"
    except KeyboardInterrupt:
        words = ""
    mark = ":" if said == _PLAIN else ";"
    return Interrupted(f"{said}{mark} {words}" if words else said)
