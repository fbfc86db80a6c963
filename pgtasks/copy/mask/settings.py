"""The masks of an environment: its rules, and the key, which is a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.copy.mask import key, rules
from pgtasks.copy.mask.rules import Rule
from pgtasks.host import password
from pgtasks.settings import fields
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.project import Project
from pgtasks.settings.secret import Secret


@dataclass(frozen=True)
class Masks:
    """The rules of an environment, and the settings of sessions that contain its key.

    `required` is why each column must be decided, empty if that is not necessary.
    """

    environment: str = ""
    rules: tuple[Rule, ...] = ()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    required: str = ""


def masks(project: Project, name: str, *, required: str = "") -> Masks:
    """Return the masks of an environment; `required` is why each column must be decided."""
    environment = resolve(project, name)
    made = tuple(
        rules.rule(where, value.value, value.layer)
        for where, value in fields.inner(environment.values, "mask").items()
    )
    secret = environment.mask_key or _printed(environment, project.root)
    secrets: Mapping[str, Secret] = {}
    if secret:
        key.check(secret, environment.name)
        secrets = key.session_settings(secret)
    return Masks(environment.name, made, secrets, required)


def of_backup(project: Project, name: str) -> Masks:
    """Return the masks for a backup of an environment, in which each column must be decided."""
    return masks(project, name, required=f"the backup is of environment {name!r}")


def _printed(environment: Environment, root: Path) -> Secret | None:
    command = environment.settings.mask_key_command
    if not command:
        return None
    shown = password.program(command)
    name = f"environment {environment.name!r}: mask_key_command {shown!r}"
    seconds = environment.settings.password_command_timeout
    return password.printed(command, name, seconds, root, "key")
