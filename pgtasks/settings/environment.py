"""Environments: merge their layers into one value per setting, each with its origin."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgtasks.errors import BadConfiguration
from pgtasks.settings import fields, libpq, security
from pgtasks.settings import ssh as login
from pgtasks.settings.blocks import EMBEDDED, Settings
from pgtasks.settings.layers import DEFAULT, Keys, Layer, Value, layers, secret
from pgtasks.settings.project import Project
from pgtasks.settings.secret import Secret
from pgtasks.settings.security import Security

__all__ = ["DEFAULT", "Environment", "Value", "resolve"]

# Settings of lower layers that do not apply if a layer names another server. sslmode and
# connect_timeout still apply: a URL without sslmode must not turn TLS off.
_REPLACED: Mapping[str, tuple[str, ...]] = {
    "url": ("host", "port", "database", "user", "service", "server"),
    "server": ("host", "port", "user", "service", "sslmode", "sslrootcert", "requirepeer"),
    "host": ("server", "service"),
}
_SETTINGS_OF_A_URL = ("sslmode", "sslrootcert", "requirepeer", "connect_timeout", "passfile")
_PLACES = ("host", "port", "server", "service")
_FIELDS = fields.of(Settings)
EMBEDDED_ROLE = "pgtasks"  # default user of an embedded server


@dataclass(frozen=True)
class Environment:
    """An environment's settings; `parameters` are further libpq parameters of its URL.

    `values` are those that a layer sets, each with its layer; those of a block by dotted name
    (`backup.keep`). `application` are the application's own, by their path of keys. `place` is the
    layer that names the server.
    """

    name: str
    values: Mapping[str, Value]
    password: Secret | None = None
    password_layer: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    application: Mapping[Keys, Value] = field(default_factory=dict)
    place: str = ""
    lineage: tuple[str, ...] = ()  # itself, then its ancestors, the nearest first
    reader_password: Secret | None = None
    mask_key: Secret | None = None
    signing_keys: Secret | None = None  # separated by spaces, the newest first

    @functools.cached_property
    def settings(self) -> Settings:
        """Return all settings, with defaults for those that no layer sets."""
        values = {key: value.value for key, value in self.values.items()}
        settings = fields.build(Settings, {**values, "settings": self._application()})
        own = settings.security.completed(values, protected=settings.protected)
        return replace(settings, security=own)

    def _application(self) -> dict[str, Any]:
        return _nested({keys: value.value for keys, value in self.application.items()})

    def block(self, name: str) -> dict[str, Any]:
        """Return the settings of one block that layers set."""
        if name == "settings":
            return self._application()
        inner = {key: value.value for key, value in fields.inner(self.values, name).items()}
        if _FIELDS[name].record is None:  # its keys are the user's, and may have dots
            return inner
        return _nested({tuple(key.split(".")): value for key, value in inner.items()})

    def layer(self, name: str) -> str:
        """Return the layer of one setting's value."""
        value = self.values.get(name)
        return value.layer if value else DEFAULT

    def security(self) -> Security:
        """Return how an application handles logins, raising BadConfiguration where not securely.

        Tasks do not ask for it: a cookie's setting must not keep anybody from a backup.
        """
        for fault in self.security_faults():
            raise fault
        return self.settings.security

    def security_faults(self) -> Iterator[BadConfiguration]:
        """Yield an error for each setting that keeps an application from starting."""
        own = self.settings.security
        return security.faults(own, name=self.name, protected=self.protected, layer=self.layer)

    @property
    def protected(self) -> bool:
        """Whether a write requires the name of the database."""
        return self.settings.protected


def _nested(application: Mapping[Keys, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for keys, value in application.items():
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
    return tree


def resolve(
    project: Project, name: str, *, flags: Mapping[str, Value] | None = None
) -> Environment:
    """Merge all layers of the environment `name`, low to high, without a connection."""
    name = project.known(name)
    stack = [*layers(project, name), Layer(name, dict(flags or {}))]
    environment = Environment(name, {}, lineage=_lineage(stack, name))
    for layer in stack:
        environment = _laid_over(environment, layer)
    environment = _filled_by_libpq(environment, project)
    if environment.settings.reader:
        password = secret(project, name, "READER_PASSWORD")
        environment = replace(environment, reader_password=password)
    environment = replace(
        environment,
        mask_key=secret(project, name, "MASK_KEY"),
        signing_keys=secret(project, name, "SECURITY_KEYS"),
    )
    return _open_ends(environment, project)


def _lineage(stack: Iterable[Layer], name: str) -> tuple[str, ...]:
    # the default of an heir comes before its ancestors, its files after them
    order = dict.fromkeys(layer.environment for layer in reversed(list(stack)))
    return (name, *(each for each in order if each != name))


def _laid_over(below: Environment, layer: Layer) -> Environment:
    """Return the lower settings, overridden by one layer."""
    _refuse_unprotecting(below, layer)
    values = _cleared(below, layer)
    named = _names_a_place(layer)
    password = (below.password, below.password_layer)
    if named or _another_user(below, layer):
        password = (None, "")  # it was for a server and a user that no longer apply
    parameters = {} if layer.place or "server" in layer.values else dict(below.parameters)
    if "host" in layer.values:
        parameters.pop("hostaddr", None)
    if layer.place:
        values.update(_place_values(layer))
        parameters.update(layer.place.parameters)
        parameters.pop("passfile", None)
    values.update(layer.values)
    if layer.password:
        password = (layer.password, layer.password_layer)
    return replace(
        below,
        values=values,
        password=password[0],
        password_layer=password[1],
        parameters=parameters,
        application=_application_laid_over(below.application, layer.application),
        place=named or below.place,
    )


def _refuse_unprotecting(below: Environment, layer: Layer) -> None:
    flag = layer.values.get("protected")
    if flag and layer.late and below.protected and not flag.value:
        raise BadConfiguration(
            f"{flag.layer}: protected cannot be turned off by a variable or a -f file, "
            "only in the environment's own file or invoke.yaml"
        )


def _names_a_place(layer: Layer) -> str:
    """Return how a layer names a server or database, empty if it does not."""
    if layer.place:
        return layer.place_layer
    return next((layer.values[key].layer for key in _PLACES if key in layer.values), "")


def _another_user(below: Environment, layer: Layer) -> bool:
    user = layer.values.get("user")
    return user is not None and user.value != below.settings.user


def _cleared(below: Environment, layer: Layer) -> dict[str, Value]:
    """Return the lower values that still apply."""
    kinds = [key for key in ("server", "host") if key in layer.values]
    replaced = {key for kind in kinds for key in _REPLACED[kind]}
    if layer.place:
        replaced |= {*_REPLACED["url"]}
    ssh = below.values.get("ssh.host")
    inherited = ssh and ssh.environment != layer.environment and _names_a_place(layer)
    if inherited or "ssh.host" in layer.values:
        # the SSH host of an ancestor or a lower layer, which would not lead to this server
        replaced |= {key for key in below.values if key.startswith("ssh.")}
    host = layer.values.get("ssh.host")
    if host and host.value != login.NONE and below.layer("server") == DEFAULT:
        replaced.add("server")  # an embedded server was not asked for
    return {key: value for key, value in below.values.items() if key not in replaced}


def _place_values(layer: Layer) -> dict[str, Value]:
    place = layer.place or libpq.ConnInfo()
    values: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "database": place.database,
        "user": place.user,
        **{key: place.parameters.get(key) for key in _SETTINGS_OF_A_URL},
    }
    return {
        key: Value(
            fields.check(_FIELDS[key], value, f"{layer.place_layer}: {key}"),
            layer.place_layer,
            layer.environment,
        )
        for key, value in values.items()
        if value
    }


def _application_laid_over(
    below: Mapping[Keys, Value], above: Mapping[Keys, Value]
) -> Mapping[Keys, Value]:
    """Merge the application's settings key by key; a value replaces a block and a block a value."""
    kept = {keys: value for keys, value in below.items() if not _hidden(keys, above)}
    return {**kept, **above}


def _hidden(keys: Keys, above: Iterable[Keys]) -> bool:
    return any(keys[: len(over)] == over or over[: len(keys)] == keys for over in above)


def _filled_by_libpq(environment: Environment, project: Project) -> Environment:
    """Use PG* variables in an unprotected environment that names no server and no database."""
    inherited = project.inherited_libpq
    if environment.protected or environment.place or environment.block("ssh"):
        return environment
    if inherited.get("PGSERVICE"):
        place = libpq.service_place(inherited["PGSERVICE"], inherited, "PGSERVICE")
        layer = Layer(
            environment.name, place=place, place_layer=f"PGSERVICE {inherited['PGSERVICE']}"
        )
        environment = _filled(environment, _place_values(layer), place.parameters)
        environment = _filled_password(environment, place.password, layer.place_layer)
    named_values = {
        key: inherited[variable]
        for key, variable in libpq.VARIABLES.items()
        if inherited.get(variable)
    }
    values = {
        key: Value(fields.check(_FIELDS[key], text, libpq.VARIABLES[key]), libpq.VARIABLES[key])
        for key, text in named_values.items()
        if key in _FIELDS
    }
    if inherited.get("PGPASSFILE"):
        values["passfile"] = Value(inherited["PGPASSFILE"], "PGPASSFILE")
    environment = _filled(environment, values, named_values)
    password = inherited.get("PGPASSWORD")
    return _filled_password(environment, Secret(password) if password else None, "PGPASSWORD")


def _filled(
    environment: Environment, values: Mapping[str, Value], parameters: Mapping[str, str]
) -> Environment:
    known = {key: text for key, text in parameters.items() if key in libpq.PARAMETERS}
    return replace(
        environment,
        values={**values, **environment.values},
        parameters={**known, **environment.parameters},
    )


def _filled_password(environment: Environment, password: Secret | None, layer: str) -> Environment:
    if environment.password or not password:
        return environment
    return replace(environment, password=password, password_layer=layer)


def _open_ends(environment: Environment, project: Project) -> Environment:
    """Set the default database, and make relative paths absolute."""
    values = dict(environment.values)
    for key, setting in fields.dotted(Settings).items():
        if setting.kind == "path" and key in values and values[key].value != "system":
            path = project.root / Path(values[key].value).expanduser()
            values[key] = replace(values[key], value=str(path))
    if "database" not in values:
        values["database"] = Value(default_database(project.root.name, environment.name), DEFAULT)
    if environment.settings.server == EMBEDDED and not environment.settings.user:
        values["user"] = Value(EMBEDDED_ROLE, DEFAULT)
    return replace(environment, values=values)


def default_database(project: str, environment: str) -> str:
    """Return PROJECT_ENVIRONMENT in letters, digits and _, short enough to append an ID."""
    parts = (re.sub(r"[^a-z0-9_]+", "_", part.lower()) for part in (project, environment))
    first, second = (part.strip("_") for part in parts)
    # the project's name is truncated, so that no two environments share a database
    return f"{first[: max(0, 47 - len(second))]}_{second}".strip("_")
