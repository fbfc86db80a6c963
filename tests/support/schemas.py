"""Databases with one of everything, and changes of every kind that pg_dump saves."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

from paths import SUPPORT
from servers import Cluster

from pgtasks.server.proof import entries, toc
from pgtasks.server.proof.difference import Difference
from pgtasks.server.proof.toc import Entry

EVERYTHING = "".join(
    (SUPPORT / name).read_text(encoding="utf-8") for name in ("zoo.sql", "menagerie.sql")
)

_CHANGES = (SUPPORT / "schema_changes.sql").read_text(encoding="utf-8")
_SINCE_18 = "-- since 18\n"


def changes(major: int) -> list[str]:
    """Return all changes that a server of a major version knows."""
    older, _, newer = _CHANGES.partition(_SINCE_18)
    return [*older.splitlines()[1:], *(newer.splitlines() if major >= 18 else ())]


def dump(cluster: Cluster, database: str) -> bytes:
    """Return an archive of a database, in the custom format."""
    return tool(cluster, "pg_dump", "--format=custom", "--compress=0", f"--dbname={database}")


def load(
    cluster: Cluster, archive: bytes, database: str, *options: str, by: Cluster | None = None
) -> None:
    """Load an archive into a database, with the tools of another server where that is named."""
    options = ("--exit-on-error", f"--dbname={database}", *options)
    tool(cluster, "pg_restore", *options, input=archive, by=by)


def tool(
    cluster: Cluster,
    name: str,
    *args: str | Path,
    input: bytes = b"",
    by: Cluster | None = None,
    user: str = "",
    options: str = "",
) -> bytes:
    """Run one of PostgreSQL's tools on a server and return what it prints.

    `by` is the server whose tool it is, `options` are the settings of its sessions.
    """
    place = ["-h", cluster.host, "-p", str(cluster.port), "-U", user or cluster.superuser]
    done = subprocess.run(
        [(by or cluster).bin / name, *place, *args],
        input=input,
        capture_output=True,
        env={**os.environ, "PGOPTIONS": options},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def contents(archive: bytes) -> list[Entry]:
    """Return the entries of an archive."""
    return toc.read(io.BytesIO(archive))


class Restored:
    """EVERYTHING in an archive, restored, and the schema alone in a scratch database."""

    def __init__(self, cluster: Cluster, source: str, copy: str, scratch: str) -> None:
        self.cluster, self.source, self.copy = cluster, source, copy
        cluster.psql(source, EVERYTHING)
        self.archive = dump(cluster, source)
        load(cluster, self.archive, copy)
        load(cluster, self.archive, scratch, "--schema-only")
        self.wanted = entries.schema(contents(self.archive))
        self.anew = entries.schema(contents(dump(cluster, scratch)))

    def differences(self, database: str) -> tuple[Difference, ...]:
        """Return how a database differs from the archive, as a restore would see it."""
        return self.compared(dump(self.cluster, database))

    def compared(self, archive: bytes) -> tuple[Difference, ...]:
        """Return how what another archive says differs."""
        found = entries.schema(contents(archive))
        return entries.compare(self.wanted, found, lambda: self.anew).differences

    def changed(self, statement: str) -> bytes:
        """Return the archive of a copy that one statement changed."""
        name = f"{self.copy}_changed"
        self.cluster.drop(name)
        self.cluster.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self.copy}"')
        try:
            self.cluster.execute(f"SET search_path = zoo; {statement}", name)
            return dump(self.cluster, name)
        finally:
            self.cluster.drop(name)
