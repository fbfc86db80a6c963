"""What a backup is to be, and all that must be known before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.backup.format import names, readme
from pgtasks.backup.store.destination import Shelf
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseFacts
from pgtasks.errors import VersionMismatch
from pgtasks.host import tools
from pgtasks.host.local import HERE, Command, Host
from pgtasks.host.tools import Toolset
from pgtasks.server import connection, room
from pgtasks.server.connection import Connection
from pgtasks.server.dump import compression, layout, pg_dump
from pgtasks.server.dump import source as preflight
from pgtasks.server.dump.layout import Layout
from pgtasks.server.dump.source import Source
from pgtasks.settings.target import Target


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
    layout: Layout | None = None


PLAIN = Options()


def for_target(target: Target, **flags: Any) -> Options:
    """Return the options that flags and the environment's `backup` settings make together."""
    return Options(
        **flags,
        compression=target.backup.compression or None,
        globals_passwords=target.backup.globals_passwords,
    )


@dataclass(frozen=True)
class Job:
    """All that a backup needs to know, found out before anything is written.

    `host` is where `toolset` dumps; `reader` are the tools that read the dump where it will lie.
    """

    target: Target
    host: Host
    options: Options
    source: Source
    facts: DatabaseFacts
    settings: str
    toolset: Toolset
    compression: str
    shelf: Shelf
    reader: Toolset

    @property
    def jobs(self) -> int:
        """Return how many processes dump: one into a stream, and where there is too little room."""
        alone = self.streamed or self.short_of_locks or self.many_files
        return 1 if alone else self.target.jobs

    @property
    def streamed(self) -> bool:
        """Whether the dump comes over the line."""
        return self.host != self.shelf.host

    @property
    def sealed(self) -> bool:
        """Whether the tools where the dump will lie can list it and not unpack it."""
        return compression.algorithm(self.compression) not in self.reader.compressions

    @property
    def short_of_locks(self) -> bool:
        """Whether the locks of several processes find no room: workers lock each table again."""
        return self.target.jobs > 1 and self.source.tables >= self.source.locks

    @property
    def many_files(self) -> bool:
        """Whether a folder would hold more files than a manifest lists: one process makes one."""
        return self.target.jobs > 1 and self.source.files >= layout.MOST_FILES

    def plan(self, folder: Path, *, jobs: int | None = None) -> pg_dump.DumpPlan:
        """Return what pg_dump is told to write into `folder`."""
        jobs = jobs or self.jobs
        form: Layout = self.options.layout or ("directory" if jobs > 1 else "custom")
        form = "custom" if self.streamed else form
        return pg_dump.DumpPlan(
            toolset=self.toolset,
            path=folder / names.dump_name(form),
            layout=form,
            compression=self.compression,
            jobs=jobs,
            # a file on this machine is ours to write in any case
            streamed=form == "custom" and self.shelf.host == HERE,
            schema_only=self.options.schema_only,
            exclude_table_data=self.options.exclude_table_data,
            encoding="SQL_ASCII" if self.source.encoding == "SQL_ASCII" else "UTF8",
        )

    def globals(self, env: Mapping[str, str]) -> Command:
        """Return the command that prints the server's roles."""
        return pg_dump.globals_command(
            self.toolset,
            env,
            maintenance=self.target.maintenance,
            passwords=self.options.globals_passwords,
        )


def prepared(target: Target, host: Host, shelf: Shelf, options: Options) -> Job:
    """Look at source and tools, raising for what cannot work.

    That is Refused, VersionMismatch, or Unreachable where not all sessions would be let in.
    """
    with connection.session(target, read_only=True, purpose="db.backup") as conn:
        source = preflight.look(conn, options.exclude_table_data)
        facts = properties.read(conn, target.database)
        settings = readme.settings(conn, facts)
        toolset = tools.for_dump(tools.available(host, target), source.major, target)
        readers = _readers(toolset, host, shelf, target)
        chosen = compression.chosen(options.compression, toolset, readers)
        unpacking = [each for each in readers if compression.algorithm(chosen) in each.compressions]
        job = Job(
            *(target, host, options, source, facts, settings, toolset, chosen),
            shelf=shelf,
            reader=(unpacking or readers)[0],
        )
        _check_room(conn, job)
    return job


def _check_room(conn: Connection, job: Job) -> None:
    dumping = job.jobs + 1 if job.jobs > 1 else 1
    proving = job.target.jobs if job.options.proof else 0
    # two keep the snapshot and watch; one beside them prints the roles
    needed = 2 + dumping + proving
    room.check(conn, job.target, "the backup", within=needed, besides=1, jobs=job.target.jobs)


def _readers(toolset: Toolset, host: Host, shelf: Shelf, target: Target) -> list[Toolset]:
    """Return the tools that read the dump where it will lie, raising VersionMismatch for none."""
    if shelf.host == host:
        return [toolset]
    found = tools.available(shelf.host, target)
    fitting = tools.for_reading(found, toolset.major)
    if not fitting:
        raise VersionMismatch(
            f"no pg_restore on {shelf.host.name} reads what pg_dump {toolset} on {host.name} "
            f"writes, found {', '.join(map(str, found)) or 'none'}: install the PostgreSQL client "
            f"of version {toolset.major} or newer, or let the backup stay there with --on-host"
        )
    return fitting
