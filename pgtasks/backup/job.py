"""What a backup is to be, and all that must be known before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import connection, database, tools
from pgtasks.backup import compression, dump, preflight, readme, store
from pgtasks.backup.preflight import Source
from pgtasks.database import DatabaseFacts
from pgtasks.host import Command, Host
from pgtasks.target import Target
from pgtasks.tools import Toolset


@dataclass(frozen=True)
class Options:
    """What a backup shall hold and how. `compression` is pg_dump's (`gzip:1`), `auto` or None.

    `layout` is `directory`, `custom`, or None: a folder where several processes write, else a file.
    """

    schema_only: bool = False
    exclude_table_data: tuple[str, ...] = ()
    proof: bool = True
    note: str = ""
    globals_passwords: bool = False
    compression: str | None = None
    layout: str | None = None


PLAIN = Options()


def for_target(target: Target, **flags: Any) -> Options:
    """Return the options that flags and the environment's `backup` settings make together."""
    settings = target.backup
    compression = settings.get("compression")
    return Options(
        **flags,
        compression=None if compression is None else str(compression),
        globals_passwords=bool(settings.get("globals_passwords")),
    )


@dataclass(frozen=True)
class Job:
    """All that a backup needs to know, found out before anything is written."""

    target: Target
    host: Host
    options: Options
    source: Source
    facts: DatabaseFacts
    settings: str
    toolset: Toolset
    compression: str

    @property
    def jobs(self) -> int:
        """Return how many processes dump: one where the locks of several find no room.

        pg_dump's workers lock each table once more.
        """
        return self.target.jobs if self.source.tables < self.source.locks else 1

    def plan(self, folder: Path, *, jobs: int | None = None) -> dump.DumpPlan:
        """Return what pg_dump is told to write into `folder`."""
        jobs = jobs or self.jobs
        layout = self.options.layout or ("directory" if jobs > 1 else "custom")
        return dump.DumpPlan(
            toolset=self.toolset,
            path=folder / store.dump_name(layout),
            layout=layout,
            compression=self.compression,
            jobs=jobs,
            schema_only=self.options.schema_only,
            exclude_table_data=self.options.exclude_table_data,
            encoding="SQL_ASCII" if self.source.encoding == "SQL_ASCII" else "UTF8",
        )

    def globals(self, env: Mapping[str, str]) -> Command:
        """Return the command that prints the server's roles."""
        return dump.globals_command(
            self.toolset,
            env,
            maintenance=self.target.maintenance,
            passwords=self.options.globals_passwords,
        )


def prepared(target: Target, host: Host, options: Options) -> Job:
    """Look at source and tools, raising Refused or VersionMismatch for what cannot work."""
    with connection.session(target, read_only=True, purpose="db.backup") as conn:
        source = preflight.look(conn, options.exclude_table_data)
        facts = database.read(conn, target.database)
        settings = readme.settings(conn, facts)
    toolset = tools.for_dump(tools.available(host, target), source.major, target)
    chosen = compression.chosen(options.compression, toolset)
    return Job(target, host, options, source, facts, settings, toolset, chosen)
