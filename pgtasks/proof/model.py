"""What a proof holds, and its JSON.

Tables, sequences and schema objects are known by their name alone: an OID means nothing in the
database that a backup is restored into.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import Struct

from pgtasks import decoding
from pgtasks.decoding import Count, Number
from pgtasks.errors import NotProven
from pgtasks.names import qualified

FORMAT = 2  # of the proofs that are written
KNOWN = (1, 2)  # each is compared by its own rule, see `expression`
EXPRESSIONS = "expressions"  # as an unproven object: those of the whole schema


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
    """Where a sequence stands."""

    schema: str
    name: str
    value: int
    called: bool

    def __str__(self) -> str:
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Unproven:
    """What a proof says nothing about, and why: `table "public"."x"`, `row security applies`."""

    object: str
    reason: str


@dataclass(frozen=True, slots=True)
class ObjectDigest:
    """Digests of one schema object, apart by what a comparison may have to leave out.

    `facts` hold across major versions, `expressions` only within one, `access` (owner and
    privileges) only where the restore kept them.
    """

    facts: str
    expressions: str = ""
    access: str = ""


@dataclass(frozen=True)
class Proof:
    """What one snapshot of a database holds.

    `schema` maps an object (`column public.film.title`) to its digests. `large_objects` is None
    where the database has none or they could not be read (then `unproven` says so). By table,
    `computed` has the fingerprints of its generated columns, whose values a restore computes anew,
    and `of_extensions` the extension that makes it.
    """

    server_version: int
    tables: tuple[TableProof, ...] = ()
    sequences: tuple[SequenceProof, ...] = ()
    extensions: Mapping[str, str] = field(default_factory=dict)
    schema: Mapping[str, ObjectDigest] = field(default_factory=dict)
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
        """Return the rows of all tables."""
        return sum(table.rows for table in self.tables)

    def without_expressions(self, reason: str) -> Proof:
        """Return the proof without what servers deparse, and say why."""
        return replace(
            self,
            schema={name: replace(part, expressions="") for name, part in self.schema.items()},
            unproven=(*self.unproven, Unproven(EXPRESSIONS, reason)),
        )

    @property
    def schema_digest(self) -> str:
        """Return one digest of all schema objects, owners and privileges included."""
        lines = sorted(
            f"{name}\0{part.facts}\0{part.expressions}\0{part.access}"
            for name, part in self.schema.items()
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the document that `parse` reads."""
        return {
            "format": self.format,
            "server_version": self.server_version,
            "rows": self.rows,
            "schema_digest": self.schema_digest,
            "tables": [_columns(table) for table in self.tables],
            "sequences": [[s.schema, s.name, s.value, s.called] for s in self.sequences],
            "extensions": dict(self.extensions),
            "large_objects": _columns(self.large_objects) if self.large_objects else None,
            "unproven": [[item.object, item.reason] for item in self.unproven],
            "schema": {
                name: [part.facts, part.expressions, part.access]
                for name, part in self.schema.items()
            },
            "computed": dict(self.computed),
            "of_extensions": dict(self.of_extensions),
        }


_Table = tuple[str, str, Count, str]


class _Form(Struct):
    format: int


class _Document(Struct):
    """A proof as its file holds it; what is counted anew is not read."""

    server_version: Count
    tables: list[_Table]
    sequences: list[tuple[str, str, Number, bool]]
    extensions: dict[str, str]
    large_objects: _Table | None
    unproven: list[tuple[str, str]]
    schema: dict[str, tuple[str, str, str]]
    computed: dict[str, dict[str, str]] = {}
    of_extensions: dict[str, str] = {}


def parse(content: bytes, where: str = "the proof") -> Proof:
    """Return the proof that `text` wrote, raising NotProven for one that cannot be read."""
    form = decoding.decode(content, _Form, where).format
    if form not in KNOWN:
        known = ", ".join(map(str, KNOWN))
        raise NotProven(f"{where} has format {form!r}, known: {known}")
    said = decoding.decode(content, _Document, where)
    return Proof(
        format=form,
        server_version=said.server_version,
        tables=tuple(TableProof(*columns) for columns in said.tables),
        sequences=tuple(SequenceProof(*columns) for columns in said.sequences),
        extensions=said.extensions,
        large_objects=TableProof(*said.large_objects) if said.large_objects else None,
        unproven=tuple(Unproven(*columns) for columns in said.unproven),
        schema={name: ObjectDigest(*part) for name, part in said.schema.items()},
        computed=said.computed,
        of_extensions=said.of_extensions,
    )


def _columns(table: TableProof) -> list[Any]:
    return [table.schema, table.name, table.rows, table.fingerprint]


def text(proof: Proof) -> str:
    """Return the proof as it is written to a file: one line per object, so that it diffs well."""
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
