"""The branch of a git checkout, from its files: gitrepository-layout(5)."""

from __future__ import annotations

from pathlib import Path

_HEADS = "ref: refs/heads/"
_LONGEST = 4096  # bytes of these files


def branch(folder: Path) -> str:
    """Return the branch of the checkout that holds a folder, empty if it has none.

    A branch that has no commit yet counts, a commit that was checked out by itself does not.
    """
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            head = _text(_repository(place) / "HEAD")
            name = head.removeprefix(_HEADS)
            # the reftable format keeps the name elsewhere
            return "" if name in (head, ".invalid") else name
    return ""


def _repository(place: Path) -> Path:
    """Return the folder of a checkout's own HEAD; that of a linked one is named in a file."""
    marker = place / ".git"
    if marker.is_dir():
        return marker
    return place / _text(marker).removeprefix("gitdir: ")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace").strip()
    except OSError:
        return ""
