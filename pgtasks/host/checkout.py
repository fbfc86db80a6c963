"""The environment that was chosen for a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.errors import Failed, PgtasksError, Refused
from pgtasks.host import plainfile, private
from pgtasks.settings import selection as choices
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import Project


@dataclass(frozen=True)
class Switch:
    """A change of the stored choice; `overruled` names what still overrides it."""

    before: str
    after: str
    overruled: str = ""

    def lines(self) -> list[str]:
        """Return what a person reads."""
        if self.before == self.after:
            lines = [f"{self.after} was chosen before"]
        else:
            lines = [f"{self.before or 'nothing'} -> {self.after}"]
        return [*lines, *([f"but {self.overruled} wins over it"] if self.overruled else [])]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, also for the journal."""
        return {
            "from": self.before or None,
            "to": self.after,
            "overruled_by": self.overruled or None,
        }


def use(project: Project, name: str) -> Switch:
    """Choose an environment for this checkout from now on, raising Refused for a protected one."""
    try:
        before = choices.choose(project, guarded=False).environment
    except PgtasksError:  # the previous choice no longer exists, or is invalid
        before = choices.recall(project)
    after = remember(project, name)
    now = choices.choose(project, guarded=False)
    overruled = "" if now.reason == choices.ENV_USE else f"{now.reason} ({now.environment})"
    return Switch(before, after, overruled)


def remember(project: Project, name: str) -> str:
    """Choose `name` for this checkout from now on; a protected environment is refused."""
    known = project.known(name)
    if resolve(project, known).protected:
        raise Refused(
            f"environment {known!r} is protected, it cannot be a remembered choice: "
            f"name it each time with --env {known}, or set PGTASKS_ENV in one shell"
        )
    try:
        _write(project.state, known)
    except OSError as exc:
        raise Failed(f"{project.shown(project.state)} cannot be written: {exc.strerror}") from None
    return known


def _write(state: Path, name: str) -> None:
    private.state(state)
    plainfile.replace(state, "environment", f"{name}\n".encode(), mode=0o644)
