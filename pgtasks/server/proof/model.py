"""The content of a proof, and its JSON.

Tables, sequences and schema objects are identified by name, because a restore gives them new OIDs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from msgspec import Struct

from pgtasks.errors import NotProven
from pgtasks.host import decoding
from pgtasks.host.decoding import Count, Number
from pgtasks.server.proof.entries import Recorded
from pgtasks.server.quoting import qualified

FORMAT = 2  # of new proofs
KNOWN = (1, 2)  # each has its own rule, see `fingerprint`
# the reasons for a table whose rows the dump does not contain
LEFT_OUT = "its data is left out"
OF_EXTENSION = "it belongs to an extension, which creates it again"
NOT_ON_STANDBY = "it is unlogged, and a standby does not have its rows"
_NOT_DUMPED = (LEFT_OUT, OF_EXTENSION, NOT_ON_STANDBY)


@dataclass(frozen=True, slots=True)
class TableProof:
    """Rows of one table and their order-free fingerprint (a sum of 64-bit hashes, as text)."""

    schema: str
    name: str
    rows: int
    fingerprint: str

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class SequenceProof:
    """The value of a sequence."""

    schema: str
    name: str
    value: int
    called: bool

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Unproven:
    """An object without a proof, and the reason: `table "public"."x"`, `row security applies`."""

    object: str
    reason: str


@dataclass(frozen=True)
class Proof:
    """The content of one snapshot of a database.

    `schema` are the entries of the archive, None in a proof of an earlier version. `large_objects`
    is None if the database has none, or if they could not be read (see `unproven`). By table,
    `computed` has the fingerprints of generated columns, whose values a restore computes again, and
    `of_extensions` the extension that creates it.
    """

    server_version: int
    tables: tuple[TableProof, ...] = ()
    sequences: tuple[SequenceProof, ...] = ()
    extensions: Mapping[str, str] = field(default_factory=dict)
    schema: tuple[Recorded, ...] | None = None
    large_objects: TableProof | None = None
    unproven: tuple[Unproven, ...] = ()
    computed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    of_extensions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def major(self) -> int:
        """Return the major version of the server it was taken on."""
        return self.server_version // 10000

    @property
    def rows(self) -> int:
        """Return the rows of all tables, but for those of `uncounted` ones."""
        return sum(table.rows for table in self.tables)

    @property
    def uncounted(self) -> int:
        """Return the number of tables whose rows are in the dump, and were not counted."""
        tables = (item for item in self.unproven if item.object.startswith("table "))
        return sum(item.reason not in _NOT_DUMPED for item in tables)

    def as_json(self) -> dict[str, Any]:
        """Return the document that `parse` reads."""
        return {
            "format": self.format,
            "server_version": self.server_version,
            "rows": self.rows,
            "tables": [_columns(table) for table in self.tables],
            "sequences": [[s.schema, s.name, s.value, s.called] for s in self.sequences],
            "extensions": dict(self.extensions),
            "large_objects": _columns(self.large_objects) if self.large_objects else None,
            "unproven": [[item.object, item.reason] for item in self.unproven],
            "schema": None if self.schema is None else [astuple(each) for each in self.schema],
            "computed": dict(self.computed),
            "of_extensions": dict(self.of_extensions),
        }


_Table = tuple[str, str, Count, str]


class _Form(Struct):
    format: int


class _Document(Struct):
    """A proof in its file, without the totals, which are computed."""

    server_version: Count
    tables: list[_Table]
    sequences: list[tuple[str, str, Number, bool]]
    extensions: dict[str, str]
    large_objects: _Table | None
    unproven: list[tuple[str, str]]
    # by name: digests of another kind, in proofs of earlier versions
    schema: dict[str, tuple[str, str, str]] | list[tuple[str, str, str, str, str]] | None
    computed: dict[str, dict[str, str]] = {}
    of_extensions: dict[str, str] = {}


def parse(content: bytes, where: str = "the proof") -> Proof:
    """Parse a proof that `text` wrote, raising NotProven if it is invalid."""
    form = decoding.decode(content, _Form, where).format
    if form not in KNOWN:
        known = ", ".join(map(str, KNOWN))
        raise NotProven(f"{where} has format {form!r}, known: {known}")
    document = decoding.decode(content, _Document, where)
    return Proof(
        format=form,
        server_version=document.server_version,
        tables=tuple(TableProof(*columns) for columns in document.tables),
        sequences=tuple(SequenceProof(*columns) for columns in document.sequences),
        extensions=document.extensions,
        large_objects=TableProof(*document.large_objects) if document.large_objects else None,
        unproven=tuple(Unproven(*columns) for columns in document.unproven),
        schema=_recorded(document.schema),
        computed=document.computed,
        of_extensions=document.of_extensions,
    )


def _recorded(value: object) -> tuple[Recorded, ...] | None:
    return tuple(Recorded(*row) for row in value) if isinstance(value, list) else None


def _columns(table: TableProof) -> list[Any]:
    return [table.schema, table.name, table.rows, table.fingerprint]


def text(proof: Proof) -> str:
    """Return the proof as text for a file, one line per object, so that it diffs well."""
    document = proof.as_json()
    parts = [f"{json.dumps(key)}: {_laid(value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _laid(value: Any) -> str:
    """Return JSON with one line per item of a list or a mapping."""
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
    if isinstance(value, dict) and value:
        lines = (
            f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(item, ensure_ascii=False)}"
            for key, item in value.items()
        )
        return "{\n" + ",\n".join(lines) + "\n}"
    return json.dumps(value)
