"""The record of the seed sets that a database has: in its stamp, `NAME@SCALE:DIGEST`.

It is written in the transaction of the rows. The stamp is in the database's comment, which only its
owner may write: another role loads sets without a record, each time anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, unquote

from psycopg2 import sql

from pgtasks.schema.seed.sets import SeedSet
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import comment_and_stamp

Record = Mapping[tuple[str, str], str]  # the digest of the file, by the set's name and its scale
_OWNS = "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"


def scale_of(seed: SeedSet, scale: str) -> str:
    """Return the scale that a set is loaded at, empty for a set without scales."""
    return scale if seed.scales else ""


def parse(text: str) -> dict[tuple[str, str], str]:
    """Return the record in a stamp; what is no record is ignored."""
    record = {}
    for part in text.split():
        named, colon, digest = part.rpartition(":")
        name, _, scale = named.partition("@")
        if colon and name:
            record[unquote(name), unquote(scale)] = digest
    return record


def joined(record: Record) -> str:
    """Return the text for a stamp."""
    parts = []
    for (name, scale), digest in record.items():
        at = f"@{quote(scale, safe='')}" if scale else ""
        parts.append(f"{quote(name, safe='')}{at}:{digest}")
    return " ".join(parts)


def read(conn: Connection, database: str) -> Record:
    """Return the record of a database, empty if it has no stamp."""
    _, mark = comment_and_stamp(conn, database)
    return parse(mark.seeds) if mark else {}


def statement(conn: Connection, database: str, seed: SeedSet, scale: str) -> str:
    """Return the SQL that adds a set to the record; empty if the role may not write it."""
    text, mark = comment_and_stamp(conn, database)
    if mark is None or not connection.value(conn, _OWNS, into=bool):
        return ""
    record = {**parse(mark.seeds), (seed.name, scale_of(seed, scale)): seed.digest}
    written = stamp.comment_statement(database, text, replace(mark, seeds=joined(record)))
    return sql.SQL("{};").format(written).as_string(conn)
