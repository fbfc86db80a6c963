"""The manifest: the description of a backup, with the checksum of each file.

It is written last and contains its own checksum. `parse` accepts only the exact bytes that `text`
wrote, so that every change is detected.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from pgtasks import report
from pgtasks.backup.format import filelist
from pgtasks.backup.format.filelist import FileList
from pgtasks.backup.format.records import FileRecord
from pgtasks.errors import NotProven
from pgtasks.host import decoding
from pgtasks.host.decoding import Count, Moment, Seconds
from pgtasks.server.dump.layout import Layout

FORMAT = 1
NAME = "manifest.json"
# of the whole file: 480,000 files; a dump with more is one file (layout custom)
LIMIT = 64 << 20
_PIECE = 10_000  # files whose lines are formatted at once

ID = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}"
Id = Annotated[str, Meta(pattern=rf"^{ID}\Z")]
# a path below the backup's folder on any system: no `..`, no hidden name, no special character
FileName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*\Z")
]
Version = Annotated[int, Meta(ge=0, le=10_000_000)]
Short = Annotated[str, Meta(max_length=1_000)]


class NewerFormat(NotProven):
    """A manifest is that of a newer pgtasks."""


class _Form(Struct):
    format: int


@dataclass(frozen=True)
class Manifest:
    """All facts about a backup, without its dump.

    `server_version` is a number like 160014, `dump_tool` the version of pg_dump, like (16, 14).
    `layout` is `directory` (pg_dump -Fd) or `custom` (-Fc, one file). `rows` is None for a backup
    without proof; those of the `uncounted` tables are in the dump, and not in this number.
    `snapshot_time` is the server's time in UTC. `warnings` name what was left out, `obstacles` what
    will stop a restore.
    """

    id: Id
    environment: Short
    database: Short
    system: Short
    server_version: Version
    server: Short
    dump_tool: tuple[Version, Version]
    layout: Layout
    compression: Short
    snapshot_time: Moment
    revision: str
    tables: Count
    rows: Count | None
    database_bytes: Count
    seconds: Seconds
    with_proof: bool
    files: Mapping[FileName, FileRecord] = field(default_factory=dict)
    note: str = ""
    schema_only: bool = False
    excluded_data: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    uncounted: Count = 0
    made_by: str = ""
    pgtasks: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.snapshot_time.removesuffix("Z"))  # raises ValueError

    @property
    def taken(self) -> datetime:
        """Return the time of the snapshot."""
        return datetime.fromisoformat(self.snapshot_time.replace("Z", "+00:00"))

    @property
    def major(self) -> int:
        """Return the major version of the server."""
        return self.server_version // 10000

    @property
    def complete(self) -> bool:
        """Whether the backup contains all data of the database."""
        return not self.schema_only and not self.excluded_data

    @functools.cached_property
    def size(self) -> int:
        """Return the bytes of all files except the manifest."""
        if isinstance(self.files, FileList):
            return self.files.size
        return sum(record.size for record in self.files.values())

    def counted(self, *, otherwise: str) -> str:
        """Return the number of rows in words; `otherwise` are those for a backup without proof."""
        if self.rows is None:
            return otherwise
        rows = report.plural(self.rows, "row")
        if not self.uncounted:
            return rows
        return f"{rows} ({report.plural(self.uncounted, 'table')} not counted)"

    @property
    def shown_rows(self) -> int | str | None:
        """Return the number of rows for a table; `12+` if some tables were not counted."""
        return f"{report.count(self.rows or 0)}+" if self.uncounted else self.rows

    def as_json(self) -> dict[str, Any]:
        """Return the document that `parse` reads, without its checksum."""
        document = {part.name: getattr(self, part.name) for part in fields(self)}
        document["dump_tool"] = list(self.dump_tool)
        document["excluded_data"] = list(self.excluded_data)
        document["warnings"] = list(self.warnings)
        document["obstacles"] = list(self.obstacles)
        for key in ("obstacles", "uncounted"):  # manifests of earlier versions lack the keys
            if not document[key]:
                del document[key]
        document["files"] = {
            name: {"size": record.size, "sha256": record.sha256}
            for name, record in sorted(self.files.items())
        }
        return document


def is_id(name: str) -> bool:
    """Return whether a name has the form of a backup ID."""
    return re.fullmatch(ID, name) is not None


def text(manifest: Manifest) -> str:
    """Return the content of the file, with its checksum at the end."""
    return "".join(_pieces(manifest, _checksum(manifest)))


def parse(content: bytes, where: str, *, quick: bool = False) -> Manifest:
    """Parse a manifest that `text` wrote; `where` begins the error message.

    Raises NotProven for anything else, also for that of a newer pgtasks. `quick` is for
    lists of many: only the checksum is compared, which finds every change but not a manifest that
    was written by another program on purpose.
    """
    rest, listed = filelist.split(content) if quick else (content, None)
    manifest = _decoded(rest, f"{where}: not a manifest", where)
    if not (_sums_up(content) if quick else _written(manifest, content)):
        raise NotProven(f"{where}: the manifest was changed after it was written")
    if listed is not None:  # `replace` would check everything once more
        object.__setattr__(manifest, "files", listed)
    return manifest


def _decoded(content: bytes, no_manifest: str, where: str) -> Manifest:
    try:
        manifest = decoding.decode(content, Manifest, no_manifest)
    except NotProven:
        _refuse_newer(decoding.decode(content, _Form, no_manifest).format, where)
        raise
    _refuse_newer(manifest.format, where)
    return manifest


def _refuse_newer(form: int, where: str) -> None:
    if form > FORMAT:
        raise NewerFormat(f"{where}: format {form}, this pgtasks reads {FORMAT}: upgrade it")


_FIRST = b'{\n  "checksum": "%64s",\n  '  # as the keys are sorted


def _sums_up(content: bytes) -> bool:
    """Return whether the checksum in a manifest is that of the rest of it."""
    end = len(_FIRST % b"")
    digest = hashlib.sha256(b"{\n  ")
    digest.update(memoryview(content)[end:])
    return content[:end] == _FIRST % digest.hexdigest().encode()


def _written(manifest: Manifest, content: bytes) -> bool:
    """Return whether `text` would write the same content."""
    at, rest = 0, memoryview(content)
    for piece in _pieces(manifest, _checksum(manifest)):
        expected = piece.encode("utf-8", "surrogatepass")
        if rest[at : at + len(expected)] != expected:
            return False
        at += len(expected)
    return at == len(content)


def _checksum(manifest: Manifest) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(manifest, None):
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _pieces(manifest: Manifest, checksum: str | None) -> Iterator[str]:
    """Yield the text of a document in pieces, because many files are many lines.

    The text equals the output of json.dumps(indent=2, sort_keys=True).
    """
    document = replace(manifest, files={}).as_json()
    if checksum is not None:
        document["checksum"] = checksum
    opened = "{\n  "
    for key in sorted(document):
        yield f"{opened}{json.dumps(key)}: "
        opened = ",\n  "
        if key == "files" and manifest.files:
            yield from _files(manifest.files)
        else:
            laid = json.dumps(document[key], indent=2, ensure_ascii=False, sort_keys=True)
            yield laid.replace("\n", "\n  ")
    yield "\n}\n"


def _files(records: Mapping[str, FileRecord]) -> Iterator[str]:
    names = sorted(records)
    opened = "{"
    for start in range(0, len(names), _PIECE):
        lines = (_file(name, records[name]) for name in names[start : start + _PIECE])
        yield opened + ",".join(lines)
        opened = ","
    yield "\n  }"


def _file(name: str, record: FileRecord) -> str:
    laid = json.dumps(name, ensure_ascii=False)
    sha256, size = f'"sha256": "{record.sha256}"', f'"size": {record.size}'
    return f"\n    {laid}: {{\n      {sha256},\n      {size}\n    }}"
