"""Give what roles of a backup own, and were granted, to other roles (--map-role A=B).

pg_restore takes no other names. It loads without owners, so that everything belongs to the one role
of the load; what it would grant, or do for a role by name, is run after it with the other names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pgtasks.database import leaving
from pgtasks.database.properties import DatabaseProperties
from pgtasks.errors import Refused
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import from_bytes, identifier, parted, quoted, to_bytes

_NAME = r'"(?:[^"]|"")*"|[^\s",;]+'
# as pg_dump writes them: the grantee at the end, with the role whose defaults they are
_GRANT = re.compile(
    rf"(?ms)^((?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\b.*?\b(?:TO|FROM) )({_NAME})"
    r"((?: WITH GRANT OPTION)?;)$"
)
_OWN_DEFAULTS = re.compile(rf"(?m)^(ALTER DEFAULT PRIVILEGES FOR ROLE )({_NAME})()")
_AS = re.compile(rf"(?m)^(SET SESSION AUTHORIZATION )({_NAME})(;)$")
_NAMED = ("ACL", "DEFAULT ACL", "POLICY", "USER MAPPING")
_SHOWN = 5
_NOT_MADE = b"-- *not* "
_OWNED = "ALTER SCHEMA {} OWNER TO {}"


@dataclass(frozen=True)
class RoleMap:
    """Roles of a backup by name, with the roles that take their places."""

    names: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names)

    def of(self, role: str) -> str:
        """Return the role that takes a role's place, itself if none does."""
        return self.names.get(role, role)

    def entries(self, archive: Iterable[Entry]) -> list[Entry]:
        """Return the entries of an archive with the other roles."""
        if not self.names:
            return list(archive)
        return [
            replace(each, owner=self.of(each.owner), definition=self._text(each))
            for each in archive
        ]

    def named(self, archive: Iterable[Entry]) -> list[Entry]:
        """Return the entries that pg_restore must not restore, as they are to be run.

        They are those that name such a role, and what depends on them (a comment on a policy).
        """
        if not self.names:
            return []
        listed = list(archive)
        numbers = {each.number for each in listed if self._text(each) != each.definition}
        while more := {
            each.number for each in listed if each.number not in numbers and each.needs & numbers
        }:
            numbers |= more
        return [
            replace(each, definition=self._text(each)) for each in listed if each.number in numbers
        ]

    def owners(self, archive: Iterable[Entry]) -> list[Entry]:
        """Return what gives schemas that pg_restore does not create (public) to their owner."""
        return [
            replace(each, definition=to_bytes(_OWNED.format(quoted(each.tag), _written(owner))))
            for each in archive
            if self.names and each.desc == "SCHEMA" and each.definition.startswith(_NOT_MADE)
            if (owner := self.of(each.owner))
        ]

    def properties(self, saved: DatabaseProperties) -> DatabaseProperties:
        """Return the properties of a database with the other roles."""
        grants = saved.grants
        if grants is not None:
            renamed = (replace(each, grantee=self.of(each.grantee)) for each in grants)
            grants = tuple(dict.fromkeys(renamed))
        return replace(
            saved,
            owner=self.of(saved.owner),
            grants=grants,
            settings=tuple(replace(each, role=self.of(each.role)) for each in saved.settings),
            roles=tuple(dict.fromkeys(map(self.of, saved.roles))),
            owners=tuple(dict.fromkeys(map(self.of, saved.owners))),
        )

    def joins(self, roles: Iterable[str]) -> bool:
        """Return whether two roles of a backup become one, whose grants pg_dump prints together."""
        named = list(dict.fromkeys(roles))
        return len({*map(self.of, named)}) < len(named)

    def lines(self) -> list[str]:
        """Return what a plan says of it."""
        return [f"{before!r} becomes {after!r}" for before, after in self.names.items()]

    def _text(self, entry: Entry) -> bytes:
        if entry.desc not in _NAMED:
            return entry.definition
        text = from_bytes(entry.definition)
        if entry.desc in ("ACL", "DEFAULT ACL"):
            for pattern in (_GRANT, _OWN_DEFAULTS, _AS):
                text = pattern.sub(lambda found: found[1] + self._other(found[2]) + found[3], text)
            return to_bytes(text)
        return to_bytes(leaving.renamed(entry.desc, text, self._other))

    def _other(self, name: str) -> str:
        """Return the role in the place of a name as SQL has it, quoted as it must be."""
        plain = leaving.unquoted(name)
        return _written(self.names[plain]) if plain in self.names else name


def _written(name: str) -> str:
    """Return a name as pg_dump writes it: in quotes if it is a keyword that SQL reserves."""
    from postgast import pg_query_pb2 as pb
    from postgast import scan

    plain = quoted(name)
    if plain != name:
        return plain
    [token] = scan(name).tokens
    free = (pb.NO_KEYWORD, pb.UNRESERVED_KEYWORD)
    return name if token.keyword_kind in free else identifier(name)


def parsed(texts: Sequence[str]) -> RoleMap:
    """Return the map of some A=B, raising Refused; a name with = is in double quotes."""
    names: dict[str, str] = {}
    for text in texts:
        parts = list(map(leaving.unquoted, parted(text, "=")))
        if len(parts) != 2 or not all(parts):
            way = "a role of the backup, and one that is here"
            raise Refused(f"--map-role {text!r} is not A=B: {way}")
        before, after = parts
        if names.setdefault(before, after) != after:
            raise Refused(f"--map-role gives {before!r} twice: {names[before]!r} and {after!r}")
    return RoleMap(names)


def refuse(roles: RoleMap, known: Iterable[str], owners: Iterable[str]) -> None:
    """Raise Refused for a role that the backup does not have, or for several owners in the end."""
    names = set(known)
    for name in roles.names:
        if name not in names:
            listed = ", ".join(sorted(map(repr, names))[:_SHOWN])
            raise Refused(f"--map-role {name!r}: the backup has no such role, it has {listed}")
    left = sorted({*map(roles.of, owners)})
    if len(left) > 1:
        listed = ", ".join(map(repr, left[:_SHOWN]))
        raise Refused(f"--map-role: {listed} would own something, give all to one of them")


def run(conn: Connection, entries: Iterable[Entry]) -> None:
    """Run entries that pg_restore left out, in their order, grants last."""
    for entry in _ordered(entries):
        if entry.definition:
            connection.execute(conn, from_bytes(entry.definition))


def _ordered(entries: Iterable[Entry]) -> Iterator[Entry]:
    listed = list(entries)
    late = ("ACL", "DEFAULT ACL")
    yield from (each for each in listed if each.desc not in late)
    yield from (each for each in listed if each.desc in late)
