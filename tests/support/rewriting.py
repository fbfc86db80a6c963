"""Archives rewritten as somebody would who wants a restore to do something else.

The table of contents is taken apart and put together here by code of its own, so that what reads
it in the library is held against something else.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backups import local_backup
from pgtasks.backup.format import files, manifest
from pgtasks.backup.store.backup import Backup

_DATA = (b"TABLE DATA", b"SEQUENCE SET", b"BLOBS")
_ARCHIVE = (b"ENCODING", b"STDSTRINGS", b"SEARCHPATH", b"DATABASE")


@dataclass
class Row:
    """One entry with all its fields; `numbers` and `extra` as they stand in the file."""

    id: bytes
    has_data: bytes
    table_oid: bytes | None
    oid: bytes | None
    tag: bytes | None
    desc: bytes | None
    section: bytes
    definition: bytes | None
    drop: bytes | None
    copy: bytes | None
    namespace: bytes | None
    tablespace: bytes | None
    method: bytes | None
    relation: bytes
    owner: bytes | None
    with_oids: bytes | None
    needs: list[bytes] = field(default_factory=list)
    file: bytes | None = None

    @property
    def of_schema(self) -> bool:
        return self.desc not in (*_DATA, *_ARCHIVE)


class Contents:
    """toc.dat of a directory archive."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0
        self._new = raw[6] >= 15
        self._newest = raw[6] >= 16
        self._size = raw[8]
        self._take(11)
        self._take(1) if self._new else self._number()
        for _ in range(7):
            self._number()
        for _ in range(3):
            self._string()
        self._head = raw[: self._at]
        count = self._value(self._number())
        self.rows = [self._row() for _ in range(count)]
        self._rest = raw[self._at :]

    def _take(self, length: int) -> bytes:
        self._at += length
        return self._raw[self._at - length : self._at]

    def _number(self) -> bytes:
        return self._take(1 + self._size)

    @staticmethod
    def _value(number: bytes) -> int:
        value = int.from_bytes(number[1:], "little")
        return -value if number[0] else value

    def _string(self) -> bytes | None:
        length = self._value(self._number())
        return None if length < 0 else self._take(length)

    def _row(self) -> Row:
        row = Row(
            *(self._number(), self._number(), self._string(), self._string()),
            *(self._string(), self._string(), self._number(), self._string(), self._string()),
            *(self._string(), self._string(), self._string(), self._string()),
            self._number() if self._newest else b"",
            *(self._string(), self._string()),
        )
        while (need := self._string()) is not None:
            row.needs.append(need)
        row.file = self._string()
        return row

    def _written(self, text: bytes | None) -> bytes:
        if text is None:
            return b"\x01" + struct.pack("<I", 1)
        return b"\x00" + struct.pack("<I", len(text)) + text

    def bytes(self, rows: list[Row]) -> bytes:
        """Return the file with other rows in it."""
        parts = [self._head, b"\x00" + struct.pack("<I", len(rows))]
        for row in rows:
            w = self._written
            parts += [row.id, row.has_data, w(row.table_oid), w(row.oid), w(row.tag), w(row.desc)]
            parts += [row.section, w(row.definition), w(row.drop), w(row.copy), w(row.namespace)]
            parts += [w(row.tablespace), w(row.method), row.relation, w(row.owner)]
            parts += [w(row.with_oids), *map(w, row.needs), w(None), w(row.file)]
        return b"".join([*parts, self._rest])


def rewritten(raw: bytes, chance: random.Random, number: int) -> Iterator[tuple[str, bytes]]:
    """Yield `number` archives that say something else, each with what was done to it."""
    contents = Contents(raw)
    assert contents.bytes(contents.rows) == raw
    ways = [_removed, _edited, _exchanged, _appended, _handed_over, _renamed, _moved, _added]
    done = 0
    while done < number:
        way = ways[done % len(ways)]
        rows = [replace(row) for row in contents.rows]
        chosen = [row for row in rows if row.of_schema and row.definition]
        # each kind of object as often as any other
        kind = chance.choice(sorted({row.desc or b"" for row in chosen}))
        row = chance.choice([row for row in chosen if row.desc == kind])
        said = f"{way.__name__[1:]} {(row.desc or b'').decode()} {(row.tag or b'').decode()}"
        if way(rows, row, chance):
            done += 1
            yield said, contents.bytes(rows)


def _removed(rows: list[Row], row: Row, chance: random.Random) -> bool:
    rows.remove(row)
    return True


def _edited(rows: list[Row], row: Row, chance: random.Random) -> bool:
    before = row.definition or b""
    places = [i for i, byte in enumerate(before) if chr(byte).isalnum()]
    at = chance.choice(places)
    row.definition = before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :]
    return True


def _exchanged(rows: list[Row], row: Row, chance: random.Random) -> bool:
    others = [it for it in rows if it.desc == row.desc and it.definition != row.definition]
    if not others:
        return False
    other = chance.choice(others)
    row.definition, other.definition = other.definition, row.definition
    return True


def _appended(rows: list[Row], row: Row, chance: random.Random) -> bool:
    row.definition = (row.definition or b"") + b"CREATE ROLE intruder SUPERUSER;\n"
    return True


def _handed_over(rows: list[Row], row: Row, chance: random.Random) -> bool:
    row.owner = b"pg_monitor" if row.owner != b"pg_monitor" else b"postgres"
    return True


def _renamed(rows: list[Row], row: Row, chance: random.Random) -> bool:
    row.tag = (row.tag or b"") + b"x"
    return True


def _moved(rows: list[Row], row: Row, chance: random.Random) -> bool:
    row.namespace = b"elsewhere"
    return True


def _added(rows: list[Row], row: Row, chance: random.Random) -> bool:
    rows.append(replace(row, id=b"\x00" + struct.pack("<I", 100_000), tag=b"another"))
    return True


def put(backup: Backup, raw: bytes) -> Backup:
    """Put another toc.dat into a backup, with all checksums made right again."""
    return _put(backup, backup.dump / "toc.dat", raw)


def put_json(backup: Backup, name: str, changes: Mapping[str, Any]) -> Backup:
    """Change a document of a backup, with all checksums made right again."""
    path = backup.path / name
    document = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    return _put(backup, path, json.dumps(document).encode())


def put_rows(backup: Backup, content: bytes) -> Backup:
    """Put other rows, compressed, into the only table of a backup; all checksums are right."""
    (path,) = backup.dump.glob("*.dat.gz")
    return _put(backup, path, content)


def _put(backup: Backup, path: Path, content: bytes) -> Backup:
    path.write_bytes(content)
    records = dict(backup.manifest.files)
    name = path.relative_to(backup.path).as_posix()
    records[name] = files.record(backup.path, name)
    sums = backup.path / files.SUMS
    sums.write_text(files.sums({name: it for name, it in records.items() if name != files.SUMS}))
    records[files.SUMS] = files.record(backup.path, files.SUMS)
    made = replace(backup.manifest, files=records)
    (backup.path / manifest.NAME).write_text(manifest.text(made), encoding="utf-8")
    return local_backup(backup.path)
