"""Where a project keeps its migrations, as Alembic's own configuration says it."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks.errors import Refused
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from alembic.config import Config

# drivers that look a password up where PGPASSFILE says
_READ_PASSFILE = ("", "psycopg2", "psycopg2cffi", "psycopg", "psycopg_async", "asyncpg")
_DRIVER = re.compile(r"^(?:postgres|postgresql)\+(\w+)://")


@dataclass(frozen=True)
class Scripts:
    """A project's migrations. `folder` is what script_location says where no ini says anything.

    `ini` and `toml` are what the stock tool reads, None where the project has none.
    """

    root: Path
    folder: Path
    ini: Path | None = None
    toml: Path | None = None
    url: str = ""

    def shown(self, path: str | Path | None) -> str:
        """Return a path below the project as people write it."""
        if path is None:
            return "?"
        found = Path(path)
        return str(found.relative_to(self.root)) if found.is_relative_to(self.root) else str(found)


def find(project: Project) -> Scripts | None:
    """Return the project's migrations, None where it has none.

    Looked for in this order: alembic.ini beside tasks.py, then in the migrations folder (where
    Flask-Migrate keeps it), `[tool.alembic]` in pyproject.toml, a bare env.py in that folder.
    """
    folder = project.folder("migrations")
    places = (project.root / "alembic.ini", folder / "alembic.ini")
    ini = next((path for path in places if path.is_file()), None)
    toml = _toml(project.root / "pyproject.toml")
    if ini is None and toml is None and not (folder / "env.py").is_file():
        return None
    known = project.dotenv.get("DATABASE_URL")
    url = project.process.get("DATABASE_URL") or (known.value if known else "")
    return Scripts(project.root, folder, ini, toml, url)


def needed(project: Project) -> Scripts:
    """Return the project's migrations, raising Refused where it has none."""
    found = find(project)
    if found is None:
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
    return found


def _toml(path: Path) -> Path | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return path if re.search(r"^\[tool\.alembic\]", text, re.MULTILINE) else None


def config(scripts: Scripts, target: Target | None = None) -> Config:
    """Return Alembic's configuration, its sqlalchemy.url leading to the target.

    What Alembic itself has to say goes to stderr.
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
    # configparser takes a lone % for the beginning of a reference
    return text.replace("%", "%%")


def variable(scripts: Scripts, target: Target) -> str:
    """Return DATABASE_URL for an env.py or an application that reads it.

    The scheme is that of the project's own DATABASE_URL, on which an application may depend.
    Where there is none it is plain postgresql://, unless SQLAlchemy's driver for that is not here
    (psycopg2 up to SQLAlchemy 2.0, psycopg since).
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
    found = _DRIVER.match(url)
    return found[1] if found else ""


def _reads_passfile(driver: str, target: Target) -> bool:
    if driver == "asyncpg" and target.password is not None:
        # it takes the escapes of a password file for part of the password
        text = target.password.reveal()
        return text == text.strip() and not {":", "\\"} & set(text)
    return driver in _READ_PASSFILE


def _url(target: Target, driver: str) -> str:
    """Return the target's URL for a driver, without its password where PGPASSFILE is read."""
    target = target.here()
    # how long to wait is called otherwise by drivers that are not libpq's
    parameters = {key: v for key, v in target.parameters.items() if key != "connect_timeout"}
    if driver == "asyncpg" and "sslmode" in parameters:
        parameters["ssl"] = parameters.pop("sslmode")
    place = replace(target, parameters=parameters)
    if _reads_passfile(driver, target):
        place = replace(place, password=None)
    return place.url(reveal=True, driver=driver)
