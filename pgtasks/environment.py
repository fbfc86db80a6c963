"""Environments: their layers folded into one value per setting, each with where it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pgtasks import fields, libpq, yamlfile
from pgtasks.errors import BadConfiguration
from pgtasks.project import Project, normalize
from pgtasks.secret import Secret
from pgtasks.variables import Variables

DEFAULT = "default"
# What no longer counts of the layers below where a layer names a place of its own.
_URL_REPLACES = ("host", "port", "database", "user", "service", "server", *libpq.PARAMETERS)
_REPLACED: dict[str, tuple[str, ...]] = {
    "url": _URL_REPLACES,
    "service": _URL_REPLACES,
    "server": ("host", "port", "user", "service", *libpq.PARAMETERS),
    "host": ("server", "service"),
}


@dataclass(frozen=True)
class Value:
    """A setting's value and its layer: `default`, `env/dev.yaml:3`, `DEV_DATABASE_URL (.env:1)`."""

    value: Any
    layer: str


@dataclass(frozen=True)
class Environment:
    """An environment's settings; `parameters` are further libpq parameters of its URL."""

    name: str
    values: Mapping[str, Value]
    password: Secret | None = None
    password_layer: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """Return the value of one setting, its default where no layer says anything."""
        found = self.values.get(name)
        return found.value if found else fields.ENVIRONMENT[name].default

    def layer(self, name: str) -> str:
        """Return where the value of one setting came from."""
        found = self.values.get(name)
        return found.layer if found else DEFAULT

    @property
    def protected(self) -> bool:
        """Whether a write needs the database's name."""
        return bool(self.get("protected"))


Layer = dict[str, Value]


def resolve(
    project: Project, name: str, *, flags: Mapping[str, Value] | None = None
) -> Environment:
    """Fold all layers of the environment `name`, low to high; nothing is connected to."""
    name = project.known(name)
    variables = project.variables(name)
    environment = Environment(name, {})
    for layer in _layers(project, name, variables, ()):
        environment = _laid_over(environment, layer, variables, project)
    environment = _laid_over(environment, dict(flags or {}), variables, project)
    return _open_ends(_filled_by_libpq(environment, project), project)


def _layers(
    project: Project, name: str, variables: Variables, heirs: tuple[str, ...]
) -> Iterator[Layer]:
    """Yield the layers of one environment, low to high; `heirs` inherit from it."""
    yield _defaults(name) if not heirs else {}
    own = [_file_layer(project, name)]
    own += [_settings_layer(file, name) for file in project.files if file.layer != "-f"]
    parent = next((lay["inherits"] for lay in reversed(own) if "inherits" in lay), None)
    if parent is not None:
        yield from _inherited(project, name, parent, heirs)
    yield from own
    yield _only_safe(_variable_layer(project, name, variables), [*own])
    for file in project.files:
        if file.layer == "-f":
            yield _only_safe(_settings_layer(file, name), [*own])


def _defaults(name: str) -> Layer:
    layer = {"server": Value("embedded", DEFAULT)} if name in ("dev", "test") else {}
    if name == "prod":
        layer["protected"] = Value(True, f"{DEFAULT} of prod")
    return layer


def _inherited(
    project: Project, name: str, parent: Value, heirs: tuple[str, ...]
) -> Iterator[Layer]:
    ancestor = normalize(parent.value)
    if ancestor in (name, *heirs):
        circle = " inherits ".join([*heirs, name, ancestor])
        raise BadConfiguration(f"{parent.layer}: inherits: a circle, {circle}")
    if ancestor not in project.environments():
        near = fields.nearest(ancestor, project.environments())
        raise BadConfiguration(
            f"{parent.layer}: inherits: unknown environment {ancestor!r}, {near}"
        )
    if ancestor == "prod":
        yield {"protected": Value(True, f"{DEFAULT} of prod")}
    yield from _layers(project, ancestor, project.variables(ancestor), (*heirs, name))


def _file_layer(project: Project, name: str) -> Layer:
    path = project.environment_file(name)
    if path is None:
        return {}
    shown = f"{project.folder('env').name}/{path.name}"
    block = yamlfile.read(path, shown)
    return _typed(block, block.lines, shown)


def _settings_layer(file: Any, name: str) -> Layer:
    block, lines = file.environment(name)
    return _typed(block, lines, file.name)


def _typed(block: Mapping[str, Any], lines: Mapping[str, int], where: str) -> Layer:
    values = fields.checked(fields.ENVIRONMENT, block, where, lines)
    return {
        key: Value(value, f"{where}:{lines[key]}" if key in lines else where)
        for key, value in values.items()
        if block[key] is not None
    }


def _variable_layer(project: Project, name: str, variables: Variables) -> Layer:
    stem = re.sub(r"[^A-Z0-9]", "_", name.upper())
    layer: Layer = {}
    own_url = f"{project.folder('env').name}/{name}.env"
    bare = variables.dotenv.get(own_url, {}).get("DATABASE_URL")
    found = variables.find(f"{stem}_DATABASE_URL") or bare or _url_of_dev(project, name)
    if found:
        layer["url"] = Value(found.value, found.where)
    for key, setting in fields.ENVIRONMENT.items():
        found = variables.find(f"INVOKE_PGTASKS_ENVIRONMENTS_{stem}_{key.upper()}")
        if found and setting.kind != "block":
            checked = fields.check(setting, found.value, found.where)
            layer[key] = Value(checked, found.where)
    return layer


def _url_of_dev(project: Project, name: str) -> Any:
    """Return the project's own DATABASE_URL where nothing else defines dev."""
    if name != "dev" or project.environment_file("dev"):
        return None
    if any(file.environment("dev")[0] for file in project.files):
        return None
    return project.dotenv.get("DATABASE_URL")


def _only_safe(layer: Layer, below: list[Layer]) -> Layer:
    """Refuse a variable or a -f file that would turn protection off."""
    flag = layer.get("protected")
    lower = [lay["protected"].value for lay in below if "protected" in lay]
    if flag and not flag.value and (not lower or lower[-1]):
        raise BadConfiguration(
            f"{flag.layer}: protected cannot be turned off by a variable or a -f file, "
            "only in the environment's own file or invoke.yaml"
        )
    return layer


def _laid_over(
    below: Environment, layer: Layer, variables: Variables, project: Project
) -> Environment:
    """Lay one layer over the settings below it, its URL or service taken apart."""
    if not layer:
        return below
    _refuse_two_places(layer)
    values, password = dict(below.values), (below.password, below.password_layer)
    parameters = dict(below.parameters)
    replaced = {name for key in layer for name in _REPLACED.get(key, ())}
    if replaced:
        values = {key: value for key, value in values.items() if key not in replaced}
        # a password was given for the place that counts no more
        password, parameters = (None, ""), {}
    for key in ("url", "service"):
        if key in layer:
            place, layer_name = _place(key, layer[key], variables, project)
            values.update(_place_values(place, layer_name))
            parameters.update(place.parameters)
            password = (place.password, layer_name) if place.password else password
    values.update({key: value for key, value in layer.items() if key != "url"})
    return Environment(below.name, values, *password, parameters)


def _refuse_two_places(layer: Layer) -> None:
    named: list[str] = [key for key in ("url", "service", "server") if key in layer]
    if "server" in layer and "host" in layer:
        named = ["server", "host"]
    if len(named) > 1:
        raise BadConfiguration(
            f"{layer[named[1]].layer}: {named[0]} and {named[1]} both say where, keep one"
        )


def _place(
    key: str, value: Value, variables: Variables, project: Project
) -> tuple[libpq.Place, str]:
    if key == "service":
        place = libpq.service_place(value.value, project.inherited_libpq, value.layer)
        return place, f"{value.layer}, service {value.value}"
    reference = re.fullmatch(r"\$\{?(\w+)\}?", value.value.strip())
    if not reference:
        return libpq.parse_url(value.value, value.layer), value.layer
    found = variables.find(reference[1])
    if found is None:
        raise BadConfiguration(f"{value.layer}: url is ${reference[1]}, which is not set")
    layer = f"{value.layer}, {found.where}"
    return libpq.parse_url(found.value, layer), layer


def _place_values(place: libpq.Place, layer: str) -> Layer:
    named = {
        "host": place.host,
        "port": place.port,
        "database": place.database,
        "user": place.user,
        **{key: place.parameters.get(key) for key in ("sslmode", "sslrootcert")},
    }
    values = {key: Value(value, layer) for key, value in named.items() if value}
    timeout = place.parameters.get("connect_timeout")
    if timeout is not None:
        field_ = fields.ENVIRONMENT["connect_timeout"]
        values["connect_timeout"] = Value(fields.check(field_, timeout, layer), layer)
    return values


def _filled_by_libpq(environment: Environment, project: Project) -> Environment:
    """Let PG* variables fill an unprotected environment that names no place at all."""
    named = ("host", "service", "server")
    if environment.protected or any(key in environment.values for key in named):
        return environment
    if "PGSERVICE" in project.inherited_libpq and "database" not in environment.values:
        service = Value(project.inherited_libpq["PGSERVICE"], "PGSERVICE")
        return _laid_over(environment, {"service": service}, Variables({}, {}), project)
    filled = dict(environment.values)
    for key, variable in libpq.VARIABLES.items():
        text = project.inherited_libpq.get(variable)
        if text and key in fields.ENVIRONMENT and key not in filled:
            filled[key] = Value(fields.check(fields.ENVIRONMENT[key], text, variable), variable)
    password, layer = environment.password, environment.password_layer
    if password is None and project.inherited_libpq.get("PGPASSWORD"):
        password, layer = Secret(project.inherited_libpq["PGPASSWORD"]), "PGPASSWORD"
    return replace(environment, values=filled, password=password, password_layer=layer)


def _open_ends(environment: Environment, project: Project) -> Environment:
    """Name the database after project and environment where no layer names one."""
    if "database" in environment.values:
        return environment
    name = re.sub(r"[^a-z0-9_]+", "_", f"{project.root.name}_{environment.name}".lower())
    name = name.strip("_")[:48]
    return replace(environment, values={**environment.values, "database": Value(name, DEFAULT)})
