"""The checks of env.check: invalid and unsafe settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import report
from pgtasks.errors import PgtasksError
from pgtasks.health import misspelt, protected, secrecy
from pgtasks.health.finding import SettingsFinding
from pgtasks.host import git
from pgtasks.settings import libpq, security, selection
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.layers import layers
from pgtasks.settings.project import Project, stem
from pgtasks.settings.target import Target, from_environment


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
    yield from secrecy.passfile(target)
    yield from secrecy.identity(target)
    yield from secrecy.passwords_in_files(project, name)
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
        yield from protected.findings(project, environment, target, targets)


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


def _project(project: Project) -> Iterator[SettingsFinding]:
    yield from _env_folder(project)
    yield from secrecy.tracked_secrets(project)
    yield from secrecy.readable_secrets(project)
    yield from secrecy.open_backups(project)
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
