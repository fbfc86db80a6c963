"""Find the objects of an archive that need a superuser, by its entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof import entries
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

_KINDS = (
    *("EVENT TRIGGER", "FOREIGN DATA WRAPPER", "ACCESS METHOD", "PROCEDURAL LANGUAGE"),
    *("OPERATOR CLASS", "OPERATOR FAMILY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE"),
)
# the options that pg_dump writes before a body, which may contain the same words
_OPTIONS = r"\A(?:(?!\n    LANGUAGE ).)*\n    LANGUAGE [^\n]*"
# definitions that need a superuser: kind, pattern, description
_WORDS = (
    ("FUNCTION", r"\n\s*LANGUAGE (c|internal)\b", "is written in C"),
    ("PROCEDURE", r"\n\s*LANGUAGE (c|internal)\b", "is written in C"),
    ("FUNCTION", rf"(?s){_OPTIONS} LEAKPROOF\b", "is leakproof"),
    ("FUNCTION", rf"(?s){_OPTIONS} SUPPORT ", "has a support function"),
    ("ACL", r"(?m)^SET SESSION AUTHORIZATION ", "is granted by another role than the owner"),
    ("PUBLICATION", r"\bFOR (ALL TABLES|TABLES IN SCHEMA)\b", "is for all tables"),
    ("SUBSCRIPTION", r"^CREATE SUBSCRIPTION\b", "is a subscription"),
    ("CAST", r"\bWITHOUT FUNCTION\b", "is a cast without a function"),
    ("TYPE", r"^\s*INPUT = ", "is a base type"),
    ("TYPE", r"\A\s*CREATE TYPE [^\n]*;\s*\Z", "is a shell type"),
)
_SHOWN = 5


def demanding(
    conn: Connection,
    target: Target,
    extensions: Iterable[str],
    archive: Sequence[Entry],
    *,
    grants: bool,
    way: Callable[[Sequence[Entry]], str] = lambda found: "",
) -> Iterator[str]:
    """Yield one line for each kind of object, with the way out; with `grants` they are restored.

    `way` returns how some of the entries are left out, empty if that is not possible.
    """
    archive = [entry for entry in archive if grants or entry.desc != "ACL"]
    for why, found in _by_reason(archive).items():
        names = [entries.name((each.desc, each.namespace, each.tag)) for each in found[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        without = f": {flags} restores without" if (flags := way(found)) else ""
        yield f"{', '.join(names)}{more}: {why}, which only a superuser restores{without}"
    yield from _extensions(conn, target, extensions)
    if conn.server_version < 150000:
        yield from _public(archive)


def _by_reason(archive: Sequence[Entry]) -> dict[str, list[Entry]]:
    demands: dict[str, list[Entry]] = {}
    for entry in archive:
        if why := _why(entry):
            demands.setdefault(why, []).append(entry)
    return demands


def _why(entry: Entry) -> str:
    if entry.desc in _KINDS:
        return f"it is of kind {entry.desc.lower()}"
    if entry.desc == "ACL" and entry.namespace in ("pg_catalog", "information_schema"):
        return f"it grants what is in {entry.namespace}"
    for kind, pattern, why in _WORDS:
        if entry.desc == kind and re.search(pattern, entry.definition.decode(errors="replace")):
            return why
    return ""


def _extensions(conn: Connection, target: Target, extensions: Iterable[str]) -> Iterator[str]:
    untrusted = connection.rows(
        conn,
        "SELECT name FROM pg_available_extension_versions WHERE name = ANY(%s)"
        " GROUP BY name HAVING bool_and(superuser AND NOT trusted) ORDER BY 1",
        (sorted(extensions),),
        into=str,
    )
    for name in untrusted:
        # every database has plpgsql
        if name != "plpgsql" and target.template in ("template0", "template1"):
            as_one = " (user: postgres)" if target.embedded else ""
            yield (
                f"extension {name!r} needs a superuser to be created: name a template database "
                f"that has it in `template`, or connect as a superuser{as_one}"
            )


def _public(archive: Sequence[Entry]) -> Iterator[str]:
    # since 15 the database's owner owns the schema
    if any(entry.desc == "ACL" and entry.tag == "SCHEMA public" for entry in archive):
        yield "grants on schema public are the superuser's to give, who owns it below PostgreSQL 15"
