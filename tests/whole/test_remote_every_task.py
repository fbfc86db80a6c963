"""Every task on an environment with `ssh`: it works on the database host, and nowhere else.

The server listens on a socket of its own host alone. On this machine that socket is not there or is
another server's, and all variables that could lead elsewhere name a decoy with a database of the
same name. How often each task logs in to the host is counted by the sshd there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from hosts import DatabaseHost
from paths import ROOT
from projects import make_project, put_stamp
from psycopg2 import sql
from servers import Cluster
from tasktree import TASKS
from terminal import Ended, answer
from waiting import PATIENCE, until

from migrations import revision
from pgtasks.server import stamp

INV = Path(sys.executable).parent / "inv"
ENVIRONMENT = "far"
TEMPLATE = "clinic_far"
_MARK = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"

Documents = dict[str, Any]


@dataclass
class Far:
    """A project whose environment is on a database host; `decoy` is another server, to be left.

    Of each collection one task is run as a user runs it, by a Python that starts; others are forks.
    """

    root: Path
    host: DatabaseHost
    database: str
    decoy: Cluster
    inv: Inv
    then: Inv

    def settings(self, *, ssh: Documents | None = None, **more: Any) -> None:
        """Write the environment's file, parts of it changed."""
        block = {"backups": self.host.backups, **(ssh or {})}
        said = self.host.settings(ssh=block, database=self.database, seeds=["core"], **more)
        (self.root / "env" / f"{ENVIRONMENT}.yaml").write_text(json.dumps(said))

    def run(
        self, *argv: str, code: int = 0, logins: int = 1, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a task, which must end with `code` and have logged in so often."""
        before = self.logins()
        done = self.inv(*argv, "--env", ENVIRONMENT, cwd=self.root, env=self.aside, input=input)
        self.inv = self.then
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stderr.startswith(f"{ENVIRONMENT}: "), done.stderr
        assert self.logins() - before == logins, done.stderr
        return done

    def started(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a task that the caller ends."""
        env = {**os.environ, **self.aside}
        command = [INV, *argv, "--env", ENVIRONMENT]
        return subprocess.Popen(command, cwd=self.root, env=env, stderr=subprocess.DEVNULL)

    def document(self, *argv: str, code: int = 0, logins: int = 1) -> Documents:
        """Run a task as a program would and return its document."""
        return dict(json.loads(self.run(*argv, "--json", code=code, logins=logins).stdout))

    def type(self, task: str, *answers: tuple[str, str], words: Sequence[str] = ()) -> Ended:
        """Run a task on a terminal."""
        argv = [INV, task, *words, "--env", ENVIRONMENT]
        env = {**self.aside, "PAGER": "cat", "TERM": "dumb"}
        return answer(argv, answers, cwd=self.root, env=env)

    @property
    def aside(self) -> dict[str, str]:
        """Return variables that lead to the decoy."""
        host, port, user = self.decoy.host, str(self.decoy.port), self.decoy.superuser
        place = {"PGHOST": host, "PGPORT": port, "PGUSER": user, "PGDATABASE": self.database}
        return {**place, "DATABASE_URL": self.decoy.url(self.database)}

    def logins(self) -> int:
        """Return how often the host has let somebody in."""
        return (self.host.machine.folder / "sshd.log").read_text().count("Accepted publickey")

    def value(self, statement: str, *parameters: Any, database: str = "") -> Any:
        """Ask the server on the host, past the way that the tasks take."""
        return self.host.cluster.value(statement, database or self.database, parameters or None)

    def change(self, statement: str) -> None:
        """Change the database on the host likewise."""
        self.host.cluster.execute(statement, self.database)

    def exists(self) -> bool:
        """Return whether the database is there."""
        return self.database in self.host.cluster.databases()

    def mark(self) -> str:
        """Return the environment that the database's stamp names."""
        comment = self.host.cluster.value(_MARK, parameters=(self.database,))
        found = stamp.split(comment)[1]
        return found.environment if found else ""

    def backup(self) -> str:
        """Make a backup and return its ID."""
        return str(self.document("db.backup")["id"])

    def emptied(self) -> None:
        """Take rows away that a restore brings back."""
        self.change("DELETE FROM role_module_access")

    @property
    def rows(self) -> int:
        """Return how many rows there are in a table of the seeds."""
        return int(self.value("SELECT count(*) FROM role_module_access"))


def clinic(folder: Path) -> Path:
    """Make a project of this repository's sample application."""
    root = make_project(folder, "", environment=ENVIRONMENT)
    for name in ("clinic", "migrations", "sql"):
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=without)
    shutil.copy(ROOT / "alembic.ini", root)
    return root


@pytest.fixture(scope="module")
def template(db1: DatabaseHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the name of a clinic on the host that a setup over SSH has made."""
    root = clinic(tmp_path_factory.mktemp("template") / "clinic")
    said = db1.settings(database=TEMPLATE, seeds=["core"])
    (root / "env" / f"{ENVIRONMENT}.yaml").write_text(json.dumps(said))
    argv = [str(INV), "setup", "--env", ENVIRONMENT]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    yield TEMPLATE
    db1.cluster.drop(TEMPLATE)


@pytest.fixture
def nowhere(
    db1: DatabaseHost,
    cluster: Cluster,
    new_inv: Inv,
    inv: Inv,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Far]:
    """Return a project whose database is not there yet."""
    database = cluster.create()
    cluster.execute("CREATE TABLE untouched ()", database)
    name = request.node.callspec.params["name"] if hasattr(request.node, "callspec") else ""
    first = new_inv if name in FIRST else inv
    made = Far(clinic(tmp_path / "clinic"), db1, database, cluster, first, inv)
    made.settings()
    try:
        yield made
        tables = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 2200"
        assert cluster.value(tables, database) == "untouched"
        assert cluster.value(_MARK, parameters=(database,)) is None
    finally:
        cluster.drop(database)
        db1.cluster.drop(database)


@pytest.fixture
def far(nowhere: Far, template: str) -> Far:
    """Return a project with a clinic on the host, stamped."""
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}")
    names = map(sql.Identifier, (nowhere.database, template, nowhere.host.user))
    nowhere.host.cluster.execute(copy.format(*names))
    target = nowhere.host.cluster.target(nowhere.database)
    put_stamp(replace(target, environment=ENVIRONMENT))
    return nowhere


# --- each task, and what it leaves on the host --------------------------------------------------

Trial = Callable[[Far], None]
TRIALS: dict[str, Trial] = {}
# what needs a database that is not there
_FROM_NOTHING = ("setup", "db.create")
# what has nothing to do on the host: it must say what it says without logging in
LOCAL = {
    "env.list": "reads settings",
    "env.show": "reads settings",
    "env.status": "reads settings",
    "env.use": "writes a choice of this checkout",
    "help": "reads settings",
    "journal.list": "reads the journal of this checkout",
    "seed.list": "reads the files of this checkout",
    "server.start": "the embedded server runs on this machine only",
    "server.status": "the embedded server runs on this machine only",
    "server.stop": "the embedded server runs on this machine only",
}
# tried with another task of their collection
_WITH_OTHERS = (
    *(f"backup.{name}" for name in ("drop", "keep", "release", "acknowledge", "untrash")),
    *("clone.list", "clone.back", "clone.drop", "db.drop-tables", "db.init"),
)
# the first of each collection that is tried by itself
FIRST = {
    name.partition(".")[0]: name for name in reversed(TASKS) if name not in _WITH_OTHERS
}.values()


def trial(*names: str) -> Callable[[Trial], Trial]:
    """Declare how a task is tried, or several one after another."""

    def declared(function: Trial) -> Trial:
        TRIALS.update(dict.fromkeys(names, function))
        return function

    return declared


def test_no_task_is_forgotten() -> None:
    assert set(TASKS) == set(TRIALS) | set(LOCAL)
    assert not set(TRIALS) & set(LOCAL)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Far:
    """Return the project that a task is tried on."""
    name = request.node.callspec.params["name"]
    found = request.getfixturevalue("nowhere" if name in _FROM_NOTHING else "far")
    assert isinstance(found, Far)
    return found


@pytest.mark.parametrize("name", [name for name in TASKS if name not in (*LOCAL, *_WITH_OTHERS)])
def test_a_task_works_on_the_host(name: str, tried: Far) -> None:
    assert name in TRIALS, f"{name} is not tried over SSH"
    TRIALS[name](tried)
    tried.host.quiet()


@pytest.mark.parametrize("name", LOCAL)
def test_a_local_task_does_not_log_in(name: str, nowhere: Far) -> None:
    argv = [name, *([ENVIRONMENT] if name == "env.use" else [])]
    env = {**nowhere.aside, "PGTASKS_ENV": "" if name == "env.use" else ENVIRONMENT}
    before = nowhere.logins()
    done = nowhere.inv(*argv, cwd=nowhere.root, env=env)
    assert nowhere.logins() == before
    if name == "server.start":
        assert done.returncode == 2
        assert "it is on deploy@" in done.stderr
        assert "embedded ones run on this machine only" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


@trial("setup", "db.init")
def _setup(far: Far) -> None:
    planned = far.run("setup", "--dry")
    assert f"would create '{far.database}'" in planned.stderr
    assert not far.exists()
    far.run("setup")
    assert (far.mark(), far.rows > 0) == (ENVIRONMENT, True)
    again = far.document("setup")
    results = {step["step"]: step["result"] for step in again["steps"]}
    assert results.pop("roles") == "skipped"  # this owner may not create what they name
    assert set(results.values()) == {"done", "unchanged"}
    assert [name for name, result in results.items() if result == "done"] == ["server", "check"]
    assert again["steps"][0]["text"].endswith(f"{far.host.sockets}:5432 on {login(far)}")


def login(far: Far) -> str:
    """Return how the host is called in a sentence."""
    return f"{far.host.user}@{far.host.address}"


@trial("db.create")
def _create(far: Far) -> None:
    far.run("db.create", "--dry")
    assert not far.exists()
    assert far.document("db.create")["created"] is True
    assert far.mark() == ENVIRONMENT


@trial("db.drop")
def _drop(far: Far) -> None:
    far.run("db.drop", code=2)  # it asks, and there is no terminal
    assert far.exists()
    assert far.document("db.drop", "--yes")["existed"] is True
    assert not far.exists()


@trial("db.vacuum")
def _vacuum(far: Far) -> None:
    far.run("db.vacuum", "--dry")
    done = far.document("db.vacuum", "--table", "role_module_access")
    assert [each["table"] for each in done["tables"]] == ["public.role_module_access"]


@trial("db.analyze")
def _analyze(far: Far) -> None:
    done = far.document("db.analyze", "--table", "role_module_access")
    assert done["tables"][0]["after"]["rows"] == far.rows


@trial("db.reindex")
def _reindex(far: Far) -> None:
    files = (
        "SELECT string_agg(pg_relation_filenode(indexrelid)::text, ' ' ORDER BY 1)"
        " FROM pg_index WHERE indrelid = 'role_module_access'::regclass"
    )
    before = far.value(files)
    far.run("db.reindex", "--table", "role_module_access")
    assert far.value(files) != before


@trial("db.check")
def _check(far: Far) -> None:
    found = far.document("db.check")
    said = {one["subject"]: one["text"] for one in found["findings"]}
    assert (found["stamp"], found["user"]) == (ENVIRONMENT, far.host.user)
    assert found["server"].split(".")[0] == str(far.host.cluster.major)
    assert said["tools"].endswith(f"{far.host.bin}) on {login(far)}")
    assert said["psql"].endswith(" on this machine")
    assert "left over" not in said
    there = f"{far.host.backups}/{ENVIRONMENT}/{far.database}/.20261122T101112Z-dead.partial"
    make = 'mkdir -p "$0" && echo /tmp/gone >"$0/.room"'  # as a run that was killed left it
    far.host.do("sh", "-c", make, there, user=far.host.user)
    found = far.document("db.check")
    said = {one["subject"]: one["text"] for one in found["findings"]}
    assert said["left over"].startswith(f"{login(far)}:{there}, an interrupted backup")


@trial("db.run")
def _run(far: Far) -> None:
    """Files that psql itself reads and writes are this machine's."""
    (far.root / "rows.csv").write_text("1,one\n2,zwei\n", encoding="utf-8")
    (far.root / "more.sql").write_text("INSERT INTO probe VALUES (3, 'drei');\n")
    (far.root / "first.sql").write_text(
        "CREATE TABLE probe (id int, text text);\n\\copy probe FROM rows.csv CSV\n"
        "\\i more.sql\n\\copy probe TO out.csv CSV\nSELECT current_database();\n"
    )
    done = far.run("db.run", "--file", "first.sql", "--touch-files")
    assert far.database in done.stdout
    assert far.value("SELECT string_agg(text, ' ' ORDER BY id) FROM probe") == "one zwei drei"
    assert (far.root / "out.csv").read_text() == "1,one\n2,zwei\n3,drei\n"
    (far.root / "bad.sql").write_text("DROP TABLE probe;\nSELECT 1/0;\n")
    failed = far.run("db.run", "--file", "bad.sql", "--touch-files", code=1)
    assert failed.stderr.splitlines()[-1] == "error: bad.sql:2: ERROR: division by zero"
    assert far.value("SELECT count(*) FROM probe") == 3


@trial("db.shell")
def _shell(far: Far) -> None:
    prompt = f"{far.database}=> "
    ended = far.type(
        "db.shell",
        (prompt, "CREATE TABLE typed AS SELECT current_user AS who;\n"),
        (prompt, "\\! hostname\n"),
        (prompt, "\\q\n"),
    )
    assert ended.code == 0, ended.screen
    assert far.value("SELECT who FROM typed") == far.host.user
    assert far.host.name not in ended.screen.splitlines()  # psql itself runs here


@trial("db.backup")
def _backup(far: Far) -> None:
    made = far.document("db.backup")
    folder = far.root / "backups" / ENVIRONMENT / far.database / made["id"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["environment"], manifest["database"]) == (ENVIRONMENT, far.database)
    assert manifest["rows"] > far.rows


@trial("db.restore")
def _restore(far: Far) -> None:
    far.backup()
    rows = far.rows
    far.emptied()
    far.run("db.restore")
    assert (far.rows, far.mark()) == (rows, ENVIRONMENT)
    far.change("DELETE FROM role_module_access")
    far.run("db.restore", "--only-table", "role_module_access", "--yes")
    assert far.rows == rows
    beside = f"{far.database}_beside"
    try:
        far.run("db.restore", "--into", beside)
        assert beside in far.host.cluster.databases()
    finally:
        far.host.cluster.drop(beside)


@trial("db.copy")
def _copy(far: Far) -> None:
    rows, near, cluster = far.rows, f"{far.database}_near", far.host.cluster
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}")
    cluster.execute(copy.format(*map(sql.Identifier, (near, far.database, far.host.user))))
    put_stamp(replace(cluster.target(near), environment="near"))
    said = far.host.settings(database=near)
    (far.root / "env" / "near.yaml").write_text(json.dumps(said))
    far.emptied()
    before = far.logins()
    try:
        done = far.inv("db.copy", "near", ENVIRONMENT, cwd=far.root, env=far.aside)
    finally:
        cluster.drop(near)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert far.logins() - before == 2  # one for each environment
    assert (far.rows, far.mark()) == (rows, ENVIRONMENT)


@trial("db.undo")
def _undo(far: Far) -> None:
    far.backup()
    far.emptied()
    far.run("db.restore")
    far.run("db.undo")
    assert far.rows == 0


@trial("clone.take", "clone.list", "clone.back", "clone.drop")
def _clones(far: Far) -> None:
    rows = far.rows
    far.run("clone.take", "one")
    far.emptied()
    assert [each["name"] for each in far.document("clone.list")["clones"]] == ["one"]
    far.run("clone.back", "one")
    assert far.rows == rows
    far.run("clone.drop", "one", "--yes")
    assert far.document("clone.list")["clones"] == []


@trial("db.reset", "db.drop-tables")
def _reset(far: Far) -> None:
    rows = far.rows
    far.run("db.drop-tables")
    far.run("db.undo")
    far.emptied()
    far.run("db.reset")
    assert far.rows == rows


@trial("db.forget")
def _forget(far: Far) -> None:
    far.backup()
    far.run("db.restore")
    assert any(name.startswith(f"{far.database}__old_") for name in far.host.cluster.databases())
    far.run("db.forget", "--yes")
    assert not any(f"{far.database}__" in name for name in far.host.cluster.databases())


@trial("db.recover")
def _recover(far: Far) -> None:
    left = far.host.cluster.create(f"{far.database}__new_26112207551800", owner=far.host.user)
    assert left in far.run("db.recover").stdout
    assert left not in far.host.cluster.databases()


@trial("backup.list")
def _list(far: Far) -> None:
    made = far.backup()
    assert made in far.run("backup.list").stdout


@trial("backup.show")
def _show(far: Far) -> None:
    made = far.backup()
    assert made in far.run("backup.show", "latest", logins=0).stdout


@trial("backup.verify")
def _verify(far: Far) -> None:
    far.backup()
    far.run("backup.verify", logins=0)
    far.run("backup.send", "latest")
    far.run("backup.verify", "--on-host")
    there = far.host.path(far.host.backups) / ENVIRONMENT / far.database
    dump = next(path for path in there.glob("*/dump*") if path.is_file())
    with dump.open("r+b") as file:
        file.seek(100)
        file.write(b"\0damage\0")
    far.run("backup.verify", "--on-host", code=5)


@trial("backup.diff")
def _backup_diff(far: Far) -> None:
    first = far.backup()
    far.run("backup.diff", "latest")
    far.change("DROP TABLE role_module_access")
    since = far.run("backup.diff", first, code=5)
    assert "table public.role_module_access " in since.stdout
    second = far.backup()
    far.run("backup.send", first)
    far.run("backup.send", second)
    both = far.run("backup.diff", first, "--against", second, "--on-host", code=5)
    assert f"only in {first}" in both.stdout


@trial("backup.drill")
def _drill(far: Far) -> None:
    made = far.backup()
    far.run("backup.send", made)
    here = far.root / "backups" / ENVIRONMENT / far.database
    shutil.rmtree(here / made)
    said = far.run("backup.drill")  # it comes here, and goes again
    assert f"drill of {made} passed: " in said.stdout
    assert not list(here.iterdir())
    there = far.host.path(far.host.backups) / ENVIRONMENT / far.database / made
    checks = json.loads((there / "checks.json").read_text())
    assert checks["proven"] == checks["drilled"]
    assert checks["recovery"] > 0
    far.run("backup.drill", "--if-older", "1d")


@trial("backup.import")
def _import(far: Far) -> None:
    dump = far.root / "given.sql"
    rows = "".join(f"{number}\n" for number in range(200_000))
    dump.write_text(f"CREATE TABLE t (n int);\nCOPY t (n) FROM stdin;\n{rows}\\.\n")
    said = far.run("backup.import", str(dump), logins=0)  # on a throw-away server of this machine
    assert "1 table, 200,000 rows" in said.stdout
    far.run("db.restore", "--backup", str(dump))
    assert far.value("SELECT count(*) FROM t") == 200_000
    far.run("db.restore", "--backup", "latest")
    (archive,) = far.root.glob(f"backups/{ENVIRONMENT}/{far.database}/*/dump*")
    far.change("DROP TABLE t")
    said = far.run("db.restore", "--backup", str(archive))  # which pg_restore reads on the host
    assert "1 table, 200,000 rows, as many as the dump has" in said.stdout
    assert far.value("SELECT count(*) FROM t") == 200_000


@trial("backup.report")
def _report(far: Far) -> None:
    made = far.backup()
    far.run("backup.send", made)
    shutil.rmtree(far.root / "backups" / ENVIRONMENT / far.database / made)
    before = far.logins()
    done = far.inv("backup.report", "--env", "fa*", "--json", cwd=far.root, env=far.aside)
    (said,) = json.loads(done.stdout)["environments"]
    assert (said["environment"], said["last"]["backup"]) == (ENVIRONMENT, made)
    assert far.logins() - before == 1


@trial(
    *("backup.prune", "backup.keep", "backup.release", "backup.acknowledge", "backup.untrash"),
    "backup.drop",
)
def _prune(far: Far) -> None:
    first, second = far.backup(), far.backup()
    far.run("backup.send", first)
    far.run("backup.send", second)
    far.settings(backup={"keep": 1})
    there = far.host.path(far.host.backups) / ENVIRONMENT / far.database
    far.run("backup.keep", first, "--why", "x", "--on-host")
    far.run("backup.prune", "--yes", "--on-host")
    assert {path.name for path in there.glob("2*")} == {first, second}
    far.run("backup.release", first, "--on-host")
    far.run("backup.prune", "--yes", "--on-host")
    assert {path.name for path in there.glob("2*")} == {second}
    far.run("backup.untrash", first, "--on-host")
    assert {path.name for path in there.glob("2*")} == {first, second}
    far.run("backup.acknowledge", first, "--on-host", code=2)
    far.run("backup.drop", first, "--yes", "--on-host")
    assert {path.name for path in there.glob("2*")} == {second}
    far.run("backup.prune", "--yes", logins=0)
    assert not (far.root / "backups" / ENVIRONMENT / far.database / first).exists()


@trial("backup.send")
def _send(far: Far) -> None:
    made = far.backup()
    far.run("backup.send", made)
    there = far.host.path(far.host.backups) / ENVIRONMENT / far.database / made
    here = far.root / "backups" / ENVIRONMENT / far.database / made
    assert (there / "manifest.json").read_bytes() == (here / "manifest.json").read_bytes()


@trial("backup.fetch")
def _fetch(far: Far) -> None:
    made = far.backup()
    far.run("backup.send", made)
    here = far.root / "backups" / ENVIRONMENT / far.database / made
    shutil.rmtree(here)
    far.run("backup.fetch", made)
    assert (here / "manifest.json").exists()
    far.run("backup.verify", logins=0)


@trial("env.stamp")
def _stamp(far: Far) -> None:
    far.change(f"COMMENT ON DATABASE {far.database} IS 'of a person'")
    assert far.mark() == ""
    far.run("env.stamp", "--confirm", far.database)
    assert far.mark() == ENVIRONMENT
    assert far.host.cluster.value(_MARK, parameters=(far.database,)).startswith("of a person")


@trial("env.check")
def _env_check(far: Far) -> None:
    far.settings(protected=True, backup={"keep": 3})
    before = far.logins()
    checked = far.inv("env.check", "--json", "--env", ENVIRONMENT, cwd=far.root, env=far.aside)
    assert far.logins() == before + 1
    found = {one["check"]: one for one in json.loads(checked.stdout)["findings"]}
    assert checked.returncode == 0, found
    assert "server" not in found  # it was asked
    assert not [check for check in found if check.startswith("tls")]
    far.host.cluster.execute(f"COMMENT ON DATABASE {far.database} IS NULL")
    again = far.inv("env.check", "--json", "--env", ENVIRONMENT, cwd=far.root, env=far.aside)
    found = {one["check"]: one for one in json.loads(again.stdout)["findings"]}
    assert "inv env.stamp" in found["stamp"]["message"]


@trial("migrate.status")
def _migrate_status(far: Far) -> None:
    assert far.document("migrate.status")["state"] == "up-to-date"


@trial("migrate.history")
def _history(far: Far) -> None:
    assert all(each["applied"] for each in far.document("migrate.history")["revisions"])


@trial("migrate.stamp")
def _migrate_stamp(far: Far) -> None:
    far.run("migrate.stamp", "base")
    assert far.value("SELECT count(*) FROM alembic_version") == 0
    assert far.document("migrate.stamp", "head", "--dry")["done"] is False
    far.run("migrate.stamp", "head")
    assert far.document("migrate.status", "--check")["state"] == "up-to-date"


@trial("migrate.check")
def _migrate_check(far: Far) -> None:
    revision(far.root / "migrations", "more", "0002", "op.execute('DROP TABLE users')")
    linted = far.document("migrate.check", code=5)["lint"]["revisions"]
    assert [each["findings"][0]["rule"] for each in linted] == ["ban-drop-table"]


@trial("migrate.rehearse")
def _rehearse(far: Far) -> None:
    revision(
        far.root / "migrations", "more", "0002", "op.execute('ALTER TABLE users ADD more int')"
    )
    done = far.document("migrate.rehearse", "--no-down")
    assert [each["table"] for each in done["locks"]] == ["public.users"]
    assert far.document("migrate.status")["state"] == "behind"


@trial("migrate.merge")
def _merge(far: Far) -> None:
    """It writes a file of the project, and does not log in."""
    for name in ("east", "west"):
        revision(far.root / "migrations", name, "0002", "pass")
    assert far.document("migrate.merge", logins=0)["joins"] == ["east", "west"]


@trial("migrate.up")
def _up(far: Far) -> None:
    _new(far)
    far.run("migrate.up", "--dry")
    assert far.value("SELECT to_regclass('notes_of_a_test')") is None
    assert far.document("migrate.up")["state"] == "up-to-date"
    assert far.value("SELECT to_regclass('notes_of_a_test')") == "notes_of_a_test"


@trial("migrate.down")
def _down(far: Far) -> None:
    far.run("migrate.down", "--yes")
    assert far.value("SELECT to_regclass('security_events')") is None
    assert far.value("SELECT to_regclass('role_module_access')") is not None


@trial("migrate.new")
def _new(far: Far) -> None:
    """The models have a table that the database on the host has not."""
    with (far.root / "clinic" / "models.py").open("a") as file:
        file.write(
            "\nimport sqlalchemy\n\n"
            "sqlalchemy.Table('notes_of_a_test', metadata, sqlalchemy.Column('id', "
            "sqlalchemy.Integer, primary_key=True))\n"
        )
    wrote = far.document("migrate.new", "-m", "notes of a test")
    assert "create_table('notes_of_a_test'" in (far.root / wrote["file"]).read_text()


@trial("schema.write")
def _schema_write(far: Far) -> None:
    assert far.document("schema.write")["written"]
    assert "CREATE TABLE public.users" in (far.root / "sql" / "schema.sql").read_text()
    far.run("schema.write", "--check")


@trial("trigger.apply")
def _apply(far: Far) -> None:
    far.change("DROP FUNCTION write_audit_log CASCADE")
    assert "write_audit_log" in far.run("trigger.apply", "--dry").stdout
    far.run("trigger.apply")
    assert far.value("SELECT count(*) FROM pg_proc WHERE proname = 'write_audit_log'") == 1


@trial("trigger.verify")
def _trigger_verify(far: Far) -> None:
    far.run("trigger.verify")
    far.change("DROP FUNCTION write_audit_log CASCADE")
    far.run("trigger.verify", code=5)


@trial("trigger.list")
def _trigger_list(far: Far) -> None:
    far.change("ALTER TABLE users DISABLE TRIGGER track_user")
    listed = far.document("trigger.list")["triggers"]
    states = {each["state"] for each in listed if each["trigger"] == "track_user"}
    assert states == {"INSTALLED", "DISABLED"}


@trial("trigger.diff")
def _trigger_diff(far: Far) -> None:
    far.run("trigger.diff")
    far.change("DROP TRIGGER track_user ON users")
    assert "+CREATE TRIGGER track_user" in far.run("trigger.diff", code=5).stdout


@trial("trigger.drop")
def _trigger_drop(far: Far) -> None:
    far.run("trigger.drop", "--table", "users", "--name", "track_user", "--yes")
    query = "SELECT count(*) FROM pg_trigger WHERE tgname = 'track_user'"
    assert far.value(query) == 12


@trial("trigger.test")
def _trigger_test(far: Far) -> None:
    tested = far.document("trigger.test")
    assert (tested["failed"], len(tested["files"])) == (0, 6)
    assert far.value("SELECT count(*) FROM hospitals WHERE code = 'TEST'") == 0


@trial("trigger.freeze")
def _trigger_freeze(far: Far) -> None:
    wrote = far.document("trigger.freeze", "-m", "freeze", "--name", "track_user()")
    assert "CREATE OR REPLACE FUNCTION" in (far.root / wrote["file"]).read_text()


@trial("trigger.add")
def _trigger_add(far: Far) -> None:
    """The table is on the host alone."""
    far.change("CREATE TABLE far_notes (created_at timestamptz, updated_at timestamptz)")
    (far.root / "sql" / "functions" / "set_timestamps.sql").unlink()
    far.run("trigger.add", "timestamps", "--table", "far_notes")
    assert "ON public.far_notes" in (far.root / "sql/triggers/set_timestamps.sql").read_text()


@trial("trigger.watch")
def _trigger_watch(far: Far) -> None:
    """It runs until Ctrl-C, so that a file that is not SQL is enough here."""
    far.change("DROP FUNCTION track_user CASCADE")
    watching = far.started("trigger.watch")
    query = "SELECT count(*) FROM pg_proc WHERE proname = 'track_user'"
    try:
        until(lambda: far.value(query) == 1)
    finally:
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE) == 130


@trial("mask.suggest")
def _mask_suggest(far: Far) -> None:
    guessed = far.document("mask.suggest")["columns"]
    assert guessed["public.patients.email"] == {"mask": "email", "why": "its name"}


@trial("inspect.db")
def _inspect_db(far: Far) -> None:
    shown = far.document("inspect.db")
    assert shown["counts"]["tables"] > 10
    assert shown["revisions"]
    assert "installed as the files say" in shown["triggers"]


@trial("inspect.tables")
def _inspect_tables(far: Far) -> None:
    assert "public.patients " in far.run("inspect.tables", "--schema", "public").stdout


@trial("inspect.table")
def _inspect_table(far: Far) -> None:
    assert far.run("inspect.table", "patients").stdout.startswith("public.patients, table of ")


@trial("inspect.triggers")
def _inspect_triggers(far: Far) -> None:
    assert "public.patients " in far.run("inspect.triggers").stdout


@trial("inspect.functions")
def _inspect_functions(far: Far) -> None:
    assert "public." in far.run("inspect.functions", "--schema", "public").stdout


@trial("inspect.roles")
def _inspect_roles(far: Far) -> None:
    assert f"{far.host.user} " in far.run("inspect.roles").stdout


@trial("inspect.size")
def _inspect_size(far: Far) -> None:
    assert "public.patients " in far.run("inspect.size").stdout


@trial("inspect.activity")
def _inspect_activity(far: Far) -> None:
    assert far.run("inspect.activity").stdout.endswith("in this database\n")


@trial("inspect.diff")
def _inspect_diff(far: Far) -> None:
    far.backup()
    far.change("DROP TABLE role_module_access")
    before = far.logins()
    done = far.inv("inspect.diff", "latest", ENVIRONMENT, "--rows", cwd=far.root, env=far.aside)
    assert done.returncode == 5, (done.stdout, done.stderr)
    assert far.logins() - before == 1
    assert "table public.role_module_access " in done.stdout
    assert "only in latest" in done.stdout


@trial("inspect.diagram")
def _inspect_diagram(far: Far) -> None:
    drawn = far.run("inspect.diagram", "--table", "patients").stdout
    assert '["patients"] {' in drawn


@trial("mask.check")
def _mask_check(far: Far) -> None:
    far.settings(mask={"*.*.*": "plain"})
    assert " 0 not decided" in far.run("mask.check").stdout
    far.settings(mask={"public.*.*": "plain", "public.staff.phones": "plain"})
    far.run("mask.check", code=3)


@trial("mask.preview")
def _mask_preview(far: Far) -> None:
    far.settings(mask={"public.role_master.code": "upper(code) || '!'"})
    done = far.type("mask.preview", words=["role_master"])
    assert done.code == 0, done.screen
    assert "DOCTOR!" in done.screen


@trial("seed.load")
def _load(far: Far) -> None:
    rows = far.rows
    far.emptied()
    done = far.document("seed.load")
    assert [one["set"] for one in done["sets"]] == ["core"]
    assert far.rows == rows


@trial("remote.check")
def _remote_check(far: Far) -> None:
    far.run("remote.check")


@trial("remote.facts")
def _facts(far: Far) -> None:
    assert far.host.name in far.run("remote.facts").stdout


@trial("remote.run")
def _remote_run(far: Far) -> None:
    assert far.run("remote.run", "hostname").stdout == f"{far.host.name}\n"
    far.run("remote.run", "exit 1", code=1)


@trial("remote.shell")
def _remote_shell(far: Far) -> None:
    ended = far.type("remote.shell", (r"\$ ", "hostname; exit\n"))
    assert far.host.name in ended.screen.splitlines()


@trial("remote.psql")
def _remote_psql(far: Far) -> None:
    prompt = f"{far.database}=> "
    ended = far.type("remote.psql", (prompt, "\\! hostname\n"), (prompt, "\\q\n"))
    assert far.host.name in ended.screen.splitlines()


@trial("remote.trust")
def _trust(far: Far) -> None:
    far.settings(ssh={"known_hosts": str(far.root / "known")})
    refused = far.run("db.check", code=4, logins=0)
    assert "inv remote.trust --env far trusts it" in refused.stderr
    far.run("remote.trust", "--yes", logins=0)
    far.run("db.check")


@trial("verify.connection")
def _verify_connection(far: Far) -> None:
    walked = far.document("verify.connection", "-v", logins=2)
    names = [step["name"] for step in walked["steps"]]
    assert names == [
        *("settings", "ssh", "host key", "ssh login", "command", "socket", "tunnel", "answer"),
        *("password", "login", "database"),
    ]
    said = {one["subject"]: one["text"] for one in walked["findings"]}
    assert said["tools"].endswith(f" on {login(far)}")
    assert said["stamp"] == ENVIRONMENT
    far.settings(port=5499)
    failed = far.document("verify.connection", code=4)
    assert failed["steps"][-1]["name"] == "socket"
    assert failed["steps"][-1]["way_out"].startswith("start the server on the host, or correct")


@trial("verify.all")
def _verify_all(far: Far) -> None:
    """The scratch databases are on the host; what is beside them stays as it was."""
    databases, mark = far.host.cluster.databases(), far.mark()
    verified = far.document("verify.all")
    failed = [each for each in verified["checks"] if each["result"] == "failed"]
    assert not failed
    why = {each["check"]: each["text"] for each in verified["checks"] if each["text"]}
    skipped = [each["check"] for each in verified["checks"] if each["result"] == "skipped"]
    assert set(skipped) <= {"a wrong password is refused", "the files of roles run"}, [
        why[name] for name in skipped
    ]
    assert far.host.cluster.databases() == databases
    assert far.mark() == mark
