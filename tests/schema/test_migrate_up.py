"""migrate.up from the plan to the statistics: each step, each failure, and a kill at each step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from consoles import Recorder
from halting import halted, kill, unlocked
from restores import newest
from servers import Cluster
from shops import Shop, two_revisions
from waiting import PATIENCE

from migrations import revision
from pgtasks.errors import Refused
from pgtasks.report import boundaries
from pgtasks.schema.migrate import attempts, touched
from pgtasks.schema.migrate.errors import LockTimeout
from pgtasks.schema.migrate.waiting import Holder
from pgtasks.settings.target import Target

FUNCTION = """CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS 'BEGIN RETURN NEW; END';"""
TRIGGER = """CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON notes
FOR EACH ROW EXECUTE FUNCTION touch();"""


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    """A project with two revisions and a trigger on the first one's table."""
    made = two_revisions(cluster, target, project)
    for folder, text in (("functions", FUNCTION), ("triggers", TRIGGER)):
        (project / "sql" / folder).mkdir(parents=True)
        (project / "sql" / folder / "touch.sql").write_text(text)
    return made


def more(shop: Shop, body: str, name: str = "three", below: str = "two") -> None:
    revision(shop.folder, name, below, body)


def results(document: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["result"] for step in document["steps"]}


def edit_env(shop: Shop, old: str, new: str) -> None:
    text = (shop.folder / "env.py").read_text()
    assert old in text
    (shop.folder / "env.py").write_text(text.replace(old, new))


def triggers(shop: Shop) -> int:
    query = "SELECT count(*) FROM pg_trigger WHERE tgname = 'touch'"
    return int(shop.cluster.value(query, shop.target.database))


def test_each_step_is_a_line_and_a_second_run_has_nothing_to_do(inv: Any, shop: Shop) -> None:
    first = inv("migrate.up", "--to", "one", "--json")
    assert results(json.loads(first.stdout)) == {
        "lint": "done",
        "backup": "skipped",  # the database is empty
        "upgrade": "done",
        "triggers": "skipped",  # not at the head
        "roles": "skipped",
        "verify": "done",
        "analyze": "skipped",
        "schema": "skipped",  # no schema.sql
    }
    shop.cluster.execute("INSERT INTO notes VALUES (1, 'a')", shop.target.database)
    more(shop, "op.execute(\"UPDATE notes SET text = '100%'\")")

    second = inv("migrate.up")

    assert second.returncode == 0, second.stderr
    lines = [line.split() for line in second.stderr.splitlines()]
    steps = {words[0]: words for words in lines if words[1:2] in (["done"], ["skipped"])}
    assert list(steps) == [
        *("lint", "backup", "upgrade", "triggers", "roles", "verify", "analyze", "schema")
    ]
    assert {name for name, words in steps.items() if words[1] != "done"} == {"roles", "schema"}
    assert steps["analyze"][-1] == "public.notes"
    assert triggers(shop) == 1
    rows = "SELECT reltuples::int FROM pg_class WHERE relname = 'notes'"
    assert shop.cluster.value(rows, shop.target.database) == 1
    manifest = json.loads((Path(newest(shop.root)) / "manifest.json").read_text())
    assert manifest["note"] == "before migrate.up: one -> three"
    assert manifest["revision"] == "one"

    third = json.loads(inv("migrate.up", "--json").stdout)
    assert (third["applied"], third["steps"], third["backup"]) == ([], [], None)


def test_the_schema_file_is_written_and_on_a_protected_target_compared(
    inv: Any, shop: Shop
) -> None:
    shop.up("one")
    file = shop.root / "sql" / "schema.sql"
    file.write_text("")
    assert results(json.loads(inv("migrate.up", "--json").stdout))["schema"] == "done"
    assert "CREATE TABLE public.tags" in file.read_text()
    with (shop.root / "env" / "dev.yaml").open("a") as settings:
        settings.write("protected: true\n")
    more(shop, "op.execute('CREATE TABLE more ()')")
    before = file.read_text()
    done = inv("migrate.up", "--confirm", shop.target.database)
    assert "warning: sql/schema.sql differs from the database" in done.stderr
    assert file.read_text() == before


def test_trigger_files_alone_are_applied_too(inv: Any, shop: Shop) -> None:
    assert inv("migrate.up").returncode == 0
    shop.cluster.execute("DROP TRIGGER touch ON notes", shop.target.database)
    dry = inv("migrate.up", "--dry")
    assert "triggers: 1 of 2 installed as the files say, 1 missing" in dry.stdout
    done = json.loads(inv("migrate.up", "--json").stdout)
    assert results(done)["triggers"] == "done"
    assert results(done)["backup"] == "skipped"
    assert triggers(shop) == 1


def test_the_backup_is_not_optional_where_the_environment_is_protected(
    inv: Any, shop: Shop
) -> None:
    assert inv("migrate.up", "--to", "one").returncode == 0
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    name = shop.target.database
    refused = inv("migrate.up", "--no-backup", "--confirm", name)
    assert refused.returncode == 2
    assert "--no-backup: environment 'dev' is protected" in refused.stderr
    assert shop.status().current == ("one",)
    done = json.loads(inv("migrate.up", "--confirm", name, "--json").stdout)
    assert done["backup"] == Path(newest(shop.root)).name


def test_without_a_backup_where_it_is_optional(inv: Any, shop: Shop) -> None:
    shop.up("one")
    done = json.loads(inv("migrate.up", "--no-backup", "--json").stdout)
    assert (done["backup"], results(done)["backup"]) == (None, "skipped")
    assert not list((shop.root / "backups").rglob("manifest.json"))


def test_a_failure_says_what_was_applied_and_which_backup_belongs_to_it(
    inv: Any, shop: Shop
) -> None:
    shop.up("one")
    more(shop, "op.execute('SELECT 1/0')")

    failed = inv("migrate.up")

    assert failed.returncode == 1
    backup = Path(newest(shop.root)).name
    assert [line.strip() for line in failed.stderr.splitlines()[-4:-1]] == [
        "applied: none",
        "not applied: two, three",
        f"the state before is in backup {backup}: inv db.restore --backup {backup}",
    ]
    assert failed.stderr.splitlines()[-1].endswith("rolled back, the database is at one as before")
    one_by_one = "target_metadata=metadata, transaction_per_migration=True)"
    edit_env(shop, "target_metadata=metadata)", one_by_one)
    document = json.loads(inv("migrate.up", "--json").stdout)
    assert (document["applied"], document["not_applied"]) == (["two"], ["three"])
    assert document["exit_code"] == 1


def test_a_trigger_file_with_an_error_stops_before_anything_is_done(inv: Any, shop: Shop) -> None:
    (shop.root / "sql" / "triggers" / "bad.sql").write_text("\nCREATE TRIGGER;")
    failed = inv("migrate.up")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: sql/triggers/bad.sql:2: syntax error")
    assert shop.tables() == []


def test_a_database_that_is_not_as_the_files_say_is_exit_5(inv: Any, shop: Shop) -> None:
    forgets = (
        "context.run_migrations()\n"
        "        if not context.get_context().opts.get('dont_mutate'):\n"
        "            connection.exec_driver_sql('DELETE FROM alembic_version')"
    )
    edit_env(shop, "context.run_migrations()", forgets)
    failed = inv("migrate.up")
    assert failed.returncode == 5, failed.stderr
    assert "applied: one, two" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: unversioned: at no revision")


def test_a_lock_of_another_session_is_waited_for_again_and_its_holder_is_named(
    shop: Shop, cluster: Cluster, start_inv: Any
) -> None:
    shop.up()
    more(shop, "op.execute('ALTER TABLE notes ADD more int')")
    holder = cluster.connect(shop.target.database)
    holder.autocommit = False
    holder.cursor().execute("SET application_name = 'nightly'; LOCK TABLE notes")
    pid = holder.info.backend_pid
    process = start_inv("migrate.up", "--no-backup", "--lock-timeout", "700ms", "--retries", "9")
    try:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "again in" in line:
                break
        assert f"the lock is held by backend {pid} of 'postgres' in 'nightly'" in seen[-1]
        assert "idle in transaction" in seen[-1]
    finally:
        holder.close()
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert shop.status().current == ("three",)


def test_a_lock_that_is_never_free_ends_in_one_line(inv: Any, shop: Shop, cluster: Cluster) -> None:
    shop.up()
    more(shop, "op.execute('ALTER TABLE notes ADD more int')")
    holder = cluster.connect(shop.target.database)
    holder.autocommit = False
    pid = holder.info.backend_pid
    try:
        holder.cursor().execute("LOCK TABLE notes")
        done = inv("migrate.up", "--no-backup", "--lock-timeout", "500ms", "--retries", "0")
    finally:
        holder.close()
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "lock timeout; its transaction was rolled back" in last
    assert f"the lock is held by backend {pid} of 'postgres'" in last
    assert shop.status().current == ("two",)


def test_what_was_committed_outside_a_transaction_is_not_tried_again(shop: Shop) -> None:
    shop.up()
    work = (
        "with op.get_context().autocommit_block():\n    op.execute('CREATE TABLE kept ()')\n"
        "op.execute('ALTER TABLE notes ADD more int')"
    )
    more(shop, work)
    console = Recorder()
    waits = attempts.Patience(lock_timeout=300, retries=5)
    tried = attempts.Attempts(*shop.place, waits, console)
    holder = shop.cluster.connect(shop.target.database)
    holder.autocommit = False
    try:
        holder.cursor().execute("LOCK TABLE notes")
        with pytest.raises(LockTimeout, match="1 statement of it had been committed and stay"):
            tried.run(shop.plan("up", "head"))
    finally:
        holder.close()
    assert console.lines == []
    assert "kept" in shop.tables()


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, 5_000), ("7", 7_000), ("250ms", 250), ("2min", 120_000), ("0", 0)],
)
def test_a_lock_timeout(text: str | None, expected: int) -> None:
    assert attempts.patience(text, None).lock_timeout == expected


@pytest.mark.parametrize("flags", [{"lock_timeout": "5 h"}, {"retries": "-1"}, {"retries": "x"}])
def test_a_value_that_cannot_be_meant(flags: dict[str, str]) -> None:
    given = {"lock_timeout": None, "retries": None, **flags}
    with pytest.raises(Refused, match="expected a"):
        attempts.patience(**given)


def test_a_holder_of_another_role_shows_less() -> None:
    assert str(Holder(7, "app", "", "", None, "")) == "backend 7 of 'app'"
    shown = str(Holder(7, "app", "psql", "active", 90.0, "SELECT\n 1"))
    assert shown == "backend 7 of 'app' in 'psql', active, its transaction is 1 min old: SELECT 1"


# statistics


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO notes (id) VALUES (%(id)s)", ("notes",)),
        ("UPDATE s.\"Big T\" SET a = '100%%' WHERE b = %s", ('s."Big T"',)),
        ("WITH old AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM old", ("b", "a")),
        ("ALTER TABLE a ADD COLUMN b int DEFAULT 1", ("a",)),
        ("ALTER TABLE a ADD CONSTRAINT c CHECK (b > 0)", ()),
        ("ALTER TABLE a DROP COLUMN b", ()),
        ("CREATE TABLE a AS SELECT 1", ("a",)),
        ("CREATE TABLE a (b int)", ()),
        ("CREATE INDEX i ON a (lower(b))", ("a",)),
        ("CREATE INDEX i ON a (b)", ()),
        ("COPY a FROM STDIN", ("a",)),
        ("COPY a TO STDOUT", ()),
        ("not sql", ()),
    ],
)
def test_what_changes_the_statistics_of_a_table(statement: str, expected: tuple[str, ...]) -> None:
    assert touched.tables([statement]) == expected


def test_only_tables_that_exist_are_analyzed(shop: Shop) -> None:
    shop.up()
    other = 'CREATE SCHEMA "it\'s"; CREATE TABLE "it\'s"."a 🐘" (); CREATE VIEW v AS SELECT 1'
    shop.cluster.execute(other, shop.target.database)
    names = ["notes", '"it\'s"."a 🐘"', "gone", "v", "alembic_version", "no.such"]
    assert touched.analyze(shop.target, names) == ['"it\'s"."a 🐘"', "public.notes"]


# a kill at each step: the next run understands and finishes


@pytest.mark.parametrize("step", boundaries.MIGRATE)
def test_a_killed_run_is_finished_by_the_next_one(
    inv: Any, start_inv: Any, shop: Shop, step: str
) -> None:
    shop.up("one")
    process = halted(start_inv, step, "migrate.up")
    kill(process, shop.cluster)
    process.communicate(timeout=PATIENCE)

    done = unlocked(inv, "migrate.up", "--json")

    assert done.returncode == 0, done.stderr
    assert shop.status().word == "up-to-date"
    assert triggers(shop) == 1
    kept = [path for path in (shop.root / "backups").rglob(".*") if "settings" not in path.name]
    assert kept == []
