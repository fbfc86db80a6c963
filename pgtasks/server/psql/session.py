"""One run of psql, with queries before and after the files, and its result."""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pgtasks.errors import Failed, PgtasksError, Unreachable
from pgtasks.host import decoding, tempfiles, tools
from pgtasks.host.base import Command
from pgtasks.host.local import HERE
from pgtasks.host.pipeline import BROKEN_PIPE, Pipeline
from pgtasks.host.tools import Toolset
from pgtasks.report import plural
from pgtasks.report.interruption import telling
from pgtasks.server import session as sessions
from pgtasks.server.psql.program import Copies, Program, quoted
from pgtasks.server.psql.shell import psql
from pgtasks.settings.target import Target

_PLACE = re.compile(r"^psql:(?P<shown>.+):(?P<line>\d+): (?P<words>.+)$")
_LOST = 2  # psql(1), "Exit Status": the connection was lost
# Since these minor releases (and 18) psql has \restrict.
_RESTRICTED = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
# The session, and the transaction in it: its number grows by one with each, a statement outside of
# a block is one too. COPY goes to \o, and no \pset changes it.
_LOCK = (
    "FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'virtualxid'::pg_catalog.text"
)
_LOCK += " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"
_ASKED = f"""COPY (SELECT pg_catalog.json_build_object(
  'pid', pg_catalog.pg_backend_pid(), 'database', pg_catalog.current_database(),
  'system', s.system_identifier::pg_catalog.text, 'transaction',
  (SELECT virtualtransaction {_LOCK}))
  FROM pg_catalog.pg_control_system() s) TO STDOUT;
"""
_LAST_ERROR = "COPY (SELECT :'LAST_ERROR_SQLSTATE') TO STDOUT;\n"
_NO_ERROR = "00000"
_ERROR = re.compile(r"error\b", re.IGNORECASE)  # of psql itself in lower case
_BLOCK = f"SELECT virtualtransaction AS {{0}} {_LOCK} \\gset\n"
# Variables that a file may have set, and that change the parser or the handling of errors.
_RESET = r"""\set QUIET on
\o
\set ON_ERROR_STOP on
\set ECHO none
\set SINGLELINE off
\set SINGLESTEP off
\set FETCH_COUNT 0
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK off
\timing off
"""


@dataclass(frozen=True)
class Ran:
    """The result of a run of psql.

    `kept` says that the transaction contained everything, `open` that a transaction block was open
    at the end; `answers` are the results of the last queries in it. `failed` says how many
    statements or commands failed that psql went on behind, empty for none; `undone` that the
    transaction was rolled back for them.
    """

    kept: bool
    open: bool
    answers: tuple[str, ...]
    messages: tuple[str, ...]
    failed: str = ""
    undone: bool = False


def restricts(toolset: Toolset) -> bool:
    """Return whether a psql has a restricted mode."""
    major, minor = toolset.version
    return major >= 18 or minor >= _RESTRICTED.get(major, 10**6)


@dataclass(frozen=True)
class Settings:
    """How psql runs the files: transaction, flags, queries and statements at the end of it.

    `tells` prints the command tags (`DELETE 1`) of the last file. `undone` ends the message of an
    error after which everything is rolled back. With `strict` nothing is committed if a statement
    failed that psql went on behind.
    """

    transaction: bool
    flags: tuple[str, ...] = ()
    tells: bool = False
    begin: str = ""  # SQL after BEGIN
    questions: tuple[str, ...] = ()
    end: str = ""  # SQL before COMMIT
    undone: str = ""
    strict: bool = False


def execute(
    target: Target,
    program: Program,
    settings: Settings,
    *,
    stdout: IO[bytes] | int | None,
    on_line: Callable[[str], None] | None = None,
) -> Ran:
    """Run the files, raising Failed with file and line of the first error, or Unreachable."""
    toolset = psql(target)
    folder = tempfiles.folder()
    try:
        with HERE.passfile(target) as passfile:
            copies = Copies(folder, program, restricted=restricts(toolset))
            run = _Run(program, settings, copies, heard=on_line is not None)
            made = run.command(toolset, target, passfile)
            told = run.told(on_line) if on_line else None
            with (
                telling(run.left),
                Pipeline(HERE, [made], stdout=stdout, on_line=told) as pipeline,
            ):
                try:
                    stderr = pipeline.check()
                except Failed as exc:
                    raise run.explained(exc, pipeline.codes[0]) from None
            return run.ended([run.translated(line) for line in stderr])
    finally:
        tempfiles.remove(folder)


class _Run:
    """The input and the messages of psql; `heard` says that its messages are printed."""

    def __init__(
        self, program: Program, settings: Settings, copies: Copies, *, heard: bool
    ) -> None:
        self.program, self.settings, self.copies, self.heard = program, settings, copies, heard
        self.before, self.after = copies.folder / "before", copies.folder / "after"
        own = re.escape(str(copies.folder))
        self._own = re.compile(rf"^psql:{own}/(\d+)\.sql:(\d+): ")

    def command(self, toolset: Toolset, target: Target, passfile: str) -> Command:
        """Return the command that runs our first file, the files, and our last file."""
        begin = f"BEGIN;\n{self.settings.begin}\n" if self.settings.transaction else ""
        first = self.copies.text(f"\\o {quoted(str(self.before))}\n{_ASKED}\\o\n{begin}", "")
        files = [first, *self.copies.files(), self.copies.text(self._last(), "")]
        if self.settings.tells:
            files.insert(-2, self.copies.text("\\set QUIET off\n", ""))
        argv = [toolset.tool("psql"), "--no-psqlrc", "--no-password", "--quiet"]
        argv += [*self.settings.flags, "--set=ON_ERROR_STOP=1"]
        argv += [f"--file={path}" for path in files]
        env = tools.environment(target.here(), passfile)
        options = filter(None, (env.get("PGOPTIONS"), sessions.joined(sessions.OF_FILES)))
        env["PGOPTIONS"] = " ".join(options)
        return Command(tuple(argv), env, stop=signal.SIGINT)

    def _last(self) -> str:
        """Return the file that checks the session, and commits."""
        word = f"pgtasks_{secrets.token_hex(4)}"
        commands = f"SET client_encoding = 'UTF8';\n\\o {quoted(str(self.after))}\n"
        commands += _ASKED * 2 + _LAST_ERROR
        commands += "".join(
            f"COPY ({question}) TO STDOUT;\n" for question in self.settings.questions
        )
        if not self.settings.transaction:
            return f"{_RESET}{commands}\\o\n"
        calm = f" AND :'LAST_ERROR_SQLSTATE' OPERATOR(pg_catalog.=) '{_NO_ERROR}'::pg_catalog.text"
        whole = calm if self.settings.strict else ""
        # without a block each statement has its own transaction, and there is none to commit
        same = (
            f"SELECT (virtualtransaction OPERATOR(pg_catalog.=) :'{word}'{whole}) AS {word} {_LOCK}"
        )
        end = f"{self.settings.end}\nCOMMIT;"
        commit = f"{_BLOCK.format(word)}{same} \\gset\n\\if :{word}\n{end}\n\\endif\n"
        return f"{_RESET}{commands}\\o\n{commit}"

    def told(self, on_line: Callable[[str], None]) -> Callable[[str], None]:
        """Return the function that prints psql's stderr with the names of the original files."""
        return lambda line: on_line(self.translated(line))

    def translated(self, line: str) -> str:
        """Return a line of psql's stderr with the place in the original file of a copy."""
        match = self._own.match(line)
        if not match:
            for source in self.program.sources:
                if line.startswith(prefix := f"psql:{source.path}:"):
                    return f"psql:{source.shown}:{line[len(prefix) :]}"
            return line
        shown = self.copies.shown[int(match[1]) - 1]
        number = min(int(match[2]), self.copies.lengths.get(match[1], int(match[2])))
        return f"psql:{shown}:{number}: {line[match.end() :]}" if shown else line[match.end() :]

    def explained(self, exc: Failed, code: int | None) -> PgtasksError:
        """Return the error with file and line, and psql's messages if they were not printed."""
        lines = [self.translated(line) for line in exc.hint.splitlines()]
        hint = "" if self.heard else "\n".join(lines)
        if code == _LOST:
            return Unreachable(lines[-1] if lines else "psql lost the connection")
        if self.settings.transaction and (words := self._at_end(exc)):
            if not self.program.lenient:
                return Failed(f"at COMMIT: {words}{self._stays('', 0)}", hint=hint)
            return Failed(
                f"an error ended the transaction, nothing of it stays: {self.program.lenient} turns"
                " ON_ERROR_STOP off, so psql went on behind it",
                hint=hint,
            )
        if code in BROKEN_PIPE:
            # a pager or `head` ended early: our last file may have been run to its end
            ended = self.settings.transaction and not _answers(self.after)
            undone = "" if self.program.opaque or self.program.enders else ", nothing of it stays"
            rolled = f": its transaction was rolled back{undone}" if ended else ""
            return Failed(
                f"the reader of the results closed its end, and psql ended{rolled}", hint=hint
            )
        # psql stops at the first error, so its place is the last one that it names; the word
        # before the message (ERROR, FEHLER) is in the server's language
        places = list(filter(None, map(_PLACE.match, lines)))
        if not places:
            return Failed(exc.message, hint=hint)
        place = places[-1]
        words = " ".join(place["words"].split())
        stays = self._stays(place["shown"], int(place["line"]))
        return Failed(f"{place['shown']}:{place['line']}: {words}{stays}", hint=hint)

    def left(self) -> str:
        """Return what an interrupted psql has left: the server rolls back what is open then."""
        if not self.settings.transaction:
            return "the statements that had ended stay, each was committed for itself"
        if _answers(self.after):
            return "the files had ended, and whether their COMMIT was done is not known"
        if self.program.opaque or self.program.enders:
            return f"what was open is rolled back{self._stays('', 0)}"
        return "its transaction is rolled back, nothing of it stays"

    def _at_end(self, exc: Failed) -> str:
        """Return the last message of psql, if it is about our own last file."""
        places = list(filter(None, map(self._own.match, exc.hint.splitlines())))
        if not places or int(places[-1][1]) != len(self.copies.shown):
            return ""
        return " ".join(places[-1].string[places[-1].end() :].split())

    def _stays(self, shown: str, line: int) -> str:
        """Return the note on a part that may have been committed."""
        if not self.settings.transaction:
            return ""
        order = [source.shown for source in self.program.sources]
        for place, number, words in self.program.enders:
            later = place == shown and number > line
            if place in order and shown in order and order.index(place) > order.index(shown):
                later = True
            if not later:
                return f"; {place}:{number} ({words}) ends the transaction, so a part may stay"
        return "; a part may stay" if self.program.opaque else self.settings.undone

    def ended(self, stderr: Sequence[str]) -> Ran:
        """Return the result, raising Failed if psql is no longer in its first session."""
        began, *ends = _answers(self.before) + _answers(self.after)[:2]
        first, second = map(_state, (*ends, "{}", "{}")[:2])
        begun = _state(began)
        if begun.session != first.session:
            raise Failed(
                f"psql is not in the session that began: {first}, it was in {begun}: look at both"
            )
        state, *answers = _answers(self.after)[2:]
        kept = self.settings.transaction and first.transaction == _next(begun.transaction)
        return Ran(
            kept=kept,
            open=first.transaction == second.transaction,
            answers=tuple(answers),
            messages=tuple(stderr),
            failed=_failed(stderr, state),
            undone=kept and self.settings.strict and state != _NO_ERROR,
        )


def _failed(stderr: Sequence[str], state: str) -> str:
    """Return how many statements failed, by psql's messages, whose words depend on the language.

    A command of psql that failed (a `\\copy` of a missing file) has no SQLSTATE.
    """
    places = filter(None, map(_PLACE.match, stderr))
    number = sum(_ERROR.match(place["words"]) is not None for place in places)
    if number:
        return plural(number, "statement")
    return "at least 1 statement" if state != _NO_ERROR else ""


def _answers(path: Path) -> list[str]:
    """Return the lines of COPY in a file."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line.replace("\\\\", "\\") for line in text.splitlines()]


def _next(transaction: str) -> str:
    process, _, number = transaction.partition("/")
    return f"{process}/{int(number) + 1}"


@dataclass(frozen=True)
class _State:
    """The answer to `_ASKED`; the defaults mean that psql ended before it."""

    pid: int | None = None
    database: str | None = None
    system: str | None = None
    transaction: str = ""

    @property
    def session(self) -> tuple[int | None, str | None, str | None]:
        return self.pid, self.database, self.system

    def __str__(self) -> str:
        return f"database {self.database!r}, process {self.pid}"


def _state(answer: str) -> _State:
    return decoding.decode(answer.encode(), _State, "the answer of psql")
