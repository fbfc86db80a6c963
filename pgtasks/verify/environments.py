"""Checks of environments: which is chosen, what is refused, a switch in the middle of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pgtasks import report
from pgtasks.database.scratch import environment_name
from pgtasks.errors import Refused, Unreachable
from pgtasks.health import settings
from pgtasks.host import checkout
from pgtasks.report import Progress
from pgtasks.server import connection, stamp
from pgtasks.settings import selection
from pgtasks.settings.environment import resolve
from pgtasks.settings.secret import Secret
from pgtasks.settings.selection import VARIABLES, Choice
from pgtasks.settings.target import from_environment
from pgtasks.verify import backups, copies, rows
from pgtasks.verify.check import Check, Skipped, as_refused, expect, refusal
from pgtasks.verify.place import THIRD, Place
from pgtasks.verify.scratch import Hushed, Scratch, ScratchRun


def valid(place: Place) -> str:
    """Check the settings of the environment, as env.check does."""
    audit = settings.audit(place.real, place.chosen.name)
    faults = [each.message for each in audit.findings if each.level == "fault"]
    expect(not faults, "; ".join(faults))
    noted = [each.check for each in audit.findings if each.level == "note"]
    return f"no fault, noted: {', '.join(noted)}" if noted else "no fault"


def resolved(place: Place) -> str:
    """Resolve both scratch environments: each leads to its own database, the rest is the same."""
    known = from_environment(place.chosen)
    for each in (place.first, place.second):
        target = from_environment(resolve(place.project, each.name))
        expect(
            (target.environment, target.database) == (each.name, each.target.database),
            f"{each.name!r} leads to {target.database!r}",
        )
        expect(
            replace(target, environment=known.environment, database=known.database) == known,
            f"{each.name!r} inherits from {known.environment!r}, and leads to {target}",
        )
    return f"both inherit from {known.environment!r}, each with its own database"


def order(place: Place) -> str:
    """Choose by env.use, by a variable, and by a flag; the later one wins."""
    project, (a, b) = place.project, (place.first.name, place.second.name)
    checkout.use(project, a)
    _expect_choice(selection.choose(project), a, selection.ENV_USE)
    in_shell = replace(project, process={**project.process, VARIABLES[0]: b})
    _expect_choice(selection.choose(in_shell), b, VARIABLES[0])
    _expect_choice(selection.choose(in_shell, a), a, "--env")
    message = refusal(Refused, "no-such-environment", lambda: _use(place, "no-such-environment"))
    _expect_choice(selection.choose(project), a, selection.ENV_USE)
    return f"env.use, then {VARIABLES[0]}, then --env; {message.partition(',')[0]} is refused"


def _use(place: Place, name: str) -> None:
    checkout.use(place.project, name)


def _expect_choice(choice: Choice, name: str, reason: str) -> None:
    expect(
        (choice.environment, choice.reason) == (name, reason),
        f"{choice.reason} chose {choice.environment!r}, expected {name!r} by {reason}",
    )


@dataclass(frozen=True)
class Switching(Hushed):
    """A console on which something happens as soon as long work shows its progress."""

    happens: Callable[[], object] = lambda: None

    def progress(self, what: str, total: int = 0) -> Progress:
        """Let it happen."""
        self.happens()
        return super().progress(what, total)


def switched_in_backup(place: Place) -> str:
    """Choose the second environment while a backup of the first one is being dumped."""
    a, b = place.first, place.second
    checkout.use(place.project, a.name)
    switches: list[str] = []

    def switch() -> None:
        _use(place, b.name)
        switches.append(b.name)

    chosen = _chosen(place)
    backup = backups.made(chosen, talk=Switching(happens=switch))
    expect(switches, "nothing was switched during the backup")
    made = backup.manifest
    expect(
        (made.environment, made.database) == (a.name, a.target.database),
        f"the backup is one of {made.environment}/{made.database}",
    )
    _expect_choice(selection.choose(place.project), b.name, selection.ENV_USE)
    expect(_chosen(place).target.database == b.target.database, "the next task is not on the other")
    return "the backup stayed that of the first, the next task is on the second"


def _chosen(place: Place) -> Scratch:
    """Return the scratch environment that a task without --env works on."""
    name = selection.choose(place.project).environment
    return next(each for each in (place.first, place.second) if each.name == name)


def switched_in_copy(place: Place) -> str:
    """Choose the second environment as a copy into the first begins to write, and the reverse."""
    a, b = place.first, place.second
    copies.copied(a, b)
    rows.run(b.target, f"UPDATE {rows.NAME} SET label = 'own' WHERE id = 2")
    before = rows.content(a.target)
    checkout.use(place.project, b.name)
    done = copies.copied(a, _chosen(place), midway=lambda: _use(place, a.name))
    expect(done.built.plan.target.database == b.target.database, "the copy went elsewhere")
    expect(rows.content(b.target) == before, "the target of the copy is not the first one chosen")
    expect(rows.content(a.target) == before, "the environment that was switched to has changed")
    _expect_choice(selection.choose(place.project), a.name, selection.ENV_USE)
    return "the copy stayed on the environment that it began with"


def another_stamp(place: Place) -> str:
    """Work on the database of the first environment as the second: both are named."""
    crossed = place.second.at(place.first.target.database)
    before = rows.content(place.first.target)

    def read() -> None:
        with crossed.run("inspect.tables") as run, run.reading():
            pass

    def write() -> None:
        with crossed.run("db.run") as run, run.writing():
            rows.lose(crossed.target)

    refusal(Refused, place.first.name, read)
    message = refusal(Refused, place.first.name, write)
    expect(rows.content(place.first.target) == before, "the database has changed")
    return as_refused(_without_runs(place, message))


def _without_runs(place: Place, message: str) -> str:
    return report.printable(message).replace(f"verify-{place.run}-", "verify-")


def protected(place: Place) -> str:
    """Write to a protected environment without its name, and choose it by env.use."""
    name = environment_name(place.run, THIRD)
    environment = resolve(place.project, name)
    expect(environment.protected, "protected: true is not seen")
    target = replace(place.second.target, environment=name, protected=True)
    reached = replace(place.second.reached(), target=target)
    run = ScratchRun(
        *("db.restore", place.project, Choice(name, "--env"), environment, target),
        json=True,
        journaled=False,
        _reached=reached,
    )
    comment = _restamped(place, name)
    try:
        message = refusal(Refused, "is protected", lambda: _write(run))
        refusal(Refused, "--confirm", lambda: _write(run, confirm="another"))
        refusal(Refused, "is protected", lambda: _use(place, name))
    finally:
        reached.end_sessions()
        _commented(place, *comment)
    return as_refused(_without_runs(place, message))


def _write(run: ScratchRun, confirm: str | None = None) -> None:
    with run.replacing(confirm=confirm):
        pass


def _restamped(place: Place, name: str) -> tuple[str, stamp.Stamp | None]:
    """Stamp the second database as another environment's; return the comment that it had."""
    identity = place.second.identity()
    assert identity is not None
    assert identity.stamp is not None
    _commented(place, identity.comment, replace(identity.stamp, environment=name))
    return identity.comment, identity.stamp


def _commented(place: Place, text: str, mark: stamp.Stamp | None) -> None:
    target = place.second.target
    with connection.session(target.at(target.maintenance), purpose="verify") as conn:
        connection.execute(conn, stamp.comment_statement(target.database, text, mark))


def missing(place: Place) -> str:
    """Read a database that does not exist."""
    name = f"{place.first.target.database[:40]}_missing"

    def read() -> None:
        with place.first.at(name).run("db.backup") as run, run.reading():
            pass

    return as_refused(refusal(Unreachable, name, read))


def wrong_password(place: Place) -> str:
    """Log in with a wrong password: it is refused, and shown nowhere."""
    server = place.server.target
    wrong = "wrong-" + place.run
    target = replace(
        server.at(server.maintenance), password=Secret(wrong), passfile="", password_command=""
    )
    try:
        with connection.session(target, read_only=True, purpose="verify"):
            pass
    except Unreachable as exc:
        message = f"{exc.message} {exc.hint}"
        expect("password" in message, f"the refusal does not name the password: {exc.message}")
        expect(wrong not in message, "the password is in the message")
        return as_refused(exc.message.rpartition("FATAL:")[2].strip())
    raise Skipped(f"the server asks {target.user!r} for no password (trust, peer or a certificate)")


CHECKS = (
    Check("env", "the settings have no fault", valid, bare=True),
    Check("env", "an heir leads to its own database", resolved, bare=True),
    Check("env", "the environment is chosen in the promised order", order, bare=True),
    Check("env", "a switch during a backup changes nothing of it", switched_in_backup),
    Check("env", "a switch during a copy changes nothing of it", switched_in_copy),
    Check("env", "another environment's database is refused", another_stamp),
    Check("env", "a protected environment is not written to", protected),
    Check("env", "a missing database is named", missing, bare=True),
    Check("env", "a wrong password is refused", wrong_password, bare=True),
)
