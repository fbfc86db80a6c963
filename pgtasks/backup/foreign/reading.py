"""Read the dump of somebody else from end to end, before anything of it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks import report
from pgtasks.backup.foreign import archive, examine, packing
from pgtasks.backup.foreign.contents import Examined
from pgtasks.backup.foreign.dump import FLOOR, Dump, DumpStore, version
from pgtasks.backup.format import files, names
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.database import leaving, properties
from pgtasks.errors import Failed, Refused
from pgtasks.host import plainfile, tempfiles, tools
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.host.tools import Toolset
from pgtasks.report import Console
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_FACTOR = 10  # a dump in SQL is at most so much larger than the space that it may take
_TEMPORARY = 64 << 20  # bytes unpacked between two looks at the disk


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


def examined(dump: Dump) -> Examined:
    """Read a dump in SQL from end to end, raising Refused or NotProven."""
    with packing.opened(dump.form.path, dump.form.packing) as stream:
        return examine.examine(stream, dump.shown, part=dump.part, check=lambda read: None)


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
        tables=len(held.tables),
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
        store = DumpStore(folder, form=inner)
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
        console.say(f"not read: no pg_restore here reads a dump of {version(head.dumper)}")
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
