"""A lexer for SQL as psql reads it, line by line (psqlscan.l of PostgreSQL)."""

from __future__ import annotations

import re
from dataclasses import replace

from pgtasks.server.psql import commands
from pgtasks.server.psql.commands import Command

_IDENT = rb"[A-Za-z_\x80-\xff]"
_TOKEN = re.compile(
    rb"""
      (?P<escaped> [eE]' )
    | (?P<word>    %(word)s )
    | (?P<number>  (?: [0-9][0-9_]* (?: \.[0-9_]* )? | \.[0-9][0-9_]* ) [eE][-+]
                     (?: [0-9]+ %(word)s? )?
                 | (?: [0-9]+ (?: \.[0-9]* )? | \.[0-9]+ ) %(word)s? )
    | (?P<dollar>  \$ (?: %(ident)s [A-Za-z_0-9\x80-\xff]* )? \$ )
    | (?P<number2> \$ [0-9]+ %(word)s? )
    | (?P<remark>  --[^\r]* )
    | (?P<comment> /\* )
    | (?P<quote>   ' )
    | (?P<name>    " )
    | (?P<forced>  \\[;:] )
    | (?P<command> \\ )
    | (?P<cast>    :: )
    | (?P<bare>    : [A-Za-z_0-9\x80-\xff]+ )
    | (?P<given>   :'[A-Za-z_0-9\x80-\xff]+' | :"[A-Za-z_0-9\x80-\xff]+"
                   | :\{\?[A-Za-z_0-9\x80-\xff]+\} )
    | (?P<end>     ; )
    | (?P<open>    \( )
    | (?P<close>   \) )
    """
    % {b"ident": _IDENT, b"word": rb"(?:%s[A-Za-z_0-9$\x80-\xff]*)" % _IDENT},
    re.VERBOSE | re.DOTALL,
)
# Most lines of a large file, taken at once: statements that write rows, in which nothing stays open
# and no string that ends elsewhere if backslashes count in it.
_PLAIN = rb"[^'\"$\\;:/()\-\r]*"
_PARTS = (
    _PLAIN + rb"(?:(?:'[^'\\]*(?:\\[^'][^'\\]*)*'|\"[^\"]*\"|-(?!-)|/(?!\*)|::)" + _PLAIN + rb")*"
)
_ROWS = re.compile(rb"%s(?:\(%s\)%s)*(;?)[ \t\r]*" % (_PARTS, _PARTS, _PARTS))
_ROWS_BEGIN = re.compile(rb"\s*(insert|update|delete|values)\b", re.IGNORECASE)
_ESCAPED = re.compile(rb"(?:[^'\\]+|\\.|'')*", re.DOTALL)
# psql's lexer ends a line at a carriage return; a string continues after it
_GOES_ON = re.compile(rb"(?:[ \t\f\v]|--[^\r]*)*\r(?:\s|--[^\r]*\r)*'")
_NESTED = re.compile(rb"/\*|\*/")
_BACKSLASHES = re.compile(rb"\\+\Z")
_ENCODING = re.compile("|".join(commands.UNSAFE_ENCODINGS).encode(), re.IGNORECASE)
_STANDARD = re.compile(rb"standard_conforming_strings\s*(=|to)\s*'?(on|true|yes|1)\b", re.I)

QUOTE, ESCAPED, NAME, DOLLAR, COMMENT = "'", "E'", '"', "$", "/*"


class Lexer:
    """The state of psql's lexer between lines.

    `inside` names what is open at the end of a line: a quote, a comment; nothing in plain SQL.
    `begun` says that a statement has begun; `copies` counts the sections of rows that follow the
    line; `bare` are the variables used as they are since `taken`, `enders` the statements that end
    a transaction. `ends` are the positions after the statements that end on the last line. With
    `escapes`, backslashes count in plain strings (standard_conforming_strings is off).
    """

    def __init__(self) -> None:
        self.inside = ""
        self.begun = False
        self.copies = 0
        self.opaque = False  # a statement begins with a variable that only psql knows
        self.ambiguous = False  # a string that ends elsewhere if backslashes count in it
        self.escapes = False
        self.fault = ""
        self.bare: set[str] = set()
        self.enders: list[str] = []
        self.ends: list[int] = []
        self._tag = b""
        self._comments = self._parens = self._begins = 0
        self._words: list[bytes] = []
        self._last_word = b""
        self._sections = self._last_sections = 0  # of this statement, of the one before
        self._rows = False

    def pieces(self, line: bytes) -> list[bytes | Command]:
        """Split a line, without its line end, into SQL and commands.

        Raises commands.CommandNotAllowed for a command that cannot be read.
        """
        self.ends = []
        if self._is_rows(line):
            return [line]
        pieces: list[bytes | Command] = []
        begin = at = 0
        while at < len(line):
            if self.inside:
                at = self._closed(line, at)
                continue
            token = _TOKEN.search(line, at)
            if line[at : token.start() if token else None].strip():
                self.begun, self._last_word = True, b""
            if token is None:
                break
            if token.lastgroup == "command":
                if token.start() > begin:
                    pieces.append(line[begin : token.start()])
                command, at = commands.scan(line, token.start())
                pieces.append(replace(command, begun=self.begun))
                begin = at
                self._after(command)
            else:
                at = token.end()
                self._take(token.lastgroup or "", token[0], line)
                if token.lastgroup == "end" and not self.begun:
                    self.ends.append(at)
        if begin < len(line):
            pieces.append(line[begin:])
        return pieces

    def _is_rows(self, line: bytes) -> bool:
        """Accept a whole line of a statement that only writes rows, if it is simple enough."""
        if self.inside or self._parens:
            return False
        head = None if self.begun else _ROWS_BEGIN.match(line)
        first = head[1].lower() if head else b"".join(self._words[:1])
        if first not in (b"insert", b"update", b"delete", b"values") or not (head or self.begun):
            return False
        rows = _ROWS.fullmatch(line)
        if rows is None:
            return False
        self.begun, self._words, self._last_word = True, [first], b""
        if rows[1]:
            self._ended(line)
            self.ends.append(len(line))
        return True

    def _closed(self, line: bytes, at: int) -> int:
        """Return the position after an open quote or comment, the line's end if it stays open."""
        if self.inside == COMMENT:
            return self._uncommented(line, at)
        if self.inside == ESCAPED:
            matched = _ESCAPED.match(line, at)
            end = matched.end() if matched else at
            end = end if line[end : end + 1] == b"'" else -1
            if end >= 0 and (more := _GOES_ON.match(line, end + 1)):
                return more.end()
        else:
            end = line.find(self._tag, at)
        if end < 0:
            return len(line)
        if self.inside == QUOTE:
            slashes = _BACKSLASHES.search(line, at, end)
            self.ambiguous |= bool(slashes and len(slashes[0]) % 2)
        self.inside = ""
        return end + len(self._tag)

    def _uncommented(self, line: bytes, at: int) -> int:
        for match in _NESTED.finditer(line, at):
            self._comments += 1 if match[0] == b"/*" else -1
            if not self._comments:
                self.inside = ""
                return match.end()
        return len(line)

    def _take(self, kind: str, text: bytes, line: bytes) -> None:
        if kind == "remark":
            return
        if kind == "comment":
            self.inside, self._comments = COMMENT, 1
            return
        if kind == "end":
            if not self._parens and not self._begins:
                self._ended(line)
            return
        if kind == "word":
            self._word(text.lower(), line)
        elif kind == "bare":
            self.bare.add(text[1:].decode("utf-8", "surrogateescape"))
            self.opaque |= not self.begun
        elif kind == "forced" and text == b"\\;":
            self._joined(line)
        elif kind in ("open", "close"):
            self._parens = max(self._parens + (1 if kind == "open" else -1), 0)
        elif kind in ("quote", "escaped", "name", "dollar"):
            plain = ESCAPED if self.escapes else QUOTE
            self.inside = {"quote": plain, "escaped": ESCAPED, "name": NAME}.get(kind, DOLLAR)
            self._tag = text if kind == "dollar" else text[-1:]
        if kind != "word":
            self._last_word = b""
        self.begun = True

    def _word(self, word: bytes, line: bytes) -> None:
        """Follow what psql and we look for: the body of a function, the rows of COPY."""
        if len(self._words) < 4:
            self._words.append(word)
        if self._words[0] == b"copy" and not self._parens:
            self._rows |= word == b"stdin" and self._last_word == b"from"
        elif self._words[0] == b"create" and not self._parens:
            self._body(word)
        elif self._words[0] == b"set":
            self._setting(word, line)
        self._last_word = word

    def _body(self, word: bytes) -> None:
        made = self._words[3:4] if self._words[1:3] == [b"or", b"replace"] else self._words[1:2]
        if made not in ([b"function"], [b"procedure"]):
            return
        if word == b"begin" or (word == b"case" and self._begins):
            self._begins += 1
        elif word == b"end":
            self._begins = max(self._begins - 1, 0)

    def _setting(self, word: bytes, line: bytes) -> None:
        if word in (b"client_encoding", b"names") and (match := _ENCODING.search(line)):
            self.fault = f"client encoding {match[0].decode()!r}: a byte of a character may be a"
            self.fault += " backslash in it, convert the file to UTF-8 (iconv)"
        if word == b"standard_conforming_strings" and not _STANDARD.search(line):
            self.fault = "standard_conforming_strings off: strings would end elsewhere, leave it on"

    def _joined(self, line: bytes) -> None:
        """End a statement that is sent to the server together with the next one."""
        self._note_ender()
        self._sections += self._rows
        self._rows, self._words = False, []

    def _ended(self, line: bytes) -> None:
        """End the statement: psql sends it."""
        self._joined(line)
        self.copies += self._sections
        self._last_sections, self._sections = self._sections, 0
        self.begun, self._parens, self._begins = False, 0, 0

    def _note_ender(self) -> None:
        words = [word.decode("ascii", "replace") for word in self._words]
        if ends_transaction(words):
            self.enders.append(words[0].upper())

    def _after(self, command: Command) -> None:
        """Apply a command to the current statement."""
        if command.name in commands.SENDING:
            if self.begun:
                self._ended(b"")
            else:
                self.copies += self._last_sections  # the previous statement again
            self.opaque |= command.name == "gexec"
        elif command.name in ("r", "reset"):
            self.begun, self._parens, self._begins, self._rows = False, 0, 0, False
            self._words, self._sections = [], 0
        elif command.name == "copy" and commands.copies_from_stdin(command):
            self.copies += 1


def ends_transaction(words: list[str]) -> bool:
    """Return whether a statement with these first words ends its transaction."""
    if not words or words[0] not in ("commit", "end", "rollback", "abort", "prepare"):
        return False
    if words[0] == "prepare":
        return words[1:2] == ["transaction"]
    rest = [word for word in words[1:] if word not in ("work", "transaction")]
    return not rest or rest[0] == "and"


def is_neutral(text: bytes) -> bool:
    """Return whether psql can read the text of a variable only as part of a statement."""
    lexer = Lexer()
    try:
        pieces = lexer.pieces(text)
    except commands.CommandNotAllowed:
        return False
    plain = all(isinstance(piece, bytes) for piece in pieces) and not lexer.ambiguous
    calm = not (lexer.inside or lexer.enders or lexer.bare or re.search(rb"\\|--|\n", text))
    return plain and calm and b"copy" not in text.lower()
