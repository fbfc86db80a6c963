"""Run the revisions of a plan, again if a statement did not get its lock."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from pgtasks import report
from pgtasks.errors import PgtasksError, Refused
from pgtasks.report import Console
from pgtasks.schema.migrate import waiting
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.errors import LockTimeout
from pgtasks.schema.migrate.ledger import LOCK_TIMEOUT, Milliseconds
from pgtasks.schema.migrate.perform import Applied, Migrated, perform, plan
from pgtasks.schema.migrate.plan import MigrationPlan
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target

_UNITS: dict[str, Milliseconds] = {"ms": 1, "s": 1_000, "min": 60_000, "": 1_000}
_RETRIES = 3
_MOST_RETRIES = 100
_PAUSE = 1.0  # seconds before the second attempt, twice that before each further one
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Patience:
    """How long a statement waits for a lock, and how many further attempts follow."""

    lock_timeout: Milliseconds = LOCK_TIMEOUT
    retries: int = _RETRIES


def patience(lock_timeout: str | None, retries: str | None) -> Patience:
    """Return the meaning of the flags, raising Refused for a value that cannot be meant."""
    return Patience(_milliseconds(lock_timeout), _number(retries))


def _milliseconds(text: str | None) -> Milliseconds:
    """Return a duration like 5s, 500ms or 1min; a bare number is in seconds, 0 has no limit."""
    if text is None:
        return LOCK_TIMEOUT
    match = re.fullmatch(r"([0-9]{1,4})(ms|s|min|)", text.strip())
    if match is None:
        raise Refused(f"--lock-timeout {text!r}, expected a duration like 5s, 500ms or 1min")
    return int(match[1]) * _UNITS[match[2]]


def _number(text: str | None) -> int:
    if text is None:
        return _RETRIES
    if not (text.isascii() and text.isdecimal() and int(text) <= _MOST_RETRIES):
        raise Refused(f"--retries {text!r}, expected a number from 0 to {_MOST_RETRIES}")
    return int(text)


@dataclass
class Attempts:
    """The attempts to run a plan on one database.

    `applied` are the revisions that have run and stay, `statements` what was sent for them.
    """

    scripts: Scripts
    target: Target
    identity: Identity
    patience: Patience
    console: Console
    applied: list[Applied] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def run(self, made: MigrationPlan) -> Migrated:
        """Run a plan; raises LockTimeout with the holder of the lock after the last attempt."""
        failures = 0
        while True:
            try:
                return self._attempt(made)
            except LockTimeout as exc:
                stays = exc.details.get("committed") or exc.details.get("prepared")
                if failures == self.patience.retries or stays:
                    raise
                pause = min(_PAUSE * 2**failures, _LONGEST_PAUSE)
                self.console.say(f"{exc.message}; again in {report.duration(pause)}")
                time.sleep(pause)
                failures += 1
                made = self._rest(made)

    def _attempt(self, made: MigrationPlan) -> Migrated:
        place = (self.scripts, self.target, self.identity)
        envpy = EnvPy(*place, lock_timeout=self.patience.lock_timeout)
        done: list[Applied] = []
        with waiting.watching(self.target, envpy.pids) as holders:
            try:
                migrated = perform(*place, made, envpy=envpy, done=done)
            except PgtasksError as exc:
                kept = exc.details.get("applied", ())
                self.applied += [each for each in done if each.revision.id in kept]
                if isinstance(exc, LockTimeout) and holders.seen:
                    exc.message = f"{exc.message}; the lock is held by {holders}"
                raise
            finally:
                self.statements += envpy.ledger.sent
        self.applied += migrated.applied
        return migrated

    def _rest(self, made: MigrationPlan) -> MigrationPlan:
        """Return the plan of what a failed attempt has left to do."""
        place = (self.scripts, self.target, self.identity)
        to = made.target
        if made.direction == "down" and to.startswith("-"):
            to = f"-{len(made.steps) - len(self.applied)}"
        return plan(*place, made.direction, to, exact=True)
