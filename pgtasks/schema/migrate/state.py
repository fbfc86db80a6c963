"""Compare the revision of a database with the project's migration files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alembic.script import Script, ScriptDirectory

from pgtasks import report
from pgtasks.errors import NotProven
from pgtasks.report import typed
from pgtasks.schema.migrate.scripts import Scripts


@dataclass(frozen=True)
class Revision:
    """One migration file; `message` is the first line of its docstring."""

    id: str
    message: str
    file: str

    def __str__(self) -> str:
        return f"{self.id} {self.message}".rstrip()


@dataclass(frozen=True)
class State:
    """The state of a database. `unknown` are its revisions that no file has.

    `word` is one of

    up-to-date   the database has every revision of the files
    behind       it lacks `pending`
    unversioned  it has no revision at all: new, or made without migrations
    ahead        it has revisions that the files do not: the files are older
    diverged     it has some that the files do not, and lacks others; or the files have several
                 heads, and the database not all of them

    `invalid_indexes` were left by an interrupted CREATE INDEX CONCURRENTLY: writes maintain them,
    and no query uses them.
    """

    word: str
    current: tuple[str, ...]
    heads: tuple[str, ...]
    pending: tuple[Revision, ...]
    unknown: tuple[str, ...]
    invalid_indexes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        lines = [self.sentence()]
        lines += [f"  pending  {revision}  ({revision.file})" for revision in self.pending]
        if len(self.heads) > 1:
            lines.append(f"  several heads: {several_heads()}")
        return lines + [f"  {line}" for line in self.invalid_lines()]

    def invalid_lines(self) -> list[str]:
        """Return a line for each invalid index, with what to do about it."""
        return [
            f"invalid index {name}: REINDEX INDEX CONCURRENTLY {name} makes it whole, "
            f"DROP INDEX CONCURRENTLY {name} removes it"
            for name in self.invalid_indexes
        ]

    def sentence(self) -> str:
        """Return the state in one line."""
        at = f"at {', '.join(self.current)}" if self.current else "at no revision"
        head = f"head is {', '.join(self.heads)}" if self.heads else "there are no files"
        behind = f" {len(self.pending)}" if self.word == "behind" else ""
        unknown = f", unknown here: {', '.join(self.unknown)}" if self.unknown else ""
        return f"{self.word}{behind}: {at}, {head}{unknown}"

    def check(self) -> None:
        """Raise NotProven with the state if the database is not at the head of the files."""
        if self.word != "up-to-date":
            raise NotProven(f"{self.sentence()}: {self._way_out()}", details=self.as_json())

    def _way_out(self) -> str:
        if self.unknown:
            return "are these files older than the database?"
        if len(self.heads) > 1:
            return several_heads()
        return f"{typed.task('migrate.up')} applies what is pending"

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        return {"state": self.word, **{k: v for k, v in asdict(self).items() if k != "word"}}


def several_heads() -> str:
    """Return the ways out of several heads."""
    return f"{typed.task('migrate.merge')} joins them, --to REVISION chooses one"


def revision(script: Script, scripts: Scripts) -> Revision:
    """Return the facts about one migration file."""
    return Revision(script.revision, script.doc, scripts.shown(script.path))


def compare(current: Sequence[str], directory: ScriptDirectory, scripts: Scripts) -> State:
    """Compare the revisions of a database with those of the files."""
    files = {script.revision: script for script in directory.walk_revisions()}
    heads = tuple(sorted(directory.get_heads()))
    known = [name for name in current if name in files]
    unknown = tuple(sorted(name for name in current if name not in files))
    pending = [] if unknown and not known else _between(directory, known, "heads")
    word = _word(bool(current), bool(known), bool(unknown), len(pending), len(heads))
    return State(
        word,
        tuple(sorted(current)),
        heads,
        () if word == "ahead" else tuple(revision(script, scripts) for script in pending),
        unknown,
    )


def _between(directory: ScriptDirectory, current: Sequence[str], target: str) -> list[Script]:
    """Return the revisions that an upgrade would run, in order."""
    scripts = directory.iterate_revisions(target, tuple(current), implicit_base=True)
    return list(reversed(list(scripts)))


def _word(versioned: bool, known: bool, unknown: bool, pending: int, heads: int) -> str:
    if not versioned:
        return "unversioned" if pending else "up-to-date"
    if unknown:
        return "diverged" if known and pending else "ahead"
    if not pending:
        return "up-to-date"
    return "diverged" if heads > 1 else "behind"


def counted(revisions: Sequence[object]) -> str:
    """Return `1 revision`, `3 revisions`."""
    return report.plural(len(revisions), "revision")
