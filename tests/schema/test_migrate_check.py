"""migrate.check: the built-in rules, squawk, ignored rules, models against the database, heads."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from shops import Shop, two_revisions

from migrations import revision
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.schema import migrate
from pgtasks.schema.migrate.lint import ignores, rules
from pgtasks.settings.target import Target

CONCURRENT = "ban-concurrent-index-creation-in-transaction"


@pytest.fixture
def shop(cluster: Cluster, target: Target, project: Path) -> Shop:
    return two_revisions(cluster, target, project)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE INDEX i ON a (b)", ["require-concurrent-index-creation"]),
        ("CREATE TABLE a (b int); CREATE INDEX i ON a (b)", []),
        (
            "CREATE TABLE s.a (b int); CREATE INDEX i ON a (b)",
            ["require-concurrent-index-creation"],
        ),
        ("CREATE INDEX CONCURRENTLY i ON a (b)", [CONCURRENT]),
        ("COMMIT; CREATE INDEX CONCURRENTLY i ON a (b); BEGIN", []),
        ("COMMIT; BEGIN; CREATE INDEX CONCURRENTLY i ON a (b)", [CONCURRENT]),
        ("DROP INDEX i", ["require-concurrent-index-deletion"]),
        ("DROP INDEX CONCURRENTLY i", [CONCURRENT]),
        ("DROP TABLE a", ["ban-drop-table"]),
        ("DROP VIEW v CASCADE", ["ban-cascade"]),
        ("ALTER TABLE a DROP COLUMN b", ["ban-drop-column"]),
        ("ALTER TABLE a RENAME TO b", ["renaming-table"]),
        ("ALTER TABLE a RENAME COLUMN b TO c", ["renaming-column"]),
        ("ALTER TABLE a RENAME CONSTRAINT b TO c", []),
        ("ALTER TABLE a ALTER COLUMN b TYPE bigint", ["changing-column-type"]),
        ("ALTER TABLE a ALTER COLUMN b SET NOT NULL", ["adding-not-nullable-field"]),
        ("ALTER TABLE a ADD b int", []),
        ("ALTER TABLE a ADD b int NOT NULL", ["adding-required-field"]),
        ("ALTER TABLE a ADD b int NOT NULL DEFAULT 0", []),
        ("ALTER TABLE a ADD b timestamptz DEFAULT now()", []),
        ("ALTER TABLE a ADD b uuid DEFAULT gen_random_uuid()", ["adding-field-with-default"]),
        ("ALTER TABLE a ADD b int DEFAULT (1 + f(2))", ["adding-field-with-default"]),
        ("ALTER TABLE a ADD b serial", ["adding-field-with-default"]),
        ("ALTER TABLE a ADD b int GENERATED ALWAYS AS (1) STORED", ["adding-field-with-default"]),
        ("ALTER TABLE a ADD b int UNIQUE", ["disallowed-unique-constraint"]),
        ("ALTER TABLE a ADD b int REFERENCES c", ["constraint-missing-not-valid"]),
        ("ALTER TABLE a ADD CHECK (b > 0)", ["constraint-missing-not-valid"]),
        ("ALTER TABLE a ADD CHECK (b > 0) NOT VALID", []),
        ("ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES c", ["constraint-missing-not-valid"]),
        ("ALTER TABLE a ADD PRIMARY KEY (b)", ["disallowed-unique-constraint"]),
        ("ALTER TABLE a ADD PRIMARY KEY USING INDEX i", []),
        ("ALTER TABLE a SET UNLOGGED", ["table-rewrite"]),
        ("VACUUM FULL a", ["table-rewrite"]),
        ("TRUNCATE a", ["ban-truncate"]),
        ("UPDATE a SET b = 1", ["change-of-all-rows"]),
        ("DELETE FROM a WHERE b = 1", []),
        ("REINDEX TABLE a", ["require-concurrent-reindex"]),
        ("REINDEX TABLE CONCURRENTLY a", []),
        ("REFRESH MATERIALIZED VIEW a", ["require-concurrent-refresh"]),
        ("DROP DATABASE a", ["ban-drop-database"]),
        ("SELECT 1;\nALTER TABEL a", ["syntax-error"]),
    ],
)
def test_the_built_in_rules(sql: str, expected: list[str]) -> None:
    assert [each.rule for each in rules.findings(sql)] == expected


def test_a_finding_has_the_line_of_its_statement() -> None:
    found = rules.findings("SELECT 1;\n\nDROP TABLE\n  a;")
    assert [(each.line, each.statement) for each in found] == [(3, "DROP TABLE a")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("lint_ignore = {'ban-drop-table': 'nobody reads it since 2.3'}", None),
        ("lint_ignore: dict[str, str] = {'ban-drop-table': 'nobody reads it since 2.3'}", None),
    ],
)
def test_a_revision_says_what_it_ignores(tmp_path: Path, text: str, expected: Any) -> None:
    (tmp_path / "one.py").write_text(f"raise SystemExit('not run')\n{text}\n")
    whole = {"ban-drop-table": "nobody reads it since 2.3"}
    assert ignores.read(tmp_path / "one.py", "one.py") == (whole if expected is None else expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lint_ignore = {'ban-drop-table': ' '}", "'ban-drop-table' has no reason"),
        ("lint_ignore = {'ban-drop-table': None}", "'ban-drop-table' has no reason"),
        ("lint_ignore = ['ban-drop-table']", "expected {"),
        ("lint_ignore = dict(a='b')", "expected {"),
    ],
)
def test_an_ignored_rule_needs_a_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "one.py").write_text(text)
    with pytest.raises(BadConfiguration, match=rf"^m/one.py:1: lint_ignore.*{words}"):
        ignores.read(tmp_path / "one.py", "m/one.py")


def check(shop: Shop, since: str | None = None) -> migrate.Checked:
    return migrate.check(*shop.place, since=since)


def test_what_a_pipeline_asks_for(inv: Any, shop: Shop) -> None:
    shop.up("one")
    index = "op.execute('CREATE INDEX by_text ON notes (text)')"
    revision(shop.folder, "three", "two", index)

    failed = inv("migrate.check", "--json")

    assert failed.returncode == 5
    document = json.loads(failed.stdout)
    assert document["exit_code"] == 5
    assert document["models"] is None
    assert document["models_not_compared"] == "the database is not at the head of the files"
    linted = {each["revision"]: each for each in document["lint"]["revisions"]}
    assert list(linted) == ["two", "three"]  # one at a time, what is released is not linted
    assert linted["two"]["findings"] == []
    found = linted["three"]["findings"][0]
    assert (found["rule"], found["line"]) == ("require-concurrent-index-creation", 1)
    shown = inv("migrate.check")
    assert shown.returncode == 5
    assert (
        "  migrations/versions/three.py: require-concurrent-index-creation: writes wait until the "
        "index is built: CREATE INDEX CONCURRENTLY in an autocommit_block"
    ) in shown.stdout.splitlines()

    file = shop.folder / "versions" / "three.py"
    ignored = "lint_ignore = {'require-concurrent-index-creation': 'the table is small'}\n"
    file.write_text(file.read_text().replace("def upgrade", f"{ignored}\ndef upgrade"))
    passed = inv("migrate.check")
    assert passed.returncode == 0, passed.stderr
    assert (
        "  migrations/versions/three.py: ignored: require-concurrent-index-creation: "
        "the table is small"
    ) in passed.stdout.splitlines()

    assert "  no fault before a release, --at-head makes it one" in passed.stdout
    behind = inv("migrate.check", "--at-head")
    assert behind.returncode == 5
    assert behind.stderr.splitlines()[-1] == "error: behind 2: at one, head is three"
    assert "no fault" not in behind.stdout

    up = inv("migrate.up", "--no-backup")
    assert "no fault" not in inv("migrate.check", "--at-head").stdout
    assert "lint: migrations/versions/three.py: ignored: require" in up.stderr
    differs = inv("migrate.check")
    assert differs.returncode == 5  # no model has that index
    assert "  remove index: by_text of notes" in differs.stdout.splitlines()


def test_up_warns_of_what_lint_finds_and_goes_on(inv: Any, shop: Shop) -> None:
    shop.up()
    revision(shop.folder, "three", "two", "op.execute('DROP TABLE notes')")
    done = inv("migrate.up", "--no-backup", "--json")
    assert done.returncode == 0
    assert "lint: migrations/versions/three.py: ban-drop-table" in done.stderr
    assert json.loads(done.stdout)["steps"][0]["step"] == "lint"
    shop.down()
    quiet = inv("migrate.up", "--no-backup", "--no-lint")
    assert "lint" not in quiet.stderr


def test_models_that_differ_from_the_database(shop: Shop) -> None:
    shop.up()
    assert check(shop).faults() == []
    shop.cluster.execute(
        "ALTER TABLE notes DROP COLUMN text; CREATE TABLE more (); DROP TABLE tags;"
        ' CREATE INDEX "By Id" ON notes (id)',
        shop.target.database,
    )
    found = check(shop)
    assert sorted(found.compared.differences or ()) == [
        "add column: notes.text",
        "add table: tags",
        'remove index: "By Id" of notes',
        "remove table: more",
    ]
    assert found.faults() == [
        "models and database differ: inv migrate.new -m TEXT writes a revision"
    ]


def test_without_models_nothing_is_compared(shop: Shop) -> None:
    shop.up()
    text = (shop.folder / "env.py").read_text().replace(", target_metadata=metadata", "")
    (shop.folder / "env.py").write_text(text)
    found = check(shop)
    assert found.compared.why.startswith("env.py has no target_metadata: ")
    assert found.faults() == []


def test_two_heads_and_a_revision_that_needs_the_database(shop: Shop) -> None:
    shop.up()
    asks = "op.get_bind().exec_driver_sql('SELECT 1').scalar_one()"
    revision(shop.folder, "east", "two", asks)
    revision(shop.folder, "west", "two", "pass")
    found = check(shop)
    assert found.faults() == [
        "2 heads, east, west: inv migrate.merge joins them, --to REVISION chooses one"
    ]
    assert (
        "  migrations/versions/east.py: not linted: what it runs cannot be told without running it"
    ) in found.lines()


def test_since_a_revision(shop: Shop) -> None:
    shop.up()
    linted = check(shop, since="one").linted.revisions
    assert [each.revision.id for each in linted] == ["two"]
    assert check(shop).linted.revisions == ()
    with pytest.raises(Refused, match="--since 'nine'"):
        check(shop, since="nine")


def test_squawk_where_it_is_installed(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that answers as squawk 2.70 does: version and text are given to it."""
    program = tmp_path / "bin" / "squawk"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncat > seen.sql; echo "$@" > seen.argv\n'
        'echo \'[{"file":"revision.sql","line":0,"column":0,"level":"Warning","message":"Dropping",'
        '"help":"Wait","rule_name":"ban-drop-table","column_end":9,"line_end":0},{"line":0,'
        '"message":"Missing","help":null,"rule_name":"require-lock-timeout"}]\'; exit 1\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    shop.up("one")
    found = check(shop)
    assert found.linted.by == "squawk"
    (linted,) = found.linted.revisions
    assert [(each.rule, each.message) for each in linted.findings] == [
        ("ban-drop-table", "Dropping Wait")
    ]
    assert "CREATE TABLE tags" in (shop.root / "seen.sql").read_text()
    assert "--assume-in-transaction --pg-version 16.0" in (shop.root / "seen.argv").read_text()
