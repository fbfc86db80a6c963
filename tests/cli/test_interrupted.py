"""Ctrl-C in a task that changes something: one line says what the run has left."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from halting import halted
from servers import Cluster
from shops import Shop, two_revisions
from waiting import PATIENCE, until

from migrations import revision
from pgtasks.backup.store.local import LocalStore
from pgtasks.copy.clone import clones
from pgtasks.errors import Failed, Interrupted
from pgtasks.report.interruption import telling, telling_files
from pgtasks.server import embedded
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

Start = Callable[..., Any]
SLEEP = "SELECT pg_sleep(600)"


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    return two_revisions(cluster, target, project)


def ended(process: Any, sign: signal.Signals = signal.SIGINT) -> str:
    """Send a signal as a terminal does, and return the error that the run ends with."""
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, sign)
    return last_words(process)


def last_words(process: Any) -> str:
    """Return the error with which a run ends that got a signal."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    return str(said.splitlines()[-1])


def asleep(cluster: Cluster, database: str) -> None:
    """Wait until a session in the database sleeps."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"
    until(lambda: cluster.value(query, parameters=(database,)))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["backup.dumping", "backup.renamed"])
def test_a_backup(shop: Shop, start_inv: Start, step: str, sign: signal.Signals) -> None:
    said = ended(halted(start_inv, step, "db.backup"), sign)
    kept = [each.id for each in LocalStore(shop.root / "backups").list().backups]
    assert len(kept) == (step == "backup.renamed")
    words = f"backup {kept[0]} is complete" if kept else "no backup was kept"
    assert said == f"error: interrupted: {words}"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "its transaction is rolled back, nothing of it stays"),
        (
            ("--no-transaction",),
            "the statements that had ended stay, each was committed for itself",
        ),
    ],
)
def test_sql(shop: Shop, start_inv: Start, flags: tuple[str, ...], words: str) -> None:
    process = start_inv("db.run", "--sql", f"CREATE TABLE made (); {SLEEP}", *flags)
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == f"error: interrupted: {words}"
    assert shop.tables() == (["made"] if flags else [])


def test_sql_that_ends_the_transaction_by_itself(shop: Shop, start_inv: Start) -> None:
    process = start_inv("db.run", "--sql", f"CREATE TABLE made (); COMMIT; {SLEEP}")
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == (
        "error: interrupted: what was open is rolled back; --sql:1 (COMMIT) ends the transaction, "
        "so a part may stay"
    )
    assert shop.tables() == ["made"]


def test_migrations(shop: Shop, start_inv: Start) -> None:
    shop.up("one")
    revision(shop.folder, "three", "two", f"op.execute('{SLEEP}')")
    process = start_inv("migrate.up")
    asleep(shop.cluster, shop.target.database)
    said = ended(process)
    (backup,) = LocalStore(shop.root / "backups").list().backups
    assert said == (
        "error: interrupted: its transaction was rolled back, the database is at one as before; "
        f"steps that are done: lint, backup; the state before is in backup {backup.id}: "
        f"inv db.restore --backup {backup.id}"
    )
    assert shop.status().current == ("one",)


def test_a_setup_and_its_seeds(shop: Shop, start_inv: Start) -> None:
    seeds = shop.root / "sql" / "seeds"
    seeds.mkdir(parents=True)
    (seeds / "1_core.sql").write_text("-- seed: core\nINSERT INTO notes VALUES (1);\n")
    (seeds / "2_slow.sql").write_text(f"-- seed: slow\nINSERT INTO notes VALUES (2);\n{SLEEP};\n")
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core, slow]\n")
    process = start_inv("setup")
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == (
        "error: interrupted: its transaction is rolled back, nothing of it stays; "
        "loaded by this run: core; steps that are done: server, database, migrations; "
        "inv setup goes on from there"
    )
    (seeds / "3_python.py").write_text(
        "# seed: python\ndef load(connection, scale):\n"
        f"    connection.cursor().execute('INSERT INTO notes VALUES (3); {SLEEP}')\n"
    )
    process = start_inv("seed.load", "--set", "core", "--set", "python")
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == "error: interrupted: loaded by this run: no set"
    assert shop.cluster.value("SELECT sum(id) FROM notes", shop.target.database) == 1


def test_trigger_files(shop: Shop, start_inv: Start) -> None:
    shop.up()
    functions = shop.root / "sql" / "functions"
    functions.mkdir(parents=True)
    (functions / "one.sql").write_text(
        "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';\n"
        "DO $$ BEGIN PERFORM pg_sleep(600); END $$;\n"
    )
    process = start_inv("trigger.apply")
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == "error: interrupted: no function or trigger was changed"


def test_maintenance(shop: Shop, start_inv: Start) -> None:
    shop.up()
    holder = shop.cluster.connect(shop.target.database)
    holder.autocommit = False
    try:
        holder.cursor().execute("LOCK TABLE notes")
        process = start_inv("db.vacuum", "--table", "notes")
        until(lambda: shop.cluster.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        assert ended(process) == "error: interrupted: vacuum is done for 0 of 1 table"
    finally:
        holder.close()


@pytest.mark.parametrize("step", ["clone.copied", "clone.taken"])
def test_a_clone(shop: Shop, start_inv: Start, step: str) -> None:
    said = ended(halted(start_inv, step, "clone.take", "monday"))
    with Lock(shop.target, "test") as lock:
        taken = [each.name for each in clones.find(lock.connection, shop.target)]
    assert taken == (["monday"] if step == "clone.taken" else [])
    words = "clone 'monday' is taken" if taken else "no clone 'monday' was taken"
    assert said == f"error: interrupted: {words}"


@pytest.mark.parametrize(("step", "gone"), [("prune.agreed", 0), ("prune.dropped", 1)])
def test_a_prune(shop: Shop, inv: Any, start_inv: Start, step: str, gone: int) -> None:
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("backup: {keep: 1}\n")
    for _ in range(2):
        assert inv("db.backup").returncode == 0
    said = ended(halted(start_inv, step, "backup.prune", "--yes"))
    verb = "is" if gone == 1 else "are"
    words = f"{gone} of 1 backup {verb} dropped, the next inv backup.prune goes on"
    assert said == f"error: interrupted: {words}"
    assert len(LocalStore(shop.root / "backups").list().backups) == 2 - gone


@pytest.mark.parametrize(
    ("task", "step", "words"),
    [
        ("drop", "drop.agreed", "is at its place, as before"),
        ("drop", "drop.dropped", "is in the trash"),
        ("keep", "keep.locked", "is left to the rules"),
        ("keep", "keep.written", "is kept: audit"),
        ("release", "keep.written", "is left to the rules"),
        ("untrash", "untrash.moved", "is at its place"),
    ],
)
def test_a_backup_by_hand(
    shop: Shop, inv: Any, start_inv: Start, task: str, step: str, words: str
) -> None:
    for _ in range(2):
        assert inv("db.backup").returncode == 0
    id = min(each.id for each in LocalStore(shop.root / "backups").list().backups)
    before = {"release": ("keep", "--why", "audit"), "untrash": ("drop", "--yes")}.get(task)
    if before:
        assert inv(f"backup.{before[0]}", id, *before[1:]).returncode == 0
    flags = {"drop": ("--yes",), "keep": ("--why", "audit")}.get(task, ())
    said = ended(halted(start_inv, step, f"backup.{task}", id, *flags))
    assert said == f"error: interrupted: backup {id} {words}"
    there = [each.id for each in LocalStore(shop.root / "backups").list().backups]
    assert (id in there) == ("trash" not in words)


def test_an_import(shop: Shop, start_inv: Start) -> None:
    dump = shop.root / "old.sql"
    dump.write_text("CREATE TABLE t (i int);\n")
    said = ended(halted(start_inv, "import.restored", "backup.import", str(dump)))
    assert said == "error: interrupted: no backup was made"
    assert LocalStore(shop.root / "backups").list().backups == []


def test_a_drill(shop: Shop, inv: Any, start_inv: Start) -> None:
    assert inv("db.backup").returncode == 0
    said = ended(halted(start_inv, "drill.restored", "backup.drill"))
    assert said == "error: interrupted: no result of the drill was recorded"
    (backup,) = LocalStore(shop.root / "backups").list().backups
    assert (backup.checks.drilled, backup.checks.failed) == (None, None)


def test_before_anything_had_begun(project: Path, start_inv: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://me@127.0.0.1:{port}/shop?sslmode=disable"
        (project / "env" / "dev.yaml").write_text(f"url: '{url}'\nconnect_timeout: 600\n")
        process = start_inv("db.backup")
        with silent.accept()[0] as caller:
            assert caller.recv(8)
            assert ended(process) == "error: interrupted: nothing had begun"


@contextmanager
def held(cluster: Cluster, database: str, statement: str) -> Iterator[None]:
    """Hold the locks of a statement, in a transaction, for the length of a block."""
    holder = cluster.connect(database)
    holder.autocommit = False
    try:
        holder.cursor().execute(statement)
        yield
    finally:
        holder.close()


def waiting(cluster: Cluster) -> None:
    until(lambda: cluster.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def test_a_stamp(shop: Shop, start_inv: Start) -> None:
    name = shop.target.database
    shop.cluster.execute(f"COMMENT ON DATABASE {name} IS NULL")
    shop.cluster.execute("CREATE TABLE notes ()", name)
    with held(shop.cluster, "postgres", f"COMMENT ON DATABASE {name} IS NULL"):
        process = start_inv("env.stamp", "--confirm", name)
        waiting(shop.cluster)
        assert ended(process) == f"error: interrupted: {name!r} has no stamp"


def test_a_version(shop: Shop, start_inv: Start) -> None:
    shop.up("one")
    done = sleeping(shop)
    process = start_inv("migrate.stamp", "two")
    until(done.exists)
    assert ended(process) == "error: interrupted: the version table has two"


NAPS = "while True: time.sleep(0.1)"  # a long one may miss a signal that comes just before it


def sleeping(shop: Shop) -> Path:
    """Let env.py sleep when its work is done; return the file that it writes then."""
    done = shop.root / "done"
    lines = ["", "import pathlib, time", f"pathlib.Path({str(done)!r}).touch()", NAPS]
    with (shop.folder / "env.py").open("a") as file:
        file.write("\n".join(lines))
    return done


def test_triggers_that_go(shop: Shop, start_inv: Start) -> None:
    shop.up("one")
    shop.cluster.execute(
        "CREATE TRIGGER changed BEFORE UPDATE ON notes FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
        "CREATE FUNCTION sleep() RETURNS event_trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_catalog.pg_sleep(600); END';"
        "CREATE EVENT TRIGGER sleeps ON ddl_command_end WHEN TAG IN ('DROP TRIGGER')"
        " EXECUTE FUNCTION sleep()",
        shop.target.database,
    )
    process = start_inv("trigger.drop", "--name", "changed", "--yes")
    asleep(shop.cluster, shop.target.database)
    assert ended(process) == "error: interrupted: 0 of 1 trigger are dropped"


def test_a_revision_file(shop: Shop, start_inv: Start) -> None:
    shop.up()
    done = sleeping(shop)
    process = start_inv("migrate.new", "-m", "more")
    until(done.exists)
    assert ended(process) == "error: interrupted: no file was written"


def test_a_revision_that_joins_others(shop: Shop, start_inv: Start) -> None:
    revision(shop.folder, "other", "one", "pass", "pass")
    done = shop.root / "done"
    (file,) = shop.folder.rglob("other.py")
    lines = f"import pathlib, time\npathlib.Path({str(done)!r}).touch()\n{NAPS}\n"
    file.write_text(file.read_text() + lines)
    process = start_inv("migrate.merge")
    until(lambda: process.poll() is not None or done.exists())
    assert ended(process, signal.SIGTERM) == "error: interrupted: no file was written"


def written(pipe: Path, content: bytes) -> bool:
    """Write into a pipe if there is a reader."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(descriptor, content)
    os.close(descriptor)
    return True


def test_files_of_triggers(shop: Shop, start_inv: Start) -> None:
    """The file of the triggers is a pipe that nobody reads, so that it cannot be written."""
    shop.up("one")
    shop.cluster.execute(
        "ALTER TABLE notes ADD created_at timestamptz, ADD updated_at timestamptz",
        shop.target.database,
    )
    sql = shop.root / "sql"
    (sql / "triggers").mkdir(parents=True)
    triggers = sql / "triggers" / "set_timestamps.sql"
    os.mkfifo(triggers)
    process = start_inv("trigger.add", "timestamps", "--table", "notes")
    until(lambda: process.poll() is not None or written(triggers, b"-- timestamps\n"))
    function = sql / "functions" / "set_timestamps.sql"
    until(lambda: process.poll() is not None or function.exists())
    assert ended(process, signal.SIGTERM) == (
        "error: interrupted: sql/functions/set_timestamps.sql is written"
    )


def test_a_schema_file(shop: Shop, start_inv: Start) -> None:
    shop.up("one")
    with held(shop.cluster, shop.target.database, "LOCK TABLE notes"):
        process = start_inv("schema.write")
        waiting(shop.cluster)
        assert ended(process) == "error: interrupted: no file was written"


def test_a_recovery(shop: Shop, inv: Any, start_inv: Start) -> None:
    assert inv("db.backup").returncode == 0
    process = halted(start_inv, "restore.marked", "db.restore")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    with held(shop.cluster, "postgres", "LOCK TABLE pg_catalog.pg_shseclabel"):
        process = start_inv("db.recover")
        waiting(shop.cluster)
        os.killpg(process.pid, signal.SIGINT)
    # once: it may be over as soon as the lock is free
    assert last_words(process) == (
        "error: interrupted: what it had cleaned up stays so, inv db.recover does the rest"
    )
    assert inv("db.recover").returncode == 0


def test_the_embedded_server(tmp_path: Path) -> None:
    assert embedded.states([tmp_path]) == "there is no server"


def test_files_that_are_written(tmp_path: Path) -> None:
    old, replaced, new = (tmp_path / name for name in ("old", "replaced", "unseen"))
    old.touch()
    replaced.touch()

    def run(*paths: Path) -> None:
        with telling_files(lambda: (old, replaced, new), lambda path: path.name):
            for path in paths:
                path.write_text("text")
            raise KeyboardInterrupt

    for paths, words in (
        ((), "no file was written"),
        ((new,), "unseen is written"),
        ((replaced, new), "replaced, unseen are written"),
    ):
        with pytest.raises(Interrupted, match=f"^interrupted: {words}$"):
            run(*paths)
        new.unlink(missing_ok=True)


def test_what_cannot_be_looked_at_is_not_claimed() -> None:
    def look() -> str:
        raise Failed("the server is gone")

    words = r"^interrupted: what it left is not known: the server is gone$"
    with pytest.raises(Interrupted, match=words), telling(look):
        raise KeyboardInterrupt

    def again() -> str:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"^interrupted$"), telling(again):
        raise KeyboardInterrupt


def test_of_blocks_within_each_other_the_inner_one_speaks() -> None:
    with (
        pytest.raises(Interrupted, match=r"^interrupted: inner; adds$"),
        telling(lambda: "outer"),
        telling(lambda: "adds", adds=True),
        telling(lambda: "inner"),
    ):
        raise KeyboardInterrupt
