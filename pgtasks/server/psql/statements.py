"""Split a stream of SQL into statements, psql commands, remarks and rows of COPY.

psql itself does not run: each statement goes to the server as it stands, and nothing in the stream
can be a command of a client. The stream is read once, in pieces. Only a statement is held in
memory; rows of COPY pass through without being looked at, but for their end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pgtasks.errors import NotProven, Refused
from pgtasks.server.psql import commands
from pgtasks.server.psql.commands import Command as Parsed
from pgtasks.server.psql.commands import CommandNotAllowed
from pgtasks.server.psql.lexer import Lexer

CHUNK = 1 << 20  # bytes of one read
LONGEST = 1 << 30  # bytes of a statement: the server takes no longer one
_BOM = b"\xef\xbb\xbf"
_END = b"\\."  # the line that ends rows
_KEPT = 4  # bytes of b"\n\\.\r", which may be the beginning of the end of rows
_COMMAND = re.compile(rb"\s*\\([^\s\\]*)")
_ENCODING = re.compile(
    rb"\s*set\s+(?:(?:session|local)\s+)?(?:client_encoding\s*(?:=|to)|names)\s*'?\"?([\w-]*)", re.I
)
_STRINGS = re.compile(
    rb"\s*set\s+(?:(?:session|local)\s+)?standard_conforming_strings\s*(?:=|to)\s*'?(\w+)", re.I
)
_OFF = (b"off", b"false", b"no", b"0")
# characters of several bytes, of which one may be a backslash
_PAIRS = re.compile(rb"[\x81-\xfe].", re.DOTALL)
_UNSAFE = {
    b"sjis": re.compile(rb"[\x81-\x9f\xe0-\xfc].", re.DOTALL),
    b"gb18": re.compile(rb"[\x81-\xfe](?:[0-9]..|.)", re.DOTALL),
    **dict.fromkeys((b"big5", b"gbk", b"uhc", b"joha", b"win9", b"mska"), _PAIRS),
}
_UNSAFE |= {b"shif": _UNSAFE[b"sjis"], b"mskanji": _UNSAFE[b"sjis"]}


class Stream(Protocol):
    """Bytes, read in pieces."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its semicolon, from a line."""

    line: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Command:
    """A command for psql; `text` is its line, `arguments` are None if it cannot be parsed."""

    line: int
    name: str
    text: bytes
    arguments: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """A line with nothing but a comment, between statements."""

    line: int
    text: bytes


@dataclass
class Rows:
    """The rows that follow a COPY statement; they must be read to their end."""

    line: int
    statement: bytes
    _buffer: _Buffer = field(repr=False)
    lines: int = 0  # that were read
    size: int = 0  # bytes that were read
    _done: bool = False
    _first: bool = True

    def read(self, size: int = -1) -> bytes:
        """Return some of the rows, nothing at their end."""
        if self._done:
            return b""
        buffer = self._buffer
        buffer.fill(_KEPT if self._first else CHUNK)
        chunk = self._next(buffer)
        self.lines += chunk.count(b"\n")
        self.size += len(chunk)
        return chunk

    def _next(self, buffer: _Buffer) -> bytes:
        if self._first:
            self._first = False
            if after := buffer.ends_rows(buffer.at):
                return self._ended(buffer, buffer.at, after)
            buffer.fill(CHUNK)
        at = buffer.data.find(b"\n" + _END, buffer.at)
        while at >= 0:
            if after := buffer.ends_rows(at + 1):
                return self._ended(buffer, at + 1, after)
            at = buffer.data.find(b"\n" + _END, at + 1)
        if buffer.ended:
            raise NotProven(f"line {self.line}: it ends within the rows of COPY: it is cut")
        end = max(len(buffer.data) - _KEPT, buffer.at)
        chunk, buffer.at = buffer.data[buffer.at : end], end
        return chunk or self._more(buffer)

    def _more(self, buffer: _Buffer) -> bytes:
        buffer.fill(CHUNK)
        return self._next(buffer)

    def _ended(self, buffer: _Buffer, end: int, after: int) -> bytes:
        chunk, buffer.at, self._done = buffer.data[buffer.at : end], after, True
        return chunk

    def drain(self) -> None:
        """Read them to their end."""
        while self.read():
            pass


Item = Statement | Command | Remark | Rows


class _Buffer:
    """A window on the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.data, self.at, self.ended = b"", 0, False

    def fill(self, size: int) -> None:
        """Have at least `size` bytes at hand, if there are as many."""
        while len(self.data) - self.at < size and not self.ended:
            piece = self._stream.read(CHUNK)
            self.ended = not piece
            self.data, self.at = self.data[self.at :] + piece, 0

    def line(self) -> bytes:
        """Return the next line with its end, nothing at the end of the stream."""
        parts: list[bytes] = []
        length = 0
        while True:
            end = self.data.find(b"\n", self.at) + 1
            if end:
                parts.append(self.data[self.at : end])
                self.at = end
                break
            parts.append(self.data[self.at :])
            length += len(parts[-1])
            self.data, self.at = b"", 0
            if self.ended or length > LONGEST:
                break
            self.fill(1)
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def ends_rows(self, at: int) -> int:
        """Return the position after the line at `at` if that ends rows, else 0."""
        if not self.data.startswith(_END, at):
            return 0
        rest = self.data[at + 2 : at + 4]
        if rest[:1] == b"\n":
            return at + 3
        if rest == b"\r\n":
            return at + 4
        over = self.ended and at + 2 + len(rest) == len(self.data) and rest in (b"", b"\r")
        return at + 2 + len(rest) if over else 0


class Statements:
    """The items of a stream, in order. `bytes` are those of the SQL that was read so far."""

    def __init__(self, stream: Stream) -> None:
        self._buffer = _Buffer(stream)
        self._lexer = Lexer()
        self._mask: re.Pattern[bytes] | None = None
        self._parts: list[bytes] = []
        self._length = self._began = 0
        self.number = 0  # of the line

    def __iter__(self) -> Iterator[Item]:
        self._buffer.fill(len(_BOM))
        if self._buffer.data.startswith(_BOM):
            self._buffer.at = len(_BOM)
        while line := self._buffer.line():
            self.number += 1
            for item in self._items(line):
                yield item
                if isinstance(item, Rows):
                    item.drain()
                    self.number += item.lines + 1
        if self._lexer.inside:
            raise NotProven(
                f"line {self._began}: it ends inside of {self._lexer.inside}, which begins there: "
                "it is cut"
            )
        if rest := b"".join(self._parts).strip():
            yield Statement(self._began, rest)

    @property
    def open(self) -> bool:
        """Whether the stream ended in a statement without a semicolon."""
        return self._lexer.begun

    def _items(self, line: bytes) -> Iterator[Item]:
        lexer = self._lexer
        between = not lexer.begun and not lexer.inside
        bare = line.strip()
        if between and not bare:
            return
        if b"\0" in line:
            raise Refused(f"line {self.number}: a zero byte, which no SQL has")
        if between and bare.startswith(b"--") and b"\r" not in bare:
            yield Remark(self.number, bare)
            return
        seen = self._mask.sub(lambda found: b"\xff" * len(found[0]), line) if self._mask else line
        try:
            pieces = lexer.pieces(seen.removesuffix(b"\n"))
        except CommandNotAllowed as exc:
            yield self._refused(line, between, exc)
            return
        found = [piece for piece in pieces if isinstance(piece, Parsed)]
        if found:
            yield from self._commands(line, found, between=between and len(found) == len(pieces))
            return
        yield from self._statements(line)

    def _refused(self, line: bytes, between: bool, exc: Exception) -> Command:
        named = _COMMAND.match(line)
        if named is None or not between:
            raise Refused(f"line {self.number}: {exc}")
        return Command(self.number, named[1].decode("utf-8", "replace"), line.strip())

    def _commands(
        self, line: bytes, found: list[Parsed], *, between: bool
    ) -> Iterator[Command | Rows]:
        for piece in found:
            if between and piece.name == "copy" and commands.copies_from_stdin(piece):
                self._lexer.copies = 0
                text = piece.arguments[0].rstrip(b" ;")
                yield Rows(self.number, b"COPY " + text + b";", self._buffer)
                continue
            if not between or piece.begun or piece.name in commands.SENDING:
                raise Refused(
                    f"line {self.number}: \\{piece.name} beside or within a statement, which only "
                    "psql understands"
                )
            yield Command(self.number, piece.name, line.strip(), piece.arguments)

    def _statements(self, line: bytes) -> Iterator[Statement | Rows]:
        lexer, begin = self._lexer, 0
        for end in lexer.ends:
            self._add(line[begin:end])
            begin = end
            text, at = b"".join(self._parts), self._began
            self._parts, self._length = [], 0
            self._heed(text)
            if not lexer.copies:
                yield Statement(at, text)
            elif len(lexer.ends) > 1:
                raise Refused(f"line {at}: COPY and another statement on one line")
            else:
                lexer.copies = 0
                yield Rows(at, text, self._buffer)
        lexer.fault, lexer.bare, lexer.enders = "", set(), []
        if line[begin:].strip() or self._parts:
            self._add(line[begin:])

    def _add(self, text: bytes) -> None:
        if not self._parts:
            self._began = self.number
        self._parts.append(text)
        self._length += len(text)
        if self._length > LONGEST:
            raise Refused(f"line {self._began}: a statement of more than a gigabyte")

    def _heed(self, text: bytes) -> None:
        """Follow the settings that decide how the text is read."""
        head = text[:200]
        if encoding := _ENCODING.match(head):
            name = encoding[1].lower().replace(b"_", b"").replace(b"-", b"")
            self._mask = next((_UNSAFE[key] for key in _UNSAFE if name.startswith(key)), None)
        elif strings := _STRINGS.match(head):
            self._lexer.escapes = strings[1].lower() in _OFF
