"""A project: its root, its folders and its settings files."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.settings import fields, yamlfile
from pgtasks.settings.fields import Field
from pgtasks.settings.variables import Variable, Variables, read_dotenv

_STATE = ".pgtasks"
ALWAYS = ("dev", "test")  # embedded unless they are defined otherwise
_SPELLINGS = {
    "development": "dev",
    "develop": "dev",
    "testing": "test",
    "tests": "test",
    "production": "prod",
    "live": "prod",
    "stage": "staging",
}
_SUFFIXES = ("yaml", "yml", "json", "py")  # in the order of Invoke; .py is code, settings are data
NAME = re.compile(r"[^\W_][\w.-]{0,62}")
URL = "_DATABASE_URL"
LIBRARIES = ("sqlalchemy", "async", "sync", "direct", "shadow")  # SQLALCHEMY_DATABASE_URL


def state(root: Path) -> Path:
    """Return the folder for the files of one checkout of a project."""
    return root / _STATE


FOLDERS = {
    name: Field("text", f"folder of {name}, below the project", default=name)
    for name in ("tasks", "sql", "migrations", "env", "backups")
}
PROJECT = {
    "environment": Field("text", "default environment"),
    "folders": Field("block", "folders of the project", inside=FOLDERS),
    "app": Field("text", "MODULE:FACTORY of the application whose context an env.py needs"),
    "models": Field("text", "MODULE:METADATA of the models, for an env.py that names none"),
    "environments": Field("block", "environments, by name"),
    "triggers": Field("block", "triggers for every table with certain columns, by name"),
}


@dataclass(frozen=True)
class SettingsFile:
    """The `pgtasks` block of one of Invoke's files; `layer` is system, user, project or -f."""

    layer: str
    name: str
    environment: str = ""
    app: str = ""
    models: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    triggers: Mapping[str, Any] = field(default_factory=dict)

    def of(self, environment: str) -> Mapping[str, Any]:
        """Return the block of one environment, which knows the lines of its keys."""
        for key, block in self.environments.items():
            if normalize(key) == environment:
                return block or {}
        return {}


@dataclass(frozen=True)
class Project:
    """A project: its root and its settings files, which are read once."""

    root: Path
    files: tuple[SettingsFile, ...]  # low to high
    process: Mapping[str, str]
    inherited_libpq: Mapping[str, str]  # the PG* variables that the process was started with

    def folder(self, name: str) -> Path:
        """Return one of the folders tasks, sql, migrations, env, backups (`pgtasks.folders`)."""
        folders = [(file.layer, file.folders.get(name)) for file in self.files]
        runtime = [folder for layer, folder in folders if layer == "-f"]
        others = [folder for layer, folder in folders if layer != "-f"]
        low_to_high = [FOLDERS[name].default, *others, self._folder_variable(name), *runtime]
        setting = next(folder for folder in reversed(low_to_high) if folder)
        return self.root / Path(setting).expanduser()

    def _folder_variable(self, name: str) -> str | None:
        # only of the process: a dotenv file cannot name its own folder
        variable = f"INVOKE_PGTASKS_FOLDERS_{name.upper()}"
        value = self.process.get(variable)
        if value and name == "env":
            raise BadConfiguration(f"{variable}: {_ENV_FOLDER}")
        return value

    @property
    def app(self) -> str:
        """Return where the application is, as MODULE:FACTORY, empty if no file says it."""
        return next((file.app for file in reversed(self.files) if file.app), "")

    @property
    def models(self) -> str:
        """Return where the models are, as MODULE:METADATA, empty if no file says it."""
        return next((file.models for file in reversed(self.files) if file.models), "")

    def shown(self, path: Path) -> str:
        """Return a path for messages: relative to the root, if it is below."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    @property
    def state(self) -> Path:
        """Return the folder for the files of this checkout."""
        return state(self.root)

    @functools.cached_property
    def _documents(self) -> dict[Path, yamlfile.Mapping]:
        return {}

    @functools.cached_property
    def _variables(self) -> dict[Path, dict[str, Variable]]:
        return {}

    def document(self, path: Path) -> yamlfile.Mapping:
        """Return the content of an environment's YAML file, read once."""
        if path not in self._documents:
            self._documents[path] = yamlfile.read(path, self.shown(path))
        return self._documents[path]

    def _read_variables(self, path: Path) -> dict[str, Variable]:
        """Return the variables of a dotenv file, read once."""
        if path not in self._variables:
            self._variables[path] = read_dotenv(path, self.shown(path), self.process)
        return self._variables[path]

    @property
    def dotenv(self) -> dict[str, Variable]:
        """Return the variables of the project's .env."""
        return self._read_variables(self.root / ".env")

    def variables(self, environment: str) -> Variables:
        """Return the variables for one environment."""
        path = self.folder("env") / f"{environment}.env"
        own = self._read_variables(path)
        return Variables(self.process, {self.shown(path): own, ".env": self.dotenv})

    def environment_file(self, name: str) -> Path | None:
        """Return the file env/NAME.yaml, in any spelling of the name, or None."""
        files = [path for path in self.environment_files() if normalize(path.stem) == name]
        if len(files) > 1:
            shown = " and ".join(self.shown(path) for path in files)
            raise BadConfiguration(f"{shown} are both environment {name!r}, keep one")
        return files[0] if files else None

    def environment_files(self) -> list[Path]:
        """Return the YAML files of the env folder, without examples and hidden ones."""
        return self._env_folder(".yaml", ".yml")

    def _env_folder(self, *suffixes: str) -> list[Path]:
        folder = self.folder("env")
        if not folder.is_dir():
            return []
        files = [path for path in sorted(folder.iterdir()) if path.suffix in suffixes]
        return [
            path for path in files if not path.name.startswith(".") and ".example" not in path.name
        ]

    def environments(self) -> list[str]:
        """Return the names of all environments: files, invoke.yaml, `NAME_DATABASE_URL`."""
        names = {*ALWAYS}
        names |= {normalize(path.stem) for path in self._env_folder(".yaml", ".yml", ".env")}
        for file in self.files:
            names |= {normalize(name) for name in file.environments}
        for variable in self.dotenv:
            names |= self._named_by(variable, names)
        names |= {name for name in ("prod", "staging") if self.process.get(stem(name) + URL)}
        return _told_apart(sorted(filter(NAME.fullmatch, names)))

    @staticmethod
    def _named_by(variable: str, known: Iterable[str]) -> set[str]:
        """Return the environment that a variable in .env defines: qa for QA_DATABASE_URL."""
        prefix = variable.removesuffix(URL)
        name = normalize(prefix)
        if prefix == variable or name in LIBRARIES or prefix in map(stem, known):
            return set()
        return {name}

    def known(self, name: str) -> str:
        """Return the normalised name of an environment, raising Refused for an unknown one."""
        normal, names = normalize(name), self.environments()
        if normal in names:
            return normal
        if NAME.fullmatch(normal) and self.process.get(stem(normal) + URL):
            return normal
        known = fields.meant(normal, names)
        raise Refused(f"unknown environment {name!r}, {known}{self._example(normal)}")

    def _example(self, name: str) -> str:
        """Return how an environment is made that has an example, empty if it has none."""
        example = self.folder("env") / f"{name}.example.yaml"  # the one that init writes
        if not NAME.fullmatch(name) or not example.is_file():
            return ""
        return f": {self.shown(example)} is its example, copy it to {name}.yaml and fill it in"


def _told_apart(names: list[str]) -> list[str]:
    """Refuse two environments that would share their variables."""
    by_stem: dict[str, str] = {}
    for name in names:
        other = by_stem.setdefault(stem(name), name)
        if other != name:
            raise BadConfiguration(
                f"environments {other!r} and {name!r} share the variables {stem(name)}_..., "
                "rename one"
            )
    return names


def normalize(name: str) -> str:
    """Return the normalised name of an environment: `dev` for `Development`."""
    lowered = name.strip().lower()
    return _SPELLINGS.get(lowered, lowered)


def stem(environment: str) -> str:
    """Return the name of an environment in its variables: `EU_WEST` for `eu-west`."""
    return re.sub(r"[^A-Z0-9]", "_", environment.upper())


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that is a project, else `start` itself."""
    return next((folder for folder in (start, *start.parents) if _is_root(folder)), start)


def _is_root(folder: Path) -> bool:
    marks = ("invoke.yaml", "invoke.yml", "invoke.json", _STATE, "env/dev.yaml")
    if any((folder / mark).exists() for mark in marks):
        return True
    # an application may also have modules called tasks.py
    return any("pgtasks" in _text(folder / name) for name in ("tasks.py", "dbtasks.py"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def load(
    root: Path, *, runtime: Path | None = None, libpq: Mapping[str, str] | None = None
) -> Project:
    """Read the settings files of the project at `root`.

    `runtime` is Invoke's -f file, which must exist (Invoke itself ignores a missing one,
    pyinvoke/invoke#560); `libpq` are the PG* variables taken from the process.
    """
    paths = [(layer, path) for layer, stem in _places(root) if (path := _first(stem))]
    files = [_read(layer, path, root) for layer, path in paths]
    if runtime is not None:
        files.append(read_runtime(runtime, root))
    return Project(root, tuple(files), dict(os.environ), dict(libpq or {}))


def _places(root: Path) -> tuple[tuple[str, Path], ...]:
    return (
        ("system", Path("/etc/invoke")),
        ("user", Path("~/.invoke").expanduser()),
        ("project", root / "invoke"),
    )


def candidates(root: Path) -> Iterator[Path]:
    """Yield the paths at which Invoke's files may be, whether or not they are there."""
    for _, stem in _places(root):
        yield from _spelled(stem)


def _spelled(stem: Path) -> Iterator[Path]:
    return (stem.with_name(f"{stem.name}.{suffix}") for suffix in _SUFFIXES)


def _first(stem: Path) -> Path | None:
    return next((path for path in _spelled(stem) if path.is_file()), None)


_ENV_FOLDER = "the env folder has the protected environments, name it in invoke.yaml"


def read_runtime(path: Path, root: Path) -> SettingsFile:
    """Read Invoke's -f file, raising Refused if there is no such settings file."""
    path = path.expanduser()
    if not path.is_file():
        raise Refused(f"config file {str(path)!r} does not exist")
    if path.suffix.lstrip(".") not in _SUFFIXES:
        raise Refused(f"config file {str(path)!r}, expected .{', .'.join(_SUFFIXES)}")
    file = _read("-f", path, root)
    if "env" in file.folders:
        raise BadConfiguration(f"{file.name}: folders.env: {_ENV_FOLDER}")
    return file


def _read(layer: str, path: Path, root: Path) -> SettingsFile:
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if path.suffix == ".py":
        if re.search(r"^pgtasks\b", _text(path), re.MULTILINE):
            raise BadConfiguration(
                f"{name}: settings of pgtasks must be in YAML or JSON, not in code"
            )
        return SettingsFile(layer, name)
    whole = yamlfile.read(path, name)
    block = whole.get("pgtasks") or {}
    if layer == "-f" and "pgtasks" not in whole and _is_of_an_environment(whole):
        # Invoke would read -f env/prod.yaml, and the task would use the default environment
        raise Refused(f"{name} is the file of an environment: choose it with --env, not with -f")
    if not isinstance(block, dict):
        raise BadConfiguration(f"{name}: pgtasks: expected a block of keys")
    _refuse_of_an_environment(block, name)
    file = SettingsFile(layer, name, **fields.checked(PROJECT, block, name, block="pgtasks"))
    _check_environments(file.environments, name)
    return file


def _refuse_of_an_environment(block: Mapping[str, Any], file: str) -> None:
    """Refuse a setting of an environment that stands beside the environments."""
    for key in block.keys() - PROJECT.keys():
        from pgtasks.settings.blocks import Settings

        for name, each in fields.of(Settings).items():
            if key == name or key in (each.inside or ()):
                full = key if key == name else f"{name}.{key}"
                raise BadConfiguration(
                    f"{fields.located(block, key, file)}: {key!r} is a setting of an environment: "
                    f"{full} in env/NAME.yaml, or below pgtasks.environments.NAME"
                )


def _is_of_an_environment(whole: Mapping[str, Any]) -> bool:
    from pgtasks.settings.blocks import Settings

    return not fields.of(Settings).keys().isdisjoint(whole)


def _check_environments(environments: Mapping[str, Any], file: str) -> None:
    seen: dict[str, str] = {}
    for key, settings in environments.items():
        place = fields.located(environments, key, file)
        name = normalize(key)
        if not NAME.fullmatch(name):
            raise BadConfiguration(
                f"{place}: environment {key!r}, expected letters, digits, - . and _"
            )
        if settings is not None and not isinstance(settings, dict):
            raise BadConfiguration(f"{place}: environment {key!r}: expected a block of keys")
        if name in seen:
            raise BadConfiguration(f"{place}: {seen[name]!r} and {key!r} are one environment")
        seen[name] = key
