"""The checks of env.check on a protected environment: its way, its roles, its stamp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pgtasks.errors import PgtasksError
from pgtasks.health.finding import SettingsFinding
from pgtasks.report import typed
from pgtasks.server import embedded
from pgtasks.settings import libpq
from pgtasks.settings.environment import Environment
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from pgtasks.server.reach import Reached

_PATIENCE = 5  # seconds to connect to a server


def findings(
    project: Project, environment: Environment, target: Target, targets: Iterable[Target]
) -> Iterator[SettingsFinding]:
    """Check a protected environment; `targets` are those of all environments."""
    yield from _account(target)
    yield from _transport(environment, target)
    yield from _reader(target)
    yield from _shared_place(target, targets)
    yield from _role(project, target)


def _account(target: Target) -> Iterator[SettingsFinding]:
    if target.ssh and "root" in (target.ssh.user, target.ssh.sudo_user):
        text = "commands run on the host as root: use an account with only the rights that it needs"
        yield SettingsFinding("fault", "ssh-root", target.environment, text)


def _transport(environment: Environment, target: Target) -> Iterator[SettingsFinding]:
    own = {"", target.ssh.host} if target.ssh else {""}  # if ssh encrypts the connection
    if target.socket or target.embedded or target.host in own or target.loopback:
        return
    mode = environment.settings.sslmode
    with_mode = f"sslmode {mode!r}" if mode else "no sslmode"
    if mode not in libpq.ENCRYPTED and target.ssh:
        # the machine may have two names
        text = (
            f"{with_mode}, and ssh ends at {target.ssh.host}: if {target.host} is another machine, "
        )
        text += "that connection may not be encrypted, set sslmode: verify-full"
        yield SettingsFinding("note", "tls-beyond-ssh", target.environment, text)
    elif mode not in libpq.ENCRYPTED:
        yield SettingsFinding(
            "fault",
            "tls",
            target.environment,
            f"{with_mode} for another machine ({target.host}): the connection may not be "
            "encrypted, set sslmode: verify-full",
        )
    elif mode == "require":
        yield SettingsFinding(
            "note",
            "tls-unverified",
            target.environment,
            "sslmode 'require' encrypts, but does not verify the server, verify-full does",
        )


def _reader(target: Target) -> Iterator[SettingsFinding]:
    if not target.reader:
        text = "no reader: tasks that only read, and db.shell, use a role that can write: set "
        text += "reader: ROLE, one with only pg_read_all_data"
        yield SettingsFinding("note", "reader", target.environment, text)
    elif target.reader == target.user:
        text = f"reader {target.reader!r} is also the role for writes, set another one"
        yield SettingsFinding("note", "reader", target.environment, text)


def _shared_place(target: Target, targets: Iterable[Target]) -> Iterator[SettingsFinding]:
    name = target.environment
    for other in targets:
        if other.environment != name and _same(other, target):
            text = f"{other.environment!r} is the same database, {target}"
            yield SettingsFinding("fault", "shared", name, text)


def _same(target: Target, other: Target) -> bool:
    return _place(target) == _place(other)


def _place(target: Target) -> tuple[object, ...]:
    # another account or key does not make it another place
    over = target.ssh and (target.ssh.host, target.ssh.port)
    return target.host, target.port, target.database, target.embedded, over


def _role(project: Project, target: Target) -> Iterator[SettingsFinding]:
    """Check the role on the server, and the stamp of the database."""
    from pgtasks.server import connection, guard
    from pgtasks.server.guard import Access, Evidence

    name = target.environment
    try:
        with (
            _opened(target, project) as reached,
            reached.session(read_only=True, purpose="env.check") as conn,
        ):
            query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            superuser = connection.value(conn, query, into=bool)
            identity = reached.identify()
    except PgtasksError as exc:
        level = "unchecked" if exc.exit_code == 4 else "fault"
        yield SettingsFinding(level, "server", name, f"role and stamp: {exc.message}")
        return
    if superuser:
        yield SettingsFinding(
            "fault",
            "superuser",
            name,
            f"role {target.user!r} is a superuser: use one that only owns the database",
        )
    known = (Access.STAMP, name, target.database, False, identity, False)
    facts = Evidence(*known, lineage=target.lineage)
    if why := guard.protection(facts):
        way = typed.task("env.stamp", environment=name)
        if identity is not None and identity.stamp is not None:
            way = f"correct the settings, or if it was handed over, {way}"
        yield SettingsFinding("note", "stamp", name, f"{why}: {way}")


@contextmanager
def _opened(target: Target, project: Project) -> Iterator[Reached]:
    """Reach a target for the length of a block, without starting a server or asking."""
    from pgtasks.host import password
    from pgtasks.server import reach

    quick = {**target.parameters, "connect_timeout": str(_PATIENCE)}
    target = embedded.located(replace(target, parameters=quick), project.root)
    target = password.unlocked(target, project.root)
    if target.ssh:
        target = replace(target, ssh=replace(target.ssh, connect_timeout=_PATIENCE))
    with closing(reach.opened(target)) as reached:
        yield reached
