"""Check the files for psql and all files that they include, and make copies for psql."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.errors import Refused
from pgtasks.server.psql import commands
from pgtasks.server.psql.commands import Command, CommandNotAllowed
from pgtasks.server.psql.lexer import Lexer, is_neutral
from pgtasks.server.psql.source import Source

_DEEP = 16  # depth of includes
_MANY = 1000  # number of files
_ENDS_ROWS = (b"\\.", b"\\.\r")
# set by psql itself, from answers of the server
_SAID_BY_SERVER = ("LAST_ERROR_MESSAGE", "SERVER_VERSION_NAME")
# Text of a variable that cannot end a statement, open a quote or be a command. A program of the
# shell looks, as psql has no operators; psql quotes the value for it. What a \gset left as it was
# has been looked at before, where the file says it.
_LOOK = r"case :'{0}' in ({same}*[!A-Za-z0-9_.,+\ -]*|*--*) ;; (*) echo on;; esac"
# What the shell cannot be given (a line end) is not looked at, and counts as unfit.
_GUARD = (
    r"\if :{{?{0}}} \if `{look}` \else \warn '{place}: the text of :{0} is more than a number or a "
    r"word: write :''{0}'', or use \\gexec' \unset {0} \endif \endif"
)
# A text that is not there may not be kept as its own name, which the shell could take for the same.
_SAVE = r"\if :{{?{0}}} \set {saved} :{0} \else \unset {saved} \endif "


@dataclass
class Program:
    """Checked files.

    `enders` are the statements in them that end a transaction, as (place, words); `opaque` says
    that there may be more; `lenient` is where ON_ERROR_STOP is turned off; `touches` is where
    and by which command a file of this machine is read or written.
    """

    sources: tuple[Source, ...]
    enders: list[tuple[str, int, str]] = field(default_factory=list)
    opaque: bool = False
    lenient: str = ""
    touches: str = ""
    bare: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    with_commands: set[str] = field(default_factory=set)
    files: int = 0  # included files


def checked(sources: tuple[Source, ...]) -> Program:
    """Return the program of these files, raising Refused if one may not run."""
    program = Program(sources, unfit=dict.fromkeys(_SAID_BY_SERVER, "psql"))
    for source in sources:
        source.check()
        for _ in _Reading(program, source).lines():
            pass
    for name in program.bare.keys() & program.unfit.keys():
        raise Refused(
            f"{program.bare[name]}: :{name} would be read as more than a part of a statement "
            f"(set in {program.unfit[name]}): write :'{name}'"
        )
    return program


class _Reading:
    """One pass over a source, which checks it and splits each line."""

    def __init__(self, program: Program, source: Source, *, within: int = 0) -> None:
        self.program, self.source, self.within = program, source, within
        self.lexer = Lexer()
        self.number = 0
        self.rows = 0  # number of COPY sections that follow
        self.branches: list[int] = []

    @property
    def place(self) -> str:
        """Return file and line."""
        return f"{self.source.shown}:{self.number}"

    def refused(self, why: str) -> Refused:
        """Return the error for the current line."""
        return Refused(f"{self.place}: {why}")

    def lines(self) -> Iterator[tuple[bytes, list[bytes | Command]]]:
        """Yield each line and its pieces; rows of COPY have none."""
        with self.source.open() as stream:
            for raw in stream:
                self.number += 1
                if self.rows:
                    self.rows -= raw.rstrip(b"\n") in _ENDS_ROWS
                    yield raw, []
                else:
                    yield raw, self._pieces(raw.removesuffix(b"\n"))
        if self.lexer.inside and not self.rows:
            raise self.refused(f"the file ends inside of {self.lexer.inside}")
        if self.branches:
            self.number = self.branches[-1]
            raise self.refused("\\if without its \\endif")

    def _pieces(self, line: bytes) -> list[bytes | Command]:
        if b"\0" in line:
            raise self.refused("a zero byte, which psql cannot read")
        try:
            pieces = self.lexer.pieces(line)
            for piece in pieces:
                if isinstance(piece, Command):
                    commands.check(piece, alone=len(pieces) == 1)
                    self._note(piece)
        except CommandNotAllowed as exc:
            raise self.refused(str(exc)) from None
        self._noted()
        return pieces

    def _noted(self) -> None:
        """Record the findings of the lexer in a line."""
        lexer, program = self.lexer, self.program
        if lexer.fault:
            raise self.refused(lexer.fault)
        if lexer.copies and self.branches:
            raise self.refused(
                "rows of COPY between \\if and \\endif: psql would read them as commands where the "
                "branch is not taken, put them into a file of their own and include that"
            )
        self.rows, lexer.copies = lexer.copies, 0
        for name in lexer.bare:
            program.bare.setdefault(name, self.place)
        program.enders += [(self.source.shown, self.number, words) for words in lexer.enders]
        program.opaque |= lexer.opaque
        lexer.bare, lexer.enders, lexer.opaque = set(), [], False

    def _note(self, command: Command) -> None:
        """Record the effect of a command."""
        program = self.program
        program.with_commands.add(self.source.shown)
        if command.name == "if":
            self.branches.append(self.number)
        elif command.name in commands.BRANCHES and not self.branches:
            raise CommandNotAllowed(f"\\{command.name} without its \\if")
        elif command.name == "endif":
            self.branches.pop()
        elif _turns_lenient(command):
            program.lenient = program.lenient or self.place
        if commands.touched(command):
            program.touches = program.touches or f"{self.place}: \\{command.name}"
        known = commands.assigned(command)
        if known and known[1] is not None and not is_neutral(known[1]):
            program.unfit.setdefault(known[0], self.place)
        if command.name in commands.INCLUDES:
            self._include(command)

    def _include(self, command: Command) -> None:
        """Read an included file."""
        inner = include(self.source, command)
        if self.within >= _DEEP:
            raise CommandNotAllowed(
                f"\\{command.name} {inner.shown}: more than {_DEEP} files within files"
            )
        self.program.files += 1
        if self.program.files > _MANY:
            raise CommandNotAllowed(
                f"\\{command.name} {inner.shown}: more than {_MANY} files in one run"
            )
        try:
            inner.check()
        except Refused as exc:
            raise CommandNotAllowed(f"\\{command.name}: {exc.message}") from None
        for _ in _Reading(self.program, inner, within=self.within + 1).lines():
            pass


class _Copying(_Reading):
    """The pass that makes a copy of a file and of the files that it includes."""

    def _include(self, command: Command) -> None:
        pass


def include(source: Source, command: Command) -> Source:
    """Return an included file: \\ir is relative to its own folder, \\i to psql's."""
    path = Path(commands.file_name(command)).expanduser()
    if commands.INCLUDES[command.name] and source.path is not None:
        path = source.path.parent / path
    return Source(str(path), path)


def _turns_lenient(command: Command) -> bool:
    """Return whether psql continues after errors from here on."""
    if command.name not in ("set", "unset") or command.arguments[:1] != (b"ON_ERROR_STOP",):
        return False
    value = commands.literal(b"".join(command.arguments[1:])).lower()
    return command.name == "unset" or value not in (b"on", b"1", b"true", b"yes", b"t", b"y")


class Copies:
    """Copies of files with commands, in a folder of the run, in which psql is restricted."""

    def __init__(self, folder: Path, program: Program, *, restricted: bool) -> None:
        self.folder, self.program, self.restricted = folder, program, restricted
        self.shown: list[str] = []  # by the number in a copy's name
        self.lengths: dict[str, int] = {}  # lines, by a copy's name
        self._key = ""

    def text(self, text: str, shown: str) -> Path:
        """Write a file for psql."""
        path = self._path(shown)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return path

    def _path(self, shown: str) -> Path:
        if len(self.shown) >= _MANY:
            raise Refused(f"{shown}: more than {_MANY} files in one run")
        self.shown.append(shown)
        return self.folder / f"{len(self.shown)}.sql"

    def files(self) -> list[Path]:
        """Return the files for psql in place of the program's files."""
        paths: list[Path] = []
        for source in self.program.sources:
            if source.path is not None and source.shown not in self.program.with_commands:
                paths += self._as_it_is(source.path)
            else:
                paths.append(self.copy(source))
        return paths

    def _as_it_is(self, path: Path) -> list[Path]:
        if not self.restricted:
            return [path]
        enter = self.text(self._restrict() + "\n", "")
        return [enter, path, self.text(self._unrestrict() + "\n", "")]

    def copy(self, source: Source) -> Path:
        """Write the copy of a file, and of the files that it includes."""
        path = self._path(source.shown)
        reading = _Copying(Program(()), source)
        with path.open("wb") as out:
            out.write(self._entered())
            for raw, pieces in reading.lines():
                if any(isinstance(piece, Command) for piece in pieces):
                    out.write(self._line(reading, pieces) + b"\n")
                else:
                    out.write(raw)
                if pieces and _takes_line(pieces[-1]):
                    # the next line is the first that can be in restricted mode
                    out.write(self._entered())
            # a last line may have no end; a last statement without one is sent from here
            self.lengths[path.stem] = reading.number
            out.write(f"\n{self._unrestrict()}\n".encode())
        return path

    def _line(self, reading: _Reading, pieces: list[bytes | Command]) -> bytes:
        line, after_command = b"", False
        for piece in pieces:
            if isinstance(piece, Command) and not _is_sql(piece):
                line += self._command(reading, piece)
                after_command = True
                continue
            line += b"\\\\ " if after_command else b""
            line += piece if isinstance(piece, bytes) else _copy_statement(piece)
            after_command = False
        return line

    def _command(self, reading: _Reading, command: Command) -> bytes:
        """Return the text for one command, after which psql is restricted again.

        Blanks stand before \\restrict: in some encodings of the client the last bytes of an
        argument could take what follows for their own.
        """
        if command.name in commands.RESTRICTIONS:
            return b""
        leave, text = self._unrestrict().encode(), command.text
        if command.name in commands.INCLUDES:
            inner = self.copy(include(reading.source, command))
            text = f"\\i {quoted(str(inner))}".encode("utf-8", "surrogateescape")
        if _takes_line(command):
            return b" " + leave + b" " * self.restricted + text
        names = self._changed(command)
        saved = "".join(_SAVE.format(name, saved=_saved(name)) for name in names).encode()
        guards = "".join(f" {guard}" for guard in self._guards(reading, command)).encode()
        enter = self._restrict().encode()
        return (
            b" " + leave + b" " * self.restricted + saved + text + guards + b"    " + enter + b" "
        )

    def _entered(self) -> bytes:
        return (self._restrict() + " \\\\ ").encode() if self.restricted else b""

    def _restrict(self) -> str:
        self._key = secrets.token_hex(16)
        return f"\\restrict {self._key}" if self.restricted else ""

    def _unrestrict(self) -> str:
        return f"\\unrestrict {self._key}" if self.restricted else ""

    def _changed(self, command: Command) -> list[str]:
        """Return the unquoted variables that \\gset may change."""
        return sorted(self.program.bare) if command.name == "gset" else []

    def _guards(self, reading: _Reading, command: Command) -> Iterator[str]:
        """Yield checks of variables that only psql knows, before they are used."""
        known = commands.assigned(command)
        names = self._changed(command)
        if known and known[1] is None and known[0] in self.program.bare:
            names = [known[0]]
        place = reading.place.replace("\\", "\\\\").replace("'", "''")
        for name in names:
            same = f":'{_saved(name)}') echo on;; (" if command.name == "gset" else ""
            yield _GUARD.format(name, look=_LOOK.format(name, same=same), place=place)


def _saved(name: str) -> str:
    return f"pgtasks_{name}"


def _is_sql(piece: Command) -> bool:
    """Return whether a command is a COPY that reads rows from the file."""
    return piece.name == "copy" and commands.copies_from_stdin(piece)


def _copy_statement(command: Command) -> bytes:
    return b"COPY " + command.arguments[0].rstrip(b" ;") + b";"


def _takes_line(piece: bytes | Command) -> bool:
    """Return whether psql treats the rest of the line as the command's argument."""
    return isinstance(piece, Command) and piece.name == "copy" and not _is_sql(piece)


def quoted(text: str) -> str:
    """Return text quoted as an argument of a psql command."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
