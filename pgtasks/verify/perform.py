"""Run the checks in order, each with its time, and put everything back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib import import_module

from pgtasks import report
from pgtasks.cli.run import Run
from pgtasks.database import scratch
from pgtasks.errors import Interrupted, PgtasksError, Refused
from pgtasks.report import Say
from pgtasks.report.boundaries import boundary
from pgtasks.report.junit import Case
from pgtasks.settings import fields
from pgtasks.verify import place as places
from pgtasks.verify import preparation, rows
from pgtasks.verify.check import (
    CATEGORIES,
    SETUP,
    Check,
    Skipped,
    is_refused,
    names_command,
    without_command,
)
from pgtasks.verify.outcome import FAILED, PASSED, SKIPPED, Outcome, Verified
from pgtasks.verify.place import Place

_MODULES = {
    "backup": "backups",
    "restore": "restores",
    "copy": "copies",
    "migrate": "migrations",
    "trigger": "triggers",
    "env": "environments",
    "inspect": "inspection",
    "service": "services",
}
_OF_ROWS = ("backup", "restore", "copy")  # they speak of the rows that came back


def categories(only: Sequence[str]) -> tuple[str, ...]:
    """Return the categories that --only names, all without; raises Refused for an unknown one."""
    named = [part.strip() for each in only for part in each.split(",")]
    for name in named:
        if name not in CATEGORIES:
            raise Refused(f"--only {name!r}: {fields.meant(name, CATEGORIES)}")
    return tuple(each for each in CATEGORIES if each in named or not named)


def refuse_protected(r: Run) -> None:
    """Raise Refused for an environment beside which no database may be made and dropped."""
    why = r.protection if r.target.protected else ""
    if not why:
        r.look(missing=True)
        why = r.protection
    if why:
        raise Refused(f"{why}: checks make and drop databases, name another one with --env")


def verify(r: Run, wanted: Sequence[str], *, say: Say, cases: list[Case]) -> Verified:
    """Run the checks of some categories, printing each as it ends; nothing of it stays.

    `cases` and the journal get each result, also those before an interruption.
    """
    began = time.monotonic()
    swept = scratch.sweep(r.reached().target)
    for line in swept:
        say(line)
    outcomes: list[Outcome] = []
    place = None

    def so_far() -> Verified:
        seconds = time.monotonic() - began
        return Verified(r.environment.name, tuple(outcomes), seconds, swept)

    try:
        with places.opened(r) as place:
            for check in (*preparation.CHECKS, *of(wanted)):
                outcome = performed(check, place)
                say(outcome.line())
                outcomes.append(outcome)
                cases.append(outcome.case())
                boundary("verify.made" if len(outcomes) == 1 else "verify.checked")
    except (KeyboardInterrupt, Interrupted):
        raise _interrupted(so_far(), place) from None
    finally:
        r.details = so_far().journaled()
    return so_far()


def _interrupted(verified: Verified, place: Place | None) -> Interrupted:
    left = ", ".join(repr(each.target.database) for each in place.made) if place else ""
    end = f"{left} may be left" if left else "the scratch databases are dropped"
    done = report.plural(len(verified.outcomes), "check")
    return Interrupted(f"interrupted after {done}, {end}", details=verified.as_json())


def of(wanted: Sequence[str]) -> Iterator[Check]:
    """Yield the checks of some categories."""
    for name in wanted:
        yield from import_module(f"pgtasks.verify.{_MODULES[name]}").CHECKS


def performed(check: Check, place: Place) -> Outcome:
    """Perform one check; whatever it raises is its result, but for an interruption."""
    began = time.monotonic()
    details = ""
    try:
        preparation.needed(check, place)
        state, text = PASSED, check.work(place)
        if check.category in _OF_ROWS and not is_refused(text):
            text += _stand_in(place)
    except Skipped as exc:
        state, text = SKIPPED, str(exc)
    except PgtasksError as exc:
        if exc.exit_code == 130:
            raise
        state, text, details = FAILED, *_fault(exc, check)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        state, text = FAILED, f"{type(exc).__name__}: {' '.join(str(exc).split())}"
    if state == FAILED and check.gives:
        place.failed.append(check.gives)
    return Outcome(check.category, check.name, state, text, time.monotonic() - began, details)


def _stand_in(place: Place) -> str:
    if place.stands_in is None:
        place.stands_in = rows.alone(place.first.target)
    return f" ({place.stands_in})" if place.stands_in else ""


def _fault(exc: PgtasksError, check: Check) -> tuple[str, str]:
    """Return the message and further lines of an error, without commands for scratch databases."""
    lines = [*exc.hint.splitlines(), *exc.block.splitlines()]
    if check.bare and check.category != SETUP:
        return exc.message, "\n".join(lines)
    return without_command(exc.message), "\n".join(
        each for each in lines if not names_command(each)
    )
