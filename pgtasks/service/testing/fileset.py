"""The files that a template is built from, and their hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from pgtasks import __version__
from pgtasks.schema import privileges, seed, trigger
from pgtasks.settings.project import Project

_DIGITS = 12


def digest(project: Project, seeds: tuple[str, ...], *facts: str) -> str:
    """Return the hash of all that decides what a template holds.

    `facts` are those of the server and the scale of the seeds. Two templates of the same hash are
    the same, but for what migrations and seeds take from elsewhere (the time, the network, models).
    """
    hashed = hashlib.sha256()
    for word in (__version__, *seeds, *facts):
        hashed.update(f"{word}\0".encode())
    for source in (*trigger.read(project), *privileges.read(project)):
        hashed.update(f"{source.name}\0{source.text}\0{source.rule!r}\0".encode())
    for path in _files(project, seeds):
        hashed.update(f"{os.path.relpath(path, project.root)}\0".encode())
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    return hashed.hexdigest()[:_DIGITS]


def _files(project: Project, seeds: tuple[str, ...]) -> Iterator[Path]:
    settings = (project.root / name for name in ("alembic.ini", "pyproject.toml"))
    yield from (path for path in settings if path.is_file())
    migrations = project.folder("migrations")
    yield from sorted(path for path in migrations.rglob("*") if _counts(path))
    known = seed.known(project)
    yield from (known[name].path for name in seeds if name in known)


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
