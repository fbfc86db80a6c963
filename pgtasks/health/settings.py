"""The checks of env.check: invalid and unsafe settings."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks import report
from pgtasks.errors import Failed, PgtasksError
from pgtasks.health import misspelt
from pgtasks.host import git, private
from pgtasks.report import typed
from pgtasks.server import embedded
from pgtasks.settings import libpq, security, selection
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.layers import layers
from pgtasks.settings.project import Project, stem
from pgtasks.settings.secret import redact
from pgtasks.settings.target import Target, from_environment
from pgtasks.settings.variables import read_dotenv

if TYPE_CHECKING:
    from pgtasks.server.reach import Reached

_PATIENCE = 5  # seconds to connect to a server
_SECRETS = ("PASSWORD", "MASK_KEY", "SECURITY_KEYS")  # names of variables end with these


@dataclass(frozen=True)
class SettingsFinding:
    """The result of one check: a fault, a note, or that it could not be made."""

    level: str  # fault, note, unchecked
    check: str  # stable name, for scripts
    environment: str  # empty where it concerns the project
    message: str

    def line(self) -> str:
        """Return what a person reads."""
        start = f"{self.level:<10} {self.environment or 'project':<10} "
        return report.hanging(start, self.message)


@dataclass(frozen=True)
class Audit:
    """All findings, faults first."""

    environments: tuple[str, ...]
    findings: tuple[SettingsFinding, ...]

    @property
    def faults(self) -> int:
        """Return the number of faults."""
        return sum(finding.level == "fault" for finding in self.findings)

    def lines(self) -> list[str]:
        """Return the findings, then their number."""
        checked = report.plural(len(self.environments), "environment")
        summary = f"{checked} checked, {report.plural(self.faults, 'fault')}"
        return [*(finding.line() for finding in self.findings), summary]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environments": list(self.environments),
            "faults": self.faults,
            "findings": [vars(finding) for finding in self.findings],
        }


def audit(project: Project, name: str | None = None) -> Audit:
    """Check one environment or all, and the project; nothing is written or started."""
    names = [project.known(name)] if name else project.environments()
    targets = _targets(project)
    findings = [finding for name in names for finding in _environment(project, name, targets)]
    findings += _project(project)
    order = ("fault", "note", "unchecked")
    findings.sort(key=lambda finding: order.index(finding.level))
    return Audit(tuple(names), tuple(findings))


def _targets(project: Project) -> list[Target]:
    """Return the targets of all valid environments."""
    targets = []
    for name in project.environments():
        with suppress(PgtasksError):  # it has its own finding
            targets.append(from_environment(resolve(project, name)))
    return targets


def _environment(
    project: Project, name: str, targets: Iterable[Target]
) -> Iterator[SettingsFinding]:
    try:
        environment = resolve(project, name)
        target = from_environment(environment)
    except PgtasksError as exc:
        yield SettingsFinding("fault", "settings", name, exc.message)
        return
    yield from _passfile(target)
    yield from _identity(target)
    yield from _passwords_in_files(project, name)
    for line in misspelt.variables(project, name):
        yield SettingsFinding("note", "misspelt", name, line)
    yield from _security(project, environment)
    if target.database == target.maintenance:
        yield SettingsFinding(
            "fault",
            "maintenance",
            name,
            f"database {target.database!r} is also `maintenance`: name another database there",
        )
    if target.protected:
        yield from _account(target)
        yield from _transport(environment, target)
        yield from _reader(target)
        yield from _shared_place(target, targets)
        yield from _role(project, target)


def _security(project: Project, environment: Environment) -> Iterator[SettingsFinding]:
    """Check what an application with logins would refuse."""
    name = environment.name
    for fault in environment.security_faults():
        yield SettingsFinding("fault", "security", name, fault.message)
    keys, command = environment.signing_keys, environment.settings.security.keys_command
    try:
        if keys:
            security.keys(keys, name)
    except PgtasksError as exc:
        yield SettingsFinding("fault", "security", name, exc.message)
    if environment.protected and not (keys or command) and (where := _logins(project)):
        place = project.shown(project.folder("env") / f"{name}.env")
        text = f"no signing key, and the project's application has logins ({where}): "
        text += f"{security.way_to_keys(place)}"
        yield SettingsFinding("note", "signing-key", name, text)


def _logins(project: Project) -> str:
    """Return what says that the project's application has logins, empty for nothing."""
    for name in project.environments():
        with suppress(PgtasksError):  # it has its own finding
            environment = resolve(project, name)
            if environment.signing_keys:
                return f"{name!r} has SECURITY_KEYS"
            if given := [key for key in environment.values if key.startswith("security.")]:
                return f"{environment.layer(given[0])} sets {given[0]}"
    return ""


def _passfile(target: Target) -> Iterator[SettingsFinding]:
    if target.passfile and (fault := libpq.passfile_fault(Path(target.passfile))):
        yield SettingsFinding("fault", "passfile", target.environment, fault)


def _identity(target: Target) -> Iterator[SettingsFinding]:
    """Check the private key in the settings of the environment, not those of ~/.ssh."""
    if not (target.ssh and target.ssh.identity):
        return
    name, path = target.environment, Path(target.ssh.identity)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as exc:
        yield SettingsFinding(
            "fault", "identity", name, f"ssh.identity {str(path)!r}: {exc.strerror}"
        )
        return
    if mode & 0o077:
        text = f"ssh.identity {str(path)!r} can be read by others (mode {mode:04o}): chmod 600"
        yield SettingsFinding("fault", "identity", name, text)
    if git.tracks(path):
        text = f"git tracks the private key {str(path)!r}: create a new one, keep it out of git"
        yield SettingsFinding("fault", "key-in-git", name, text)


def _passwords_in_files(project: Project, name: str) -> Iterator[SettingsFinding]:
    """Yield the YAML files in git that contain a url with a password."""
    for layer in layers(project, name):
        if not layer.password or ", " in layer.password_layer:
            continue
        path = project.root / re.sub(r":\d+$", "", layer.password_layer)
        if git.tracks(path):
            yield SettingsFinding(
                "fault",
                "password-in-file",
                name,
                f"{layer.password_layer}: a url with a password in a file that git tracks: change "
                f"the password, and keep it in {project.shown(project.folder('env'))}/{name}.env",
            )


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


def _project(project: Project) -> Iterator[SettingsFinding]:
    yield from _env_folder(project)
    yield from _tracked_secrets(project)
    yield from _readable_secrets(project)
    yield from _open_backups(project)
    yield from _unused(project)
    own = Path("~/.pgpass").expanduser()
    if own.exists() and (fault := libpq.passfile_fault(own)):
        yield SettingsFinding("fault", "passfile", "", fault)
    try:
        selection.choose(project)
    except PgtasksError as exc:
        yield SettingsFinding("fault", "choice", "", exc.message)


def _env_folder(project: Project) -> Iterator[SettingsFinding]:
    folder = project.folder("env")
    shown = project.shown(folder)
    way_out = "use another folder for the settings, folders: {env: NAME} in invoke.yaml"
    if (folder / "pyvenv.cfg").exists():
        yield SettingsFinding(
            "fault", "env-folder", "", f"{shown}/ is a virtual environment: {way_out}"
        )
        return
    hidden = git.ignores(folder / "dev.yaml")
    if hidden:
        yield SettingsFinding(
            "fault", "env-folder", "", f"git ignores {shown}/ ({hidden}): {way_out}"
        )
    if hidden is None and folder.is_dir():
        yield SettingsFinding("unchecked", "git", "", f"what git ignores and tracks: {git.WHY_NOT}")


def _open_backups(project: Project) -> Iterator[SettingsFinding]:
    """Yield a finding if other accounts can write to the backups folder, or may have done so."""
    folder = project.folder("backups")
    if not folder.is_dir():
        return
    mode, shown = stat.S_IMODE(folder.stat().st_mode), project.shown(folder)
    if mode & 0o002:
        text = f"{shown}/ can be written to by others (mode {mode:04o}): "
        yield SettingsFinding("fault", "backups-mode", "", f"{text}chmod 700 {shlex.quote(shown)}")
    for path in (*folder.glob("[!.]*"), *folder.glob("[!.]*/[!.]*")):
        try:
            private.own(path)
        except Failed as exc:
            yield SettingsFinding("fault", "backups-owner", "", exc.message)


def _readable_secrets(project: Project) -> Iterator[SettingsFinding]:
    """Yield the dotenv files with a secret that other accounts can read."""
    for path in _dotenv_files(project):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 and _holds_secret(path, project):
            shown = project.shown(path)
            text = f"{shown} has a secret and can be read by others (mode {mode:04o}): "
            yield SettingsFinding(
                "fault", "dotenv-mode", "", f"{text}chmod 600 {shlex.quote(shown)}"
            )


def _holds_secret(path: Path, project: Project) -> bool:
    try:
        values = read_dotenv(path, project.shown(path), {})
    except PgtasksError:
        return False  # has a finding of its own
    return any(
        variable.value and (name.endswith(_SECRETS) or redact(variable.value) != variable.value)
        for name, variable in values.items()
    )


def _dotenv_files(project: Project) -> list[Path]:
    files = [project.root / ".env", *sorted(project.folder("env").glob("*.env"))]
    return [path for path in files if path.is_file()]


def _tracked_secrets(project: Project) -> Iterator[SettingsFinding]:
    for path in _dotenv_files(project):
        if git.tracks(path):
            yield SettingsFinding(
                "fault",
                "dotenv-in-git",
                "",
                f"git tracks {project.shown(path)}, a file of secrets: git rm --cached it, "
                "ignore it, and change the secrets",
            )


def _unused(project: Project) -> Iterator[SettingsFinding]:
    """Yield each DATABASE_URL that no environment uses."""
    used = set(_urls(project))
    variable = project.dotenv.get("DATABASE_URL")
    wheres = ["DATABASE_URL"] if project.process.get("DATABASE_URL") else []
    wheres += [variable.where] if variable and variable.value else []
    for where in wheres:
        if where not in used:
            yield SettingsFinding(
                "note", "unused-url", "", f"{where} is set, and no environment uses it"
            )
    names = set(map(stem, project.environments()))
    for name in project.process:
        prefix = name.removesuffix("_DATABASE_URL")
        if prefix not in (name, *names):
            yield SettingsFinding(
                "note", "unused-url", "", f"{name} is set, and there is no such environment"
            )


def _urls(project: Project) -> Iterator[str]:
    """Yield the files and variables with a url that an environment uses."""
    for name in project.environments():
        try:
            for layer in layers(project, name):
                yield layer.place_layer.rpartition(", ")[2]
        except PgtasksError:
            continue  # has a finding of its own
