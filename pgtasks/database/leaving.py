"""Leave out archive entries that come after the rows, with the entries that depend on them.

Also the check constraints of tables and domains, which are dropped before the rows come.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pgtasks.database import checks, rights
from pgtasks.database.checks import Check
from pgtasks.errors import Refused
from pgtasks.server.connection import Connection
from pgtasks.server.proof import entries
from pgtasks.server.proof.difference import meant
from pgtasks.server.proof.toc import POST_DATA, STATISTICS, Entry

_COPY_FAILED = re.compile(r"COPY failed for table \"(?P<table>.*?)\": ERROR:")
_WITH_ROWS = ("TABLE", "FOREIGN TABLE", "SEQUENCE")
_BEFORE = ("EXTENSION", "TABLE DATA")  # what can be left out although it is not after the rows
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[a-z_][a-z0-9_$]*)'
# as pg_dump writes it, see dumpPolicy in pg_dump.c
_POLICY = re.compile(
    rf"CREATE POLICY {_IDENTIFIER} ON {_IDENTIFIER}(?:\.{_IDENTIFIER})?(?: AS RESTRICTIVE)?"
    rf"(?: FOR [A-Z]+)? TO (?P<roles>{_IDENTIFIER}(?:, {_IDENTIFIER})*)"
)
# as pg_dump writes it, see dumpUserMappings in pg_dump.c
_USER_MAPPING = re.compile(rf"CREATE USER MAPPING FOR (?P<roles>{_IDENTIFIER}) SERVER ")
_OF_ROLES = {"POLICY": _POLICY, "USER MAPPING": _USER_MAPPING}


@dataclass(frozen=True)
class LeftOut:
    """The omitted entries: `names` for a person, `numbers` of all of them in the archive.

    `checks` are the constraints that are no entries, and are dropped.
    """

    names: tuple[str, ...] = ()
    numbers: frozenset[int] = frozenset()
    checks: tuple[Check, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.numbers or self.checks)

    def kept(self, archive: Iterable[Entry]) -> list[Entry]:
        """Return the entries that are restored."""
        return [entry for entry in archive if entry.number not in self.numbers]


NOTHING = LeftOut()


def left(
    archive: Sequence[Entry], wanted: Sequence[str], unusable: Collection[int] = ()
) -> LeftOut:
    """Return the omitted entries, raising Refused for a name that is unknown or has rows.

    `unusable` are the numbers of entries that cannot be restored here in any case.
    """
    known: dict[str, list[Entry]] = {}
    for entry in archive:
        known.setdefault(_name(entry), []).append(entry)
    numbers = set(unusable)
    inner = {str(check): check for check in checks.read(archive)} if wanted else {}
    dropped: list[Check] = []
    for text in wanted:
        if (check := meant(text, {*known, *inner})) in inner and check not in known:
            dropped.append(inner[check])
            continue
        entries = known.get(meant(text, known), [])
        if not entries:
            raise Refused(f"--leave-out {text!r}: {_nearest(text, {*known, *inner})}")
        if any(entry.section != POST_DATA and entry.desc not in _BEFORE for entry in entries):
            raise Refused(
                f"--leave-out {text!r}: rows and other entries rest on it; only what comes after "
                "the rows can be left out (constraints, indexes, triggers, REFRESH), an extension, "
                "and the rows of a table ('table data ...')"
            )
        numbers |= {entry.number for entry in entries}
    if any(entry.number in numbers and entry.desc == "EXTENSION" for entry in archive):
        numbers |= set(_of_extensions(archive))
    comments = {each.comment for one in dropped for each in checks.above(one, archive)}
    numbers |= {e.number for e in archive if (e.desc, e.namespace, e.tag) in comments}
    while more := {
        entry.number for entry in archive if entry.number not in numbers and numbers & entry.needs
    }:
        numbers |= more
    named = (entry for entry in archive if entry.number in numbers and entry.desc != STATISTICS)
    names = dict.fromkeys([*map(str, dropped), *map(_name, named)])
    return LeftOut(tuple(names), frozenset(numbers), tuple(dropped))


def _of_extensions(archive: Sequence[Entry]) -> Iterator[int]:
    """Yield the rows of tables of extensions, which an archive does not mark as such."""
    made = {(entry.namespace, entry.tag) for entry in archive if entry.desc in _WITH_ROWS}
    for entry in archive:
        rows = entry.desc in ("TABLE DATA", "SEQUENCE SET")
        if rows and (entry.namespace, entry.tag) not in made:
            yield entry.number


def _name(entry: Entry) -> str:
    return entries.name((entry.desc, entry.namespace, entry.tag))


def _nearest(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, list(known), 3)
    names = ", ".join(map(repr, near))
    return f"did you mean {names}?" if near else "the backup has no entry of that name"


def flag(entry: Entry) -> str:
    """Return the flag that leaves an entry out, empty if that is not possible."""
    return f"--leave-out {shlex.quote(_name(entry))}" if entry.section == POST_DATA else ""


def way(found: Iterable[Entry]) -> str:
    """Return the flags that leave all of some entries out, empty if that is not possible."""
    flags = ["--no-acl" if entry.desc == "ACL" else flag(entry) for entry in found]
    return " ".join(dict.fromkeys(flags)) if all(flags) else ""


def rows_of(words: str, archive: Iterable[Entry]) -> str:
    """Return the flag that leaves out the rows of the table that COPY failed for.

    It is empty if pg_restore's words name none, or if several schemas have a table of that name.
    """
    match = _COPY_FAILED.search(words)
    found = [e for e in archive if match and (e.desc, e.tag) == ("TABLE DATA", match["table"])]
    return f"--leave-out {shlex.quote(_name(found[0]))}" if len(found) == 1 else ""


def of_roles(archive: Iterable[Entry]) -> Iterator[tuple[Entry, tuple[str, ...]]]:
    """Yield the row policies and user mappings for roles of users, with those roles."""
    for entry in archive:
        pattern = _OF_ROLES.get(entry.desc)
        text = entry.definition.decode(errors="replace") if pattern else ""
        if pattern and (match := pattern.match(text)):
            names = map(unquoted, re.findall(_IDENTIFIER, match["roles"]))
            if own := tuple(name for name in names if is_own(name)):
                yield entry, own


def renamed(desc: str, text: str, other: Callable[[str], str]) -> str:
    """Return the definition of a row policy or a user mapping, for other roles."""
    match = _OF_ROLES[desc].match(text)
    if match is None:
        return text
    names = re.sub(_IDENTIFIER, lambda found: other(found[0]), match["roles"])
    return text[: match.start("roles")] + names + text[match.end("roles") :]


def is_own(role: str) -> bool:
    """Return whether a name may be that of a role of users, not of the system."""
    return bool(role) and role != "public" and not role.startswith("pg_")


def absent(conn: Connection, archive: Iterable[Entry]) -> frozenset[str]:
    """Return the roles of policies and user mappings that do not exist on the server."""
    named = {role for _, roles in of_roles(archive) for role in roles}
    return frozenset(named - rights.roles(conn, named).keys())


def naming(archive: Iterable[Entry], roles: Collection[str]) -> set[int]:
    """Return the numbers of the policies and user mappings for some roles."""
    return {entry.number for entry, own in of_roles(archive) if not set(own).isdisjoint(roles)}


def unquoted(name: str) -> str:
    """Return a name as it is, of an identifier in SQL."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
