"""Find the migrations of a project by Alembic's own configuration."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks.errors import Refused
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from alembic.config import Config

# drivers that read the password file of PGPASSFILE
_READ_PASSFILE = ("", "psycopg2", "psycopg2cffi", "psycopg", "psycopg_async", "asyncpg")
_DRIVER = re.compile(r"^(?:postgres|postgresql)\+(\w+)://")


@dataclass(frozen=True)
class Scripts:
    """A project's migrations. `folder` is the default of script_location.

    `ini` and `toml` are the files that Alembic itself reads, None if the project has none. The
    trigger files of `project` are kept in step. `app` and `models` are the MODULE:NAME of an
    application that env.py needs, and of the models for an env.py that names none.
    """

    root: Path
    folder: Path
    ini: Path | None = None
    toml: Path | None = None
    url: str = ""
    project: Project | None = field(default=None, compare=False, repr=False)
    app: str = ""
    models: str = ""

    def shown(self, path: str | Path | None) -> str:
        """Return a path relative to the project."""
        if path is None:
            return "?"
        absolute = Path(path)
        return (
            str(absolute.relative_to(self.root))
            if absolute.is_relative_to(self.root)
            else str(absolute)
        )


def find(project: Project) -> Scripts | None:
    """Return the project's migrations, None if it has none.

    It looks for alembic.ini beside tasks.py, then in the migrations folder (where Flask-Migrate
    keeps it), then for `[tool.alembic]` in pyproject.toml, then for env.py in that folder.
    """
    folder = project.folder("migrations")
    places = (project.root / "alembic.ini", folder / "alembic.ini")
    ini = next((path for path in places if path.is_file()), None)
    toml = _toml(project.root / "pyproject.toml")
    if ini is None and toml is None and not (folder / "env.py").is_file():
        return None
    known = project.dotenv.get("DATABASE_URL")
    url = project.process.get("DATABASE_URL") or (known.value if known else "")
    return Scripts(project.root, folder, ini, toml, url, project, project.app, project.models)


def needed(project: Project, *, app: str | None = None) -> Scripts:
    """Return the project's migrations, raising Refused if it has none.

    `app` is MODULE:FACTORY in place of the setting.
    """
    scripts = find(project)
    if scripts is None:
        name = project.folder("migrations").name
        if (project.root / "manage.py").is_file():
            raise Refused(
                "these tasks drive Alembic, which this project does not use; Django's own "
                "migrations: python manage.py migrate"
            )
        raise Refused(
            f"no migrations here: neither alembic.ini nor {name}/env.py: "
            f"begin with `alembic init {name}`"
        )
    return replace(scripts, app=app) if app else scripts


def _toml(path: Path) -> Path | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return path if re.search(r"^\[tool\.alembic\]", text, re.MULTILINE) else None


def config(scripts: Scripts, target: Target | None = None) -> Config:
    """Return Alembic's configuration, with the target as its sqlalchemy.url.

    Alembic's own messages go to stderr.
    """
    from alembic.config import Config

    options: Any = {"toml_file": scripts.toml} if scripts.toml else {}  # since Alembic 1.16
    made = Config(scripts.ini, stdout=sys.stderr, output_buffer=sys.stderr, **options)
    if scripts.toml is None and not made.get_main_option("script_location"):
        made.set_main_option("script_location", _escaped(str(scripts.folder)))
    if target is not None:
        own = made.get_main_option("sqlalchemy.url") or scripts.url
        made.set_main_option("sqlalchemy.url", _escaped(_url(target, _driver(own) or "psycopg2")))
    return made


def _escaped(text: str) -> str:
    # configparser treats a single % as the beginning of a reference
    return text.replace("%", "%%")


def variable(scripts: Scripts, target: Target) -> str:
    """Return the DATABASE_URL for an env.py or an application that reads it.

    The scheme is that of the project's own DATABASE_URL, because an application may depend on it.
    If there is none, the scheme is postgresql://, unless SQLAlchemy's driver for it is not
    installed (psycopg2 up to SQLAlchemy 2.0, psycopg since).
    """
    if scripts.url:
        return _url(target, _driver(scripts.url))
    return _url(target, "" if _default_driver_works() else "psycopg2")


def _default_driver_works() -> bool:
    from sqlalchemy import make_url

    try:
        make_url("postgresql://").get_dialect().import_dbapi()
    except ImportError:
        return False
    return True


def _driver(url: str) -> str:
    match = _DRIVER.match(url)
    return match[1] if match else ""


def _reads_passfile(driver: str, target: Target) -> bool:
    if driver == "asyncpg" and target.password is not None:
        # it treats the escapes of a password file as part of the password
        text = target.password.reveal()
        return text == text.strip() and not {":", "\\"} & set(text)
    return driver in _READ_PASSFILE


def _url(target: Target, driver: str) -> str:
    """Return the target's URL for a driver, without the password if it reads PGPASSFILE."""
    target = target.here()
    # drivers without libpq have another name for the timeout
    parameters = {key: v for key, v in target.parameters.items() if key != "connect_timeout"}
    if driver == "asyncpg" and "sslmode" in parameters:
        parameters["ssl"] = parameters.pop("sslmode")
    place = replace(target, parameters=parameters)
    if _reads_passfile(driver, target):
        place = replace(place, password=None)
    return place.url(reveal=True, driver=driver)
