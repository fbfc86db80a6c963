"""SQL that makes one side like the other, as far as nothing can be lost by it.

What is missing is created, what can be replaced without a loss is replaced. Everything else is
named in a comment: what only the left side has, types of columns, settings, roles, rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgtasks import report
from pgtasks.copy.schema import has_password
from pgtasks.schema.inspect.diff import columns
from pgtasks.schema.inspect.diff.definitions import privileges
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.server import parser
from pgtasks.server.dump import statements
from pgtasks.server.dump.statements import Allowed, Check
from pgtasks.server.parser import SyntaxFault
from pgtasks.server.proof import entries
from pgtasks.server.proof.entries import Key
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import identifier

_REPLACED = ("FUNCTION", "PROCEDURE", "AGGREGATE", "VIEW", "TRIGGER")
_SET_ANEW = ("DEFAULT", "COMMENT")
_OWNED = (
    *("TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE", "SCHEMA", "TYPE"),
    *("DOMAIN", "FUNCTION", "PROCEDURE", "AGGREGATE"),
)
_SIGNED = ("FUNCTION", "PROCEDURE", "AGGREGATE")  # their tag is not only a name
# how psql reads texts must not depend on settings: a quote could end elsewhere
_SESSION = ("SET client_encoding = 'UTF8';", "SET standard_conforming_strings = on;")
_OF_A_BACKUP = (
    "The definitions are what the maker of the backup wrote: read them before you run them.",
    "Functions, triggers, rules and defaults run with the rights of those who use them later.",
)
_BEGIN = (
    "BEGIN;",
    "SET LOCAL search_path = '';",
    "SET LOCAL lock_timeout = '5s';",
    "SET LOCAL check_function_bodies = off;",
)
# an index of a table that is there is built without locking its writers out, unless it is the
# index of a partitioned table, or of one alone
_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX (?!.* ON ONLY )", re.MULTILINE)


@dataclass
class _Script:
    """The statements: in the transaction, after it, and what is left to a person.

    `types` are those of the archive, see `statements.added_column`.
    """

    allowed: Allowed
    types: Mapping[tuple[str, ...], bool]
    inside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, statement: str, name: str, check: Check) -> bool:
        """Add a statement, or leave it to a person and return False, see `statements.refusal`."""
        return self._add(self.inside, statement, name, check)

    def add_after(self, statement: str, name: str, check: Check) -> bool:
        """Add a statement that no transaction may contain, or leave it to a person."""
        return self._add(self.after, statement, name, check)

    def _add(self, to: list[str], statement: str, name: str, check: Check) -> bool:
        if why := statements.refusal(statement, check):
            self.left.append(f"{name}: {why}")
        elif statement.strip():
            to.append(statement.strip())
        return not why


@dataclass(frozen=True)
class _Unlike:
    """An object that stays unlike the other one; `columns` are those that differ, all if empty."""

    name: str
    columns: tuple[str, ...] = ()

    def matters(self, text: str) -> bool:
        """Return whether an object that needs this one and has that definition cannot be made."""
        words = {word.strip('"') for word in re.findall(r'"(?:[^"]|"")*"|\w+', text)}
        return not self.columns or any(column in words for column in self.columns)


def script(
    left: Side,
    right: Side,
    diff: Diff,
    missing: tuple[Collection[Key], Collection[Key]],
    *,
    owners: bool,
) -> list[str]:
    """Return the lines of the script that makes `left` like `right`."""
    lacking = set(missing[1])
    made = _Script(Allowed(lacking, not right.untrusted), _types(right.entries))
    known = left.roles if owners else None
    ours, theirs = _by_key(left.entries), _by_key(right.entries)
    changed = {change.name for change in diff.changes if not change.only}
    done, unlike = set[str](), dict[int, _Unlike]()
    for key, group in theirs.items():  # in an order in which each needs those before it
        name, numbers = entries.name(key), {entry.number for entry in group}
        if key in lacking:
            if needed := _needed(group, unlike):
                unlike |= dict.fromkeys(numbers, _Unlike(needed))
                made.left.append(f"{name}: it needs {needed} as it is in {right.name}")
                continue
            complete = [_create(made, entry, known, right.name) for entry in group]
            if not all(complete):
                unlike |= dict.fromkeys(numbers, _Unlike(name))
        elif key in ours and name in changed and _text(ours[key]) != _text(group):
            alike, lacks = _change(made, key, ours[key], group)
            done |= {name} if alike else set()
            if lacks is not None:
                unlike |= dict.fromkeys(numbers, _Unlike(name, lacks))
    for change in diff.changes:
        if change.only == left.name or (not change.only and change.name not in done):
            made.left.append(f"{change.name}: {change.words}")
    return list(_lines(made, left.name, right.name))


def _types(archive: Iterable[Entry]) -> dict[tuple[str, ...], bool]:
    """Return the types of an archive: whether a column of it needs no code of a user."""
    return {
        (entry.namespace, entry.tag): _is_enum(_text([entry]))
        for entry in archive
        if entry.desc in ("TYPE", "DOMAIN", "SHELL TYPE")
    }


def _is_enum(definition: str) -> bool:
    try:
        nodes: list[Any] = [each.node for each in parser.parse(definition)]
    except SyntaxFault:
        return False
    return [type(node).__name__ for node in nodes] == ["CreateEnumStmt"]


def _needed(group: Iterable[Entry], unlike: Mapping[int, _Unlike]) -> str:
    """Return the name of an object without which these cannot be made, empty if there is none."""
    for entry in group:
        for other in (unlike[number] for number in sorted(entry.needs & unlike.keys())):
            if other.matters(_text([entry])):
                return other.name
    return ""


def _lines(made: _Script, left: str, right: str) -> Iterator[str]:
    yield _comment(f"what makes {left} like {right}, as far as nothing is lost by it")
    if made.inside or made.after:
        if not made.allowed.trusted:
            yield from map(_comment, _OF_A_BACKUP)
        yield from _SESSION
    if made.inside:
        yield from (*_BEGIN, "")
        for statement in made.inside:
            yield from (*statement.split("\n"), "")
        yield "COMMIT;"
    for statement in made.after:
        yield from ("", *statement.split("\n"))
    if made.left:
        yield from ("", "-- not done:", *map(_comment, made.left))


def _comment(text: str) -> str:
    return f"-- {report.printable(' '.join(text.split()))}"


def _key(entry: Entry) -> Key:
    return entry.desc, entry.namespace, entry.tag


def _by_key(archive: Iterable[Entry]) -> dict[Key, list[Entry]]:
    by_key: dict[Key, list[Entry]] = {}
    for entry in archive:
        by_key.setdefault(_key(entry), []).append(entry)
    return by_key


def _text(group: Iterable[Entry]) -> str:
    return "\n".join(entry.definition.decode("utf-8", "backslashreplace") for entry in group)


def _create(made: _Script, entry: Entry, roles: Mapping[str, str] | None, right: str) -> bool:
    """Add what creates an object, and return whether it is complete."""
    name, text = entries.name(_key(entry)), _text([entry])
    if has_password(entry):
        made.left.append(f"{name}: its definition may hold a password")
        return False
    if entry.desc == "ACL":
        return _grant_each(made, entry, text, right)
    check = made.allowed.definition(entry)
    if entry.desc == "INDEX" and _INDEX.search(text) and not _is_new(entry, made.allowed.new):
        concurrently = _INDEX.sub(r"CREATE \1INDEX CONCURRENTLY ", text)
        return made.add_after(concurrently, name, check)
    if not made.add(text, name, check):
        return False
    if roles is None or entry.desc not in _OWNED or not text.lstrip().startswith("CREATE"):
        return True
    if entry.owner in roles:
        owner = f"ALTER {entry.desc} {_called(entry)} OWNER TO {identifier(entry.owner)};"
        made.add(owner, name, statements.owner(entry))
    else:
        made.left.append(f"{name}: its owner {entry.owner!r} is not there")
    return True


def _grant_each(made: _Script, acl: Entry, text: str, right: str) -> bool:
    """Add the grants; what takes a privilege from an object of both sides is left to a person."""
    name, check = entries.name(_key(acl)), made.allowed.grant(acl)
    try:
        each = [parsed.text.strip() for parsed in parser.parse(text)]
    except SyntaxFault:
        return made.add(text, name, check)
    taken = [text for text in each if text.startswith("REVOKE")]
    if taken and not made.allowed.is_of_new(acl):
        made.left.append(f"{name}: fewer privileges than by default in {right}")
        each = [text for text in each if text not in taken]
    added = [made.add(f"{text};", name, check) for text in each]
    return all(added)


def _is_new(index: Entry, lacking: Collection[Key]) -> bool:
    """Return whether the table of an index is created by the script, too."""
    table = re.search(r" ON (?:ONLY )?(.+?) USING ", _text([index]))
    called = {_called_as(key) for key in lacking if key[0] in ("TABLE", "MATERIALIZED VIEW")}
    return table is not None and table[1].replace('"', "") in called


def _called_as(key: Key) -> str:
    return f"{key[1]}.{key[2]}".replace('"', "")


def _called(entry: Entry) -> str:
    schema = f"{identifier(entry.namespace)}." if entry.namespace else ""
    if entry.desc not in _SIGNED:
        return f"{schema}{identifier(entry.tag)}"
    # the name in such a tag is not quoted, its arguments are; names of functions with a parenthesis
    # fail the check
    name, parenthesis, arguments = entry.tag.partition("(")
    return f"{schema}{identifier(name)}{parenthesis}{arguments}"


def _change(
    made: _Script, key: Key, ours: Sequence[Entry], theirs: Sequence[Entry]
) -> tuple[bool, tuple[str, ...] | None]:
    """Add what makes an object like the other one.

    Returns whether it is then, and the columns that still differ: none for all, None if nothing
    matters to objects that need it.
    """
    name, text = entries.name(key), _text(theirs)
    if key[0] in _REPLACED and "CREATE CONSTRAINT TRIGGER" not in text:
        check = made.allowed.definition(theirs[0], _text(ours))
        done = made.add(text.replace("CREATE ", "CREATE OR REPLACE ", 1), name, check)
        return done, None if done else ()
    if key[0] in _SET_ANEW:
        return made.add(text, name, made.allowed.definition(theirs[0])), None
    if key[0] == "ACL":
        return _grant(made, theirs[0], _text(ours), text), None
    if key[0] == "TABLE":
        return _alter(made, theirs[0], _text(ours), text)
    return False, ()


def _grant(made: _Script, acl: Entry, ours: str, theirs: str) -> bool:
    before, wanted = {*privileges(ours)}, list(privileges(theirs))
    lacking = [each for each in wanted if each not in before]
    granted = [
        made.add(f"{statement};", entries.name(_key(acl)), made.allowed.grant(acl))
        for statement in lacking
        if statement.startswith("GRANT ")
    ]
    return before <= {*wanted} and len(granted) == len(lacking) and all(granted)


def _alter(
    made: _Script, table: Entry, ours: str, theirs: str
) -> tuple[bool, tuple[str, ...] | None]:
    """Add the columns that a table lacks and that its rows can do without.

    A column that needs a value for each row is left to a person, because it rewrites the table.
    """
    left, right = columns.parts(ours), columns.parts(theirs)
    if left is None or right is None:
        return False, ()
    then = dict(left.columns)
    for name, text in right.columns.items():
        if name in then or not _needs_no_value(text):
            continue
        statement = f"ALTER TABLE {_called(table)} ADD COLUMN {text};"
        check = statements.added_column(table, name, made.types)
        if statements.refusal(statement, check):
            continue  # the difference is named
        made.add(statement, table.tag, check)
        then[name] = text
    wanted = right.columns
    unlike = tuple(name for name in wanted if _type(then.get(name, "")) != _type(wanted[name]))
    alike = (then, left.constraints, left.rest) == (wanted, right.constraints, right.rest)
    return alike, unlike or None


def _needs_no_value(column: str) -> bool:
    words = " ".join(column.split())
    return " NOT NULL" not in words or " DEFAULT " in words


def _type(column: str) -> str:
    return re.split(r" DEFAULT | NOT NULL| GENERATED ", column, maxsplit=1)[0]
