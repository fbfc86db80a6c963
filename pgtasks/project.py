"""A project on disk: its root, its folders, and the settings files that make up its layers."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgtasks import fields, yamlfile
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.variables import Found, Variables, read_dotenv

ALWAYS = ("dev", "test")  # embedded where nothing else defines them
_SPELLINGS = {
    "development": "dev",
    "develop": "dev",
    "testing": "test",
    "tests": "test",
    "production": "prod",
    "live": "prod",
    "stage": "staging",
}
_SUFFIXES = ("yaml", "yml", "json")  # Invoke's, but for .py: settings are data


@dataclass(frozen=True)
class SettingsFile:
    """The `pgtasks` block of one of Invoke's files: `layer` is system, user, project or -f."""

    layer: str
    name: str
    values: Mapping[str, Any]

    def environment(self, name: str) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        """Return what this file says of one environment, and the lines of the keys."""
        environments = self.values.get("environments") or {}
        block = next((environments[key] for key in environments if normalize(key) == name), None)
        return block or {}, getattr(block, "lines", {})


@dataclass(frozen=True)
class Project:
    """A project's root and settings files, read once; nothing here connects anywhere."""

    root: Path
    files: tuple[SettingsFile, ...]  # low to high
    process: Mapping[str, str]
    inherited_libpq: Mapping[str, str]  # the PG* variables that the process was started with

    def folder(self, name: str) -> Path:
        """Return one of the folders tasks, sql, migrations, env, backups (`pgtasks.folders`)."""
        setting = self._folder_variable(name) or self._setting("folders", {}).get(name, name)
        return self.root / Path(setting).expanduser()

    def _folder_variable(self, name: str) -> str | None:
        return self.process.get(f"INVOKE_PGTASKS_FOLDERS_{name.upper()}")

    def _setting(self, key: str, default: Any) -> Any:
        for file in reversed(self.files):
            if file.values.get(key) is not None:
                return file.values[key]
        return default

    @property
    def state(self) -> Path:
        """Return the folder of what belongs to this checkout alone."""
        return self.root / ".pgtasks"

    @functools.cached_property
    def dotenv(self) -> dict[str, Found]:
        """Return the variables of the project's .env."""
        return read_dotenv(self.root / ".env", ".env")

    def variables(self, environment: str) -> Variables:
        """Return the variables that count for one environment."""
        name = f"{self.folder('env').name}/{environment}.env"
        own = read_dotenv(self.folder("env") / f"{environment}.env", name)
        return Variables(self.process, {name: own, ".env": self.dotenv})

    def environment_file(self, name: str) -> Path | None:
        """Return env/NAME.yaml in whatever spelling it is there, or None."""
        for path in self._environment_files():
            if normalize(path.stem) == name:
                return path
        return None

    def _environment_files(self) -> list[Path]:
        folder = self.folder("env")
        if not folder.is_dir():
            return []
        found = [path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml")]
        return [path for path in found if not path.stem.endswith(".example")]

    def environments(self) -> list[str]:
        """Return the names of all environments: files, invoke.yaml, `NAME_DATABASE_URL`."""
        names = {normalize(path.stem) for path in self._environment_files()}
        for file in self.files:
            names |= {normalize(name) for name in file.values.get("environments") or {}}
        for variable in self.dotenv:
            if variable.endswith("_DATABASE_URL"):
                names.add(normalize(variable.removesuffix("_DATABASE_URL")))
        for name in ("prod", "staging"):
            if self.process.get(f"{name.upper()}_DATABASE_URL"):
                names.add(name)
        return sorted(names | set(ALWAYS))

    def known(self, name: str) -> str:
        """Return the normalised name of an environment there is, else raise Refused."""
        normal, names = normalize(name), self.environments()
        if normal in names:
            return normal
        near = fields.nearest(normal, names)
        hint = near if near.startswith("known") else f"{near}, known: {', '.join(names)}"
        raise Refused(f"unknown environment {name!r}, {hint}")

    def default_environment(self) -> Found | None:
        """Return `pgtasks.environment` and the file or variable that says it."""
        variable = self.process.get("INVOKE_PGTASKS_ENVIRONMENT")
        if variable:
            return Found(variable, "INVOKE_PGTASKS_ENVIRONMENT")
        for file in reversed(self.files):
            if file.values.get("environment"):
                return Found(file.values["environment"], file.name)
        return None


def normalize(name: str) -> str:
    """Return the one spelling of an environment's name: `Development` is `dev`."""
    lowered = name.strip().lower()
    return _SPELLINGS.get(lowered, lowered)


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that is a project, else `start` itself."""
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in ("invoke.yaml", "tasks.py", "env/dev.yaml")):
            return folder
    return start


def load(
    root: Path, *, runtime: Path | None = None, libpq: Mapping[str, str] | None = None
) -> Project:
    """Read the settings files of the project at `root`.

    `runtime` is Invoke's -f file, which must exist (Invoke itself ignores a missing one,
    pyinvoke/invoke#560); `libpq` are the PG* variables taken from the process.
    """
    places = [("system", Path("/etc/invoke")), ("user", Path("~/.invoke").expanduser())]
    paths = [(layer, path) for layer, stem in places if (path := _first(stem))]
    project = _first(root / "invoke")
    if project:
        paths.append(("project", project))
    if runtime is not None:
        if not runtime.expanduser().is_file():
            raise Refused(f"config file {str(runtime)!r} does not exist")
        paths.append(("-f", runtime.expanduser()))
    files = tuple(_read(layer, path, root) for layer, path in paths)
    return Project(root, files, dict(os.environ), dict(libpq or {}))


def _first(stem: Path) -> Path | None:
    candidates = (stem.with_name(f"{stem.name}.{suffix}") for suffix in _SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _read(layer: str, path: Path, root: Path) -> SettingsFile:
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if path.suffix == ".py":
        return SettingsFile(layer, name, {})
    block = yamlfile.read(path, name).get("pgtasks") or {}
    if not isinstance(block, dict):
        raise BadConfiguration(f"{name}: pgtasks: expected a block of keys")
    values = fields.checked(fields.PROJECT, block, f"{name}: pgtasks", getattr(block, "lines", {}))
    for environment, settings in (values.get("environments") or {}).items():
        if settings is not None and not isinstance(settings, dict):
            raise BadConfiguration(f"{name}: environment {environment!r}: expected a block of keys")
    return SettingsFile(layer, name, values)
