"""Record the entries of an archive, and compare them with those of another archive.

An entry is identified by kind, schema and name. Objects that need more (operators and their
operands) have several entries of the same name, which are compared together.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pgtasks.server.proof.difference import Difference
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import from_bytes, parted, qualified, quoted

Key = tuple[str, str, str]
Group = Counter[tuple[str, str]]  # owner and digest of the entries of one key
Schema = Mapping[Key, Group]

_LARGE = ("BLOB", "BLOB METADATA")
_MANY = ("ACL", "DEFAULT ACL")
_ABOUT = ("ACL", "COMMENT", "SECURITY LABEL")
# rows have their own proof
_DATA = ("TABLE DATA", "SEQUENCE SET", "BLOBS", "STATISTICS DATA")
# entries of the archive and of the database itself, which pg_restore ignores
_NOT_INSIDE = ("ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES")
# objects that belong to the owner of their table or other parent
_NOT_OWNED = (
    *_ABOUT,
    *("CAST", "TRANSFORM", "ACCESS METHOD", "EXTENSION", "USER MAPPING", "SEQUENCE OWNED BY"),
    *("CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "DEFAULT", "INDEX", "INDEX ATTACH"),
    *("TABLE ATTACH", "RULE", "TRIGGER", "POLICY", "ROW SECURITY", "MATERIALIZED VIEW DATA"),
    *("PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"),
)
_ALL_LARGE = "LARGE OBJECTS"  # the tag of entries on large objects
_ON_TABLE = re.compile(rb"((?:GRANT|REVOKE) )([A-Z,]+)( ON TABLE .*)")
_OF_TABLES_BEFORE_17 = {
    *(b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"TRUNCATE", b"REFERENCES", b"TRIGGER")
}
_BY_ROOT = b"-- load via partition root "
_NOT_MADE = b"-- *not* "  # begins the definition of an existing object, such as schema public


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry in a proof; the entries of all large objects are combined for each kind."""

    desc: str
    namespace: str
    tag: str
    owner: str
    digest: str


def record(entries: Iterable[Entry]) -> tuple[Recorded, ...]:
    """Return the entries of an archive for a proof, all that pg_restore would restore."""
    rows, large = [], dict[str, list[str]]()
    for entry in entries:
        if is_large(entry):
            line = f"{entry.namespace}\0{entry.tag}\0{entry.owner}\0{entry.digest}"
            large.setdefault(entry.desc, []).append(line)
        else:
            rows.append(Recorded(entry.desc, entry.namespace, entry.tag, entry.owner, entry.digest))
    for desc, lines in large.items():
        rows.append(Recorded(desc, "", _ALL_LARGE, "", _digest("\n".join(sorted(lines)))))
    return tuple(sorted(rows, key=lambda row: (row.desc, row.namespace, row.tag, row.digest)))


def altered(recorded: Iterable[Recorded], entries: Iterable[Entry]) -> Iterator[Difference]:
    """Yield the differences of an archive from its recorded entries."""
    wanted, actual = _rows_by_key(recorded), _rows_by_key(record(entries))
    for key in sorted(wanted.keys() | actual.keys()):
        if key not in actual:
            yield Difference(name(key), " is missing from the dump")
        elif key not in wanted:
            yield Difference(name(key), " was added to the dump")
        elif wanted[key] != actual[key]:
            yield Difference(name(key), " is not in the dump as the proof has it")


def _rows_by_key(rows: Iterable[Recorded]) -> dict[Key, Group]:
    groups: dict[Key, Group] = {}
    for row in rows:
        key = (row.desc, row.namespace, row.tag)
        groups.setdefault(key, Counter())[row.owner, row.digest] += 1
    return groups


@dataclass(frozen=True)
class Access:
    """How a restore maps the roles of an archive.

    `owner` returns the new owner of the objects of a role of the archive. Without `owners` that
    role owns everything; without `grants` no privileges were restored; without `subscriptions`
    pg_dump does not list them.
    """

    owner: Callable[[str], str] = str
    owners: bool = True
    grants: bool = True
    subscriptions: bool = True


AS_SAVED = Access()
_SCHEMA_ALONE = Access(owners=False, grants=False, subscriptions=False)


def schema(entries: Iterable[Entry], access: Access = AS_SAVED, *, across: bool = False) -> Schema:
    """Return the schema of an archive as a restore with that access creates it.

    `across` is for `compare_across`: grants without what not every major has.
    """
    groups: dict[Key, Group] = {}
    for key, owner, digest in _inside(entries, access, _common if across else _unordered):
        owner = "" if key[0] in _NOT_OWNED or not owner else access.owner(owner)
        groups.setdefault(key, Counter())[owner, digest] += 1
    return groups


def _inside(
    entries: Iterable[Entry], access: Access, grants: Callable[[Entry], str]
) -> Iterator[tuple[Key, str, str]]:
    large = []
    for entry in entries:
        if _is_left_out(entry, access):
            continue
        if is_large(entry):
            large.append(entry)
            continue
        digest = grants(entry) if entry.desc == "ACL" else entry.digest
        yield (entry.desc, entry.namespace, entry.tag), entry.owner, digest
    yield from _large_objects(large)


def _is_left_out(entry: Entry, access: Access) -> bool:
    about = entry.tag.partition(" ")[0] if entry.desc in _ABOUT else entry.desc.partition(" ")[0]
    return (
        entry.desc in _DATA
        or entry.desc in _NOT_INSIDE
        or (entry.desc in _ABOUT and about == "DATABASE")
        or (about == "SUBSCRIPTION" and not access.subscriptions)
        or (entry.desc in ("ACL", "DEFAULT ACL") and not access.grants)
        # it would only name the owner
        or (entry.definition.startswith(_NOT_MADE) and not access.owners)
    )


def routed(archive: Iterable[Entry]) -> dict[str, tuple[str, str]]:
    """Return the partitions whose rows may be in others after a load, with the table above.

    pg_dump writes such rows for the partitioned table: hashes of an enum differ in each database.
    """
    found = {}
    for entry in archive:
        if entry.desc == "TABLE DATA" and entry.definition.startswith(_BY_ROOT):
            text = from_bytes(entry.definition.removeprefix(_BY_ROOT).strip())
            schema, name = (_unquoted(part) for part in parted(text, "."))
            found[qualified(entry.namespace, entry.tag)] = schema, name
    return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def is_inside(entry: Entry) -> bool:
    """Return whether an entry makes something of the schema: no rows, no owner, no grant."""
    return not (_is_left_out(entry, _SCHEMA_ALONE) or is_large(entry))


def _unordered(entry: Entry) -> str:
    """Return a digest of statements, ignoring their order."""
    return _of_lines(entry.definition.splitlines())


def _of_lines(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()[:32]


def _common(entry: Entry) -> str:
    """Return a digest of grants, ignoring MAINTAIN on tables, which servers before 17 lack.

    The owner of a table has it there although older servers had revoked all from him.
    """
    lines = []
    for line in entry.definition.splitlines():
        if not (match := _ON_TABLE.fullmatch(line)):
            lines.append(line)
        elif rest := set(match[2].split(b",")) - {b"MAINTAIN"}:
            what = b"ALL" if rest >= _OF_TABLES_BEFORE_17 else b",".join(sorted(rest))
            lines.append(match[1] + what + match[3])
    return _of_lines(lines)


def is_large(entry: Entry) -> bool:
    """Return whether an entry makes a large object, or is its grants, comment or label."""
    return entry.desc in _LARGE or (
        entry.desc in _ABOUT and re.match(r"LARGE OBJECTS? \d", entry.tag) is not None
    )


def _large_objects(entries: Iterable[Entry]) -> Iterator[tuple[Key, str, str]]:
    """Yield owner, grants and comment of each large object.

    Since version 17, pg_dump writes one entry for those with the same owner and grants. Its
    definition lists them; the grants name the first one and are for all.
    """
    entries = list(entries)
    grouped = {entry.tag: _oids(entry) for entry in entries if entry.desc in _LARGE}
    for entry in entries:
        if entry.desc in _LARGE:
            for oid in _oids(entry):
                yield (entry.desc[:4], "", _ALL_LARGE), entry.owner, oid
            continue
        which = entry.tag.split(" ", 2)[2]
        first = which.partition("..")[0]
        text = entry.definition.decode("utf-8", "backslashreplace")
        for oid in grouped.get(which, [which]):
            own = text.replace(f"LARGE OBJECT {first} ", f"LARGE OBJECT {oid} ")
            yield (entry.desc, "", _ALL_LARGE), "", _digest(own)


def _oids(entry: Entry) -> list[str]:
    return entry.definition.decode().split() if entry.desc == "BLOB METADATA" else [entry.tag]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True)
class Compared:
    """The differences between an actual schema and the expected one.

    `anew` are definitions that the server prints differently from the archive after any load.
    """

    differences: tuple[Difference, ...]
    anew: tuple[Key, ...] = ()


def compare(wanted: Schema, actual: Schema, anew: Callable[[], Schema]) -> Compared:
    """Compare the schema of an archive with that of a database it was loaded into.

    `anew` returns the schema of an empty database into which only the archive's schema was loaded.
    It is called if a definition differs, or if there are additional objects, which may come from
    the template. A missing object, or another owner, is a difference in any case.
    """
    differing = _differing(wanted, actual)
    open_ones = [key for key in differing if key not in wanted or _in_text(key, wanted, actual)]
    loaded = anew() if open_ones else {}
    printed = tuple(key for key in open_ones if loaded.get(key) == actual[key])
    left = [key for key in differing if key not in printed]
    return Compared(tuple(_difference(key, wanted, actual) for key in left), printed)


def compare_across(wanted: Schema, actual: Schema) -> Compared:
    """Compare schemas of two major versions, which print most definitions differently.

    Comments and grants are comparable, except those on objects of the server.
    """
    differing = _differing(wanted, actual)
    printed = tuple(
        key
        for key in differing
        if not _is_own(key) or (key[0] not in _ABOUT and _in_text(key, wanted, actual))
    )
    left = [key for key in differing if key not in printed]
    return Compared(tuple(_difference(key, wanted, actual) for key in left), printed)


def _differing(wanted: Schema, actual: Schema) -> list[Key]:
    keys = wanted.keys() | actual.keys()
    return sorted(key for key in keys if wanted.get(key) != actual.get(key))


def _in_text(key: Key, wanted: Schema, actual: Schema) -> bool:
    """Return whether both have the entry, with the same owners."""
    return key in wanted and key in actual and _owners(wanted[key]) == _owners(actual[key])


def _is_own(key: Key) -> bool:
    """Return whether an entry belongs to a user's object, not to one of the server."""
    desc, namespace, tag = key
    public = tag == ("public" if desc == "SCHEMA" else "SCHEMA public")
    return not public and namespace not in ("pg_catalog", "information_schema")


def _difference(key: Key, wanted: Schema, actual: Schema) -> Difference:
    named, is_are = name(key), "are" if key[0] in _MANY or key[2] == _ALL_LARGE else "is"
    if key == ("SCHEMA", "", "public"):
        # pg_dump lists it only if it differs from that of a new database
        return Difference(named, " belongs to another role, or does not exist")
    if key not in actual:
        return Difference(named, f" {is_are} missing")
    if key not in wanted:
        return Difference(named, " should not be there")
    before, after = _owners(wanted[key]), _owners(actual[key])
    if before.keys() != after.keys() and key[2] != _ALL_LARGE:
        return Difference(
            named, f" has another owner: {_owner_names(before)} expected, {_owner_names(after)}"
        )
    return Difference(named, f" {is_are} defined differently")


def _owners(group: Group) -> Counter[str]:
    owners: Counter[str] = Counter()
    for (owner, _), number in group.items():
        owners[owner] += number
    return owners


def _owner_names(owners: Counter[str]) -> str:
    return ", ".join(repr(owner) for owner in sorted(owners))


# kinds whose tag is the name of a table and their own name
_OF_TABLES = {
    "CONSTRAINT": "constraint",
    "CHECK CONSTRAINT": "constraint",
    "FK CONSTRAINT": "constraint",
    "DEFAULT": "default",
    "RULE": "rule",
    "TRIGGER": "trigger",
    "POLICY": "policy",
}
# kinds whose tag is more than a name
_SIGNED = (
    *("FUNCTION", "PROCEDURE", "AGGREGATE", "CAST", "TRANSFORM", "USER MAPPING"),
    *("PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"),
)
_WORDS = {"ACL": "grants on", "COMMENT": "comment on", "SECURITY LABEL": "security label on"}
# the kind at the beginning of the tag of such an entry
_SHOWN = 5  # number of entries that a list for people names
_NAMED = re.compile(
    r"(LARGE OBJECT|FOREIGN DATA WRAPPER|FOREIGN SERVER|FOREIGN TABLE|MATERIALIZED VIEW"
    r"|EVENT TRIGGER|ACCESS METHOD|OPERATOR CLASS|OPERATOR FAMILY|TEXT SEARCH [A-Z]+"
    r"|PROCEDURAL LANGUAGE|DOMAIN CONSTRAINT|[A-Z]+) (.*)",
    re.DOTALL,
)


def names(keys: Sequence[Key]) -> str:
    """Return the names of some entries for people, joined; the first few of many."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(map(name, keys[:_SHOWN])) + more


def name(key: Key) -> str:
    """Return the name of an entry for people and for --accept: `constraint public.bill.paid`."""
    desc, namespace, tag = key
    if tag == _ALL_LARGE:
        text = f"{_WORDS.get(desc, 'owners of')} large objects"
    elif desc in _WORDS:
        parts = _NAMED.fullmatch(tag)
        kind, rest = (f"{parts[1].lower()} ", parts[2]) if parts else ("", tag)
        plain = re.search(r"[(). ]", rest) is None  # else more than a name: arguments, a column
        text = f"{_WORDS[desc]} {kind}{_placed(namespace, quoted(rest) if plain else rest)}"
    elif desc == "DEFAULT ACL":
        text = tag.lower() + (f" in schema {quoted(namespace)}" if namespace else "")
    elif desc in _OF_TABLES and tag.count(" ") == 1:
        table, own = tag.split(" ")
        text = f"{_OF_TABLES[desc]} {qualified(namespace, table)}.{quoted(own)}"
    else:
        tag = tag.removeprefix(f"{desc} ")  # CAST (a AS b)
        text = f"{_OF_TABLES.get(desc, desc.lower())} "
        text += _placed(namespace, tag if desc in _SIGNED else quoted(tag))
    return _printable(text)


def _placed(namespace: str, name: str) -> str:
    return f"{quoted(namespace)}.{name}" if namespace else name


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped)
