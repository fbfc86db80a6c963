"""Projects made of nothing but settings files, for tests that connect nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pgtasks.settings import project
from pgtasks.settings.environment import Environment, resolve


def lay_out(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder and return it."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def settings(
    root: Path, name: str = "dev", *, runtime: str = "", libpq: Mapping[str, str] | None = None
) -> Environment:
    """Return the environment that the files below a folder and this process's variables make."""
    path = root / runtime if runtime else None
    return resolve(project.load(root, runtime=path, libpq=libpq), name)


def said(environment: Environment, *names: str) -> tuple[object, ...]:
    """Return values of an environment, for comparison in one line."""
    return tuple(getattr(environment.settings, name) for name in names)
