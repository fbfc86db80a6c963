"""The scratch environments of a run: made beside an environment, dropped, swept after a kill.

Their databases have the names NAME_verify_RUN_a and _b. A run holds an advisory lock with its
number as long as it lives: what has a name and the stamp of a run without it is left over.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.backup.store.backup import Backup
from pgtasks.cli.run import Run
from pgtasks.database import drop, recover, side
from pgtasks.errors import Failed, PgtasksError
from pgtasks.host import tempfiles
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import identify, system_identifier
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target
from pgtasks.verify.scratch import Scratch, ScratchProject, project_of, scratch

_CLASS = 0x7067_7665  # of the advisory lock of a run
_DIGITS = 7  # hexadecimal digits of a run, which fit into the lock's key
FIRST, SECOND = "a", "b"
_NAME = re.compile(rf"_verify_([0-9a-f]{{{_DIGITS}}})_([{FIRST}{SECOND}])$")
_NAME_BYTES = 63


@dataclass
class Place:
    """What the checks of a run work on.

    `project` has the two scratch environments, and backups of its own in `folder`. `kept` is a
    backup of the first one, once a check has made it; `lacking` is why there are no databases.
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
    run = secrets.token_hex(4)[:_DIGITS]
    with ExitStack() as stack:
        folder = tempfiles.folder()
        stack.callback(tempfiles.remove, folder)
        conn = stack.enter_context(
            connection.session(server.target.at(server.target.maintenance), purpose="verify.all")
        )
        claim(conn, run)
        place = _made(r, server, run, folder)
        stack.callback(_removed, place)
        yield place


def claim(conn: Connection, run: str) -> None:
    """Hold the lock of a run in a session, as long as that is open."""
    connection.execute(conn, "SET idle_session_timeout = 0")
    connection.value(conn, "SELECT pg_advisory_lock(%s, %s)", (_CLASS, int(run, 16)))


def claimed(conn: Connection, run: str) -> bool:
    """Return whether a run lives: its lock may be held in another maintenance database."""
    query = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'"
        " AND classid::bigint = %s AND objid::bigint = %s AND objsubid = 2)"
    )
    return connection.value(conn, query, (_CLASS, int(run, 16)), into=bool)


def _made(r: Run, server: Reached, run: str, folder: Path) -> Place:
    names = {letter: f"verify-{run}-{letter}" for letter in (FIRST, SECOND)}
    databases = {
        letter: database_name(r.target.database, run, letter) for letter in (FIRST, SECOND)
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
        f"verify-{run}-p": {
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


def database_name(database: str, run: str, letter: str) -> str:
    """Return the name of a scratch database, at most 63 bytes."""
    suffix = f"_verify_{run}_{letter}"
    return side.shortened(database, _NAME_BYTES - len(suffix)) + suffix


def _removed(place: Place) -> None:
    """Drop the databases of a run; what cannot be dropped is left to the next run, and said."""
    for each in tuple(place.made):
        try:
            removed(each.target)
            place.made.remove(each)
        except PgtasksError as exc:
            report.say(
                f"warning: {each.target.database!r} may be left, the next verify.all drops it: "
                f"{exc.message}"
            )


def removed(target: Target) -> None:
    """Drop a scratch database, if it exists, and all beside it."""
    with Lock(target, "verify.all") as held:
        conn = held.connection
        recover.sweep(held)
        beside = recover.look(conn, target)
        if left := (*beside.half_built, *beside.broken):
            raise Failed(f"{left[0].name!r} beside it cannot be dropped")
        for each in (*beside.kept, *beside.clones):
            drop.drop(conn, target, each.name)
        # last, because its name leads to the others
        drop.drop_plainly(conn, target.database)


def sweep(server: Reached) -> tuple[str, ...]:
    """Drop the databases that killed runs of this role have left, and return what was done."""
    lines = []
    with connection.session(
        server.target.at(server.target.maintenance), read_only=True, purpose="verify.all"
    ) as conn:
        left = list(_left(conn, server.target))
    for target in left:
        try:
            removed(target)
        except PgtasksError as exc:
            lines.append(f"left {target.database!r} of a killed run: {exc.message}")
        else:
            lines.append(f"dropped {target.database!r}, which a killed run has left")
    return tuple(lines)


def _left(conn: Connection, known: Target) -> Iterator[Target]:
    """Yield the scratch databases whose run has ended."""
    system = system_identifier(conn)
    rows = connection.rows(
        conn,
        f"SELECT datname, {stamp.COMMENT} FROM pg_database"
        " WHERE datdba = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        " AND datname ~ %s ORDER BY datname",
        (_NAME.pattern,),
        into=tuple[str, str | None],
    )
    for name, comment in rows:
        match = _NAME.search(name)
        if match is None or claimed(conn, match[1]):
            continue
        environment = f"verify-{match[1]}-{match[2]}"
        target = replace(known, environment=environment, database=name, lineage=(environment,))
        text, mark = stamp.split(comment)
        known_place = mark and (mark.database, mark.system) == (name, system)
        # a check stamps one as another scratch environment of its run for a while
        ours = mark and known_place and mark.environment.startswith(f"verify-{match[1]}-")
        if ours or (mark is None and not text and _is_empty(target)):
            yield target


def _is_empty(target: Target) -> bool:
    """Return whether a database is empty: a kill between CREATE and the stamp leaves such a one."""
    try:
        with connection.session(target, read_only=True, purpose="verify.all") as conn:
            return identify(conn).empty
    except PgtasksError:
        return False
