"""The layers of an environment, low to high: read, typed, each value with where it stands."""

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
from pgtasks.settings.variables import Found, Source, Variables

DEFAULT = "default"
_PREFIX = "INVOKE_PGTASKS_ENVIRONMENTS_"
_LATE = (
    "neither a variable nor a -f file can do that, only the environment's own file or invoke.yaml"
)

Keys = tuple[str, ...]  # of one of the application's own settings: the keys that lead to it


@dataclass(frozen=True)
class Value:
    """A setting's value and its layer: `default`, `env/dev.yaml:3`, `DEV_DATABASE_URL (.env:1)`.

    `environment` is the one that says it: the environment itself, or one that it inherits from.
    """

    value: Any
    layer: str
    environment: str = ""


@dataclass(frozen=True)
class Layer:
    """What one source says of one environment.

    `values` are its settings, those of a block by dotted name (`backup.keep`); `place` is its url
    or service taken apart; `application` are the application's own. What comes `late` is not there
    for every run: a variable, a -f file.
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
    """Return the layers of one environment, low to high; `heirs` are those that inherit from it."""
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
        raise BadConfiguration(f"{parent.layer}: inherits: a circle, {circle}")
    known = project.environments()
    if ancestor not in known:
        near = fields.nearest(ancestor, known)
        raise BadConfiguration(
            f"{parent.layer}: inherits: unknown environment {parent.value!r}, {near}"
        )
    return layers(project, ancestor, (*heirs, name))


def _harmless(layer: Layer) -> Layer:
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
    """Return the layer of a block of keys, raising BadConfiguration with the line of a bad one."""
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
            # the text that stands for a block has one place
            inner = block[key] if isinstance(block[key], dict) else dict.fromkeys(value, "")
            where = fields.located(block, key, file) if inner is not block[key] else file
            yield from _flat(value, inner, where, name, f"{key}.")
        else:
            yield prefix + key, Value(value, fields.located(block, key, file), name)


def _leaves(block: Mapping[str, Any], above: Keys, file: str, name: str) -> dict[Keys, Value]:
    found: dict[Keys, Value] = {}
    for key, value in block.items():
        keys = (*above, key)
        if isinstance(value, dict) and value:
            found |= _leaves(value, keys, file, name)
        else:
            found[keys] = Value(value, fields.located(block, key, file), name)
    return found


def _placed(
    project: Project,
    name: str,
    values: dict[str, Value],
    application: Mapping[Keys, Value],
    *,
    password: Found | None = None,
    late: bool = False,
) -> Layer:
    """Return a layer, its url or service taken apart."""
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
            f"{values[named[1]].layer}: {named[0]} and {named[1]} both say where, keep one"
        )


def _url_place(value: Value, variables: Variables) -> tuple[libpq.ConnInfo, str]:
    reference = re.fullmatch(r"\$(?:(\w+)|\{(\w+)\})", value.value.strip())
    if not reference:
        return libpq.parse_url(value.value, value.layer), value.layer
    name = reference[1] or reference[2]
    found = variables.find(name)
    if found is None:
        raise BadConfiguration(f"{value.layer}: url is ${name}, which is not set")
    layer = f"{value.layer}, {found.where}"
    return libpq.parse_url(found.value, layer), layer


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


def reader_password(project: Project, name: str) -> Found | None:
    """Return the password of an environment's reader, from its variable."""
    own_file = project.shown(project.folder("env") / f"{name}.env")
    found = None
    for source in project.variables(name).sources():
        own = _named(source, name, "READER_PASSWORD", bare=source.file == own_file)
        found = own or found
    return found


def _named(source: Source, name: str, variable: str, *, bare: bool) -> Found | None:
    own = source.find(f"{stem(name)}_{variable}")
    return own or (source.find(variable) if bare else None)


def _means_dev(project: Project, name: str, source: Source) -> bool:
    """Return whether a bare DATABASE_URL in the project's .env is dev's (nothing else is)."""
    if name != "dev" or source.file != ".env" or project.environment_file("dev"):
        return False
    return not any(file.of("dev") for file in _lasting(project))


def _invoke_variables(project: Project, source: Source, name: str) -> dict[str, Value]:
    prefix = f"{_PREFIX}{stem(name)}_"
    known = {key.replace(".", "_").upper(): key for key in _DOTTED}
    values: dict[str, Value] = {}
    for variable in source.values:
        found = source.find(variable)
        rest = variable.removeprefix(prefix)
        if found is None or rest == variable or rest.startswith("SETTINGS_"):
            continue
        if rest in known:
            values |= _of_variable(known[rest], found, name)
        elif not _of_a_longer_name(project, name, variable):
            near = fields.nearest(rest, known)
            raise BadConfiguration(f"{found.where}: unknown setting {rest!r}, {near}")
    return values


def _of_variable(key: str, found: Found, name: str) -> dict[str, Value]:
    setting = _DOTTED[key]
    if setting.short is None:
        return {key: Value(fields.check(setting, found.value, found.where), found.where, name)}
    inside = fields.checked(setting.inside or {}, setting.short(found.value, found.where), key)
    return {f"{key}.{inner}": Value(value, found.where, name) for inner, value in inside.items()}


def _of_a_longer_name(project: Project, name: str, variable: str) -> bool:
    """Return whether INVOKE_..._EU_WEST_JOBS, read for `eu`, is a variable of `eu-west`."""
    longer = (other for other in project.environments() if len(other) > len(name))
    return any(variable.startswith(f"{_PREFIX}{stem(other)}_") for other in longer)


_DOTTED = fields.dotted(Settings)


def _application_variables(
    source: Source, name: str, known: Mapping[Keys, Value]
) -> dict[Keys, Value]:
    """Return the application's settings that variables override.

    As with Invoke's own, only what a file says can be overridden, in the type of that value.
    """
    values: dict[Keys, Value] = {}
    for keys, below in known.items():
        variable = f"{_PREFIX}{stem(name)}_SETTINGS_{'_'.join(map(stem, keys))}"
        if found := source.find(variable):
            values[keys] = Value(
                fields.like(below.value, found.value, found.where), found.where, name
            )
    return values
