"""migrate.rehearse: all on a copy, which is dropped, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from halting import halted, kill, unlocked
from servers import Cluster
from shops import Shop, two_revisions
from waiting import PATIENCE

from migrations import revision, write_env
from pgtasks.report import boundaries
from pgtasks.settings.target import Target


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    """A project at its first revision, with rows; the second makes a table, the third locks one."""
    made = two_revisions(cluster, target, project)
    made.up("one")
    cluster.execute("INSERT INTO notes VALUES (1, 'a')", target.database)
    work = (
        "op.execute('ALTER TABLE notes ADD more int')\n"
        "op.execute('CREATE INDEX by_text ON notes (text)')"
    )
    revision(made.folder, "three", "two", work, "op.drop_column('notes', 'more')\npass")
    return made


def beside(shop: Shop) -> list[str]:
    return [name for name in shop.cluster.databases() if name.startswith(shop.target.database)]


def test_a_rehearsal_tells_times_and_locks_and_what_does_not_come_back(
    inv: Any, shop: Shop
) -> None:
    planned = inv("migrate.rehearse", "--dry")
    assert planned.returncode == 0, planned.stderr
    lines = planned.stdout.splitlines()
    assert lines[0].startswith(f"copy     '{shop.target.database}', ")
    assert "up three revision three" in lines
    assert lines[-1] == f"drop     the copy; '{shop.target.database}' itself is only read"

    done = inv("migrate.rehearse", "--json")

    assert done.returncode == 5, done.stderr
    document = json.loads(done.stdout)
    assert document["differences"] == ["index public.by_text should not be there"]
    assert [each["revision"] for each in document["up"]["applied"]] == ["two", "three"]
    assert [each["revision"] for each in document["down"]["applied"]] == ["three", "two"]
    # the weaker lock of CREATE INDEX blocks nothing that is not blocked already
    (held,) = document["locks"]
    assert (held["revision"], held["mode"]) == ("three", "AccessExclusiveLock")
    assert (held["table"], held["blocks"]) == ("public.notes", "reads and writes")
    assert held["statement"] == "ALTER TABLE notes ADD more int"
    assert held["seconds"] > 0
    # the database itself is as it was, and nothing is left beside it
    assert shop.status().current == ("one",)
    assert beside(shop) == [shop.target.database]


def test_a_downgrade_that_brings_all_back(inv: Any, shop: Shop) -> None:
    text = (shop.folder / "versions" / "three.py").read_text()
    (shop.folder / "versions" / "three.py").write_text(
        text.replace("    pass", "    op.drop_index('by_text')")
    )
    done = inv("migrate.rehearse")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("after the downgrade the schema is as before")
    assert any(
        line.startswith("  public.notes: reads and writes wait for ")
        for line in done.stdout.splitlines()
    )
    shop.up()
    nothing = inv("migrate.rehearse")
    assert nothing.stdout.startswith("nothing to do: up-to-date: at three")


def test_the_version_table_of_a_new_database_may_have_any_name(
    inv: Any, cluster: Cluster, project: Path
) -> None:
    write_env(project / "migrations")
    env = project / "migrations" / "env.py"
    text = env.read_text()
    env.write_text(text.replace("context.configure(", "context.configure(version_table='mine', "))
    assert env.read_text() != text
    up, down = "op.execute('CREATE TABLE a (x int)')", "op.execute('DROP TABLE a')"
    revision(project / "migrations", "one", None, up, down)
    done = inv("migrate.rehearse")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("after the downgrade the schema is as before")


def test_what_fails_on_the_copy_leaves_the_database_alone(inv: Any, shop: Shop) -> None:
    revision(shop.folder, "four", "three", "op.execute('SELECT 1/0')")
    failed = inv("migrate.rehearse")
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: on the copy: revision four failed: ")
    assert last.endswith(f"'{shop.target.database}' itself was only read")
    revision(shop.folder, "four", "three", "pass", "raise NotImplementedError('one way')")
    one_way = inv("migrate.rehearse")
    assert one_way.returncode == 5
    assert "the downgrade fails: revision four failed: " in one_way.stderr.splitlines()[-1]
    assert inv("migrate.rehearse", "--no-down").returncode == 0
    assert shop.status().current == ("one",)
    assert beside(shop) == [shop.target.database]


def test_in_a_database_that_others_use_the_rows_are_copied(
    inv: Any, shop: Shop, plain_owner: str
) -> None:
    other = shop.cluster.connect(shop.target.database)
    try:
        refused = inv("migrate.rehearse", "--no-down", "--to", "two")
        assert refused.returncode == 2
        assert "(`user`); the server cannot copy the files either: 1 session of" in refused.stderr
        shop.cluster.execute(f'ALTER DATABASE "{shop.target.database}" OWNER TO {plain_owner}')
        done = inv("migrate.rehearse", "--no-down", "--to", "two")
    finally:
        other.close()
    assert done.returncode == 0, done.stderr
    assert "its rows are copied (1 session of others are in it)" in done.stderr
    assert beside(shop) == [shop.target.database]


def test_a_rehearsal_runs_no_code_of_the_version_table_as_a_superuser(
    inv: Any, shop: Shop, plain_owner: str
) -> None:
    database = shop.target.database
    shop.cluster.execute(
        "CREATE SEQUENCE ran; CREATE FUNCTION runs() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM nextval(''public.ran''); RAISE ''it runs''; END';"
        " CREATE TRIGGER runs BEFORE INSERT OR UPDATE ON alembic_version FOR EACH ROW"
        f" EXECUTE FUNCTION runs(); ALTER FUNCTION runs() OWNER TO {plain_owner}",
        database,
    )
    refused = inv("migrate.rehearse")
    assert refused.returncode == 2
    assert f"would run 'trigger runs' of {plain_owner!r}" in refused.stderr
    assert beside(shop) == [database]


def test_a_rehearsal_is_guarded(inv: Any, shop: Shop) -> None:
    with (shop.root / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    refused = inv("migrate.rehearse")
    assert refused.returncode == 2
    assert f"--confirm {shop.target.database}" in refused.stderr


@pytest.mark.parametrize("step", boundaries.REHEARSE)
def test_a_killed_rehearsal_is_cleared_away_by_the_next_run(
    inv: Any, start_inv: Any, shop: Shop, step: str
) -> None:
    process = halted(start_inv, step, "migrate.rehearse")
    kill(process, shop.cluster)
    process.communicate(timeout=PATIENCE)
    assert len(beside(shop)) == 2
    again = unlocked(inv, "migrate.rehearse", "--no-down") if step == "rehearse.copied" else None
    healed = again or unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert beside(shop) == [shop.target.database]
    assert shop.status().current == ("one",)
