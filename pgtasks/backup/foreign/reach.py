"""Tell what a statement or a command of a dump reaches: its own database, or what is outside.

This only names things, so that a restore can be refused before it begins. What keeps a dump inside
of its side database is that it runs as a plain role, one statement at a time, in a transaction
block, and that no psql reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgtasks.server.psql.statements import Command

NAME = rb'(?:"(?:[^"]|"")*"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)'
ALTER_TABLE = rb"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?%s(?:\s*\.\s*%s)?" % (NAME, NAME)
_BLANK = re.compile(rb"(?:\s+|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*")
_REMARK = re.compile(rb"--[^\n]*|/\*.*?\*/", re.DOTALL)
_HEAD = 400  # bytes in which the words that count stand
_WORD = re.compile(rb"\w+")
# what reaches outside: the words at the beginning of a statement, and the name for --leave-out
_OUTSIDE = (
    (r"(CREATE|DROP) DATABASE\b", r"\1 DATABASE"),
    (r"(CREATE|ALTER|DROP) (ROLE|GROUP|USER)\b(?! MAPPING\b)", r"\1 ROLE"),
    (r"(CREATE|ALTER|DROP) TABLESPACE\b", r"\1 TABLESPACE"),
    (r"ALTER SYSTEM\b", "ALTER SYSTEM"),
    (r"(REASSIGN|DROP) OWNED\b", r"\1 OWNED"),
    (r"LOAD\b", "LOAD"),
    (r"CHECKPOINT\b", "CHECKPOINT"),
    (r"(PREPARE TRANSACTION|(COMMIT|ROLLBACK) PREPARED)\b", r"\1"),
)
# properties of a database, a role or a tablespace, which a dump has with --create, or an old one;
# a restore gathers statistics itself
_PROPERTIES = (
    (
        r"(CREATE|COMMENT ON|ALTER) (OR REPLACE |TRUSTED |PROCEDURAL )*"
        r"(LANGUAGE|EXTENSION) PLPGSQL\b",
        r"\1 \3 plpgsql",
    ),
    (r"VACUUM\b", "VACUUM"),
    (r"ALTER DATABASE\b", "ALTER DATABASE"),
    (r"COMMENT ON (DATABASE|ROLE|TABLESPACE)\b", r"COMMENT ON \1"),
    (r"SECURITY LABEL .*?\bON (DATABASE|ROLE|TABLESPACE)\b", r"SECURITY LABEL ON \1"),
    (r"(GRANT|REVOKE)\b.*?\bON (DATABASE|TABLESPACE|PARAMETER)\b", r"\1 ON \2"),
)
_OWNERS = (
    r"SET (SESSION |LOCAL )?(SESSION AUTHORIZATION|ROLE)\b",
    r"RESET (SESSION AUTHORIZATION|ROLE)\b",
    r"(GRANT|REVOKE|ALTER DEFAULT PRIVILEGES)\b",
)
_CONTROLS = {
    **dict.fromkeys(("BEGIN", "START"), "begin"),
    **dict.fromkeys(("COMMIT", "END"), "commit"),
    **dict.fromkeys(("ROLLBACK", "ABORT"), "rollback"),
}
_OWNER_TO = re.compile(rb"\bOWNER\s+TO\s+(%s)\s*;?\s*\Z" % NAME, re.IGNORECASE)
_ALTER_TABLE = re.compile(ALTER_TABLE, re.IGNORECASE)
_PROGRAM = re.compile(rb"\b(?:FROM|TO)\s+PROGRAM\b", re.IGNORECASE)
_SET = re.compile(
    rb"SET\s+(?:(?:SESSION|LOCAL)\s+)?(%s(?:\.%s)?)\s*(?:=|TO\b)" % (NAME, NAME), re.I
)
_MEMBERS = re.compile(rb"\b(?:TO|FROM)\s+(%s(?:\s*,\s*%s)*)" % (NAME, NAME), re.IGNORECASE)
_FOR_ROLES = re.compile(rb"\bFOR\s+(?:ROLE|USER)\s+(%s)" % NAME, re.IGNORECASE)
_ONE_NAME = re.compile(NAME)
_STRING = re.compile(rb"'(?:[^']|'')*'")
_QUERIES = ("SELECT", "VALUES", "TABLE", "WITH")

# psql commands without an effect on the database
_IDLE = frozenset(
    [
        "restrict",
        "unrestrict",
        "echo",
        "qecho",
        "warn",
        "timing",
        "pset",
        "x",
        "a",
        "t",
        "f",
        "H",
        "html",
        "C",
        "T",
        "title",
        "errverbose",
        "conninfo",
        "z",
        "l",
        "l+",
        "list",
        "list+",
        "p",
        "print",
    ]
)
_DESCRIBES = re.compile(r"d[A-Za-z]*[S+]*")
_PSQL_SETTINGS = re.compile(
    rb"ON_ERROR_STOP|ON_ERROR_ROLLBACK|AUTOCOMMIT|VERBOSITY|ECHO|ECHO_HIDDEN|QUIET|SHOW_CONTEXT"
    rb"|FETCH_COUNT|HIST\w*|PROMPT\d|HIDE_\w+|SHOW_ALL_RESULTS"
)


@dataclass(frozen=True)
class Reach:
    """What a statement concerns.

    `outside` is its name for --leave-out if it reaches out of the database; `property` that of a
    property of the database itself, which no restore applies; `owners` says that it gives away
    rights; `control` is `begin`, `commit` or `rollback`; `setting` the parameter that it sets;
    `query` says that it returns rows.
    """

    outside: str = ""
    property: str = ""
    owners: bool = False
    control: str = ""
    setting: str = ""
    query: bool = False


INSIDE = Reach()


def body(text: bytes) -> bytes:
    """Return a statement without the comments before it."""
    blank = _BLANK.match(text)
    return text[blank.end() :] if blank else text


def of(text: bytes) -> Reach:
    """Return what a statement reaches, by its words."""
    begin = body(text)
    if begin[:6].upper() == b"INSERT":  # most statements of a large dump
        return INSIDE
    found_words = _WORD.findall(_REMARK.sub(b" ", begin[:_HEAD]))
    words = " ".join(word.decode("ascii", "replace") for word in found_words).upper()
    first = words.partition(" ")[0]
    if first == "COPY":
        plain = _STRING.sub(b"''", begin)
        return Reach(outside="COPY PROGRAM" if _PROGRAM.search(plain) else "COPY FILE")
    if first in ("GRANT", "REVOKE") and not re.search(r"\bON\b", words):
        return Reach(outside=f"{first} ROLE")
    for pattern, name in _PROPERTIES:
        if found := re.match(pattern, words):
            return Reach(property=found.expand(name))
    for pattern, name in _OUTSIDE:
        if found := re.match(pattern, words):
            return Reach(outside=found.expand(name))
    if any(re.match(pattern, words) for pattern in _OWNERS):
        return Reach(owners=True)
    if first == "ALTER" and len(begin) < _HEAD and _gives_away(begin, words):
        return Reach(owners=True)
    if first in _CONTROLS and not (first == "ROLLBACK" and re.match(r"\w+ (\w+ )?TO\b", words)):
        return Reach(control=_CONTROLS[first])
    if found_set := _SET.match(begin):
        return Reach(setting=found_set[1].decode("utf-8", "replace").strip('"').lower())
    return Reach(query=first in _QUERIES)


def _gives_away(begin: bytes, words: str) -> bool:
    """Return whether an ALTER gives its object to another owner, and does nothing else."""
    found = _OWNER_TO.search(begin)
    if found is None or not words.startswith("ALTER TABLE "):
        return found is not None
    return _ALTER_TABLE.fullmatch(begin[: found.start()].rstrip()) is not None


def of_command(command: Command) -> str:
    """Return the name of a psql command for --leave-out, an empty text if it has no effect here."""
    name, arguments = command.name, command.arguments
    if name in ("c", "connect"):
        return "\\connect"
    if arguments is not None:
        if name in _IDLE or _DESCRIBES.fullmatch(name):
            return ""
        if name in ("o", "out") and not arguments:
            return ""
        if name in ("set", "unset") and arguments and _PSQL_SETTINGS.fullmatch(arguments[0]):
            return ""
        if name == "encoding":
            return "" if encoding(command) else "\\encoding"
    return f"\\{name}"


def encoding(command: Command) -> bytes:
    """Return the statement that \\encoding stands for, nothing if it cannot be read."""
    name = b"".join(command.arguments or ()).strip(b"'\"")
    if command.name != "encoding" or not re.fullmatch(rb"[\w-]{1,40}", name):
        return b""
    return b"SET client_encoding = '%s';" % name


def connected(command: Command) -> str:
    """Return the database that a \\connect names, as pg_dumpall writes it."""
    _, _, rest = command.text.partition(b" ")
    text = rest.replace(b"-reuse-previous=on", b"").strip()
    named = re.fullmatch(rb"\"dbname='(.*)'\"", text, re.DOTALL)
    if named:
        return re.sub(rb"\\(.)", rb"\1", named[1], flags=re.S).decode("utf-8", "replace")
    return unquoted((_ONE_NAME.match(text) or re.match(rb"\S*", text) or [b""])[0])


def roles(text: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the roles that a statement makes owners, and those that it gives rights or takes."""
    begin = body(text)
    if found := _OWNER_TO.search(begin):
        return (unquoted(found[1]),), ()
    named = [unquoted(match[1]) for match in _FOR_ROLES.finditer(begin)]
    if lists := list(_MEMBERS.finditer(_STRING.sub(b"''", begin))):
        named += [unquoted(name) for name in _ONE_NAME.findall(lists[-1][1])]
    return (), tuple(named)


def unquoted(name: bytes) -> str:
    """Return the name that an identifier stands for."""
    if name.startswith(b'"'):
        return name[1:-1].replace(b'""', b'"').decode("utf-8", "surrogateescape")
    return name.decode("utf-8", "surrogateescape").lower()
