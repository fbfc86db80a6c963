"""The server of a drill: a throw-away one, or that of an unprotected environment."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg2 import sql

from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.errors import Refused, VersionMismatch
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.embedded import Binaries, account, binaries, temporary
from pgtasks.server.identity import system_identifier
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

EMBEDDED = "embedded"  # the value of --server for a throw-away server
# No role of a backup should have these names.
SUPERUSER, LOGIN = "pgtasks_drill_superuser", "pgtasks_drill"
DATABASE = "drill"  # beside which the disposable database is built; it never exists itself
# What the login of an embedded server may do too. Forced row policies must not hide rows.
_LOGIN = """
CREATE ROLE {login} LOGIN CREATEDB BYPASSRLS;
GRANT pg_signal_backend, pg_read_all_settings, pg_read_all_stats TO {login}
"""

_MOST_TABLES = 100_000  # that a server has locks for; the number in a manifest may be anybody's
_LONGEST = 40  # bytes of the folder that holds that of a server


@dataclass(frozen=True)
class Place:
    """The server of a drill; `reached` is None for a throw-away one under `dry`.

    `superuser` is a target there as a superuser, None without one. On a server of our `own` the
    roles of the backup are created.
    """

    reached: Reached | None
    words: str
    superuser: Target | None = None
    own: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the command line says about the server of a drill."""

    server: str
    manifest: Manifest
    options: RestoreOptions
    dry: bool = False


@contextmanager
def opened(
    wanted: Wanted, lend: Callable[[str], AbstractContextManager[Reached]]
) -> Iterator[Place]:
    """Open the server of a drill for the length of a block.

    `lend` reaches the server of an environment. Raises Refused for the server that the backup is
    of, VersionMismatch if none here can restore it.
    """
    embedded = wanted.server.lower() == EMBEDDED
    if embedded and wanted.dry:
        yield Place(None, described(fitting(binaries(), wanted.manifest)))
    elif embedded:
        with throw_away(wanted.manifest, wanted.options) as place:
            yield place
    else:
        with lend(wanted.server) as reached:
            place = of_environment(reached)
            refuse_source(reached.maintenance(), wanted.manifest, place.words)
            yield replace(place, reached=None) if wanted.dry else place


@contextmanager
def throw_away(manifest: Manifest, options: RestoreOptions) -> Iterator[Place]:
    """Run a server for the length of a block, of the backup's major or the lowest newer one.

    Its data is in the folder for temporary files (TMPDIR), which only its account can read. The
    load has the rights of a plain role, unless the options say `as_superuser`.
    """
    chosen = fitting(binaries(), manifest)
    with temporary.running(
        chosen, settings=settings(manifest), superuser=SUPERUSER, within=_within()
    ) as server:
        boundary("drill.started")
        admin = replace(server.target(environment=manifest.environment), jobs=options.jobs)
        with connection.session(admin, purpose="backup.drill") as conn:
            connection.execute(conn, sql.SQL(_LOGIN).format(login=sql.Identifier(LOGIN)))
        user = admin.user if options.as_superuser else LOGIN
        with closing(Reached(replace(admin, database=DATABASE, user=user))) as reached:
            yield Place(reached, described(chosen), admin, own=True)


def settings(manifest: Manifest) -> dict[str, str]:
    """Return the settings of a throw-away server: those of any server, as the time counts.

    But pg_dump, which describes the restored database, locks all of its tables at once. A server
    with thousands of them has more locks than the default of 64 for each of 100 connections.
    """
    locks = 64 + min(manifest.tables, _MOST_TABLES) // 25
    return {"max_locks_per_transaction": str(locks)}


def _within() -> str:
    """Return the folder for temporary files, /tmp if a server cannot have its socket there.

    As root the server runs as another account, which may not enter it; and a socket's path is
    short.
    """
    folder = Path(tempfile.gettempdir())
    server = account.for_server(folder / DATABASE)
    usable = len(os.fsencode(folder)) <= _LONGEST and server.reaches(folder)
    return str(folder) if usable else temporary.SHORT


def described(chosen: Binaries) -> str:
    """Return the words for a throw-away server."""
    return f"a throw-away server of PostgreSQL {chosen.major} ({chosen.origin})"


def fitting(installed: Sequence[Binaries], manifest: Manifest) -> Binaries:
    """Return the installation that can restore a backup, raising VersionMismatch.

    That of the backup's major, else the lowest newer one.
    """
    # pg_restore of 17 sets what older servers do not know, and an older one reads no newer dump
    least = max(manifest.major, manifest.dump_tool[0] if manifest.dump_tool[0] >= 17 else 0)
    newer = [each for each in installed if each.major >= least]
    if newer:
        return min(newer, key=lambda each: each.major)
    known = ", ".join(f"{each.major} ({each.origin})" for each in installed) or "none"
    raise VersionMismatch(
        f"no server here restores backup {manifest.id}: wanted PostgreSQL {least} or newer, found "
        f"{known}: install one, or name an environment with a server in --server"
    )


def of_environment(reached: Reached) -> Place:
    """Return the place on the server of an environment, which the caller has reached."""
    conn = reached.maintenance()
    query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    superuser = connection.value(conn, query, into=bool)
    target = reached.target
    words = f"the server of environment {target.environment!r} ({target})"
    return Place(reached, words, target if superuser else None)


def refuse_source(conn: Connection, manifest: Manifest, words: str) -> None:
    """Raise Refused if a connection is to the server that a backup is of."""
    if system_identifier(conn) == manifest.system:
        raise Refused(
            f"{words} is the server that backup {manifest.id} is of: a drill proves nothing there "
            f"and takes its resources, name another one in --server, or {EMBEDDED}"
        )
