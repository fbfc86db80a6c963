"""The folders that commands are typed in, and the databases they work on.

`project` is this repository's sample application, linked, with environments of its own that lead to
the benchmark's server: one for each scale, and `tiny`. `bare` has one task, which does nothing.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench import measure
from bench.measure import Sample
from bench.server import Server
from pgtasks import report

ROOT = Path(__file__).resolve().parent.parent
SCALES = ("small", "medium", "large")
TINY = "tiny"
_INV = Path(sys.executable).parent / "inv"
_LINKED = ("alembic.ini", "clinic", "migrations", "sql")
_CLEARED = ("PG", "INVOKE_", "FABRIC_", "PGTASKS_", "PYTHONDONTWRITEBYTECODE")
_TASKS = """\
import pgtasks

ns = pgtasks.namespace(__file__)
"""
_BARE = """\
from invoke import task


@task
def nothing(c):
    pass
"""
_SETTINGS = """\
tasks:
  executor_class: pgtasks.cli.executor.TaskExecutor
pgtasks:
  environment: {environment}
"""
_ENVIRONMENT = """\
url: {url}
seeds: [core, clinic]
tools: {bin}
pool: {{role: clinic_app}}
"""


@dataclass(frozen=True)
class Workspace:
    """Where commands run. `target` is the server that copies go to, in the case of copies."""

    server: Server
    room: Path
    target: Server | None = None
    _loaded: set[str] = field(default_factory=set)

    @property
    def project(self) -> Path:
        """Return the folder with pgtasks' tasks."""
        return self.room / "project"

    @property
    def postmasters(self) -> tuple[int, ...]:
        """Return the processes of the servers."""
        return tuple(server.pid for server in (self.server, self.target) if server)

    @property
    def bare(self) -> Path:
        """Return the folder with a task that does nothing."""
        return self.room / "bare"

    @property
    def dumps(self) -> Path:
        """Return the folder for what the stock tools write."""
        return self.room / "dumps"

    def backups(self, environment: str) -> Path:
        """Return the folder of our own backups of an environment."""
        return self.project / "backups" / environment

    def inv(self, *words: str, cwd: Path | None = None) -> Sample:
        """Run the real `inv` as a user would, in the project if nothing else is said."""
        return measure.run(
            [_INV, *words], cwd=cwd or self.project, env=self._env(), postmasters=self.postmasters
        )

    def stepped(self, *words: str) -> Sample:
        """Run `inv`, its step boundaries with their times in the sample's `steps`."""
        reading, writing = os.pipe()
        argv = [sys.executable, "-m", "bench.stepped", str(writing), *words]
        env = self._env()
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH", "")]))
        with os.fdopen(reading) as pipe:
            try:
                sample = measure.run(
                    argv, cwd=self.project, env=env, postmasters=self.postmasters, passed=(writing,)
                )
            finally:
                os.close(writing)
            for line in pipe:
                when, _, step = line.strip().partition(" ")
                sample.steps[step] = float(when) - sample.began
        return sample

    def python(self, module: str, *words: str, **variables: str) -> Sample:
        """Run a Python module in the project, as `python -m`."""
        argv = [sys.executable, "-m", module, *words]
        env = {**self._env(), **variables}
        return measure.run(argv, cwd=self.project, env=env, postmasters=self.postmasters)

    def stock(self, *argvs: measure.Argv) -> Sample:
        """Run stock tools of the server's own version, which find it by its variables."""
        found = [[self.server.bin / str(argv[0]), *argv[1:]] for argv in argvs]
        env = {**self._env(), **self.server.place()}
        return measure.run(*found, cwd=self.room, env=env, postmasters=self.postmasters)

    def shell(self, script: str) -> Sample:
        """Run a line of shell as a user would type it, for what needs more than one program."""
        env = {**self._env(), **self.server.place()}
        env["PATH"] = os.pathsep.join([str(self.server.bin), env.get("PATH", os.defpath)])
        argv = ["sh", "-c", script]
        return measure.run(argv, cwd=self.room, env=env, postmasters=self.postmasters)

    def environments(self) -> tuple[str, ...]:
        """Return the names of the project's environments."""
        return (*SCALES, TINY)

    def environment(self, name: str, server: Server) -> None:
        """Add an environment of that name, whose database has the name too."""
        text = _ENVIRONMENT.format(url=server.url(name), bin=server.bin)
        (self.project / "env" / f"{name}.yaml").write_text(text)

    def _env(self) -> dict[str, str]:
        """Return variables without any that would lead somebody elsewhere, or slow down Python."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(_CLEARED) and not key.endswith("DATABASE_URL")
        }
        return {**kept, "HOME": str(self.room / "home")}

    def load(self, environment: str) -> None:
        """Bring up an environment's database once: the sample application at the scale it names."""
        if environment in self._loaded:
            return
        self._loaded.add(environment)
        if environment == TINY:
            self._load_tiny()
        else:
            self.inv("setup", "--env", environment, "--scale", environment)
        self.server.execute("VACUUM (FREEZE, ANALYZE)", database=environment)
        size = self.server.value("SELECT pg_database_size(current_database())", environment)
        report.say(f"  loaded {environment}, {report.size(size)}")

    def _load_tiny(self) -> None:
        self.inv("db.create", "--env", TINY)
        self.server.execute(
            "CREATE TABLE city (id int PRIMARY KEY, name text NOT NULL)",
            "INSERT INTO city VALUES (1, 'Lund'), (2, 'Pisa'), (3, 'Yaoundé')",
            database=TINY,
        )

    def dumped(self, environment: str) -> Path:
        """Return a stock dump of an environment's database, made once: `pg_dump -Fc`."""
        file = self.dumps / f"{environment}.dump"
        if not file.exists():
            self.stock(["pg_dump", "-Fc", "-f", file, environment])
        return file

    def backed_up(self, environment: str) -> None:
        """Make sure that there is a backup of our own to restore, and that it has a proof."""
        self.clear(self.backups(environment))
        self.inv("db.backup", "--env", environment)

    def forget(self, environment: str) -> None:
        """Drop what restores have replaced."""
        self.inv("db.forget", "--yes", "--env", environment)
        self.server.quiet()

    def drop(self, database: str) -> None:
        """Drop a database that the stock tools made."""
        self.server.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self.server.quiet()

    def clear(self, path: Path) -> None:
        """Remove what a dump wrote."""
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        self.server.quiet()


def make(server: Server, room: Path, scale: str) -> Workspace:
    """Lay the folders out below `room`; `scale` is the environment where no --env is given."""
    space = Workspace(server, room)
    for folder in (space.project / "env", space.bare, space.dumps, room / "home"):
        folder.mkdir(parents=True)
    (space.bare / "tasks.py").write_text(_BARE)
    (space.project / "tasks.py").write_text(_TASKS)
    (space.project / "invoke.yaml").write_text(_SETTINGS.format(environment=scale))
    for name in _LINKED:
        (space.project / name).symlink_to(ROOT / name)
    for name in space.environments():
        space.environment(name, server)
    # as pip does for an installed package; otherwise the first run of each task compiles it
    for name in ("bench", "pgtasks", "tasks", "clinic"):
        compileall.compile_dir(ROOT / name, quiet=1)
    return space
