"""The manifest: what a backup is, and the checksum of every file in it.

It is written last, and its own checksum is in it: `parse` accepts exactly the bytes that `text`
wrote, so that no byte of it can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pgtasks.errors import NotProven, VersionMismatch

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that is known of a backup without reading its dump.

    `server_version` is a number like 160014, `dump_tool` pg_dump's (16, 14). `layout` is
    `directory` (pg_dump -Fd) or `custom` (-Fc, one file). `rows` is None for a backup without
    proof. `snapshot_time` is the server's clock in UTC; `warnings` are what was left out and said.
    """

    id: str
    environment: str
    database: str
    system: str
    server_version: int
    server: str
    dump_tool: tuple[int, int]
    layout: str
    compression: str
    snapshot_time: str
    revision: str
    tables: int
    rows: int | None
    database_bytes: int
    seconds: float
    with_proof: bool
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    note: str = ""
    schema_only: bool = False
    excluded_data: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    made_by: str = ""
    pgtasks: str = ""
    format: int = FORMAT

    @property
    def major(self) -> int:
        """Return the major version of the server it was made from."""
        return self.server_version // 10000

    @property
    def complete(self) -> bool:
        """Whether all data of the database is in it."""
        return not self.schema_only and not self.excluded_data

    @property
    def size(self) -> int:
        """Return the bytes of all files but the manifest's own."""
        return sum(record.size for record in self.files.values())

    def as_json(self) -> dict[str, Any]:
        """Return the document that `parse` reads, without its checksum."""
        document = {part.name: getattr(self, part.name) for part in fields(self)}
        document["dump_tool"] = list(self.dump_tool)
        document["excluded_data"] = list(self.excluded_data)
        document["warnings"] = list(self.warnings)
        document["files"] = {
            name: {"size": record.size, "sha256": record.sha256}
            for name, record in sorted(self.files.items())
        }
        return document


def text(manifest: Manifest) -> str:
    """Return the manifest as it is written, its checksum at the end."""
    document = manifest.as_json()
    return _laid({**document, "checksum": _checksum(document)})


def parse(content: str, where: str) -> Manifest:
    """Return the manifest that `text` wrote; `where` opens the error.

    Raises NotProven for anything else, VersionMismatch for one of a newer pgtasks.
    """
    try:
        document = json.loads(content)
        document.pop("checksum")
        if isinstance(document["format"], int) and document["format"] > FORMAT:
            raise VersionMismatch(
                f"{where}: format {document['format']}, this pgtasks knows {FORMAT}: upgrade it"
            )
        manifest = _from_json(document)
        whole = text(manifest) == content
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise NotProven(f"{where}: not a manifest: {exc!r}") from None
    if not whole:
        raise NotProven(f"{where}: the manifest was changed after it was written")
    return manifest


def _from_json(document: Mapping[str, Any]) -> Manifest:
    major, minor = document["dump_tool"]
    values = {
        **document,
        "dump_tool": (major, minor),
        "excluded_data": tuple(document["excluded_data"]),
        "warnings": tuple(document["warnings"]),
        "files": {name: FileRecord(**record) for name, record in document["files"].items()},
    }
    return Manifest(**values)


def _laid(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_laid(document).encode("utf-8", "surrogatepass")).hexdigest()
