"""Which environment a task works on, and why that one."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pgtasks.environment import resolve
from pgtasks.errors import Refused
from pgtasks.project import Project


@dataclass(frozen=True)
class Choice:
    """The chosen environment and what chose it: `--env`, `PGTASKS_ENV`, `inv env.use` ..."""

    environment: str
    reason: str


def choose(project: Project, flag: str | None = None) -> Choice:
    """Return the environment to work on: flag, PGTASKS_ENV, env.use, invoke.yaml, else dev."""
    if flag is not None:
        return Choice(project.known(flag), "--env")
    variable = project.process.get("PGTASKS_ENV")
    if variable:
        return Choice(_known(project, variable, "PGTASKS_ENV"), "PGTASKS_ENV")
    remembered = recall(project)
    if remembered:
        return Choice(_unprotected(project, remembered), "inv env.use in this checkout")
    default = project.default_environment()
    if default:
        return Choice(_known(project, default.value, default.where), default.where)
    return Choice("dev", "default, nothing chooses another")


def _known(project: Project, name: str, source: str) -> str:
    try:
        return project.known(name)
    except Refused as exc:
        raise Refused(f"{exc.message} (from {source})") from None


def _unprotected(project: Project, name: str) -> str:
    known = _known(project, name, "inv env.use")
    if resolve(project, known).protected:
        raise Refused(
            f"environment {known!r} was chosen by `inv env.use` and is protected now: "
            "a remembered choice cannot be, name it with --env or choose another"
        )
    return known


def recall(project: Project) -> str:
    """Return what `inv env.use` chose for this checkout, or nothing."""
    try:
        return (project.state / "environment").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def remember(project: Project, name: str) -> str:
    """Choose `name` for this checkout from now on; a protected environment is refused."""
    known = project.known(name)
    if resolve(project, known).protected:
        raise Refused(
            f"environment {known!r} is protected, it cannot be a remembered choice: "
            f"name it each time with --env {known}, or set PGTASKS_ENV in one shell"
        )
    project.state.mkdir(exist_ok=True)
    (project.state / ".gitignore").write_text("*\n", encoding="utf-8")
    handle, path = tempfile.mkstemp(dir=project.state)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(known + "\n")
    Path(path).replace(project.state / "environment")
    return known
