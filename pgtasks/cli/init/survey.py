"""Read an existing project: its database URLs, migrations, tasks, and folders in the way."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pgtasks.cli.init import urls
from pgtasks.cli.init.urls import Named
from pgtasks.errors import BadConfiguration
from pgtasks.host import git
from pgtasks.settings import fields, project, yamlfile
from pgtasks.settings.blocks import Settings
from pgtasks.settings.libpq import ConnInfo
from pgtasks.settings.variables import Variable, read_dotenv

_ENV_FOLDERS = ("env", "environments", "dbenv")
_HIDDEN = re.compile(r"^/?env(/|/\*+)?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Survey:
    """The findings. `variable` is that of dev's URL in .env; `place` comes from alembic.ini.

    `others` are the variables of other environments.
    """

    root: Path
    variable: str = ""
    database: str = ""
    host: str = ""
    place: ConnInfo | None = None
    others: tuple[Named, ...] = ()
    migrations: str = ""
    env_folder: str = "env"
    env_in_the_way: str = ""
    tasks: str = ""  # ours, other, or empty
    tasks_folder: bool = False
    settings: str = ""  # name of Invoke's project file, if it exists
    executor: bool = False  # whether it names our executor
    folders: Mapping[str, str] = field(default_factory=dict)  # its settings of folders
    notes: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.root / name).exists()


def survey(root: Path) -> Survey:
    """Read the files of a project, without running code or connecting."""
    notes: list[str] = []
    named_urls = urls.read(read_dotenv(root / ".env", ".env", {}), notes)
    url = next((named for named in named_urls if named.environment == "dev"), None)
    others = tuple(named for named in named_urls if named is not url)
    ini = _alembic(root)
    names = ("invoke.yaml", "invoke.yml", "invoke.json", "invoke.py")
    settings = next((name for name in names if (root / name).exists()), "")
    folders = _named_folders(root)
    folder, why = (folders["env"], "") if "env" in folders else _env_folder(root)
    return Survey(
        root=root,
        variable=url.variable if url else "",
        database=url.place.database if url else "",
        host=url.place.host if url else "",
        place=None if url else _ini_place(ini, others, notes),
        others=others,
        migrations=_migrations(root, ini),
        env_folder=folder,
        env_in_the_way=why,
        tasks=_tasks(root),
        tasks_folder=(root / "tasks").is_dir(),
        settings=settings,
        executor="pgtasks.cli.executor" in _text(root / settings) if settings else False,
        folders=folders,
        notes=tuple(notes),
    )


def _named_folders(root: Path) -> dict[str, str]:
    blocks = [file.folders for file in project.load(root).files]
    return {key: name for folders in blocks for key, name in folders.items()}


def _alembic(root: Path) -> Path | None:
    """Return alembic.ini, beside tasks.py or in the migrations folder, as with Flask-Migrate."""
    candidates = [root / "alembic.ini", *sorted(root.glob("*/alembic.ini"))]
    return next((path for path in candidates if path.is_file()), None)


def _setting(ini: Path, name: str) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(ini, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return parser.get("alembic", name, fallback="").replace("%(here)s", str(ini.parent))


def _ini_place(ini: Path | None, others: tuple[Named, ...], notes: list[str]) -> ConnInfo | None:
    url = _setting(ini, "sqlalchemy.url") if ini else ""
    if not ini or not url or url.startswith("driver://"):  # what `alembic init` writes
        return None
    where = f"sqlalchemy.url in {ini.name}"
    place = urls.place_of(Variable(url.replace("%%", "%"), where), notes)
    if place and (same := urls.leading_to(place, others)):
        notes.append(f"{where} leads to the same database as {same.variable}: it is not dev's")
        return None
    return place


def _migrations(root: Path, ini: Path | None) -> str:
    """Return the migrations folder relative to the root, empty if there is none."""
    location = _setting(ini, "script_location") if ini else _in_pyproject(root)
    folder = root / location if location else ini.parent if ini else root / "migrations"
    if not (folder / "env.py").is_file() or not folder.is_relative_to(root):
        return ""
    return folder.relative_to(root).as_posix()


def _in_pyproject(root: Path) -> str:
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    block = text.partition("[tool.alembic]")[2].partition("\n[")[0]
    match = re.search(r"""^script_location\s*=\s*["']([^"']+)["']""", block, re.MULTILINE)
    return match[1].replace("%(here)s", str(root)) if match else ""


def _tasks(root: Path) -> str:
    path = root / "tasks.py"
    if path.is_file():
        ours = "pgtasks" in path.read_text(encoding="utf-8", errors="replace")
        return "ours" if ours else "other"
    return "other" if (root / "tasks" / "__init__.py").exists() else ""


def _env_folder(root: Path) -> tuple[str, str]:
    """Return the first usable folder for the settings, and why `env` is not usable."""
    faults = {name: _fault(root, name) for name in _ENV_FOLDERS}
    free = next((name for name, fault in faults.items() if not fault), "pgtasks-env")
    return free, faults["env"]


def _fault(root: Path, name: str) -> str:
    folder = root / name
    if (folder / "pyvenv.cfg").exists() or (folder / "bin" / "activate").exists():
        return f"{name}/ is a virtual environment"
    if folder.exists() and not folder.is_dir():
        return f"{name} is a file"
    hidden = git.ignores(folder / "dev.yaml")
    if hidden is None and name == "env":
        hidden = ".gitignore" if _HIDDEN.search(_text(root / ".gitignore")) else ""
    if hidden:
        return f"git ignores {name}/ ({hidden})"
    strange = next((path.name for path in sorted(folder.glob("*.y*ml")) if not _ours(path)), "")
    return f"{name}/{strange} is no environment" if strange else ""


def _ours(path: Path) -> bool:
    try:
        fields.checked(fields.of(Settings), yamlfile.read(path, path.name), path.name)
    except BadConfiguration:
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
