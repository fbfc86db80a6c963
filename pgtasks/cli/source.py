"""The environment that a task reads besides its target."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from pgtasks import report
from pgtasks.cli.run import Run
from pgtasks.errors import PgtasksError, Refused
from pgtasks.report import typed
from pgtasks.server.guard import Access
from pgtasks.server.identity import present
from pgtasks.server.reach import Origin, Reached
from pgtasks.settings.environment import resolve
from pgtasks.settings.selection import Choice
from pgtasks.settings.target import Target, from_environment


@contextmanager
def source(
    run: Run, name: str, *, unmasked: bool = False, confirm: str | None = None
) -> Iterator[Origin]:
    """Reach the source of a copy, as the reader of its environment if it has one.

    The data of a protected one may leave it `unmasked` if the name of its database is typed, or
    given in `confirm`; else Refused is raised.
    """
    ask = partial(_ask, unmasked=unmasked, confirm=confirm)
    with beside(run, name, word="from", ask=ask) as (other, reached):
        required = "" if unmasked else other.protection
        yield Origin(reached, present(other.identity, other.target), required)


@contextmanager
def beside(
    run: Run,
    name: str,
    *,
    word: str = "and",
    ask: Callable[[Run], None] = lambda other: None,
) -> Iterator[tuple[Run, Reached]]:
    """Reach another environment for reading, as its reader if it has one.

    `word` begins the line that names its target; `ask` may refuse it.
    """
    environment = resolve(run.project, run.project.known(name), flags={})
    target = _named(from_environment(environment), run)
    report.say(report.printable(f"{word} {target.line()}"))
    choice = Choice(environment.name, "SOURCE")
    other = Run(run.task, run.project, choice, environment, target, run.json, run.dry)
    named = partial(typed.within, run.task, environment.name)  # commands in messages
    try:
        with ExitStack() as stack:
            with named():
                reached = stack.enter_context(other.reading())
                ask(other)
            yield other, reached
    except PgtasksError as exc:
        with named():
            error = other.explained(exc)
        if error is exc:
            raise
        raise error from None
    finally:
        other.close()


@contextmanager
def lent(run: Run, name: str, *, flag: str) -> Iterator[Reached]:
    """Reach the server of another environment, for a database beside its own.

    Raises Refused for a protected one, also by the stamp of its database, and if that is another
    environment's: then the server may not be the one that is meant.
    """
    environment = resolve(run.project, run.project.known(name), flags={})
    target = _named(from_environment(environment), run)
    report.say(report.printable(f"on {target.line()}"))
    choice = Choice(environment.name, flag)
    other = Run(run.task, run.project, choice, environment, target, run.json, run.dry)
    try:
        if not environment.protected:
            other.identity = other.reached().identify()
        if why := other.protection:
            raise Refused(f"{flag} {name!r}: {why}, name an unprotected one")
        with typed.within(run.task, environment.name):  # commands in messages
            other.guarded(Access.WRITE)
        yield other.reached()
    except PgtasksError as exc:
        with typed.within(run.task, environment.name):  # commands in messages
            error = other.explained(exc)
        if error is exc:
            raise
        raise error from None
    finally:
        other.close()


def _named(target: Target, run: Run) -> Target:
    if not target.embedded:
        return target
    from pgtasks.server import embedded

    return embedded.named(target, run.project.root)


def _ask(source: Run, *, unmasked: bool, confirm: str | None) -> None:
    """Ask for the name of a protected source, raising Refused without the right answer."""
    database, why = source.target.database, source.protection
    if confirm is not None and confirm != database:
        raise Refused(
            f"--confirm-source {confirm!r} is not the source's name, expected {database!r}"
        )
    if not why or not unmasked:
        return
    if confirm == database:
        return
    refusal = f"{why}, add --confirm-source {shlex.quote(database)}"
    if source.dry and source.console.interactive:
        source.say(f"without --dry it would ask: {why}, the source's name must be typed")
        return
    if source.dry:
        source.say(f"without --dry it would be refused: {refusal}")
        return
    if not source.console.interactive:
        raise Refused(refusal)
    source.say(why)
    answer = source.console.ask("type the source database's name to let its data leave it: ")
    if answer != database:
        raise Refused(f"{answer!r} is not {database!r}, nothing was done")
