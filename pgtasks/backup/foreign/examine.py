"""Read a dump in SQL from end to end before anything of it runs: what it holds, whether it is cut.

It is read as a stream. The rows of COPY are counted, not parsed.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pgtasks.backup.foreign import reach
from pgtasks.backup.foreign.contents import (
    BEGIN,
    CLUSTER,
    CLUSTER_END,
    END,
    HEADER,
    MAKES_OWN,
    VERSION,
    Examined,
    Limited,
    Table,
    Tell,
    items,
)
from pgtasks.backup.foreign.lookup import Lookup, sets_path
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.server.proof.toc import POST_DATA, Entry
from pgtasks.server.psql.statements import (
    Command,
    Item,
    Remark,
    Rows,
    Statement,
    Stream,
)

_NAME = rb'(?:"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)'
_COPY = re.compile(rb"COPY\s+(?:ONLY\s+)?(%s)\s*(?:\.\s*(%s))?" % (_NAME, _NAME), re.IGNORECASE)
_TEXT = re.compile(rb"\bFROM\s+stdin\s*(?:WITH\s*)?;\s*\Z", re.IGNORECASE)
_INSERT = re.compile(rb"INSERT\s+INTO\s+(%s)\s*(?:\.\s*(%s))?" % (_NAME, _NAME), re.IGNORECASE)
_DATABASE = re.compile(
    rb"(?:CREATE|DROP)\s+DATABASE\s+(?:IF\s+EXISTS\s+)?(%s)" % _NAME, re.IGNORECASE
)
_EXTENSION = re.compile(
    rb"CREATE\s+EXTENSION\s+(?:IF\s+NOT\s+EXISTS\s+)?(%s)" % _NAME, re.IGNORECASE
)
_AFTER_ROWS = frozenset(
    [
        "INDEX",
        "CONSTRAINT",
        "FK CONSTRAINT",
        "CHECK CONSTRAINT",
        "TRIGGER",
        "RULE",
        "EVENT TRIGGER",
        "POLICY",
        "ROW SECURITY",
        "MATERIALIZED VIEW DATA",
        "INDEX ATTACH",
        "STATISTICS",
        "PUBLICATION",
        "PUBLICATION TABLE",
        "SUBSCRIPTION",
        "COMMENT ON INDEX",
    ]
)
_ABOUT = ("COMMENT", "ACL", "SECURITY LABEL")  # with the kind and the name of another entry as tag
# a string, the body of a function, a quoted name
_QUOTED = re.compile(
    rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<tag>\$[A-Za-z_\x80-\xff]*\$).*?(?P=tag)", re.DOTALL
)
_WINDOWS = b"\r\n"
_DEFINITION = 64 << 10  # bytes that are kept of an object's statements
_SHOWN = 5


def examine(stream: Stream, shown: str, *, part: str, check: Tell) -> Examined:
    """Read a dump, raising Refused or NotProven with the line, and for a dump of pg_dumpall.

    `part` is the database whose part of that is meant.
    """
    limited = Limited(stream, check)
    examining = _Examining(part)
    try:
        for item, inside in items(limited, part):
            examining.take(item, inside=inside)
    except (Refused, NotProven) as exc:
        if exc.message.startswith("line "):
            raise exc.__class__(f"{shown}: {exc.message}") from None
        raise
    return examining.result(shown, limited.bytes)


class _Examining:
    def __init__(self, part: str) -> None:
        self._part = part
        self._entry: Entry | None = None
        self._entries: list[Entry] = []
        self._known: dict[str, int] = {}  # numbers of entries, by kind and name
        self._definition: list[bytes] = []
        self._looking = Lookup()
        self._begun = self._ended = 0
        self._keys: list[bytes] = []  # of \restrict
        self._cluster = self._cluster_ended = False
        self._making: list[tuple[str, str]] = []  # of databases: what is done, and the name
        self._before = 0  # statements with content before the first \connect
        self._rows: dict[Table, int] = {}
        self._inserted: set[Table] = set()
        self._names: dict[str, dict[str, int]] = {"outside": {}, "ignored": {}}
        self._settings: set[str] = set()
        self._sets: dict[str, dict[str, None]] = {
            key: {} for key in ("extensions", "owners", "roles", "databases")
        }
        self._versions = {b"from database": (0, 0), b"by pg_dump": (0, 0)}
        self._statements = self._after_end = self._headers = 0
        self._windows, self._returns = False, (0, 0)

    def take(self, item: Item, *, inside: bool) -> None:
        """Note what an item says."""
        if isinstance(item, Remark):
            self._remark(item.text, inside=inside)
        elif isinstance(item, Command):
            self._command(item, inside=inside)
        elif isinstance(item, Rows):
            self._take_rows(item, inside=inside)
        elif inside:
            self._statement(item)

    def _remark(self, text: bytes, *, inside: bool) -> None:
        if text == CLUSTER:
            self._cluster = True
        elif text == CLUSTER_END:
            self._cluster_ended = True
        elif not inside:
            return
        elif text == BEGIN:
            self._begun += 1
        elif text == END:
            self._ended += 1
            self._after_end = 0
        elif header := HEADER.fullmatch(text):
            self._flush()
            self._headers += 1
            self._entry = _entry(header, self._headers)
        elif version := VERSION.match(text):
            self._versions[version[1]] = (int(version[2]), int(version[3] or 0))

    def _command(self, item: Command, *, inside: bool) -> None:
        name = reach.of_command(item)
        if inside and item.arguments and item.name == "restrict":
            self._keys += item.arguments
        elif inside and item.arguments and item.name == "unrestrict":
            self._keys = [key for key in self._keys if key not in item.arguments]
        if name == "\\connect":
            self._sets["databases"].setdefault(reach.connected(item))
            self._making.append((name, reach.connected(item)))
        if name and inside:
            self._names["outside"].setdefault(name, item.line)

    def _take_rows(self, item: Rows, *, inside: bool) -> None:
        item.drain()
        if not inside:
            return
        self._statements += 1
        self._after_end += 1
        self._before += not self._sets["databases"]
        found = _COPY.match(reach.body(item.statement))
        table = self._looking.table(found)
        if _TEXT.search(item.statement) and not self._looking.is_open(found, table):
            self._rows[table] = self._rows.get(table, 0) + item.lines
        else:  # a row of CSV may have several lines; whose rows they are may be unknown
            self._inserted.add(table)
        self._flush(item.statement)

    def _statement(self, item: Statement) -> None:
        self._statements += 1
        self._after_end += 1
        if not self._sets["databases"]:
            self._before += _has_content(item.text)
        if _WINDOWS in item.text:
            self._note_returns(item)
        if inserted := _INSERT.match(reach.body(item.text)):
            self._inserted.add(self._looking.table(inserted))
            return
        what = reach.of(item.text)
        if what.outside:
            self._names["outside"].setdefault(what.outside, item.line)
            if found := _DATABASE.match(reach.body(item.text)):
                self._making.append((what.outside, reach.unquoted(found[1])))
        elif what.property:
            self._names["ignored"].setdefault(what.property, item.line)
        elif what.owners:
            owners, others = reach.roles(item.text)
            self._sets["owners"].update(dict.fromkeys(owners))
            self._sets["roles"].update(dict.fromkeys(others))
        elif what.setting:
            self._settings.add(what.setting)
        self._look(item.text)

    def _note_returns(self, item: Statement) -> None:
        """Note line ends of Windows in strings, where a file has them everywhere."""
        self._windows = self._windows or _WINDOWS in _QUOTED.sub(b"", item.text)
        if self._windows and any(_WINDOWS in found[0] for found in _QUOTED.finditer(item.text)):
            number, first = self._returns
            self._returns = (number + 1, first or item.line)

    def _look(self, text: bytes) -> None:
        begin = reach.body(text)
        self._looking.heed(begin)
        if extension := _EXTENSION.match(begin):
            self._sets["extensions"].setdefault(reach.unquoted(extension[1]))
        if self._entry and sum(map(len, self._definition)) < _DEFINITION:
            self._definition.append(begin[:_DEFINITION])

    def _flush(self, copy: bytes = b"") -> None:
        """Complete the object whose header was seen last."""
        if self._entry is not None and not _is_everywhere(self._entry):
            entry = replace(self._entry, definition=b"\n".join(self._definition), copy=copy)
            about = self._known.get(entry.tag) if entry.desc in _ABOUT else None
            self._entries.append(replace(entry, needs=frozenset({about} if about else ())))
            self._known[f"{entry.desc} {entry.tag}"] = entry.number
        self._entry, self._definition = None, []

    def result(self, shown: str, size: int) -> Examined:
        """Return what was found, raising Refused or NotProven if that cannot be restored."""
        self._flush()
        databases = tuple(self._sets["databases"])
        if self._cluster and not (self._part and databases):
            raise _of_cluster(shown, databases)
        if self._part and not self._cluster and not databases:
            raise Refused(f"{shown} is of one database, it has no parts: leave --part out")
        if self._part and self._part not in databases:
            raise Refused(f"{shown} has no part of database {self._part!r}: {_known(databases)}")
        whole, own = self._whole(shown), self._own()
        if not self._statements:
            raise Refused(f"{shown} holds no statement, there is nothing to restore")
        return Examined(
            bytes=size,
            statements=self._statements,
            rows={key: rows for key, rows in self._rows.items() if key not in self._inserted},
            inserted=frozenset(self._inserted),
            entries=tuple(self._entries),
            outside={
                name: line
                for name, line in self._names["outside"].items()
                if not (own and name in MAKES_OWN)
            },
            own=own,
            ignored=self._names["ignored"],
            settings=frozenset(self._settings),
            extensions=tuple(self._sets["extensions"]),
            owners=tuple(self._sets["owners"]),
            roles=tuple(self._sets["roles"]),
            databases=databases,
            cluster=self._cluster,
            whole=whole,
            returns=self._returns,
            server=self._versions[b"from database"],
            dumper=self._versions[b"by pg_dump"],
        )

    def _own(self) -> str:
        """Return the database that the dump makes for itself, before it connects to it.

        Its content goes there alone, so that it may as well go into the side database.
        """
        doing = [what for what, _ in self._making]
        names = {name for _, name in self._making}
        alone = self._begun == 1 and not self._cluster and not self._part and len(names) == 1
        in_order = doing in (list(MAKES_OWN), list(MAKES_OWN[1:]))
        return names.pop() if alone and in_order and not self._before else ""

    def _whole(self, shown: str) -> bool | None:
        """Return whether the dump has its end, None if it is not of pg_dump; raises NotProven."""
        if not self._begun and not self._cluster:
            return None
        if self._part:
            ended = self._ended > 0 and self._cluster_ended
        else:
            ended = self._ended >= self._begun > 0
        if not ended:
            raise NotProven(
                f"{shown} is cut: pg_dump ends a dump with the line {END.decode()!r}, "
                "and it is not there"
            )
        if self._keys and not self._part:  # of a part it stands behind the end
            raise NotProven(f"{shown} is cut: the \\unrestrict at the end of the dump is missing")
        return self._after_end == 0


def _has_content(text: bytes) -> bool:
    """Return whether a statement is none of those before the \\connect of pg_dump --create."""
    what = reach.of(text)
    concerns = what.setting or what.property or what.outside in MAKES_OWN
    return not (concerns or sets_path(reach.body(text)))


def _entry(header: re.Match[bytes], number: int) -> Entry:
    tag, desc, schema, owner = (
        header[key].decode("utf-8", "surrogateescape") for key in ("tag", "desc", "schema", "owner")
    )
    return Entry(
        desc=desc,
        namespace="" if schema == "-" else schema,
        tag=tag,
        owner="" if owner == "-" else owner,
        rest=("", "", "0", "0", "0"),
        number=number,
        section=POST_DATA if desc in _AFTER_ROWS else 0,
    )


def _is_everywhere(entry: Entry) -> bool:
    """Return whether every database has an object."""
    return entry.tag == "plpgsql" and "LANGUAGE" in entry.desc


def _of_cluster(shown: str, databases: tuple[str, ...]) -> PgtasksError:
    if not databases:
        return Refused(
            f"{shown} has the roles and tablespaces of a server only (pg_dumpall --globals-only): "
            "no database is in it to restore"
        )
    return Refused(
        f"{shown} is a dump of a whole server (pg_dumpall): --part NAME restores one database of "
        f"it, {_known(databases)}"
    )


def _known(databases: tuple[str, ...]) -> str:
    more = f" and {len(databases) - _SHOWN} more" if len(databases) > _SHOWN else ""
    return f"there is {', '.join(map(repr, databases[:_SHOWN])) or 'none'}{more}"
