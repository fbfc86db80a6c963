"""A dump that somebody else made, in the shape of a backup: without manifest, proof and properties.

It is read from end to end before anything of it runs, and what that cannot prove is said.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pgtasks import report
from pgtasks.backup.foreign import archive, examine, packing
from pgtasks.backup.foreign.examine import Examined
from pgtasks.backup.foreign.form import Form
from pgtasks.backup.format import files, names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.store import staging
from pgtasks.backup.store.base import Backup
from pgtasks.backup.store.filestream import FileStream, FileStreams
from pgtasks.backup.store.filestream import opened as streams_of
from pgtasks.backup.store.local import LocalStore
from pgtasks.database import leaving, properties
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Failed, Refused
from pgtasks.host import plainfile, tempfiles, tools
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.host.tools import Toolset
from pgtasks.report import Console, typed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

FLOOR = 256 << 20  # bytes that stay free on a disk
_FACTOR = 10  # a dump in SQL is at most so much larger than the space that it may take
_TEMPORARY = 64 << 20  # bytes unpacked between two looks at the disk
_OTHERS = 5  # names in a line
_HEAD = 64 << 10  # bytes in which a dump in SQL names its versions


@dataclass(frozen=True)
class Dump(Backup):
    """A dump of pg_dump or SQL, at `form.path`; `part` is a database of a dump of pg_dumpall.

    `held` is what reading it has shown, `counted` whether rows were counted; `saved` are the
    properties that its database gets.
    """

    form: Form = field(default=Form(Path(), "plain"))
    part: str = ""
    archive: tuple[Entry, ...] = ()
    held: Examined = field(default=Examined())
    counted: bool = False
    saved: DatabaseProperties | None = None

    @property
    def shown(self) -> str:
        """Return its path for messages."""
        return repr(str(self.form.path))

    @property
    def plain(self) -> bool:
        """Whether it is SQL, which no pg_restore reads."""
        return self.form.kind == "plain"

    @property
    def origin(self) -> str:
        """Return the origin of the content for the stamp."""
        part = f" ({self.part})" if self.part else ""
        return f"dump {self.form.path.name}{part}"

    @property
    def look(self) -> str:
        """Return the command that shows its SQL."""
        path = shlex.quote(str(self.form.path))
        if not self.plain:
            return f"pg_restore -f - {path} | less"
        return f"less {path}" if not self.form.packing else f"{self.form.packing} -dc {path} | less"

    def proof(self) -> Proof | None:
        """Return None: a dump has no fingerprints."""
        return None

    def database(self) -> DatabaseProperties:
        """Return the properties that the database gets."""
        assert self.saved is not None
        return self.saved

    def globals(self) -> str:
        """Return nothing: roles are not in a dump of one database."""
        return ""

    def record(self, **changes: str | float | None) -> None:
        """Record nothing: a dump has no folder of its own."""

    def facts(self) -> list[str]:
        """Return the lines of the plan about the dump."""
        held, made = self.held, self.manifest
        rows = f"{report.plural(held.total, 'row')}" if self.counted else "rows not counted"
        tables = report.plural(made.tables, "table")
        size = f"{report.size(made.size)}, unpacked {report.size(held.bytes)}"
        whose = f" of pg_dump {_version(made.dump_tool)}" if any(held.dumper) else ""
        return [f"dump     {self.shown}{whose} ({self.form}), {size}, {tables}, {rows}"]

    def unproven(self) -> Iterator[str]:
        """Yield what reading and restoring it cannot prove."""
        if self.plain and self.held.whole is None:
            yield "that the file is whole: it is not of pg_dump, whose dumps have an end mark"
        elif self.plain and not self.held.whole:
            yield "that the file is whole: something was added behind the end of the dump"
        if not self.counted:
            yield "the number of rows: the dump cannot be followed"
        elif others := sorted(self.held.inserted):
            more = f" and {len(others) - _OTHERS} more" if len(others) > _OTHERS else ""
            listed = ", ".join(map(examine.named, others[:_OTHERS]))
            yield f"the number of rows of {listed}{more}: only rows of COPY in text can be counted"
        yield "the values of the rows: a dump has no fingerprints to compare with"


@dataclass(frozen=True)
class _DumpStore(LocalStore):
    """The place of a dump; a copy on another host has the names of a backup."""

    form: Form = field(default=Form(Path(), "plain"))

    def dump(self, backup: Backup) -> Path:
        """Return the path of the dump."""
        return self.form.path

    def has(self, backup: Backup) -> bool:
        """Return whether it is there."""
        return self.form.path.exists()

    def read(self, backup: Backup, names: Sequence[str] = ()) -> FileStreams:
        """Return a stream of its files."""
        return self._streams(names or list(backup.manifest.files))

    def _streams(self, wanted: Sequence[str]) -> FileStreams:
        path = self.form.path
        folder = path if path.is_dir() else path.parent
        for name in wanted:
            own = name.partition("/")[2] if path.is_dir() else path.name
            for file in streams_of(folder, [own]):
                yield FileStream(name, file.size, file.chunks)


def of(form: Form, *, part: str = "") -> Dump:
    """Return the dump of a form, not read yet; raises Refused for a part of an archive."""
    if part and form.kind != "plain":
        raise Refused(f"--part {part!r}: {str(form.path)!r} is of one database, it has no parts")
    store = _DumpStore(form.path.parent, form=form)
    blank = Manifest(
        id=staging.new_id(),
        environment="(dump)",  # a name that no environment has
        database="",
        system="",
        server_version=0,
        server="",
        dump_tool=(0, 0),
        layout="directory" if form.kind == "directory" else "custom",
        compression="none",
        snapshot_time=_moment(form.path),
        revision="",
        tables=0,
        rows=None,
        database_bytes=0,
        seconds=0.0,
        with_proof=False,
    )
    return Dump(form.path.parent, blank, store, str(form.path), form=form, part=part)


def versioned(dump: Dump) -> Manifest:
    """Return the manifest with the versions that the beginning of a dump names, if it does."""
    form = dump.form
    if form.kind == "plain" or form.packing:
        server, dumper = examine.versions(packing.head(form.path, form.packing, _HEAD))
    else:
        head, _ = archive.described(form.path, form.kind)
        server, dumper = head.server, head.dumper
    number = server[0] * 10000 + server[1]
    return replace(dump.manifest, server_version=number, dump_tool=dumper)


def refuse(backup: Backup, *, masked: bool, only_tables: Sequence[str]) -> None:
    """Raise Refused for a flag that has no meaning for the dump of somebody else."""
    if not isinstance(backup, Dump):
        return
    if masked:
        raise Refused(
            f"--masked: {backup.shown} is of no environment whose rules mask it: restore it into "
            "one, then db.copy from there masks it"
        )
    if only_tables:
        path = shlex.quote(str(backup.form.path))
        raise Refused(
            f"--only-table: {backup.shown} is no backup: {typed.task('backup.import', path)} makes "
            "it one, of which single tables are restored"
        )


def _moment(path: Path) -> str:
    """Return the time of a file: its content is not newer."""
    changed = min(path.stat().st_mtime, datetime.now(timezone.utc).timestamp())
    return f"{datetime.fromtimestamp(changed, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def readied(
    dump: Dump, target: Target, conn: Connection, host: Host, free: int | None, console: Console
) -> Iterator[Dump]:
    """Read a dump from end to end, and provide it for the length of a block.

    `conn` is on the server that it is for, `free` the free bytes of that one's disk. Raises
    NotProven for a cut or damaged dump, Refused for one that cannot be restored.
    """
    if dump.plain:
        yield _placed(_examined(dump, free, console), conn, target)
    elif dump.form.packing:
        with _unpacked(dump, console) as unpacked:
            yield _placed(_archived(unpacked, target, free, console), conn, target)
    else:
        yield _placed(_archived(dump, target, free, console), conn, target)


def _examined(dump: Dump, free: int | None, console: Console) -> Dump:
    form = dump.form
    size = form.path.stat().st_size
    with (
        console.progress("read") as progress,
        packing.opened(form.path, form.packing) as stream,
    ):

        def check(read: int) -> None:
            progress.update(read)
            _refuse_larger(dump, read, free)

        held = examine.examine(stream, dump.shown, part=dump.part, check=check)
    made = _described(dump.manifest, held, size, {})
    return replace(dump, manifest=made, archive=held.entries, held=held, counted=True)


def _described(
    made: Manifest, held: Examined, size: int, records: dict[str, FileRecord]
) -> Manifest:
    return replace(
        made,
        server_version=held.server[0] * 10000 + held.server[1],
        dump_tool=held.dumper,
        tables=len({*held.rows, *held.inserted}),
        rows=held.total,
        # half of the text: the rest is delimiters, digits and what compresses
        database_bytes=held.bytes // 2,
        files=records or {"dump.sql": FileRecord(size, "")},
    )


def _refuse_larger(dump: Dump, read: int, free: int | None) -> None:
    if free is not None and read > free * _FACTOR:
        raise Refused(
            f"{dump.shown} unpacks to more than {report.size(read)}, and the server's disk has "
            f"{report.size(free)} free: make room there"
        )


@contextmanager
def _unpacked(dump: Dump, console: Console) -> Iterator[Dump]:
    """Unpack an archive into a temporary file; raises Failed before the disk is full."""
    form, folder = dump.form, tempfiles.folder()
    try:
        path = folder / "dump"
        with console.progress("unpack") as progress, path.open("wb") as out:
            written = looked = 0
            with packing.opened(form.path, form.packing) as stream:
                while piece := stream.read(packing.CHUNK):
                    out.write(piece)
                    written += len(piece)
                    if written - looked >= _TEMPORARY:
                        looked = written
                        progress.update(written)
                        _refuse_full(dump, str(folder), written)
        inner = replace(form, path=path, packing="")
        store = _DumpStore(folder, form=inner)
        yield replace(dump, path=folder, store=store)
    finally:
        tempfiles.remove(folder)


def _refuse_full(dump: Dump, folder: str, written: int) -> None:
    free = HERE.free_bytes(folder)
    if free is not None and free < FLOOR:
        raise Failed(
            f"{dump.shown} unpacks to more than {report.size(written)}, and the disk of {folder!r} "
            f"has {report.size(free)} left: make room, or set TMPDIR"
        )


def _archived(dump: Dump, target: Target, free: int | None, console: Console) -> Dump:
    """Check the members of an archive, and read all of it."""
    path = dump.dump
    head, entries = archive.described(path, dump.form.kind)
    toolset = _reader(head.dumper[0], head.compression, target)
    held = None
    if toolset is not None:
        with console.progress("read") as progress:

            def check(read: int) -> None:
                progress.update(read)
                _refuse_larger(dump, read, free)

            held = archive.counted(path, toolset, dump.shown, check=check)
    records = _records(path)
    size = sum(record.size for record in records.values())
    known = replace(held or Examined(bytes=size), server=head.server, dumper=head.dumper)
    made = replace(
        _described(dump.manifest, known, size, records),
        compression=head.compression,
        database=head.database,
    )
    if toolset is None:
        console.say(f"not read: no pg_restore here reads a dump of {_version(head.dumper)}")
    return replace(
        dump,
        manifest=made,
        archive=tuple(entries),
        held=_of_entries(known, entries),
        counted=held is not None,
    )


def _of_entries(held: Examined, entries: Sequence[Entry]) -> Examined:
    """Return what an archive holds, by its entries, which pg_restore restores."""
    return replace(
        held,
        outside={},
        ignored={},
        entries=tuple(entries),
        whole=True,
        extensions=tuple(entry.tag for entry in entries if entry.desc == "EXTENSION"),
    )


def _reader(dumper: int, compression: str, target: Target) -> Toolset | None:
    for fitting in tools.for_reading(tools.available(HERE, target), dumper):
        if compression in fitting.compressions:
            return fitting
    return None


def _records(path: Path) -> dict[str, FileRecord]:
    """Return the records of an archive's files, by their names in a backup."""
    if not path.is_dir():
        name = names.dump_name("custom")
        return {name: files.record(path.parent, path.name)}
    base = names.dump_name("directory")
    return {f"{base}/{name}": files.record(path, name) for name, _ in sorted(plainfile.walk(path))}


def _placed(dump: Dump, conn: Connection, target: Target) -> Dump:
    """Return a dump with the properties of the database that it replaces, or of a new one."""
    exists = connection.row(
        conn, "SELECT true FROM pg_database WHERE datname = %s", (target.database,), into=bool
    )
    if exists:
        own = properties.read(conn, target.database)
    else:
        user = connection.value(conn, "SELECT current_user::text", into=str)
        own = replace(
            properties.read(conn, "template0"),
            name=target.database,
            owner=user,
            comment="",
            grants=None,
            settings=(),
            template=False,
            connection_limit=-1,
        )
    own = replace(own, roles=_roles(dump), owners=())
    return replace(dump, saved=own)


def _roles(dump: Dump) -> tuple[str, ...]:
    """Return the roles that a dump gives rights to."""
    from pgtasks.backup.foreign import reach

    named = list(dump.held.roles)
    for entry in dump.archive:
        if entry.desc in ("ACL", "DEFAULT ACL"):
            for line in entry.definition.split(b";\n"):
                named += reach.roles(line)[1]
    return tuple(dict.fromkeys(filter(leaving.is_own, named)))


def _version(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
