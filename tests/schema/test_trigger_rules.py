"""Triggers attached by rule: to every table with certain columns, also to a new one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from paths import SUPPORT
from servers import Cluster
from shops import Shop
from triggers import TOUCH

from migrations import revision, write_env
from pgtasks.errors import BadConfiguration
from pgtasks.schema import trigger
from pgtasks.settings.project import load
from pgtasks.settings.target import Target

RULES = """
pgtasks:
  triggers:
    touch:
      columns: [at]
      schemas: [public]
      leave_out: [public.logs]
      function: public.touch
    log it:
      columns: [id, text]
      fires: AFTER INSERT OR DELETE
      when: current_setting('app.log', true) IS DISTINCT FROM 'off'
      function: touch
      arguments: ["{key}", "it's"]
"""
TABLES = """
CREATE TABLE notes ("the id" int PRIMARY KEY, id int, text text, at timestamptz);
CREATE TABLE logs (id int, at timestamptz);
CREATE TABLE pairs (id int, text text, PRIMARY KEY (id, text));
CREATE TABLE parted (id int, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);
CREATE SCHEMA other; CREATE TABLE other.notes (id int, at timestamptz);
CREATE VIEW shown AS SELECT * FROM notes;
"""


@pytest.fixture
def ruled(cluster: Cluster, target: Target, project: Path) -> Path:
    cluster.execute(TABLES, target.database)
    (project / "invoke.yaml").write_text(RULES.lstrip())
    (project / "sql" / "functions").mkdir(parents=True)
    (project / "sql" / "functions" / "touch.sql").write_text(TOUCH, encoding="utf-8")
    return project


def states(project: Path, target: Target) -> dict[str, str]:
    verification = trigger.verify(trigger.read(load(project)), target)
    return {each.name: each.state for each in verification.findings if each.kind == "trigger"}


def test_a_rule_attaches_its_trigger_to_the_tables_that_match(
    cluster: Cluster, target: Target, ruled: Path
) -> None:
    files = trigger.read(load(ruled))
    names = ["touch on public.notes", "touch on public.parted", "log it on public.notes"]
    assert states(ruled, target) == dict.fromkeys(names, "MISSING")
    planned = trigger.plan(files, target)
    assert planned.warnings == (
        "invoke.yaml:8: rule log it: public.pairs has no primary key of one column, it is left out",
    )
    assert [each.name for each in planned.changes if each.kind == "trigger"] == names

    trigger.apply(files, target)

    assert set(states(ruled, target).values()) == {"INSTALLED"}
    definition = cluster.value(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'log it'", target.database
    )
    assert "AFTER INSERT OR DELETE" in definition
    assert "EXECUTE FUNCTION touch('the id', 'it''s')" in definition
    assert trigger.apply(files, target).changes == ()

    cluster.execute("CREATE TABLE new (id int, at timestamptz)", target.database)
    assert states(ruled, target)["touch on public.new"] == "MISSING"
    assert "--- database: trigger touch on public.new\n+++ invoke.yaml:3 (MISSING)" in "\n".join(
        trigger.diff(files, target).lines()
    )
    assert [each.name for each in trigger.apply(files, target).changes] == ["touch on public.new"]
    listed = {each.table: each for each in trigger.listing(files, target).triggers}
    assert (listed["public.new"].state, listed["public.new"].where) == (
        "INSTALLED",
        "invoke.yaml:3",
    )
    cluster.execute("ALTER TABLE new DROP at", target.database)
    assert states(ruled, target)["touch on public.new"] == "ORPHAN"
    planned_drop = trigger.plan_drop(files, target, trigger.Selection(orphans=True))
    assert [each.table for each in planned_drop.triggers] == ["public.new"]


PAGILA = """
pgtasks:
  triggers:
    last_updated:
      columns: [last_update]
      fires: BEFORE UPDATE
      function: public.last_updated
"""
CLOCK = """
CREATE OR REPLACE FUNCTION public.last_updated() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$ BEGIN NEW.last_update := clock_timestamp(); RETURN NEW; END $$;
"""


def test_the_triggers_of_a_database_that_we_did_not_write(
    cluster: Cluster, target: Target, project: Path
) -> None:
    """Its own triggers become those of a rule: they differ in nothing but their function's body."""
    text = gzip.decompress((SUPPORT / "data" / "pagila.sql.gz").read_bytes()).decode()
    schema = text.partition("COPY ")[0].replace("CREATE PROCEDURAL LANGUAGE plpgsql;", "")
    cluster.psql(target.database, schema)
    listed = {each.trigger: each for each in trigger.listing([], target).triggers}
    assert listed["film_fulltext_trigger"].fires == "before insert, update"
    assert {each.state for each in listed.values()} == {"ORPHAN"}
    (project / "invoke.yaml").write_text(PAGILA.lstrip())
    (project / "sql" / "functions").mkdir(parents=True)
    (project / "sql" / "functions" / "clock.sql").write_text(CLOCK)
    files = trigger.read(load(project))
    found = trigger.verify(files, target)
    assert [(each.name, each.state) for each in found.findings if each.kind == "function"] == [
        ("public.last_updated()", "CHANGED")
    ]
    assert found.count("INSTALLED") >= 13
    assert found.count("ORPHAN") == 1
    trigger.apply(files, target)
    after = trigger.verify(files, target)
    assert (after.faults(), after.count("ORPHAN")) == ([], 1)
    assert [each.state for each in trigger.diff(files, target).diffs] == ["ORPHAN"]


def test_a_trigger_of_a_file_is_not_the_rules(target: Target, ruled: Path) -> None:
    (ruled / "sql" / "triggers").mkdir()
    (ruled / "sql" / "triggers" / "own.sql").write_text(
        "CREATE OR REPLACE TRIGGER touch BEFORE INSERT ON notes EXECUTE FUNCTION touch();"
    )
    trigger.apply(trigger.read(load(ruled)), target)
    found = trigger.verify(trigger.read(load(ruled)), target)
    assert not found.faults(orphans=True)
    assert [each.where for each in found.findings if each.name.startswith("touch on")] == [
        "invoke.yaml:3",
        "sql/triggers/own.sql:1",
    ]


def test_a_data_migration_does_not_meet_the_trigger_of_a_rule(
    cluster: Cluster, target: Target, ruled: Path
) -> None:
    later = TOUCH.replace("NEW.at := now();", "NEW.later := 1;")
    (ruled / "sql" / "functions" / "touch.sql").write_text(later, encoding="utf-8")
    trigger.apply(trigger.read(load(ruled)), target)
    shop = Shop(cluster, target, ruled)
    write_env(shop.folder)
    revision(shop.folder, "one", None, "op.execute('INSERT INTO notes VALUES (1)')")
    block = "DO $$ BEGIN INSERT INTO notes VALUES (2); END $$"
    revision(shop.folder, "two", "one", f"op.execute({block!r})")
    shop.up()
    assert cluster.value("SELECT count(*) FROM notes", target.database) == 2
    assert set(states(ruled, target).values()) == {"INSTALLED"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("columns: [at]", "columns: []", ":3: pgtasks.triggers.touch.columns: name the columns"),
        (
            "schemas",
            "schema",
            "unknown key 'pgtasks.triggers.touch.schema', did you mean 'schemas'",
        ),
        ("AFTER INSERT OR", "AFTERWARDS", ":8: pgtasks.triggers.log it: syntax error"),
        ("function: touch\n", "function: touch(); SELECT touch\n", ":8: .*expected the parts"),
    ],
)
def test_a_rule_that_is_wrong_is_named_with_its_line(
    ruled: Path, before: str, after: str, words: str
) -> None:
    (ruled / "invoke.yaml").write_text(RULES.lstrip().replace(before, after, 1))
    with pytest.raises(
        BadConfiguration, match=f"^invoke.yaml{words}" if words[0] == ":" else words
    ):
        trigger.read(load(ruled))


def test_a_rule_without_a_table_is_said(ruled: Path, target: Target) -> None:
    (ruled / "invoke.yaml").write_text(RULES.lstrip().replace("[at]", "[nowhere]"))
    warnings = trigger.verify(trigger.read(load(ruled)), target).warnings
    assert warnings[0] == "invoke.yaml:3: rule touch matches no table"
