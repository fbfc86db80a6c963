"""A dump that somebody else made, in the shape of a backup: without manifest, proof and properties.

It is read from end to end before anything of it runs, and what that cannot prove is said.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pgtasks import report
from pgtasks.backup.foreign import contents, packing
from pgtasks.backup.foreign.contents import Examined
from pgtasks.backup.foreign.form import Form
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.store import staging
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.filestream import FileStream, FileStreams
from pgtasks.backup.store.filestream import opened as streams_of
from pgtasks.backup.store.local import LocalStore
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server.proof.model import Proof
from pgtasks.server.proof.toc import Entry

FLOOR = 256 << 20  # bytes that stay free on a disk
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
        unpacked = f"{self.form.packing} -dc {path}" if self.form.packing else ""
        if not self.plain:
            shown = f"{unpacked} | pg_restore -f -" if unpacked else f"pg_restore -f - {path}"
            return f"{shown} | less"
        return f"{unpacked} | less" if unpacked else f"less {path}"

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
        rows = report.plural(held.total, "row") if self.counted else "rows not counted"
        if self.counted and held.inserted:
            counted = f"{rows}, and" if held.total else ""
            rows = f"{counted} rows of INSERT, which are not counted".lstrip()
        tables = report.plural(made.tables, "table")
        size = f"{report.size(made.size)}, unpacked {report.size(held.bytes)}"
        whose = f" of pg_dump {version(made.dump_tool)}" if any(held.dumper) else ""
        return [f"dump     {self.shown}{whose} ({self.form}), {size}, {tables}, {rows}"]

    def unproven(self) -> Iterator[str]:
        """Yield what reading and restoring it cannot prove."""
        if self.plain and self.held.whole is None:
            yield "that the file is whole: it is not of pg_dump, whose dumps have an end mark"
        elif self.plain and not self.held.whole:
            yield "that the file is whole: something was added behind the end of the dump"
        number, first = self.held.returns
        if self.plain and number:
            where = f"{report.plural(number, 'statement')}, the first in line {first}"
            yield (
                "that the file is as it was made: it has line ends of Windows, also in strings "
                f"and function bodies ({where})"
            )
        if not self.counted:
            yield "the number of rows: the dump cannot be followed"
        elif others := sorted(self.held.inserted):
            more = f" and {len(others) - _OTHERS} more" if len(others) > _OTHERS else ""
            listed = ", ".join(map(contents.named, others[:_OTHERS]))
            yield f"the number of rows of {listed}{more}: only rows of COPY in text can be counted"
        yield "the values of the rows: a dump has no fingerprints to compare with"


@dataclass(frozen=True)
class DumpStore(LocalStore):
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
    store = DumpStore(form.path.parent, form=form)
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
        server, dumper = contents.versions(packing.head(form.path, form.packing, _HEAD))
    else:
        from pgtasks.backup.foreign import archive

        head, _ = archive.described(form.path, form.kind)
        server, dumper = head.server, head.dumper
    number = server[0] * 10000 + server[1]
    return replace(dump.manifest, server_version=number, dump_tool=dumper)


def refuse(
    backup: Backup,
    *,
    masked: bool,
    only_tables: Sequence[str],
    role_map: object,
    create_roles: bool,
) -> None:
    """Raise Refused for a flag that has no meaning for the dump of somebody else."""
    if not isinstance(backup, Dump):
        return
    path = shlex.quote(str(backup.form.path))
    first = f"{typed.task('backup.import', path)} makes it a backup, of which it works"
    if masked:
        raise Refused(
            f"--masked: {backup.shown} is of no environment whose rules mask it: restore it into "
            "one, then db.copy from there masks it"
        )
    if only_tables:
        raise Refused(f"--only-table: {backup.shown} is no backup: {first}")
    if role_map and backup.plain:
        raise Refused(f"--map-role is for archives of pg_dump, {backup.shown} is SQL: {first}")
    if create_roles:
        raise Refused(
            f"--create-roles: {backup.shown} does not say how its roles are made: create them, or "
            "leave owners and grants out with --no-owner"
        )


def _moment(path: Path) -> str:
    """Return the time of a file: its content is not newer."""
    changed = min(path.stat().st_mtime, datetime.now(timezone.utc).timestamp())
    return f"{datetime.fromtimestamp(changed, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def version(numbers: tuple[int, int]) -> str:
    """Return a version as text."""
    return ".".join(map(str, numbers))
