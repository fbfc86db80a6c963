"""The interface for applications: the environment, its settings, the URL of its database.

    from pgtasks import get_config, get_database_url, is_production

    engine = create_engine(get_database_url(driver="psycopg2"))
    idle = get_config()["security"]["session_idle"]  # seconds

The project is found from the working directory upwards, or set by PGTASKS_ROOT. Every call
reads the files and variables again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pgtasks.errors import Failed, Refused
from pgtasks.host import journal, password
from pgtasks.report import account
from pgtasks.settings import fields, libpq, selection
from pgtasks.settings.blocks import Settings
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.project import Project, find_root, load, normalize
from pgtasks.settings.security import Security
from pgtasks.settings.target import from_environment

__all__ = [
    "discover",
    "get_config",
    "get_database_url",
    "is_development",
    "is_production",
    "is_testing",
    "normalize",
    "set_environment",
]

_KINDS = ("dev", "test", "prod")


def discover() -> str:
    """Return the environment of this process: `dev`, `test`, `prod` ...

    It comes from PGTASKS_ENV, from `inv env.use`, from the project's .env or invoke.yaml, else it
    is dev. Unlike for a task, a file may choose a protected environment.
    """
    return selection.choose(find_project(), guarded=False).environment


def set_environment(name: str, *, remember: bool = False) -> str:
    """Choose the environment of this process and its children, and return its normal name.

    With `remember`, choose it for this checkout too, as `inv env.use` does, with a line in the
    journal, and refused for a protected environment. Raises Refused for an unknown environment.
    """
    project = find_project()
    known = project.known(name)
    if remember:
        _remember(project, known)
    os.environ["PGTASKS_ENV"] = known
    return known


def _remember(project: Project, name: str) -> None:
    from pgtasks.host import checkout

    switch = checkout.use(project, name)
    entry = journal.Entry(
        when=journal.now(),
        who=account.who(),
        task="set_environment",
        environment=name,
        database=resolve(project, name).settings.database,
        result="done",
        seconds=0.0,
        details=switch.as_json(),
    )
    try:
        journal.append(project.folder("backups"), entry)
    except OSError as exc:
        raise Failed(f"{name!r} is chosen, the journal was not written: {exc.strerror}") from None


def is_production(env: str | None = None) -> bool:
    """Return whether this is `prod`, or another environment that is protected."""
    environment = _environment(env)
    return environment.name == "prod" or environment.protected


def is_testing(env: str | None = None) -> bool:
    """Return whether this is `test`, or an unprotected environment that inherits from it."""
    return _descends(env, "test")


def is_development(env: str | None = None) -> bool:
    """Return whether this is `dev`, or an unprotected environment that inherits from it."""
    return _descends(env, "dev")


def _descends(env: str | None, ancestor: str) -> bool:
    environment = _environment(env)
    nearest = next((name for name in environment.lineage if name in _KINDS), "")
    return nearest == ancestor and not environment.protected


def get_config(env: str | None = None) -> Mapping[str, Any]:
    """Return an environment's settings, read-only; the application's own are in `settings`.

    `pool` and `security` have their defaults too. They contain no password, so that they may be
    logged: see get_database_url.
    """
    environment = _environment(env)
    config = {name: _said(environment, name) for name in fields.of(Settings) if name != "url"}
    config["pool"] = asdict(environment.settings.pool)
    config["security"] = asdict(environment.security())
    config["environment"] = environment.name
    return MappingProxyType({name: _frozen(value) for name, value in config.items()})


def get_security_settings(env: str | None = None) -> Security:
    """Return how the application of an environment handles logins and sessions.

    Raises BadConfiguration for values that are not secure in a protected environment.
    """
    return _environment(env).security()


def _said(environment: Environment, name: str) -> Any:
    """Return the value of a setting, None if it has none; of a block, its settings."""
    if fields.of(Settings)[name].kind == "block":
        return environment.block(name)
    value = getattr(environment.settings, name)
    return None if value in ("", ()) else value


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(inner) for key, inner in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def get_database_url(env: str | None = None, *, driver: str = "", start: bool = False) -> str:
    """Return the URL of an environment's database, with its password.

    `driver` is for SQLAlchemy: "psycopg2" gives postgresql+psycopg2://. The embedded server is
    started only with `start`; without, the URL is the one it has while it runs. A password_command
    is run. Raises Unreachable for an embedded server that was never started. No URL uses `ssh`:
    host and port are as seen from the database host, because applications run where they reach
    their database directly.
    """
    project = find_project()
    return url(_environment(env, project), project, driver=driver, start=start)


def url(
    environment: Environment,
    project: Project | None = None,
    *,
    driver: str = "",
    start: bool = False,
) -> str:
    """Return the URL of a resolved environment's database, as get_database_url does."""
    project = project or find_project()
    target = from_environment(environment)
    if target.embedded:
        from pgtasks.server import embedded

        if start:
            embedded.start(project.root, major=target.major)
        target = embedded.located(target, project.root)
    return password.unlocked(target, project.root).url(reveal=True, driver=driver)


def of(env: str | None, project: Project | None = None) -> Environment:
    """Return an environment of the project, that of the process by default."""
    return _environment(env, project)


def _environment(env: str | None, project: Project | None = None) -> Environment:
    project = project or find_project()
    return resolve(project, env or selection.choose(project, guarded=False).environment)


def find_project(root: Path | None = None) -> Project:
    """Return the project of this process: at `root`, PGTASKS_ROOT, or the working directory."""
    if root is not None:
        return load(root, libpq=libpq.variables(os.environ))
    named = os.environ.get("PGTASKS_ROOT")
    if named and not Path(named).is_dir():
        raise Refused(f"PGTASKS_ROOT {named!r} is not a folder")
    root = Path(named).resolve() if named else find_root(Path.cwd())
    return load(root, libpq=libpq.variables(os.environ))
