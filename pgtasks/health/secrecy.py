"""The checks of env.check on secrets: who can read them, what git tracks."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from pgtasks.errors import Failed, PgtasksError
from pgtasks.health.finding import SettingsFinding
from pgtasks.host import git, private
from pgtasks.settings import libpq
from pgtasks.settings.layers import layers
from pgtasks.settings.project import Project
from pgtasks.settings.secret import redact
from pgtasks.settings.target import Target
from pgtasks.settings.variables import read_dotenv

_SECRETS = ("PASSWORD", "MASK_KEY", "SECURITY_KEYS")  # names of variables end with these


def passfile(target: Target) -> Iterator[SettingsFinding]:
    """Check the mode of the password file."""
    if target.passfile and (fault := libpq.passfile_fault(Path(target.passfile))):
        yield SettingsFinding("fault", "passfile", target.environment, fault)


def identity(target: Target) -> Iterator[SettingsFinding]:
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


def passwords_in_files(project: Project, name: str) -> Iterator[SettingsFinding]:
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


def readable_secrets(project: Project) -> Iterator[SettingsFinding]:
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


def tracked_secrets(project: Project) -> Iterator[SettingsFinding]:
    """Yield the dotenv files that git tracks."""
    for path in _dotenv_files(project):
        if git.tracks(path):
            yield SettingsFinding(
                "fault",
                "dotenv-in-git",
                "",
                f"git tracks {project.shown(path)}, a file of secrets: git rm --cached it, "
                "ignore it, and change the secrets",
            )


def open_backups(project: Project) -> Iterator[SettingsFinding]:
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
