"""The scratch environments of a run, beside the chosen one; nothing of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.store.backup import Backup
from pgtasks.cli.run import Run
from pgtasks.database import scratch as scratches
from pgtasks.database.scratch import PURPOSE
from pgtasks.errors import PgtasksError
from pgtasks.host import tempfiles
from pgtasks.server import connection
from pgtasks.server.reach import Reached
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.verify.scratch import Scratch, ScratchProject, project_of, scratch

FIRST, SECOND, THIRD = "a", "b", "p"  # the third is protected, and has the second's database


@dataclass
class Place:
    """What the checks of a run work on.

    `project` has the two scratch environments, and backups of its own in `folder`. `kept` is a
    backup of the first one, once a check has made it; `lacking` is why there are no databases, and
    `failed` what the setup could not give. `stands_in` says that the project has no rows there,
    None before somebody has looked.
    """

    run: str
    chosen: Environment
    server: Reached
    real: Project
    project: ScratchProject
    folder: Path
    first: Scratch
    second: Scratch
    lacking: str = ""
    failed: list[str] = field(default_factory=list)
    stands_in: str | None = None
    kept: Backup | None = None
    made: list[Scratch] = field(default_factory=list)  # and not dropped yet

    def with_sql(self, name: str) -> ScratchProject:
        """Return the project with an empty folder of SQL files of that name, and no other files."""
        folder = self.folder / name
        for each in ("functions", "triggers"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        return project_of(
            self.real,
            self.project.apart,
            folders={"sql": folder, "backups": self.project.folder("backups")},
            environments={},
            triggers=False,
        )


@contextmanager
def opened(r: Run) -> Iterator[Place]:
    """Make the place of a run for the length of a block; nothing of it stays.

    The databases themselves are made by the first checks.
    """
    server = r.reached()
    run = scratches.new_run()
    with ExitStack() as stack:
        folder = tempfiles.folder()
        stack.callback(tempfiles.remove, folder)
        conn = stack.enter_context(
            connection.session(server.target.at(server.target.maintenance), purpose=PURPOSE)
        )
        scratches.claim(conn, run)
        place = _made(r, server, run, folder)
        stack.callback(_removed, place)
        yield place


def _made(r: Run, server: Reached, run: str, folder: Path) -> Place:
    names = {letter: scratches.environment_name(run, letter) for letter in (FIRST, SECOND, THIRD)}
    databases = {
        letter: scratches.database_name(r.target.database, run, letter)
        for letter in (FIRST, SECOND)
    }
    environments: dict[str, dict[str, Any]] = {
        # one that only a variable names, such as QA_DATABASE_URL, is in no list
        r.environment.name: {},
        **{
            names[letter]: {
                "inherits": r.environment.name,
                "database": databases[letter],
                "pool": {"role": "none"},  # the application's own may not use the tables of a run
            }
            for letter in (FIRST, SECOND)
        },
        names[THIRD]: {
            "inherits": r.environment.name,
            "database": databases[SECOND],
            "protected": True,
        },
    }
    backups, apart = folder / "backups", folder / "choice"
    project = project_of(r.project, apart, folders={"backups": backups}, environments=environments)
    first, second = (
        scratch(project, names[letter], server, databases[letter], backups)
        for letter in (FIRST, SECOND)
    )
    return Place(run, r.environment, server, r.project, project, folder, first, second)


def _removed(place: Place) -> None:
    """Drop the databases of a run; what cannot be dropped is left to the next run, and said."""
    for each in tuple(place.made):
        try:
            scratches.remove(each.target)
            place.made.remove(each)
        except PgtasksError as exc:
            report.say(
                f"warning: {each.target.database!r} may be left, the next verify.all drops it: "
                f"{exc.message}"
            )
