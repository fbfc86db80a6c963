"""The run of a task: its target, its output, and the guard for reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks import report
from pgtasks.cli.permit import Permit, Question, foreseen, question
from pgtasks.errors import PgtasksError
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.report import Console, Reported
from pgtasks.report.interruption import telling
from pgtasks.server.guard import Access, Decision, Evidence, protection
from pgtasks.server.identity import Identity, present, valid
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached, reach
from pgtasks.settings import ssh
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.settings.selection import Choice
from pgtasks.settings.target import Target


@dataclass
class Run:
    """A run of a task, with which its body works. The target is fixed when the run begins."""

    task: str
    project: Project
    choice: Choice
    environment: Environment
    target: Target
    json: bool = False
    dry: bool = False
    journaled: bool = True
    result: str = "done"
    details: dict[str, Any] = field(default_factory=dict)
    identity: Identity | None = None  # of the target's database, when the guard last read it
    host: Host = HERE  # where commands run, after `reached` or `landed`
    _foreseen: set[str] = field(default_factory=set)
    _reached: Reached | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def console(self) -> Console:
        """Return the console of the task."""
        return Console(quiet=self.json)

    def say(self, line: str = "") -> None:
        """Print a message on stderr."""
        self.console.say(line)

    def reached(self, *, start: bool = True, reads: bool = False) -> Reached:
        """Connect to the target's server, starting an embedded one.

        With `reads`, the reader of a protected environment connects, if it has one. Under `dry` an
        embedded server that was never started is not created.
        """
        if self._reached:
            return self._reached
        with self._beginning():
            return self._reaching(start=start, reads=reads)

    @contextmanager
    def _beginning(self) -> Iterator[None]:
        """Say that nothing had begun, if a signal ends a task that changes something so early."""
        with telling(lambda: "nothing had begun") if self.journaled else nullcontext():
            yield

    def _reaching(self, *, start: bool, reads: bool) -> Reached:
        if reads and self.target.protected and self.target.as_reader() != self.target:
            self.target = self.target.as_reader()
            self.say(report.printable(f"reads as {self.target.user!r}, the environment's reader"))
        target = replace(self.target, journal=self.project.folder("backups"))
        self._reached = reach(target, self.project.root, start=start, make=not self.dry)
        self._open.callback(self._reached.close)
        self.target, self.host = self._reached.target, self._reached.host
        return self._reached

    def landed(self) -> Host:
        """Return the target's host, and log in to another one, without connecting to a server."""
        if self.target.ssh and self.host is HERE:
            from pgtasks.host.ssh.login import landed

            with self._beginning():
                self.host, self.target = landed(self.target)
            self._open.callback(self.host.close)
        return self.host

    def explained(self, exc: PgtasksError) -> PgtasksError:
        """Return the error of a lost connection, if that caused this error, or the error itself."""
        return (self._reached or Reached(self.target, self.host)).explained(exc)

    def close(self) -> None:
        """Close the connections to the target and its host."""
        self._open.close()

    def guarded(
        self,
        access: Access,
        *,
        confirm: str | None = None,
        yes: bool = False,
        outside: bool = False,
        ask: bool = False,
        keep: bool = False,
    ) -> Identity | None:
        """Let the guard decide, and ask on the terminal if it wants that; no lock is taken.

        `outside` is for a database that may refuse connections: only its stamp is read. `keep`
        leaves the session that read the identity open for `Reached.reading`.

        Returns the identity of the database, None if it does not exist; raises Unreachable if an
        interrupted DROP left it. Under `dry` it says what the run would meet, and asks only with
        `ask`.
        """
        reached = self.reached()
        self.identity = reached.glimpse() if outside else reached.identify(keep=keep)
        if not outside:
            valid(self.identity, self.target)
        evidence = self._evidence(access, confirm=confirm, yes=yes)
        self._question(evidence, dry=self.dry and not ask).ask()
        return self.identity

    def look(self, *, missing: bool = False) -> Identity | None:
        """Let the guard decide on a read before a write, and return the database's identity.

        Raises Unreachable if the database does not exist, unless it may be `missing`.
        """
        identity = self.guarded(Access.READ)
        return identity if missing else present(identity, self.target)

    @contextmanager
    def reading(self, *, keep: bool = False) -> Iterator[Reached]:
        """Let the guard decide on a task that only reads, as the reader of the environment, if any.

        Raises Unreachable if the database does not exist. `keep` is that of `guarded`.
        """
        reached = self.reached(reads=True)
        present(self.guarded(Access.READ, keep=keep), self.target)
        yield reached

    @contextmanager
    def writing(
        self, *, confirm: str | None = None, missing: bool = False, outside: bool = False
    ) -> Iterator[Lock | None]:
        """Let the guard decide on a write to a database; hold its lock for the block.

        Raises Unreachable if the database does not exist, unless it may be `missing`. `outside` is
        for a task that repairs a database, which may also refuse connections or be invalid.

        Under `dry` it says what the run would meet, and the block gets None: it holds no lock and
        must change nothing.
        """
        identity = self.guarded(Access.WRITE, confirm=confirm, outside=outside)
        if not (missing or outside):
            present(identity, self.target)
        with self._locked() as lock:
            yield lock

    @contextmanager
    def stamping(self, *, confirm: str | None = None) -> Iterator[Lock | None]:
        """Let the guard decide on a new stamp, whatever the old one is; else as `writing`."""
        self.reached(reads=self.dry)
        present(self.guarded(Access.STAMP, confirm=confirm), self.target)
        with self._locked() as lock:
            yield lock

    def replacing(self, *, confirm: str | None = None, insists: str = "") -> Permit:
        """Let the guard decide on a task that replaces the target's database, or raise Refused.

        The question comes after the plan: `with r.replacing(confirm=confirm) as permit`, and in the
        block `if permit.agreed(plan)`. `insists` is a reason why the name must be typed for any
        target, as for a protected one.
        """
        return self._permit(Access.WRITE, confirm=confirm, insists=insists)

    def destroying(
        self,
        *,
        confirm: str | None = None,
        yes: bool = False,
        ask_missing: bool = True,
        insists: str = "",
        shows: bool = False,
    ) -> Permit:
        """Let the guard decide on a task without an undo, as `replacing` does.

        Without `ask_missing` it asks nothing if the target's database does not exist. `shows` is
        for a plan that is not like the result: it is shown also if nothing is asked.
        """
        flags = {"confirm": confirm, "yes": yes, "insists": insists}
        permit = self._permit(Access.DESTROY, ask_missing=ask_missing, **flags)
        permit.shows = shows
        return permit

    def _permit(self, access: Access, *, ask_missing: bool = True, **flags: Any) -> Permit:
        self.identity = self.reached().identify()  # an interrupted DROP may have left it
        asked = None
        if self.identity or ask_missing:
            asked = self._question(self._evidence(access, **flags), dry=self.dry)
        return Permit(self.reached(), self.task, asked, self.dry)

    def _question(self, evidence: Evidence, *, dry: bool) -> Question:
        """Return the question of the guard; under `dry` say it, once, and leave nothing to ask."""
        if not dry:
            return question(evidence, self.console)
        line = foreseen(evidence)
        if line and line not in self._foreseen:
            self._foreseen.add(line)
            self.say(line)
        return Question(Decision.GO, evidence, self.console)

    def lock(self) -> Lock:
        """Return the lock of the target, for the task of this run."""
        return self.reached().lock(self.task)

    @contextmanager
    def _locked(self) -> Iterator[Lock | None]:
        if self.dry:
            yield None
        else:
            with self.lock() as lock:
                yield lock

    def at_prompt(self, *, write: bool, confirm: str | None = None) -> bool:
        """Let the guard decide on an interactive session; return whether it is read-only.

        No lock is held, because such a session may last for hours.
        """
        from pgtasks.server.psql import shell

        self.reached(reads=not write)
        access = Access.WRITE if write else Access.READ
        present(self.guarded(access, confirm=confirm), self.target)
        read_only = bool(self.protection) and not write
        if read_only:
            self.say(f"read-only, as {self.protection}; --write and its name let it be changed")
            self.say(shell.worth(self.target))
        return read_only

    def guarded_host(self, *, confirm: str | None = None) -> None:
        """Let the guard decide on a task on the database host, without connecting to the database.

        Raises Refused if the environment has no such host.
        """
        ssh.required(self.target.ssh, self.environment.name)
        self._question(self._evidence(Access.WRITE, confirm=confirm), dry=self.dry).ask()

    def discarding(self, *, confirm: str | None = None, yes: bool = False) -> Question:
        """Let the guard decide on a task that drops backups, without connecting to the database.

        The question comes after the plan, see `Question.agreed`.
        """
        evidence = self._evidence(Access.DISCARD, confirm=confirm, yes=yes)
        return self._question(evidence, dry=self.dry)

    @property
    def protection(self) -> str:
        """Return why the target counts as protected, or an empty text."""
        return protection(self._evidence(Access.READ))

    def _evidence(self, access: Access, **flags: Any) -> Evidence:
        return Evidence(
            access=access,
            environment=self.environment.name,
            database=self.target.database,
            protected=self.target.protected,
            identity=self.identity,
            terminal=self.console.interactive,
            lineage=self.environment.lineage,
            **flags,
        )

    def finish(self, result: Reported, *, check: Callable[[], None] = lambda: None) -> None:
        """Print the result of the task, as lines or as one document, and keep it for the journal.

        `check` raises an error for a bad result: after the lines, or instead of the document,
        because the document of the failure contains the result.
        """
        if self.json:
            check()
        self.details.update(result.as_json())
        report.summarize(result)
        if self.json:
            report.document(result.as_json())
        else:
            for line in result.lines():
                report.data(line)
        check()
