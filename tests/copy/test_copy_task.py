"""inv db.copy: what it asks, refuses, says and writes; and what an interrupted one leaves."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from halting import NEW, OLD, Start, end_backends, halted, kill, refused, unlocked
from matrix import matrix
from projects import put_stamp, stamp_of
from restores import damage, fill_as, logins, rows, sides
from servers import Cluster
from terminal import answer
from triggers import TOUCH
from waiting import PATIENCE, until

from pgtasks.report import boundaries

Inv = Callable[..., Any]
INV = Path(sys.executable).with_name("inv")
_TEMPLATE = ("copy.loading", "restore.created", "copy.loaded", "copy.proven")
_SWAPPED = ("swap.done", "copy.swapped")


@pytest.fixture
def source(
    cluster: Cluster, fresh_database: Callable[..., str], project: Path, plain_owner: str
) -> str:
    """Return the database of environment qa in the project, filled."""
    name = fresh_database(cluster)
    fill_as(cluster, name, plain_owner)
    put_stamp(cluster.target(name, environment="qa"))
    (project / "env" / "qa.yaml").write_text(f"url: '{cluster.url(name)}'\n", encoding="utf-8")
    return name


@pytest.fixture
def target_name(cluster: Cluster, database: str, project: Path, plain_owner: str) -> str:
    """Return the database of environment dev, which lacks most rows."""
    fill_as(cluster, database, plain_owner)
    damage(cluster, database)
    return database


def protect(project: Path, environment: str) -> None:
    file = project / "env" / f"{environment}.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "protected: true\n", encoding="utf-8")


def test_copies_and_undoes(cluster: Cluster, source: str, target_name: str, inv: Inv) -> None:
    done = inv("db.copy", "qa", "dev")
    assert done.returncode == 0, done.stderr
    assert f"copied qa/{source} to dev/{target_name}: 2 of 2 tables identical" in done.stdout
    assert "replace  " in done.stderr
    assert rows(cluster, target_name) == NEW
    assert inv("db.undo").returncode == 0
    assert rows(cluster, target_name) == OLD
    listed = json.loads(inv("journal.list", "--json").stdout)
    assert "db.copy" in [entry["task"] for entry in listed["entries"]]


def test_without_a_proof_and_statistics(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    done = inv("db.copy", "qa", "dev", "--rows", "--no-proof", "--no-analyze")
    assert done.returncode == 0, done.stderr
    assert "not proven: it was not compared with the source" in done.stdout
    assert rows(cluster, target_name) == NEW
    analyzed = "SELECT count(*) FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL"
    assert cluster.value(analyzed, target_name) == 0
    document = json.loads(inv("db.copy", "qa", "dev", "--rows", "--json").stdout)
    assert (document["proven"], "analyze" in document["steps"]) == (True, True)
    assert cluster.value(analyzed, target_name) == 3  # the materialized view too


BROKEN = """
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE TABLE bill (i int CONSTRAINT "is ok" CHECK (public.fits(i)));
INSERT INTO bill VALUES (1), (2);
CREATE DOMAIN small AS int CONSTRAINT is_small CHECK (public.fits(VALUE) AND VALUE < 9);
CREATE TABLE unit (n small);
INSERT INTO unit VALUES (1);
"""
BREAKS = {
    "SELECT $1 < 2": 'constraint public."bill is ok"',
    "SELECT $1 > 1": "constraint public.small.is_small",
    "BEGIN RETURN 1 / ($1 - 2) <> 0; END": 'constraint public."bill is ok"',
}


def test_a_part_whose_rows_break_a_constraint_has_a_way(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    change = "CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE sql IMMUTABLE AS"
    cluster.execute(f"{BROKEN}{change} 'SELECT $1 < 2'", source)
    done = inv("db.copy", "qa", "dev", "--exclude-data", "unit")
    assert done.returncode == 1
    assert done.stderr.endswith(
        '; one that is NOT VALID in the source is not checked on the way: constraint public."bill '
        'is ok"; --exclude-data public.bill leaves its rows out\n'
    )
    flags = ("--exclude-data", "unit,bill", "--where", "bill=true")  # what is left out wins
    done = inv("db.copy", "qa", "dev", *flags)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(*) FROM bill", target_name) == 0


@pytest.mark.parametrize("body", BREAKS)
def test_rows_that_break_a_constraint_have_a_way(
    cluster: Cluster, source: str, target_name: str, inv: Inv, body: str
) -> None:
    language = "plpgsql" if body.startswith("BEGIN") else "sql"
    change = f"CREATE OR REPLACE FUNCTION fits(int) RETURNS bool LANGUAGE {language} IMMUTABLE AS"
    cluster.execute(f"{BROKEN}{change} '{body}'", source)
    if "small" in BREAKS[body]:
        cluster.execute("DELETE FROM bill", source)
    done = inv("db.copy", "qa", "dev", "--rows")
    assert done.returncode == 1
    way = re.search(r"; (inv db.backup .*) and then (inv db.restore .*) bring the", done.stderr)
    assert way, done.stderr
    save, load = map(shlex.split, way.groups())
    assert load[-1] == BREAKS[body]
    made = inv(*save[1:])
    path = made.stdout.splitlines()[1]
    words = [path if word == "PATH" else word for word in load[1:]]
    restored = inv(*words, "--confirm", target_name)
    assert restored.returncode == 0, restored.stderr
    assert cluster.value("SELECT count(*) FROM unit", target_name) == 1


COMPUTED = """
CREATE FUNCTION price(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE SCHEMA "it's, 🐘";
CREATE TABLE "it's, 🐘"."a: b*" (i int PRIMARY KEY, p int GENERATED ALWAYS AS (price(i)) STORED);
INSERT INTO "it's, 🐘"."a: b*" VALUES (1), (2);
CREATE TABLE other (i int REFERENCES "it's, 🐘"."a: b*");
"""
CHANGED = """
INSERT INTO "it's, 🐘"."a: b*" VALUES (3);
CREATE OR REPLACE FUNCTION price(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$BEGIN IF i < 3 THEN RETURN i; END IF; RAISE EXCEPTION 'no price: COPY'; END$$;
"""


@pytest.mark.parametrize("flag", ["--rows", "--delta", "--tables=*.*", "--schema-only"])
def test_rows_that_nothing_can_load_are_left_out_by_name(
    cluster: Cluster, source: str, target_name: str, inv: Inv, flag: str
) -> None:
    cluster.execute(COMPUTED + CHANGED.partition(";")[2], source)
    assert inv("db.copy", "qa", "dev").returncode == 0
    replaced = CHANGED.replace("IF i <", "IF true OR i <")
    broken = target_name if flag == "--schema-only" else source
    cluster.execute(replaced.partition(";")[2] + CHANGED, broken)
    done = inv("db.copy", "qa", "dev", flag)
    assert done.returncode == 1
    if flag == "--schema-only":  # the rows are the target's own
        assert done.stderr.endswith("no price: COPY\n")
        return
    way = re.search(r"no price: COPY; (--exclude-data .*) leaves its rows out$", done.stderr)
    assert way, done.stderr
    assert ("they are copied" in done.stderr) == (flag == "--delta")
    if flag != "--rows":
        assert way[1] == """--exclude-data '"it'"'"'s, 🐘"."a: b*"'"""
        return
    cluster.execute("INSERT INTO other VALUES (1)", source)
    refused = inv("db.copy", "qa", "dev", "--rows", *shlex.split(way[1]))
    assert refused.returncode == 2
    assert "leave out the rows of public.other too" in refused.stderr
    done = inv("db.copy", "qa", "dev", "--rows", *shlex.split(way[1]), "--exclude-data", "other")
    assert done.returncode == 0, done.stderr
    assert rows(cluster, target_name) == NEW
    assert cluster.value('SELECT count(*) FROM "it\'s, 🐘"."a: b*"', target_name) == 0


@pytest.mark.parametrize("flags", [(), ("--rows",)])
def test_a_partitioned_table_has_statistics_of_all_its_partitions(
    cluster: Cluster, source: str, target_name: str, inv: Inv, flags: tuple[str, ...]
) -> None:
    cluster.execute(
        "CREATE TABLE whole (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (100);"
        "INSERT INTO whole SELECT generate_series(0, 90)",
        source,
    )
    done = inv("db.copy", "qa", "dev", *flags)
    assert done.returncode == 0, done.stderr
    query = "SELECT tablename, inherited FROM pg_stats WHERE tablename IN ('whole', 'part')"
    assert sorted(cluster.execute(query, target_name)) == [("part", False), ("whole", True)]


def test_a_dry_run_changes_nothing(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    done = inv("db.copy", "qa", "dev", "--dry", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["source"] == {"environment": "qa", "database": source}
    assert plan["replaced_bytes"] > 0
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []
    assert json.loads(inv("db.copy", "qa", "dev", "--rows", "--json").stdout)["rows_copied"] == 2000


def test_the_stamp_stays_that_of_the_target(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    assert inv("db.copy", "qa", "dev").returncode == 0
    shown = json.loads(inv("env.status", "--json").stdout)
    assert "dev" in json.dumps(shown)
    comment = cluster.value(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        parameters=(target_name,),
    )
    assert comment.startswith("pgtasks: environment=dev ")
    assert f"origin=qa/{source}" in comment
    (taken,) = re.findall(r" taken=(\S+)", comment)
    age = "SELECT now() - %s::timestamptz BETWEEN '0' AND '5 min'"
    assert cluster.value(age, parameters=(taken,)), taken
    assert inv("env.stamp").returncode == 0
    assert f" taken={taken}" in stamp_of(cluster, target_name)
    assert inv("db.copy", "qa", "dev").returncode == 0


def test_a_protected_source_needs_unmasked_and_its_name(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    protect(project, "qa")
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    assert "are neither masked nor declared plain" in refused.stderr
    refused = inv("db.copy", "qa", "dev", "--unmasked")
    assert refused.returncode == 2
    assert f"add --confirm-source {source}" in refused.stderr
    refused = inv("db.copy", "qa", "dev", "--unmasked", "--confirm-source", target_name)
    assert refused.returncode == 2
    assert sides(cluster, target_name) == []
    assert rows(cluster, target_name) == OLD
    dry = inv("db.copy", "qa", "dev", "--unmasked", "--dry")
    assert dry.returncode == 0, dry.stderr
    assert "without --dry it would be refused: environment 'qa' is protected" in dry.stderr
    done = inv("db.copy", "qa", "dev", "--unmasked", "--confirm-source", source)
    assert done.returncode == 0, done.stderr
    assert rows(cluster, target_name) == NEW


def test_a_source_with_content_and_no_stamp_counts_as_protected(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    cluster.execute(f'COMMENT ON DATABASE "{source}" IS NULL')
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    assert "counts as protected" in refused.stderr


@pytest.mark.parametrize("typed", ["right", "wrong"])
def test_a_person_types_the_name_of_the_source(
    cluster: Cluster, source: str, target_name: str, project: Path, typed: str
) -> None:
    protect(project, "qa")
    name = source if typed == "right" else target_name
    argv = [INV, "db.copy", "qa", "dev", "--unmasked"]
    ended = answer(argv, [("let its data leave it: ", f"{name}\n")], cwd=project)
    assert ended.code == (0 if typed == "right" else 2), ended.screen
    assert rows(cluster, target_name) == (NEW if typed == "right" else OLD)


def test_a_protected_target_needs_its_name(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    protect(project, "dev")
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    assert f"add --confirm {target_name}" in refused.stderr
    assert inv("db.copy", "qa", "dev", "--confirm", source).returncode == 2
    assert rows(cluster, target_name) == OLD
    done = inv("db.copy", "qa", "dev", "--confirm", target_name)
    assert done.returncode == 0, done.stderr
    assert rows(cluster, target_name) == NEW


def test_one_database_by_two_addresses_is_refused(
    cluster: Cluster, target_name: str, project: Path, inv: Inv
) -> None:
    put_stamp(cluster.target(target_name))
    (project / "env" / "dev.yaml").rename(project / "env" / "first.yaml")
    url = cluster.url(target_name)
    (project / "env" / "first.yaml").write_text(f"url: '{url}'\n")
    (project / "env" / "dev.yaml").write_text(f"url: '{url}'\ninherits: first\n")
    refused = inv("db.copy", "dev", "dev")
    assert refused.returncode == 2
    assert "source and target are one database" in refused.stderr
    assert sides(cluster, target_name) == []


def test_the_label_of_the_source_must_be_right(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    put_stamp(cluster.target(source, environment="prod"))
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    assert "is stamped 'prod'" in refused.stderr
    assert "run inv env.stamp --env qa" in refused.stderr


def test_hints_about_the_source_name_its_environment(
    cluster: Cluster, target_name: str, project: Path, inv: Inv
) -> None:
    url = cluster.url("nowhere")
    (project / "env" / "qa.yaml").write_text(f"url: '{url}'\n", encoding="utf-8")
    failed = inv("db.copy", "qa", "dev")
    assert failed.returncode == 4
    assert "inv db.create --env qa" in failed.stderr


def test_several_environments_are_refused(source: str, target_name: str, inv: Inv) -> None:
    for names in (("qa", "dev,qa"), ("qa,dev", "dev"), ("qa", "all")):
        assert inv("db.copy", *names).returncode in (1, 2), names


def test_the_second_copy_is_told_who_holds_the_target(
    source: str, target_name: str, inv: Inv, start_inv: Start
) -> None:
    process = halted(start_inv, "copy.loading", "db.copy", "qa", "dev", "--rows")
    second = inv("db.copy", "qa", "dev")
    assert second.returncode == 6
    assert f"db.copy, process {process.pid} of" in second.stderr
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)


def interrupt(process: subprocess.Popen[str], cluster: Cluster) -> None:
    os.killpg(process.pid, signal.SIGINT)


@matrix(
    at=[
        *((step, "--rows") for step in (*boundaries.COPY, *boundaries.SWAP)),
        *((step, "--template") for step in _TEMPLATE),
        ("copy.loading", "--delta"),
        ("restore.created", "--delta"),
    ],
    fault=[kill, interrupt, end_backends],
)
def test_an_interrupted_copy_leaves_old_or_new(
    cluster: Cluster,
    source: str,
    target_name: str,
    inv: Inv,
    start_inv: Start,
    at: tuple[str, str],
    fault: Callable[..., None],
) -> None:
    step, way = at
    process = halted(start_inv, step, "db.copy", "qa", "dev", way)
    fault(process, cluster)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if fault is kill else 130)
    if fault is not kill:
        words = "replaced, inv db.undo takes that back" if step in _SWAPPED else "as it was"
        assert said.endswith(f"error: interrupted: {target_name!r} is {words}\n"), said
    assert rows(cluster, target_name) == (NEW if step in _SWAPPED else OLD)
    assert rows(cluster, source) == NEW
    healed = until(lambda: (done := inv("db.recover")).returncode != 6 and done)
    assert healed.returncode == 0, healed.stderr
    assert len(sides(cluster, target_name)) == (1 if step in _SWAPPED else 0)
    assert logins(cluster, target_name) == []
    assert rows(cluster, target_name) == (NEW if step in _SWAPPED else OLD)
    until(lambda: not sessions(cluster, process.pid))


def sessions(cluster: Cluster, pid: int) -> list[Any]:
    """Return the sessions of a run that are still on the server."""
    return cluster.execute(
        "SELECT application_name, query FROM pg_stat_activity WHERE application_name LIKE %s",
        parameters=(f"pgtasks% {pid} %",),
    )


def make_large(cluster: Cluster, database: str, owner: str) -> None:
    """Make a table whose copy takes a while."""
    session = cluster.connect(database, user=owner)
    with session, session.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE large AS SELECT i, repeat('x', 900) AS t"
            " FROM generate_series(1, 300000) i"
        )
    session.close()


@pytest.mark.parametrize("which", ["COPY % TO STDOUT%", "COPY % FROM STDIN%"])
def test_a_session_that_ends_in_the_middle_of_a_table(
    cluster: Cluster,
    source: str,
    target_name: str,
    start_inv: Start,
    plain_owner: str,
    which: str,
) -> None:
    make_large(cluster, source, plain_owner)
    process = start_inv("db.copy", "qa", "dev", "--rows")
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
        " AND query LIKE '%%large%%' AND state = 'active' AND pid <> pg_backend_pid()"
    )
    until(lambda: cluster.execute(end, parameters=(which,)))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode in (1, 4), said
    assert "error: table public.large: " in said
    assert re.search("ended the (session|connection)", said), said
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []
    assert rows(cluster, source) == NEW
    until(lambda: not sessions(cluster, process.pid))


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_of_a_table(
    cluster: Cluster,
    source: str,
    target_name: str,
    start_inv: Start,
    plain_owner: str,
    sign: signal.Signals,
) -> None:
    make_large(cluster, source, plain_owner)
    process = start_inv("db.copy", "qa", "dev", "--rows")
    copying = "SELECT 1 FROM pg_stat_progress_copy WHERE command = 'COPY FROM' AND datname LIKE %s"
    until(lambda: cluster.execute(copying, parameters=(f"{target_name}__new_%",)))
    os.kill(process.pid, sign)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert said.endswith(f"error: interrupted: {target_name!r} is as it was\n"), said
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []
    assert logins(cluster, target_name) == []
    until(lambda: not sessions(cluster, process.pid))


@contextmanager
def exchanged(cluster: Cluster, name: str, other: str) -> Iterator[None]:
    """Give the name of a database to another one, for the length of a block."""
    cluster.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_away"')
    cluster.execute(f'ALTER DATABASE "{other}" RENAME TO "{name}"')
    try:
        yield
    finally:
        cluster.execute(f'ALTER DATABASE "{name}" RENAME TO "{other}"')
        cluster.execute(f'ALTER DATABASE "{name}_away" RENAME TO "{name}"')


def test_a_source_that_is_stamped_anew_is_not_copied(
    cluster: Cluster, source: str, target_name: str, start_inv: Start
) -> None:
    process = halted(start_inv, "copy.checked", "db.copy", "qa", "dev", "--rows")
    put_stamp(cluster.target(source, environment="prod"))
    assert f"database {source!r} was stamped anew since the guard looked" in refused(process)
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []


def test_a_source_that_is_exchanged_is_not_copied(
    cluster: Cluster,
    fresh_database: Callable[..., str],
    source: str,
    target_name: str,
    start_inv: Start,
) -> None:
    other = fresh_database(cluster)
    put_stamp(cluster.target(other, environment="qa"))
    process = halted(start_inv, "copy.checked", "db.copy", "qa", "dev", "--rows")
    with exchanged(cluster, source, other):
        assert f"{source!r} is the name of another database" in refused(process)
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []


@pytest.mark.parametrize("step", ["copy.checked", "copy.proven", "swap.ready"])
def test_a_target_that_is_stamped_anew_is_not_replaced(
    cluster: Cluster, source: str, target_name: str, start_inv: Start, step: str
) -> None:
    process = halted(start_inv, step, "db.copy", "qa", "dev", "--rows")
    put_stamp(cluster.target(target_name, environment="prod"))
    assert "stamped anew" in refused(process)
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []
    assert stamp_of(cluster, target_name).startswith("pgtasks: environment=prod ")


@pytest.mark.parametrize("step", ["copy.proven", "swap.ready"])
def test_a_target_that_is_exchanged_is_not_replaced(
    cluster: Cluster,
    fresh_database: Callable[..., str],
    source: str,
    target_name: str,
    start_inv: Start,
    step: str,
) -> None:
    other = fresh_database(cluster)
    cluster.execute("CREATE TABLE precious AS SELECT 1", other)
    comment = stamp_of(cluster, target_name)
    cluster.execute(f"""COMMENT ON DATABASE "{other}" IS '{comment}'""")
    process = halted(start_inv, step, "db.copy", "qa", "dev", "--rows")
    with exchanged(cluster, target_name, other):
        assert "run the task again" in refused(process)
        assert rows(cluster, target_name, "precious") == 1
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []


def test_the_template_of_the_server_is_no_target(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    url = cluster.url("template1")
    (project / "env" / "dev.yaml").write_text(f"url: '{url}'\n", encoding="utf-8")
    done = inv("db.copy", "qa", "dev", "--confirm", "template1")
    assert done.returncode == 2
    assert "'template1' is the server's template for new databases: name another" in done.stderr


def test_a_target_that_does_not_exist_is_created(
    cluster: Cluster, source: str, target_name: str, project: Path, plain_owner: str, inv: Inv
) -> None:
    name = f"{target_name}_new"
    (project / "env" / "dev.yaml").write_text(f"url: '{cluster.url(name)}'\n", encoding="utf-8")
    plan = inv("db.copy", "qa", "dev", "--dry")
    assert plan.returncode == 0, plan.stderr
    assert "which does not exist: nothing is replaced" in plan.stdout + plan.stderr
    assert name not in cluster.databases()
    try:
        done = inv("db.copy", "qa", "dev")
        assert done.returncode == 0, done.stderr
        assert rows(cluster, name) == NEW
        assert "nothing was replaced, so that there is nothing to undo" in done.stdout
        assert stamp_of(cluster, name).startswith("pgtasks: environment=dev ")
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
        assert cluster.value(owner, parameters=(name,)) == plain_owner
        undone = inv("db.undo")
        assert undone.returncode == 2, undone.stderr
        assert rows(cluster, name) == NEW
        assert inv("db.copy", "qa", "dev").returncode == 0
        assert len(sides(cluster, name)) == 1
    finally:
        for each in (name, *sides(cluster, name)):
            cluster.drop(each)


@pytest.mark.parametrize("step", ["copy.loading", "swap.ready"])
def test_an_interrupted_first_copy_leaves_nothing(
    cluster: Cluster,
    source: str,
    target_name: str,
    project: Path,
    plain: Callable[..., str],
    inv: Inv,
    start_inv: Start,
    step: str,
) -> None:
    name = f"{target_name}_new"
    url = replace(cluster.target(name), user=plain("CREATEDB")).url(reveal=True)
    (project / "env" / "dev.yaml").write_text(f"url: '{url}'\n", encoding="utf-8")
    process = halted(start_inv, step, "db.copy", "qa", "dev")
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    assert name not in cluster.databases()
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert sides(cluster, name) == [], healed.stdout
    assert logins(cluster, name) == []


def test_the_plan_says_what_is_replaced(
    cluster: Cluster, source: str, target_name: str, inv: Inv
) -> None:
    session = cluster.connect(target_name)
    try:
        cluster.execute(
            "INSERT INTO people (name) SELECT 'n' || i FROM generate_series(1, 7) i", target_name
        )
        cluster.settle(target_name, 1)
        done = inv("db.copy", "qa", "dev", "--dry")
        cluster.settle(target_name, 1)
        plan = json.loads(inv("db.copy", "qa", "dev", "--dry", "--json").stdout)
    finally:
        session.close()
    said = done.stdout + done.stderr
    assert re.search(
        r"holds    [\d.]+ MB; by the server's counters [\d,]+ rows .those of system tables too. "
        r"inserted, updated or deleted "
        r"since (it was created, or the server last crashed|.*, when its counters were reset); "
        r"last write to a file \d+ ",
        said,
    ), said
    assert "ends     1 session: 1 as 'postgres'" in said
    assert plan["replaced_sessions"] == 1
    assert plan["replaced_files_age_seconds"] < 3600


def test_backs_the_target_up_first(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    plan = inv("db.copy", "qa", "dev", "--backup-first", "--dry")
    assert f"/{target_name}, before anything is built" in plan.stdout + plan.stderr
    assert not list(project.glob("backups/*/*/*/manifest.json"))
    done = inv("db.copy", "qa", "dev", "--backup-first")
    assert done.returncode == 0, done.stderr
    (manifest,) = project.glob(f"backups/dev/{target_name}/*/manifest.json")
    assert json.loads(manifest.read_text())["note"] == f"before db.copy of qa/{source}"
    assert rows(cluster, target_name) == NEW
    back = inv("db.restore", "--backup", str(manifest.parent))
    assert back.returncode == 0, back.stderr
    assert rows(cluster, target_name) == OLD


def test_a_backup_that_fails_ends_the_copy(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    (project / "backups").mkdir(exist_ok=True)
    (project / "backups" / "dev").write_text("no folder")
    done = inv("db.copy", "qa", "dev", "--backup-first")
    assert done.returncode != 0
    assert rows(cluster, target_name) == OLD
    assert sides(cluster, target_name) == []


def test_trigger_files_are_compared_with_the_result(
    cluster: Cluster, source: str, target_name: str, project: Path, inv: Inv
) -> None:
    """A difference is said, and keeps nobody from his data."""
    (project / "sql" / "functions").mkdir(parents=True)
    file = project / "sql" / "functions" / "touch.sql"
    file.write_text(TOUCH)
    done = inv("db.copy", "qa", "dev")
    assert done.returncode == 0, done.stderr
    assert "trigger files differ: 0 of 1 installed as the files say, 1 changed" in done.stdout
    assert rows(cluster, target_name) == NEW
    file.write_text("CREATE FUNCTION broken(")
    again = inv("db.copy", "qa", "dev", "--json")
    assert again.returncode == 0, again.stderr
    (difference,) = json.loads(again.stdout)["trigger_differences"]
    assert "not compared" in difference


@pytest.mark.parametrize("step", ["copy.dumping", "copy.read", "copy.loaded", "copy.proven"])
def test_a_killed_copy_of_one_table_leaves_the_old(
    cluster: Cluster, source: str, target_name: str, inv: Inv, start_inv: Start, step: str
) -> None:
    cluster.execute("CREATE TABLE own AS SELECT 1 AS n", target_name)
    process = halted(start_inv, step, "db.copy", "qa", "dev", "--tables", "people")
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    assert rows(cluster, target_name) == OLD
    assert rows(cluster, source) == NEW
    assert until(lambda: inv("db.recover").returncode == 0)
    assert sides(cluster, target_name) == []
    done = inv("db.copy", "qa", "dev", "--tables", "people")
    assert done.returncode == 0, done.stderr
    assert rows(cluster, target_name) == NEW
    assert rows(cluster, target_name, "own") == 1
    assert inv("db.undo").returncode == 0
    assert rows(cluster, target_name) == OLD
