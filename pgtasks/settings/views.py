"""The output of env.list, env.show and env.status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pgtasks import report
from pgtasks.errors import PgtasksError
from pgtasks.report import typed
from pgtasks.settings import fields
from pgtasks.settings import selection as choices
from pgtasks.settings.blocks import Settings
from pgtasks.settings.environment import DEFAULT, Environment, resolve
from pgtasks.settings.layers import Layer, Value, layers
from pgtasks.settings.project import Project
from pgtasks.settings.secret import is_secret, redact
from pgtasks.settings.selection import Candidate, Choice
from pgtasks.settings.target import Target, from_environment


@dataclass(frozen=True)
class Line:
    """One environment of a list; `error` says why it cannot be used."""

    name: str
    current: bool
    protected: bool | None
    target: str
    defined_by: tuple[str, ...]
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**vars(self), "defined_by": list(self.defined_by)}


@dataclass(frozen=True)
class EnvironmentList:
    """All environments of a project."""

    environments: tuple[Line, ...]

    def lines(self) -> list[str]:
        """Return a table, the chosen environment with a mark."""
        rows = [
            (
                "*" if line.current else "",
                line.name,
                {True: "protected", False: "", None: "?"}[line.protected],
                line.error or line.target,
                ", ".join(line.defined_by) or DEFAULT,
            )
            for line in self.environments
        ]
        return [report.table(("", "environment", "", "database", "defined by"), rows)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"environments": [line.as_json() for line in self.environments]}


def listing(project: Project) -> EnvironmentList:
    """Return all environments, with the error of an unusable one."""
    try:
        current = choices.choose(project).environment
    except PgtasksError:
        current = ""
    return EnvironmentList(tuple(_line(project, name, current) for name in project.environments()))


def _line(project: Project, name: str, current: str) -> Line:
    try:
        environment = resolve(project, name)
        target = from_environment(environment)
    except PgtasksError as exc:
        return Line(name, name == current, None, "", (), exc.message)
    return Line(name, name == current, target.protected, str(target), _sources(project, name))


def _sources(project: Project, name: str) -> tuple[str, ...]:
    """Return the files and variables with settings of an environment."""
    sources = [source for layer in layers(project, name) for source in _said(layer, name)]
    return tuple(dict.fromkeys(re.sub(r":\d+(?=$|,|\))", "", source) for source in sources))


def _said(layer: Layer, name: str) -> Iterator[str]:
    if layer.environment == name:
        values = [*layer.values.values(), *layer.application.values()]
        origins = [layer.place_layer, layer.password_layer, *(value.layer for value in values)]
        yield from (origin for origin in origins if origin and not origin.startswith(DEFAULT))


@dataclass(frozen=True)
class EnvironmentShown:
    """One environment with the layer of each value, without secrets."""

    environment: str
    reason: str
    protected: bool
    target: str
    values: tuple[tuple[str, Value], ...]

    def lines(self) -> list[str]:
        """Return a table."""
        rows = [(name, _text(value.value), value.layer) for name, value in self.values]
        return [report.table(("setting", "value", "layer"), rows)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.environment,
            "reason": self.reason,
            "protected": self.protected,
            "target": self.target,
            "values": {
                name: {"value": value.value, "layer": value.layer} for name, value in self.values
            },
        }


def shown(
    environment: Environment, target: Target, reason: str, *, reveal: bool = False
) -> EnvironmentShown:
    """Return every value with its layer; `reveal` shows the password of the target."""
    values = [*_settings(environment, target), *_password(environment, target, reveal=reveal)]
    values += [
        (name, Value(text, environment.place)) for name, text in environment.parameters.items()
    ]
    values += [
        (".".join(("settings", *keys)), replace(value, value=_masked(keys[-1], value.value)))
        for keys, value in environment.application.items()
    ]
    return EnvironmentShown(
        environment.name, reason, environment.protected, str(target), tuple(dict(values).items())
    )


@dataclass(frozen=True)
class Url:
    """The URL of a target; its password is *** unless it is to be revealed."""

    target: Target
    reveal: bool

    def remarks(self) -> list[str]:
        """Return what the URL cannot say."""
        if not self.target.ssh:
            return []
        shell = typed.task("db.shell")
        ssh = self.target.ssh
        return [f"as {ssh} sees it; ssh is no part of a url, from here it is {shell}"]

    def lines(self) -> list[str]:
        """Return the URL alone."""
        return [self.target.url(reveal=self.reveal)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.target.environment,
            "url": self.lines()[0],
            "ssh": self.target.ssh and str(self.target.ssh),
        }


def _settings(environment: Environment, target: Target) -> Iterator[tuple[str, Value]]:
    effective = {"host": target.host or None, "user": target.user or None}
    for name, setting in fields.of(Settings).items():
        inner = [key for key in environment.values if key.startswith(f"{name}.")]
        for key in [name, *inner]:
            layered = environment.values.get(key)
            default = None if setting.default in ("", ()) else setting.default
            value = layered.value if layered else default
            value = effective.get(key) if value is None else value
            if value is not None:
                text = redact(value) if isinstance(value, str) else value
                if key in ("password_command", "mask_key_command", "security.keys_command"):
                    text = next(iter(value.split()), "") + (" ..." if " " in value.strip() else "")
                yield key, Value(text, layered.layer if layered else DEFAULT)


def _password(
    environment: Environment, target: Target, *, reveal: bool
) -> Iterator[tuple[str, Value]]:
    if target.password:
        layer = environment.password_layer or environment.layer("password_command")
        yield "password", Value(target.password.reveal() if reveal else "***", layer)


def _masked(name: str, value: Any) -> Any:
    if value and is_secret(name):
        return "***"
    return redact(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


@dataclass(frozen=True)
class Status:
    """The chosen environment, and the name that each source gives."""

    choice: Choice
    target: Target
    candidates: tuple[Candidate, ...]

    def lines(self) -> list[str]:
        """Return the choice, then all sources in their order."""
        rows = [(candidate.source, candidate.name) for candidate in self.candidates]
        return [
            f"{self.choice.environment} ({self.choice.reason})",
            "",
            report.table(("sources of the choice, the first one counts", "says"), rows),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "environment": self.choice.environment,
            "reason": self.choice.reason,
            "protected": self.target.protected,
            "target": str(self.target),
            "candidates": [
                {"source": candidate.source, "environment": candidate.name or None}
                for candidate in self.candidates
            ],
        }
