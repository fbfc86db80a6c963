"""An environment that exists for one run alone, with a database of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pgtasks.cli.run import Run
from pgtasks.report import Console, Progress
from pgtasks.server.identity import Identity
from pgtasks.server.reach import Reached, identify
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.project import Project, SettingsFile
from pgtasks.settings.selection import VARIABLES, Choice
from pgtasks.settings.target import Target

_FILE = "verify.all"  # in place of a file's name, in messages
_FOLDER = "INVOKE_PGTASKS_FOLDERS_{}"


@dataclass(frozen=True)
class ScratchProject(Project):
    """The project, but for a few folders and environments; what env.use chooses is `apart`."""

    apart: Path

    @property
    def state(self) -> Path:
        """Return the folder for the choice of the run."""
        return self.apart


def project_of(
    project: Project,
    apart: Path,
    *,
    folders: Mapping[str, Path],
    environments: Mapping[str, Mapping[str, Any]],
    triggers: bool = True,
) -> ScratchProject:
    """Return a project that differs in folders and environments; nothing is written.

    Without `triggers` it has no rules for triggers. No choice of an environment is taken over.
    """
    hidden = {*VARIABLES, *(_FOLDER.format(name.upper()) for name in folders)}
    files = [
        replace(
            file,
            environment="",
            folders={key: text for key, text in file.folders.items() if key not in folders},
            triggers=file.triggers if triggers else {},
        )
        for file in project.files
    ]
    own = SettingsFile(
        "project",
        _FILE,
        folders={name: str(path) for name, path in folders.items()},
        environments=environments,
    )
    process = {name: text for name, text in project.process.items() if name not in hidden}
    return ScratchProject(project.root, (*files, own), process, project.inherited_libpq, apart)


@dataclass(frozen=True)
class Hushed(Console):
    """A console whose messages nobody reads, and on which nobody answers."""

    quiet: bool = True

    @property
    def interactive(self) -> bool:
        """Return that nobody can be asked."""
        return False

    def say(self, line: str = "") -> None:
        """Print nothing."""

    def progress(self, what: str, total: int = 0) -> Progress:
        """Return a progress that is not shown."""
        return Progress(what, total, quiet=True)


class ScratchRun(Run):
    """The run of a task on a scratch environment, which says nothing."""

    talk: Console = Hushed()

    @property
    def console(self) -> Console:
        """Return the console of the run."""
        return self.talk


@dataclass(frozen=True)
class Scratch:
    """A scratch environment: its name, its settings, and its database on a server."""

    project: ScratchProject
    environment: Environment
    server: Reached  # as the chosen environment reached it
    target: Target

    @property
    def name(self) -> str:
        """Return the name of the environment."""
        return self.environment.name

    def identity(self) -> Identity | None:
        """Return the identity of the database, None if it does not exist."""
        return identify(self.target)

    def reached(self) -> Reached:
        """Return the database with sessions of its own, which the caller closes."""
        return Reached(self.target, self.server.host, self.server.tunnel)

    @contextmanager
    def run(self, task: str, *, talk: Console | None = None) -> Iterator[Run]:
        """Open a run as the task of that name does, on this environment."""
        reached = self.reached()
        choice = Choice(self.name, "--env")
        run = ScratchRun(
            *(task, self.project, choice, self.environment, self.target),
            json=True,
            journaled=False,
            host=self.server.host,
            _reached=reached,
        )
        run.talk = talk or Hushed()
        try:
            yield run
        finally:
            reached.end_sessions()

    def at(self, database: str) -> Scratch:
        """Return the environment with another database."""
        return replace(self, target=self.target.at(database))


def scratch(
    project: ScratchProject, name: str, server: Reached, database: str, journal: Path
) -> Scratch:
    """Return a scratch environment on a server that was reached as another environment."""
    environment = resolve(project, name)
    target = replace(
        server.target,
        environment=name,
        lineage=environment.lineage,
        database=database,
        journal=journal,
        keep_old=None,
        protected=environment.protected,
    )
    return Scratch(project, environment, server, target)
