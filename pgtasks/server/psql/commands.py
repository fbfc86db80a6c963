"""The psql commands (psql(1), "Meta-Commands") that a file may use, and their parser."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(rb"\\([^\s\\]*)")
_ARGUMENT = re.compile(rb"""(?:'(?:[^'\\]|\\.|'')*'|"[^"]*"|[^\s'"`\\])+""", re.DOTALL)
_BLANK = re.compile(rb"\s*")

INCLUDES = {
    "i": False,
    "include": False,
    "ir": True,
    "include_relative": True,
}  # relative
SENDING = ("g", "gx", "gset", "gexec", "crosstabview")
BRANCHES = ("if", "elif", "else", "endif")
# pg_dump writes these around a plain dump; our run has its own restricted mode.
RESTRICTIONS = ("restrict", "unrestrict")
_WITH_FILE = ("o", "out", "g", "gx")
_PRINTING = "echo qecho warn timing errverbose pset x a t f H html C T title p print o out"
_LOOKING = "conninfo z l l+ list list+ gdesc"
_READING = "set unset getenv encoding r reset bind copy"
_HARMLESS = frozenset(
    [*f"{_PRINTING} {_LOOKING} {_READING}".split(), *INCLUDES, *SENDING, *BRANCHES, *RESTRICTIONS]
)
_DESCRIBES = re.compile(r"d[A-Za-z]*[S+]*")
_AWAY = "leads away from the database that was checked"
_PROGRAM = "runs a program of this machine"
_WHY = {
    "c": _AWAY,
    "connect": _AWAY,
    "!": _PROGRAM,
    "setenv": "sets a variable for programs of this machine",
    "cd": "leaves the folder that files are read from",
    "w": "writes a statement to a file or a program",
    "write": "writes a statement to a file or a program",
    "watch": "repeats a statement without end",
    "prompt": "asks a person",
    "password": "asks a person",
    "q": "ends the file half-way: put what follows between \\if and \\endif",
    "quit": "ends the file half-way: put what follows between \\if and \\endif",
    ".": "stands where no rows of COPY are",
}
# What psql would parse differently from `scan`, or open as a program.
_PLAIN_FILE = re.compile(rb"""'?[^'"`\\:|]+'?""")
_DUMPED_KEY = re.compile(rb"[A-Za-z0-9]+")
_COPY_PROGRAM = re.compile(rb"(?:from|to)\s+program\b", re.IGNORECASE)
_COPY_ROWS = re.compile(rb"from\s+(p?stdin)\b", re.IGNORECASE)
_COPY_STREAM = re.compile(rb"\b(?:from|to)\s+p?std(?:in|out)(?=[\s;]|\Z)", re.IGNORECASE)
_PARENTHESES = re.compile(rb"\([^()]*\)")
_STRING = re.compile(rb"'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"", re.DOTALL)
_UNESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f"}
# encodings in which a byte of a character may be a backslash: psql's lexer follows them, not ours
UNSAFE_ENCODINGS = ("sjis", "shift", "big5", "gbk", "uhc", "gb18030", "johab", "win932", "win936")


class CommandNotAllowed(Exception):
    """psql must not run the command at this place."""


@dataclass(frozen=True)
class Command:
    """One command as written, with the quotes of its arguments.

    `begun` says that it is inside a statement.
    """

    name: str
    arguments: tuple[bytes, ...]
    text: bytes
    begun: bool = False


def scan(line: bytes, at: int) -> tuple[Command, int]:
    """Return the command at a backslash, and the position after it.

    Raises CommandNotAllowed for a command that is not allowed.
    """
    named = _NAME.match(line, at)
    assert named is not None
    name = named[1].decode("utf-8", "replace")
    check_name(name)
    if name == "copy":
        return Command(name, (line[named.end() :].strip(),), line[at:].rstrip()), len(line)
    arguments, end = _arguments(name, line, named.end())
    text = line[at:end].rstrip()
    if line[end : end + 2] == b"\\\\":  # ends a command, SQL continues
        end += 2
    return Command(name, tuple(arguments), text), end


def _arguments(name: str, line: bytes, at: int) -> tuple[list[bytes], int]:
    arguments: list[bytes] = []
    while True:
        blank = _BLANK.match(line, at)
        at = blank.end() if blank else at
        if at >= len(line) or line[at : at + 1] == b"\\":
            return arguments, at
        argument = _ARGUMENT.match(line, at)
        if argument is None:
            if line[at : at + 1] == b"`":
                raise CommandNotAllowed(f"\\{name}: backquotes run a program of this machine")
            raise CommandNotAllowed(f"\\{name}: a quote is not closed on its line")
        arguments.append(argument[0])
        at = argument.end()
        if line[at : at + 1] in (b"'", b'"'):
            raise CommandNotAllowed(f"\\{name}: a quote is not closed on its line")
        if line[at : at + 1] == b"`":
            raise CommandNotAllowed(f"\\{name}: backquotes run a program of this machine")


def check_name(name: str) -> None:
    """Raise CommandNotAllowed for a command that a file may not use."""
    if name in _HARMLESS or _DESCRIBES.fullmatch(name):
        return
    if name in ("c", "connect"):
        raise CommandNotAllowed(f"\\connect {_AWAY}: remove it (pg_dump writes one with --create)")
    why = _WHY.get(name, "is not among the commands of psql that a file may use here")
    raise CommandNotAllowed(f"\\{name} {why}" if ":" in why else f"\\{name} {why}: remove it")


def check(command: Command, *, alone: bool = True) -> None:
    """Raise CommandNotAllowed if the arguments run a program or change how psql parses.

    `alone` says that nothing else is on its line.
    """
    first = command.arguments[0] if command.arguments else b""
    if command.name in INCLUDES and len(command.arguments) != 1:
        raise CommandNotAllowed(f"\\{command.name}: expected the name of one file")
    if command.name in INCLUDES or (command.name in _WITH_FILE and not first.startswith(b"(")):
        if first and not all(map(_PLAIN_FILE.fullmatch, command.arguments)):
            raise CommandNotAllowed(
                f"\\{command.name} {first.decode('utf-8', 'replace')}: "
                "expected a plain file name, no program, no variable"
            )
    elif command.name in _WITH_FILE and re.search(rb"[|:\\]", b" ".join(command.arguments)):
        raise CommandNotAllowed(
            f"\\{command.name}: expected options and a plain file name, no program"
        )
    if command.name in RESTRICTIONS and not (
        alone and len(command.arguments) == 1 and _DUMPED_KEY.fullmatch(first)
    ):
        raise CommandNotAllowed(
            f"\\{command.name}: expected one word on a line of its own, as in a dump"
        )
    if command.begun and (command.name in INCLUDES or command.name == "copy"):
        raise CommandNotAllowed(
            f"\\{command.name} inside of a statement: end that with a semicolon"
        )
    if command.name == "copy":
        _check_copy(first)
    if command.name == "encoding":
        _check_encoding(first)
    if command.name in ("set", "getenv") and first.upper() in (b"SINGLELINE", b"SINGLESTEP"):
        raise CommandNotAllowed(
            f"\\set {first.decode()}: psql would read the file in another way: remove it"
        )
    if command.name in ("set", "unset", "getenv") and not re.fullmatch(rb"[\w\x80-\xff]*", first):
        raise CommandNotAllowed(f"\\{command.name}: expected the plain name of a variable")


def _check_copy(text: bytes) -> None:
    plain = _STRING.sub(b"''", text)
    if _COPY_PROGRAM.search(text):
        raise CommandNotAllowed("\\copy ... program runs a program of this machine: remove it")
    rows = _COPY_ROWS.search(plain)
    if rows and rows[1].lower() == b"pstdin":
        raise CommandNotAllowed(
            "\\copy from pstdin: nothing is read from the terminal, use COPY ... FROM STDIN"
        )


def _check_encoding(name: bytes) -> None:
    word = name.strip(b"'\"").decode("ascii", "replace").lower().replace("_", "").replace("-", "")
    if not word.isalnum() or word.startswith(UNSAFE_ENCODINGS):
        raise CommandNotAllowed(f"\\encoding {word}: convert the file to UTF-8 (iconv)")


def copies_from_stdin(command: Command) -> bool:
    """Return whether a \\copy reads rows from its own file."""
    text = command.arguments[0]
    return not text.startswith(b"(") and bool(_COPY_ROWS.search(_STRING.sub(b"''", text)))


def touched(command: Command) -> bool:
    """Return whether a command, other than an include, reads or writes a local file."""
    if command.name == "copy":
        text, before = _STRING.sub(b"''", command.arguments[0]), b""
        while text != before:  # a query, lists of columns and options
            text, before = _PARENTHESES.sub(b" ", text), text
        return not _COPY_STREAM.search(text)
    if command.name not in _WITH_FILE:
        return False
    return bool(re.sub(rb"^\([^)]*\)", b"", b" ".join(command.arguments)).strip())


def file_name(command: Command) -> str:
    """Return the file that an include names."""
    return command.arguments[0].strip(b"'").decode("utf-8", "surrogateescape")


def assigned(command: Command) -> tuple[str, bytes | None] | None:
    """Return the variable that a command sets, and its text, None if only psql knows it."""
    if command.name not in ("set", "getenv") or not command.arguments:
        return None
    name = command.arguments[0].decode("utf-8", "surrogateescape")
    values = command.arguments[1:]
    if command.name == "getenv" or any(_has_variable(value) for value in values):
        return name, None
    return name, b"".join(map(literal, values))


def _has_variable(argument: bytes) -> bool:
    return b":" in re.sub(rb"'(?:[^'\\]|\\.|'')*'", b"", argument) or b":'" in argument


def literal(argument: bytes) -> bytes:
    """Return the text of an argument without variables."""
    parts = []
    for quoted, plain in re.findall(
        rb"'((?:[^'\\]|\\.|'')*)'|((?:\"[^\"]*\"|[^'])+)", argument, re.S
    ):
        text = re.sub(rb"''|\\([0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)", _unescaped, quoted, flags=re.S)
        parts.append(text if quoted else plain)
    return b"".join(parts)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    if code is None:
        return b"'"
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 255])
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _UNESCAPED.get(code, code)
