"""SQL that makes one side like the other, as far as nothing can be lost by it.

What is missing is created, what can be replaced without a loss is replaced. Everything else is
named in a comment: what only the left side has, types of columns, settings, roles, rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pgtasks.copy.schema import has_password
from pgtasks.schema.inspect.diff import columns
from pgtasks.schema.inspect.diff.definitions import privileges
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.server import parser
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
# the beginnings of the parser's names for statements that a script may have
_MAKING = (
    *("Create", "Alter", "Define", "Composite", "Comment", "Grant", "Index", "View", "Rule"),
    *("RefreshMatView", "SecLabel"),
)
# and what is of the server and not of a database, in those names
_OF_THE_SERVER = ("System", "Role", "Database", "Createdb", "TableSpace", "Subscription")
_BEGIN = (
    "BEGIN;",
    "SET LOCAL search_path = '';",
    "SET LOCAL lock_timeout = '5s';",
    "SET LOCAL check_function_bodies = off;",
)
# an index of a table that is there is built without locking its writers out, unless it is the
# index of a partitioned table, or of one alone
_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX (?!.* ON ONLY )", re.MULTILINE)
_NO_CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")


@dataclass
class _Script:
    """The statements: in the transaction, after it, and what is left to a person."""

    inside: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, statement: str, name: str) -> None:
        """Add a statement, or leave it to a person, see `_refused`."""
        if why := _refused(statement):
            self.left.append(f"{name}: {why}")
        else:
            self.inside.append(statement.strip())

    def add_after(self, statement: str, name: str) -> None:
        """Add a statement that no transaction may contain."""
        if why := _refused(statement):
            self.left.append(f"{name}: {why}")
        else:
            self.after.append(statement.strip())


def _refused(statement: str) -> str:
    """Return why a statement is not printed, empty if nothing is wrong with it.

    A backup is not trusted: its archive may contain other statements than pg_dump writes, or
    commands of psql, which would run where a person loads the script.
    """
    if _NO_CONTROLS.search(statement):
        return "its definition has control characters"
    try:
        nodes = [each.node for each in parser.parse(statement)]
    except SyntaxFault:
        return "its definition is no SQL that is known here"
    if all(node is not None and _only_makes(node) for node in nodes):
        return ""
    return "its definition has other statements than pg_dump writes"


def _only_makes(node: Any) -> bool:
    """Return whether a statement creates or sets something, and drops nothing."""
    if type(node).__name__ == "AlterTableStmt":
        commands = [each.alter_table_cmd for each in node.cmds]
        names = [type(each).DESCRIPTOR.fields_by_name["subtype"].enum_type for each in commands[:1]]
        return not any(
            names[0].values_by_number[each.subtype].name.startswith("AT_Drop") for each in commands
        )
    name = type(node).__name__
    return name.startswith(_MAKING) and not any(word in name for word in _OF_THE_SERVER)


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
    made, lacking = _Script(), set(missing[1])
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
            for entry in group:
                _create(made, entry, lacking, known)
        elif key in ours and name in changed and _text(ours[key]) != _text(group):
            alike, lacks = _change(made, key, ours[key], group)
            done |= {name} if alike else set()
            if lacks is not None:
                unlike |= dict.fromkeys(numbers, _Unlike(name, lacks))
    for change in diff.changes:
        if change.only == left.name or (not change.only and change.name not in done):
            made.left.append(f"{change.name}: {change.words}")
    return list(_lines(made, left.name, right.name))


def _needed(group: Iterable[Entry], unlike: Mapping[int, _Unlike]) -> str:
    """Return the name of an object without which these cannot be made, empty if there is none."""
    for entry in group:
        for other in (unlike[number] for number in sorted(entry.needs & unlike.keys())):
            if other.matters(_text([entry])):
                return other.name
    return ""


def _lines(made: _Script, left: str, right: str) -> Iterator[str]:
    yield _comment(f"what makes {left} like {right}, as far as nothing is lost by it")
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
    return f"-- {' '.join(text.split())}"


def _key(entry: Entry) -> Key:
    return entry.desc, entry.namespace, entry.tag


def _by_key(archive: Iterable[Entry]) -> dict[Key, list[Entry]]:
    by_key: dict[Key, list[Entry]] = {}
    for entry in archive:
        by_key.setdefault(_key(entry), []).append(entry)
    return by_key


def _text(group: Iterable[Entry]) -> str:
    return "\n".join(entry.definition.decode("utf-8", "backslashreplace") for entry in group)


def _create(
    made: _Script, entry: Entry, lacking: Collection[Key], roles: Mapping[str, str] | None
) -> None:
    name, text = entries.name(_key(entry)), _text([entry])
    if has_password(entry):
        made.left.append(f"{name}: its definition may hold a password")
        return
    if entry.desc == "INDEX" and _INDEX.search(text) and not _is_new(entry, lacking):
        made.add_after(_INDEX.sub(r"CREATE \1INDEX CONCURRENTLY ", text), name)
        return
    made.add(text, name)
    if roles is None or entry.desc not in _OWNED or not text.lstrip().startswith("CREATE"):
        return
    if entry.owner in roles:
        made.add(f"ALTER {entry.desc} {_called(entry)} OWNER TO {identifier(entry.owner)};", name)
    else:
        made.left.append(f"{name}: its owner {entry.owner!r} is not there")


def _is_new(index: Entry, lacking: Collection[Key]) -> bool:
    """Return whether the table of an index is created by the script, too."""
    table = re.search(r" ON (?:ONLY )?(.+?) USING ", _text([index]))
    called = {_called_as(key) for key in lacking if key[0] in ("TABLE", "MATERIALIZED VIEW")}
    return table is not None and table[1].replace('"', "") in called


def _called_as(key: Key) -> str:
    return f"{key[1]}.{key[2]}".replace('"', "")


def _called(entry: Entry) -> str:
    schema = f"{identifier(entry.namespace)}." if entry.namespace else ""
    return f"{schema}{entry.tag if entry.desc in _SIGNED else identifier(entry.tag)}"


def _change(
    made: _Script, key: Key, ours: Sequence[Entry], theirs: Sequence[Entry]
) -> tuple[bool, tuple[str, ...] | None]:
    """Add what makes an object like the other one.

    Returns whether it is then, and the columns that still differ: none for all, None if nothing
    matters to objects that need it.
    """
    name, text = entries.name(key), _text(theirs)
    if key[0] in _REPLACED and "CREATE CONSTRAINT TRIGGER" not in text:
        made.add(text.replace("CREATE ", "CREATE OR REPLACE ", 1), name)
        return True, None
    if key[0] in _SET_ANEW:
        made.add(text, name)
        return True, None
    if key[0] in ("ACL", "DEFAULT ACL"):
        return _grant(made, name, _text(ours), text), None
    if key[0] == "TABLE":
        return _alter(made, theirs[0], _text(ours), text)
    return False, ()


def _grant(made: _Script, name: str, ours: str, theirs: str) -> bool:
    before, wanted = {*privileges(ours)}, list(privileges(theirs))
    lacking = [each for each in wanted if each not in before]
    for statement in lacking:
        if statement.startswith("GRANT "):
            made.add(f"{statement};", name)
    return before <= {*wanted} and all(each.startswith("GRANT ") for each in lacking)


def _alter(
    made: _Script, table: Entry, ours: str, theirs: str
) -> tuple[bool, tuple[str, ...] | None]:
    """Add the columns that a table lacks and that its rows can do without."""
    left, right = columns.parts(ours), columns.parts(theirs)
    if left is None or right is None:
        return False, ()
    then = dict(left.columns)
    for name, text in right.columns.items():
        if name not in then and _needs_no_value(text):
            then[name] = text
            made.add(f"ALTER TABLE {_called(table)} ADD COLUMN {text};", table.tag)
    wanted = right.columns
    unlike = tuple(name for name in wanted if _type(then.get(name, "")) != _type(wanted[name]))
    alike = (then, left.constraints, left.rest) == (wanted, right.constraints, right.rest)
    return alike, unlike or None


def _needs_no_value(column: str) -> bool:
    words = " ".join(column.split())
    return " NOT NULL" not in words or " DEFAULT " in words or " GENERATED " in words


def _type(column: str) -> str:
    return re.split(r" DEFAULT | NOT NULL| GENERATED ", column, maxsplit=1)[0]
