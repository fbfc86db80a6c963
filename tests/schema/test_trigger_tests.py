"""Tests of triggers: what they expect, that they are rolled back, TAP and JUnit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from clinics import Templates, cloned
from paths import ROOT
from servers import Cluster

from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.report import junit
from pgtasks.schema.trigger import cases, trial
from pgtasks.schema.trigger.cases import Suite
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.tap import Tap
from pgtasks.settings.project import load
from pgtasks.settings.target import Target

GOOD = """-- Tests of notes.
CREATE TABLE tried (id int PRIMARY KEY, done bool);
INSERT INTO tried VALUES (1, true), (2, NULL);

-- the first is done
SELECT done FROM tried WHERE id = 1;

-- no two with one key
-- expect: error 23505 duplicate key
INSERT INTO tried VALUES (1);
-- expect: error
SELECT 1 / 0;
-- expect: rows 2
SELECT * FROM tried;
-- expect: row 1 | true
-- expect: row 2 | NULL
SELECT id, done FROM tried ORDER BY id;
-- values are as the server writes them
-- expect: row {1,2} | {"a": [1.50]} | 2001-02-03 | x | 1.50 | \\x00
SELECT '{1,2}'::int[],
    '{"a": [1.50]}'::jsonb, '2001-02-03'::date, 'x'::"char", 1.50, '\\x00'::bytea;
SELECT 'no check: 100%'
"""


def suite(text: str, name: str = "sql/tests/a.sql") -> Suite:
    file = SqlFile(name, text)
    return Suite(file, tuple(cases.cases(file)))


def test_what_is_expected_and_rolled_back(cluster: Cluster, target: Target) -> None:
    tested = trial.run([suite(GOOD)], target)
    assert [(each.line, each.name, each.fault) for each in tested.checks] == [
        (6, "the first is done", ""),
        (10, "no two with one key", ""),
        (12, "SELECT 1 / 0", ""),
        (14, "SELECT * FROM tried", ""),
        (17, "SELECT id, done FROM tried ORDER BY id", ""),
        (20, "values are as the server writes them", ""),
    ]
    assert tested.lines()[0] == "ok    sql/tests/a.sql  6 checks"
    assert tested.lines()[-1].startswith("6 checks passed in 1 file (")
    tested.check()
    assert cluster.value("SELECT to_regclass('tried')", target.database) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SELECT false", "false, not true"),
        ("SELECT x FROM (VALUES (true), (NULL)) v (x)", "NULL, not true"),
        ("SELECT true WHERE false", "no rows, not true"),
        ("SELECT 1/0; SELECT false", "error 22012: division by zero"),
        ("-- expect: error 23505\nSELECT 1/0", "error 22012: division by zero, not error 23505"),
        (
            "-- expect: error 22012 nothing\nSELECT 1/0",
            "error 22012: division by zero, not error 22012 nothing",
        ),
        ("-- expect: error\nSELECT 1", "no error, not error"),
        ("-- expect: rows 1\nSELECT 1 WHERE false", "0 rows, not 1"),
        ("-- expect: row 1\nSELECT 2 UNION SELECT 1 ORDER BY 1", "rows 1; 2, not 1"),
        ("DO $$ BEGIN RAISE 'no: %', 1; END $$", "error P0001: no: 1"),
    ],
)
def test_what_is_not_as_expected_fails(target: Target, text: str, fault: str) -> None:
    tested = trial.run([suite(text)], target)
    assert [each.fault for each in tested.checks] == [fault]
    with pytest.raises(
        NotProven, match=r"1 of 1 check failed in 1 file .* the first at sql/tests/a"
    ):
        tested.check()


@pytest.mark.parametrize(
    "text", ["COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT x", "PREPARE TRANSACTION 'x'"]
)
def test_a_test_that_ends_its_transaction_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^sql/tests/a\.sql:2: \w+ in a test: each test runs in one"):
        suite(f"SELECT 1;\n{text}; SELECT 2")


COMMITS = r"""
CREATE TABLE kept (id int);
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO kept VALUES (1); COMMIT; END $$;
ALTER DATABASE {database} SET standard_conforming_strings = off
"""


@pytest.mark.parametrize(
    "text",
    [
        "CALL commits()",
        "DO $$ BEGIN INSERT INTO kept VALUES (1); COMMIT; END $$",
        # one string to the parser, three statements where a backslash escapes
        r"INSERT INTO kept VALUES (1); SELECT '\'' ; COMMIT; --'",
        r"SET standard_conforming_strings = off; INSERT INTO kept VALUES (1);"
        r" SELECT '\'' ; COMMIT; --'",
        r"SELECT set_config('standard_conforming_strings', 'off', false);"
        r"INSERT INTO kept VALUES (1); SELECT '\'' ; COMMIT; --'",
        # the last byte of a character in SJIS is a backslash
        "SET client_encoding = 'SJIS'; INSERT INTO kept VALUES (1);"
        " SELECT E'\u00c1\\'; COMMIT; BEGIN; SAVEPOINT pgtasks_test; SELECT 1; --'",
        "SELECT set_config('client_encoding', 'SJIS', false); INSERT INTO kept VALUES (1);"
        " SELECT E'\u00c1\\'; COMMIT; BEGIN; SAVEPOINT pgtasks_test; SELECT 1; --'",
    ],
)
def test_nothing_that_a_test_does_is_committed(cluster: Cluster, target: Target, text: str) -> None:
    cluster.execute("CREATE TABLE kept (id int)", target.database)
    for statement in COMMITS.format(database=target.database).strip().split(";\n")[1:]:
        cluster.execute(statement, target.database)
    tested = trial.run([suite(text)], target)
    assert [each.fault for each in tested.faults()] == (
        []
        if "SELECT '" in text or "SJIS" in text
        else ["error 2D000: invalid transaction termination"]
    )
    assert cluster.value("SELECT count(*) FROM kept", target.database) == 0


def test_a_transaction_that_is_not_the_first_is_noticed(target: Target) -> None:
    """Also if the parser reads a statement otherwise than the server does."""
    (case,) = suite("SELECT 1").cases
    script = "COMMIT; BEGIN; SAVEPOINT pgtasks_test; SELECT true"
    read = replace(case, statement=replace(case.statement, text=script))
    with pytest.raises(Failed, match=r"a\.sql:1: it ended the transaction"):
        trial.run([Suite(read.statement.file, (read,))], target)


def test_unknown_expectations_and_files_are_refused(project: Path) -> None:
    with pytest.raises(Refused, match=r"^sql/tests/a\.sql:2: expect: 'eror' is not known: write"):
        suite("-- expect: eror\nSELECT 1")
    with pytest.raises(Refused, match=r"^no tests here: sql/tests holds no \*\.sql$"):
        cases.read(load(project))
    (project / "sql" / "tests").mkdir(parents=True)
    for name in ("one.sql", "two.sql"):
        (project / "sql" / "tests" / name).write_text("SELECT true")
    chosen = cases.read(load(project), ["two"])
    assert [each.file.name for each in chosen] == ["sql/tests/two.sql"]
    assert len(cases.read(load(project), ["tests/one.sql", "two.sql"])) == 2
    with pytest.raises(Refused, match=r"^no test .three. in sql/tests$"):
        cases.read(load(project), ["one", "three"])


PGTAP = """
SELECT plan(3);
SELECT ok(true, 'it is');
SELECT is(1, 2, 'one is two');
-- a plain check beside them
SELECT true;
SELECT throws_ok('SELECT 1/0', '22012', NULL, 'it fails');
SELECT * FROM finish();
"""


def test_lines_of_pgtap_are_checks(
    system_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    """Where the extension is installed; elsewhere a text is a text."""
    target = system_cluster.target(fresh_database(system_cluster))
    lines = [("1..2",), ("ok 1 - a",), ("not ok 2 - b\n# have: 1\n# want: 2",)]
    assert trial.tap_lines(lines) == [("a", ""), ("b", "not ok; have: 1; want: 2")]
    assert trial.run([suite("VALUES ('ok 1 - a')")], target).checks == ()
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgtap'"
    if not system_cluster.value(available):
        pytest.skip("no pgTAP: apt-get install postgresql-15-pgtap")
    system_cluster.execute("CREATE EXTENSION pgtap", target.database)
    tested = trial.run([suite(PGTAP)], target)
    assert [(each.name, bool(each.fault)) for each in tested.checks] == [
        ("it is", False),
        ("one is two", True),
        ("a plain check beside them", False),
        ("it fails", False),
    ]
    assert "have: 1; want: 2" in tested.faults()[0].fault


def test_tap_and_junit(inv: Any, project: Path, cluster: Cluster, database: str) -> None:
    (project / "sql" / "tests").mkdir(parents=True)
    (project / "sql" / "tests" / "a.sql").write_text(GOOD)
    bad = (
        "-- is <it> #1\nSELECT 'a\"b' = 'c'; -- expect: row \x01\n-- expect: row x\nSELECT E'\\x02'"
    )
    (project / "sql" / "tests" / "é.sql").write_text(bad, encoding="utf-8")
    done = inv("trigger.test", "--tap", "--junit", "out.xml")
    assert done.returncode == 5
    assert done.stdout.splitlines()[:4] == [
        "TAP version 13",
        "1..8",
        "ok 1 - the first is done",
        "ok 2 - no two with one key",
    ]
    assert done.stdout.splitlines()[8:14] == [
        "not ok 7 - is <it> \\#1",
        "  ---",
        '  message: "false, not true"',
        '  at: "sql/tests/\\u00e9.sql:2"',
        "  ...",
        "not ok 8 - SELECT E'\\x02'",
    ]
    root = ElementTree.parse(project / "out.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("8", "2")
    assert [each.get("name") for each in root] == ["sql/tests/a.sql", "sql/tests/é.sql"]
    failures = [each.get("message") for each in root.iter("failure")]
    assert failures[0] == "false, not true"

    one = inv("trigger.test", "--file", "a", "--json")
    assert (one.returncode, json.loads(one.stdout)["passed"]) == (0, 6)
    with pytest.raises(Failed, match=r"x\.xml: No such file"):
        junit.write(project / "nowhere" / "x.xml", "trigger.test", ())
    with (project / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    refused = inv("trigger.test", "--file", "a", "--junit", "out.xml")
    assert refused.returncode == 2
    assert "tests change rows, even if they are rolled back" in refused.stderr
    [fault] = ElementTree.parse(project / "out.xml").iter("error")
    assert "tests change rows, even if they are rolled back" in str(fault.get("message"))


def test_the_triggers_of_this_repository_pass_their_tests(
    cluster: Cluster, templates: Templates
) -> None:
    with cloned(cluster, templates.bare(cluster)) as clinic:
        suites = cases.read(load(ROOT))
        target = cluster.target(clinic.name)
        tested = trial.run(suites, target)
        assert tested.faults() == []
        assert len(suites) == 6
        assert len(tested.checks) >= 17
        assert Tap(tested).lines()[1] == f"1..{len(tested.checks)}"
        clinic.run("ALTER TABLE hospitals DISABLE TRIGGER USER")
        assert {each.file for each in trial.run(suites, target).faults()} == {
            f"sql/tests/{name}.sql" for name in ("set_timestamps", "track_user", "write_audit_log")
        }
