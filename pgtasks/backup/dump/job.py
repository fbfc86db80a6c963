"""Prepare a backup: options, tools, number of jobs, layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks.backup.format import names, readme
from pgtasks.backup.store.base import Store
from pgtasks.database import properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import VersionMismatch
from pgtasks.host import tools
from pgtasks.host.base import Command, Host
from pgtasks.host.local import HERE
from pgtasks.host.tools import Toolset
from pgtasks.server import room
from pgtasks.server.connection import Connection
from pgtasks.server.dump import compression, layout, pack, pg_dump
from pgtasks.server.dump import source as preflight
from pgtasks.server.dump.layout import Layout
from pgtasks.server.dump.source import Source
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class DumpOptions:
    """The options of a backup. `compression` is pg_dump's (`gzip:1`), `auto` or None.

    `layout` is `directory`, `custom`, or None: a folder if several processes write, else a file.
    `taken` is the time of content that was imported, and `said` are warnings about it.
    """

    schema_only: bool = False
    exclude_table_data: tuple[str, ...] = ()
    proof: bool = True
    note: str = ""
    globals_passwords: bool = False
    compression: str | None = None
    layout: Layout | None = None
    taken: str = ""
    said: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether the backup lacks data by intention."""
        return self.schema_only or bool(self.exclude_table_data)


PLAIN = DumpOptions()


def for_target(target: Target, **flags: Any) -> DumpOptions:
    """Return the options from the flags and the environment's `backup` settings."""
    return DumpOptions(
        **flags,
        compression=target.backup.compression or None,
        globals_passwords=target.backup.globals_passwords,
    )


@dataclass(frozen=True)
class Job:
    """Everything that a backup needs, collected before it writes anything.

    `toolset` runs on `host`; `reader` are the tools that read the dump at its destination.
    """

    target: Target
    host: Host
    options: DumpOptions
    source: Source
    facts: DatabaseProperties
    settings: str
    toolset: Toolset
    compression: str
    store: Store
    reader: Toolset

    @property
    def jobs(self) -> int:
        """Return the number of dump processes; one for a stream, or if locks or files are short."""
        alone = self.streamed or self.short_of_locks or self.many_files
        return 1 if alone else self.target.jobs

    @property
    def streamed(self) -> bool:
        """Whether the dump is streamed over SSH."""
        return self.host != self.store.host

    @property
    def sealed(self) -> bool:
        """Whether the tools at the destination can list the dump but not decompress it."""
        return compression.algorithm(self.compression) not in self.reader.compressions

    @property
    def short_of_locks(self) -> bool:
        """Whether the lock table is too small for several processes, which all lock each table."""
        return self.target.jobs > 1 and self.source.tables >= self.source.locks

    @property
    def many_files(self) -> bool:
        """Whether a folder would have more files than a manifest may list."""
        return self.target.jobs > 1 and self.source.files >= layout.MOST_FILES

    @property
    def packs(self) -> bool:
        """Whether to compress the files here, while pg_dump writes them, if that is possible."""
        ours = self.options.compression in (None, compression.AUTO)
        return ours and self.host == self.store.host == HERE and self._is_gzip

    @property
    def _is_gzip(self) -> bool:
        return compression.algorithm(self.compression) == pack.NAME

    def plan(
        self, folder: Path, *, jobs: int | None = None, packed: bool = False
    ) -> pg_dump.DumpPlan:
        """Return the plan of pg_dump for a backup in `folder`."""
        jobs = jobs or self.jobs
        form: Layout = self.options.layout or ("directory" if jobs > 1 else "custom")
        form = "custom" if self.streamed else form
        packed = packed and form == "directory"
        return pg_dump.DumpPlan(
            toolset=self.toolset,
            path=folder / names.dump_name(form),
            layout=form,
            compression=pack.NAME if packed else self.compression,
            jobs=jobs,
            packed=packed,
            # pgtasks itself writes a file on this machine
            streamed=form == "custom" and self.store.host == HERE,
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


def prepared(reached: Reached, store: Store, options: DumpOptions) -> Job:
    """Check source and tools, and return the job.

    Raises Refused, VersionMismatch, or Unreachable if the server has too few free connections.
    """
    target, host = reached.target, reached.host
    with reached.reading("db.backup") as conn:
        source = preflight.look(conn, options.exclude_table_data)
        facts = properties.read(conn, target.database)
        settings = readme.settings(conn, facts)
        toolset = tools.for_dump(tools.available(host, target), source.major, target)
        readers = _readers(toolset, host, store, target)
        chosen = compression.chosen(options.compression, toolset, readers)
        unpacking = [each for each in readers if compression.algorithm(chosen) in each.compressions]
        job = Job(
            *(target, host, options, source, facts, settings, toolset, chosen),
            store=store,
            reader=(unpacking or readers)[0],
        )
        _check_room(conn, job)
    return job


def _check_room(conn: Connection, job: Job) -> None:
    dumping = job.jobs + 1 if job.jobs > 1 else 1
    proving = job.target.jobs if job.options.proof else 0
    # two hold the snapshot and watch; one more prints the roles
    needed = 2 + dumping + proving
    room.check(conn, job.target, "the backup", within=needed, besides=1, jobs=job.target.jobs)


def _readers(toolset: Toolset, host: Host, store: Store, target: Target) -> list[Toolset]:
    """Return the tools that read the dump at its destination, raising VersionMismatch for none."""
    if store.host == host:
        return [toolset]
    toolsets = tools.available(store.host, target)
    fitting = tools.for_reading(toolsets, toolset.major)
    if not fitting:
        names = ", ".join(map(str, toolsets)) or "none"
        raise VersionMismatch(
            f"no pg_restore on {store.host.name} reads what pg_dump {toolset} on {host.name} "
            f"writes, found {names}: install the PostgreSQL client of "
            f"version {toolset.major} or newer, or let the backup stay there with --on-host"
        )
    return fitting
