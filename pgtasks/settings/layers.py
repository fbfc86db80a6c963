"""The layers of an environment, low to high, with typed values and their origins."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgtasks.errors import BadConfiguration
from pgtasks.settings import fields, libpq
from pgtasks.settings.blocks import EMBEDDED, Settings
from pgtasks.settings.project import Project, SettingsFile, normalize, stem
from pgtasks.settings.secret import Secret
from pgtasks.settings.variables import Source, Variable, Variables

DEFAULT = "default"
_PREFIX = "INVOKE_PGTASKS_ENVIRONMENTS_"
_LATE = (
    "neither a variable nor a -f file can do that, only the environment's own file or invoke.yaml"
)

Keys = tuple[str, ...]  # the path of keys of an application's own setting


@dataclass(frozen=True)
class Value:
    """The value of a setting, and its layer: `default`, `env/dev.yaml:3`, `DEV_PORT (.env:1)`.

    `environment` is the one that sets it: the environment itself, or one that it inherits from.
    """

    value: Any
    layer: str
    environment: str = ""


@dataclass(frozen=True)
class Layer:
    """The settings of one environment from one source.

    `values` are its settings, those of a block by dotted name (`backup.keep`); `place` is its url
    or service, parsed; `application` are the application's own. A `late` layer, a variable or a -f
    file, does not exist in every run.
    """

    environment: str
    values: Mapping[str, Value] = field(default_factory=dict)
    application: Mapping[Keys, Value] = field(default_factory=dict)
    place: libpq.ConnInfo | None = None
    place_layer: str = ""
    password: Secret | None = None
    password_layer: str = ""
    late: bool = False


def layers(project: Project, name: str, heirs: tuple[str, ...] = ()) -> list[Layer]:
    """Return the layers of one environment, low to high; `heirs` inherit from it."""
    defaults = _defaults(name)
    own = [_file_layer(project, name)]
    own += [_settings_layer(project, file, name) for file in _lasting(project)]
    parent = next(
        (lay.values["inherits"] for lay in reversed(own) if "inherits" in lay.values), None
    )
    inherited = _inherited(project, name, parent, heirs) if parent else []
    known = {
        keys: value for layer in (*inherited, *own) for keys, value in layer.application.items()
    }
    late = [*_variable_layers(project, name, known)]
    late += [_settings_layer(project, file, name) for file in project.files if file.layer == "-f"]
    return [defaults, *inherited, *own, *(_harmless(layer) for layer in late)]


def _lasting(project: Project) -> list[SettingsFile]:
    return [file for file in project.files if file.layer != "-f"]


def _defaults(name: str) -> Layer:
    values = {}
    if name in ("dev", "test"):
        values["server"] = Value(EMBEDDED, DEFAULT, name)
    if name == "prod":
        values["protected"] = Value(True, f"{DEFAULT} of prod", name)
    return Layer(name, values)


def _inherited(project: Project, name: str, parent: Value, heirs: tuple[str, ...]) -> list[Layer]:
    ancestor = normalize(parent.value)
    if ancestor in (name, *heirs):
        circle = " inherits ".join([*heirs, name, ancestor])
        raise BadConfiguration(f"{parent.layer}: inherits: a cycle, {circle}")
    known = project.environments()
    if ancestor not in known:
        near = fields.nearest(ancestor, known)
        raise BadConfiguration(
            f"{parent.layer}: inherits: unknown environment {parent.value!r}, {near}"
        )
    return layers(project, ancestor, (*heirs, name))


def _harmless(layer: Layer) -> Layer:
    for key, rule in layer.values.items():
        if key.startswith("mask."):  # it could leave a column as it is
            raise BadConfiguration(f"{rule.layer}: mask: {_LATE}")
    if "inherits" in layer.values:
        # through another ancestor, protection could be lost
        raise BadConfiguration(f"{layer.values['inherits'].layer}: inherits: {_LATE}")
    return layer


def _file_layer(project: Project, name: str) -> Layer:
    path = project.environment_file(name)
    if path is None:
        return Layer(name)
    return _layer(project, name, project.document(path), project.shown(path))


def _settings_layer(project: Project, file: SettingsFile, name: str) -> Layer:
    block = f"pgtasks.environments.{name}"
    return _layer(project, name, file.of(name), file.name, block=block, late=file.layer == "-f")


def _layer(
    project: Project,
    name: str,
    block_of_keys: Mapping[str, Any],
    file: str,
    *,
    block: str = "",
    late: bool = False,
) -> Layer:
    """Return the layer of a block of keys, raising BadConfiguration with the line of an error."""
    checked = fields.checked(fields.of(Settings), block_of_keys, file, block=block)
    application = _leaves(block_of_keys.get("settings") or {}, (), file, name)
    checked.pop("settings", None)
    values = dict(_flat(checked, block_of_keys, file, name))
    return _placed(project, name, values, application, late=late)


def _flat(
    checked: Mapping[str, Any], block: Mapping[str, Any], file: str, name: str, prefix: str = ""
) -> Iterator[tuple[str, Value]]:
    for key, value in checked.items():
        if isinstance(value, dict):
            # a text in place of a block has one origin
            inner = block[key] if isinstance(block[key], dict) else dict.fromkeys(value, "")
            where = fields.located(block, key, file) if inner is not block[key] else file
            yield from _flat(value, inner, where, name, f"{prefix}{key}.")
        else:
            yield prefix + key, Value(value, fields.located(block, key, file), name)


def _leaves(block: Mapping[str, Any], above: Keys, file: str, name: str) -> dict[Keys, Value]:
    leaves: dict[Keys, Value] = {}
    for key, value in block.items():
        keys = (*above, key)
        if isinstance(value, dict) and value:
            leaves |= _leaves(value, keys, file, name)
        else:
            leaves[keys] = Value(value, fields.located(block, key, file), name)
    return leaves


def _placed(
    project: Project,
    name: str,
    values: dict[str, Value],
    application: Mapping[Keys, Value],
    *,
    password: Variable | None = None,
    late: bool = False,
) -> Layer:
    """Return a layer, with its url or service parsed."""
    _refuse_two_places(values)
    place, layer_name = None, ""
    if "service" in values:
        value = values["service"]
        place = libpq.service_place(value.value, project.inherited_libpq, value.layer)
        layer_name = f"{value.layer}, service {value.value}"
    elif "url" in values:
        place, layer_name = _url_place(values.pop("url"), project.variables(name))
    secret = Secret(password.value) if password else place.password if place else None
    where = password.where if password else layer_name
    where = where if secret else ""
    return Layer(name, values, application, place, layer_name, secret, where, late)


def _refuse_two_places(values: Mapping[str, Value]) -> None:
    named = [key for key in ("url", "service", "server") if key in values]
    if "server" in values and "host" in values:
        named = ["server", "host"]
    if len(named) > 1:
        raise BadConfiguration(
            f"{values[named[1]].layer}: {named[0]} and {named[1]} both name a server, keep one"
        )


def _url_place(value: Value, variables: Variables) -> tuple[libpq.ConnInfo, str]:
    reference = re.fullmatch(r"\$(?:(\w+)|\{(\w+)\})", value.value.strip())
    if not reference:
        return libpq.parse_url(value.value, value.layer), value.layer
    name = reference[1] or reference[2]
    variable = variables.find(name)
    if variable is None:
        raise BadConfiguration(f"{value.layer}: url is ${name}, which is not set")
    layer = f"{value.layer}, {variable.where}"
    return libpq.parse_url(variable.value, layer), layer


def _variable_layers(project: Project, name: str, known: Mapping[Keys, Value]) -> Iterator[Layer]:
    """Yield one layer for .env, one for env/NAME.env, one for the process."""
    own_file = project.shown(project.folder("env") / f"{name}.env")
    for source in project.variables(name).sources():
        bare = source.file == own_file or _means_dev(project, name, source)
        url = _named(source, name, "DATABASE_URL", bare=bare)
        values = {"url": Value(url.value, url.where, name)} if url else {}
        values |= _invoke_variables(project, source, name)
        password = _named(source, name, "DATABASE_PASSWORD", bare=source.file == own_file)
        application = _application_variables(source, name, known)
        yield _placed(project, name, values, application, password=password, late=True)


def secret(project: Project, name: str, key: str) -> Secret | None:
    """Return a secret of an environment from its variable: NAME_KEY, or KEY in env/NAME.env."""
    own_file = project.shown(project.folder("env") / f"{name}.env")
    variable = None
    for source in project.variables(name).sources():
        variable = _named(source, name, key, bare=source.file == own_file) or variable
    return Secret(variable.value) if variable else None


def _named(source: Source, name: str, key: str, *, bare: bool) -> Variable | None:
    own = source.find(f"{stem(name)}_{key}")
    return own or (source.find(key) if bare else None)


def _means_dev(project: Project, name: str, source: Source) -> bool:
    """Return whether DATABASE_URL in the project's .env is the URL of dev."""
    if name != "dev" or source.file != ".env" or project.environment_file("dev"):
        return False
    return not any(file.of("dev") for file in _lasting(project))


def _invoke_variables(project: Project, source: Source, name: str) -> dict[str, Value]:
    prefix = f"{_PREFIX}{stem(name)}_"
    known = {key.replace(".", "_").upper(): key for key in _DOTTED}
    values: dict[str, Value] = {}
    for key in source.values:
        variable = source.find(key)
        rest = key.removeprefix(prefix)
        if variable is None or rest == key or rest.startswith("SETTINGS_"):
            continue
        if rest in known:
            values |= _of_variable(known[rest], variable, name)
        elif not _of_a_longer_name(project, name, key):
            near = fields.nearest(rest, known)
            raise BadConfiguration(f"{variable.where}: unknown setting {rest!r}, {near}")
    return values


def _of_variable(key: str, variable: Variable, name: str) -> dict[str, Value]:
    setting = _DOTTED[key]
    if setting.short is None:
        return {
            key: Value(fields.check(setting, variable.value, variable.where), variable.where, name)
        }
    inside = fields.checked(
        setting.inside or {}, setting.short(variable.value, variable.where), key
    )
    return {f"{key}.{inner}": Value(value, variable.where, name) for inner, value in inside.items()}


def _of_a_longer_name(project: Project, name: str, variable: str) -> bool:
    """Return whether a variable belongs to a longer name: EU_WEST_JOBS to `eu-west`, not `eu`."""
    longer = (other for other in project.environments() if len(other) > len(name))
    return any(variable.startswith(f"{_PREFIX}{stem(other)}_") for other in longer)


_DOTTED = fields.dotted(Settings)


def _application_variables(
    source: Source, name: str, known: Mapping[Keys, Value]
) -> dict[Keys, Value]:
    """Return the application's settings that variables override.

    As in Invoke, a variable can only override a value in a file, and is converted to its type.
    """
    values: dict[Keys, Value] = {}
    for keys, below in known.items():
        key = f"{_PREFIX}{stem(name)}_SETTINGS_{'_'.join(map(stem, keys))}"
        if variable := source.find(key):
            values[keys] = Value(
                fields.like(below.value, variable.value, variable.where), variable.where, name
            )
    return values
