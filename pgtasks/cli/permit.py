"""The question that the guard leaves to the user, and the permit to replace or drop a database."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pgtasks.errors import Refused
from pgtasks.report import Console, Reported
from pgtasks.server import guard, identity
from pgtasks.server.guard import Access, Decision, Evidence
from pgtasks.server.interrupt import telling_of
from pgtasks.server.reach import Reached


@dataclass(frozen=True)
class Question:
    """The question of the guard to the user, if there is one."""

    decision: Decision
    evidence: Evidence
    console: Console

    @property
    def is_open(self) -> bool:
        """Whether there is something to ask."""
        return self.decision is not Decision.GO

    def ask(self, warning: str = "") -> None:
        """Ask on the terminal, raising Refused without the right answer.

        `warning` says more than the one of the access.
        """
        database = self.evidence.database
        if self.decision is Decision.TYPE_NAME:
            self.console.say(guard.protection(self.evidence))
            typed = self.console.ask("type the database's name to go on: ")
            if typed != database:
                raise Refused(f"{typed!r} is not {database!r}, nothing was done")
            return
        known = warning or self.evidence.access.warning
        if self.is_open and not self.console.confirm(f"{known}, go on?"):
            raise Refused("not confirmed, nothing was done")

    def agreed(self, plan: Reported, warning: str = "") -> bool:
        """Show a plan and ask, if there is something to ask; return whether it was shown."""
        if not self.is_open:
            return False
        for line in plan.lines():
            self.console.say(line)
        self.ask(warning)
        return True


def question(evidence: Evidence, console: Console) -> Question:
    """Return the question of the guard, raising Refused if the task must not continue."""
    return Question(guard.decide(evidence), evidence, console)


def foreseen(evidence: Evidence) -> str:
    """Return what a run without --dry would meet, empty if it would go on at once."""
    try:
        decision = guard.decide(evidence)
    except Refused as exc:
        return f"without --dry it would be refused: {exc.message}"
    if decision is Decision.GO:
        return ""
    return f"without --dry it would ask: {guard.reason(evidence)}, {decision.value}"


@dataclass
class Permit:
    """The guard's permit to replace or drop a database, if the user agrees to the plan.

    As a context manager it holds the lock, and reports the state of the database after Ctrl-C.
    """

    reached: Reached
    purpose: str  # of the lock
    question: Question | None  # None if the database did not exist, so that nothing is asked
    dry: bool
    shows: bool = False  # the plan also where nothing is asked
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Permit:
        with ExitStack() as entered:
            self.lock = entered.enter_context(self.reached.lock(self.purpose))
            entered.enter_context(telling_of(self.reached.target))
            self._open = entered.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._open.__exit__(*exc)

    def agreed(self, plan: Reported) -> bool:
        """Show the plan and ask the question of the guard; return False under `dry`.

        The plan of a drop, which is like its result, is shown only with a question. Raises Refused
        if the user does not agree, or if the database is not the one any more that the guard saw.
        """
        if self.dry:
            return False
        if self.question is None:
            raise Refused("the database was created meanwhile, nothing was done")
        writes = self.question.evidence.access is Access.WRITE
        if self.question.is_open or writes or self.shows:
            for line in plan.lines():
                self.question.console.say(line)
        self.question.ask()
        self._check(self.question.evidence)
        return True

    def _check(self, evidence: Evidence) -> None:
        now = identity.glimpse(self.lock.connection, evidence.database)
        identity.refuse_other(evidence.identity, now, evidence.database)
        self.lock.allowed = now
