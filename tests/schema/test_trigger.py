"""Trigger files: applied in one transaction, compared with the catalog, nothing missed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from triggers import ON_NOTES, TOUCH

from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.host.local import HERE
from pgtasks.schema import file, trigger
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.server import connection
from pgtasks.settings.target import Target

TABLE = """
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TABLE notes (
    id int PRIMARY KEY, text varchar(20), mood mood, price numeric(8, 2), at timestamptz
);
"""


def files(*texts: str) -> tuple[SqlFile, ...]:
    return tuple(SqlFile(f"sql/{number}.sql", text) for number, text in enumerate(texts, 1))


def states(found: trigger.Verification) -> dict[str, str]:
    return {f"{each.kind} {each.name}": each.state for each in found.findings}


def when(condition: str, level: str = "ROW", event: str = "UPDATE") -> str:
    return (
        f"CREATE OR REPLACE TRIGGER touch BEFORE {event} ON notes FOR EACH {level}"
        f" WHEN ({condition}) EXECUTE FUNCTION touch();"
    )


@pytest.fixture
def notes(cluster: Cluster, target: Target) -> Target:
    cluster.execute(TABLE, target.database)
    return target


def test_what_was_applied_is_installed(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(TABLE, target.database)
    made = files(TOUCH, ON_NOTES)
    assert set(states(trigger.verify(made, target)).values()) == {"MISSING"}

    first = trigger.apply(made, target)

    assert [(each.what, each.kind, each.name) for each in first.changes] == [
        ("created", "function", "touch()"),
        ("created", "trigger", "touch on public.notes"),
    ]
    found = trigger.verify(made, target)
    assert states(found) == {"function touch()": "INSTALLED", "trigger touch on notes": "INSTALLED"}
    assert not found.faults(orphans=True)
    second = trigger.apply(made, target)
    assert (second.changes, second.unchanged) == ((), 2)


@pytest.mark.parametrize(
    "condition",
    [
        "NEW.text = 'a'",
        "NEW.text IN ('a', 'b')",
        "NEW.text NOT IN ('a', 'b') AND NEW.id BETWEEN 1 AND 5",
        "OLD.* IS DISTINCT FROM NEW.*",
        "OLD IS DISTINCT FROM NEW",
        "OLD.mood IS DISTINCT FROM NEW.mood OR NEW.mood = 'low'",
        "NEW.text LIKE 'x%' OR NEW.text ILIKE '%y'",
        "NEW.price > 3 AND NEW.price::int <> 5",
        "coalesce(current_setting('app.audit', true), 'on') <> 'off'",
        "pg_trigger_depth() = 0",
        "CASE WHEN NEW.id > 1 THEN true ELSE NEW.at < now() - interval '1 day' END",
        "(NEW.text COLLATE \"C\") > 'm'",
        "NEW.text = ANY ('{a,b}')",
        "NEW.text IS NULL",
        "session_user = 'someone'",
        "NEW.text SIMILAR TO 'a%'",
        "extract(year FROM NEW.at) > 2000",
    ],
)
def test_a_condition_is_the_same_however_the_server_writes_it(
    any_cluster: Cluster, fresh_database: Callable[..., str], condition: str
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(TABLE, target.database)
    made = files(TOUCH, when(condition))
    trigger.apply(made, target)
    assert states(trigger.verify(made, target))["trigger touch on notes"] == "INSTALLED"
    other = trigger.verify(files(TOUCH, when(f"({condition}) AND NEW.id <> 77")), target)
    assert states(other)["trigger touch on notes"] == "OUTDATED"


def test_conditions_with_the_same_look_and_another_meaning_are_told_apart(notes: Target) -> None:
    trigger.apply(files(TOUCH, when("NEW.price::int = 3")), notes)
    found = trigger.verify(files(TOUCH, when("NEW.price = 3")), notes)
    assert [each.note for each in found.faults()] == ["when"]


# what runs in a session that only reads ends it
HOSTILE = """
CREATE FUNCTION run() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(600);
    END IF;
    RETURN 1;
END $$;
CREATE FUNCTION evil(anyelement) RETURNS int IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN public.run(); END $$;
CREATE FUNCTION lower(varchar) RETURNS text IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN public.run(); END $$;
CREATE FUNCTION same(int, int) RETURNS bool IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN public.run() = 1; END $$;
CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = int);
CREATE DOMAIN checked AS int CHECK (evil(VALUE) = 1);
CREATE TYPE own AS (a int);
CREATE FUNCTION to_int(own) RETURNS int IMMUTABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN public.run(); END $$;
CREATE CAST (own AS int) WITH FUNCTION to_int(own);
"""


@pytest.mark.parametrize(
    "condition",
    [
        "OLD.id IS DISTINCT FROM evil(1)",
        "OLD.id = 1 AND 1 === 2",
        "OLD.id = '1'::checked",
        "OLD.id = '(1)'::own::int",
        "OLD.text = lower('A'::varchar)",
        "OLD.id IN (1, 2, 3)",  # harmless: its table's index and policy are not
    ],
)
def test_no_code_of_the_database_runs_to_compare(
    cluster: Cluster, notes: Target, condition: str
) -> None:
    cluster.execute(HOSTILE, notes.database)
    cluster.execute(
        f"""
        {TOUCH} {when(condition)}
        CREATE FUNCTION f(a int DEFAULT evil(1), b int DEFAULT '(1)'::own::int) RETURNS int
            LANGUAGE sql AS 'SELECT 1';
        CREATE INDEX ON notes ((id + evil(1)));
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON notes USING (evil(2) = 1);
        ALTER DATABASE {notes.database} SET standard_conforming_strings = off;
        """,
        notes.database,
    )
    f = "CREATE FUNCTION f(a int DEFAULT 1, b int DEFAULT 2) RETURNS int LANGUAGE sql AS 'SELECT 1'"
    harmless = trigger.verify(files(TOUCH, when("OLD.id IN (1, 2)"), f), notes)
    assert [each.note for each in harmless.faults()] == ["default values", "when"]
    same = files(
        TOUCH, when(condition), f.replace("1,", "evil(1),").replace("2)", "'(1)'::own::int)")
    )
    assert not trigger.verify(same, notes).faults()


@pytest.mark.parametrize(
    "condition",
    [
        "NEW.mood IN ('low', 'high') AND NEW.id > -1",
        "NEW.mood NOT IN ('low') AND NEW.id BETWEEN 1 AND 5 AND NEW.text LIKE 'a%'",
        "own_view(NEW.id)",
        "public.own_view(NEW.id) AND NEW.id IN (1, 2)",
    ],
)
def test_a_condition_with_what_is_a_users_own(
    cluster: Cluster, notes: Target, condition: str
) -> None:
    cluster.execute(
        "CREATE FUNCTION own_view(int) RETURNS bool LANGUAGE sql AS 'SELECT true'", notes.database
    )
    made = files(TOUCH, when(condition))
    trigger.apply(made, notes)
    assert not trigger.verify(made, notes).faults()
    other = trigger.verify(files(TOUCH, when(f"{condition} AND NEW.id <> 7")), notes)
    assert [each.note for each in other.faults()] == ["when"]


@pytest.mark.parametrize(
    ("before", "after", "note"),
    [
        ("now(); -- ü", "clock_timestamp(); -- ü", "body"),
        ("-- ü 🐘", "-- u 🐘", "body"),
        ("pg_catalog, pg_temp", "pg_catalog, public, pg_temp", "search_path"),
        ("    SET search_path = pg_catalog, pg_temp\n", "", "search_path"),
        ("plpgsql", "plpgsql SECURITY DEFINER", "security definer"),
        ("plpgsql", "plpgsql STABLE", "volatility"),
        ("plpgsql", "plpgsql STRICT SET work_mem = '1MB'", "strict, work_mem"),
        ("pg_catalog, pg_temp", "'pg_catalog, pg_temp'", "search_path"),
    ],
)
def test_a_function_that_differs_is_changed(
    notes: Target, before: str, after: str, note: str
) -> None:
    assert before in TOUCH
    trigger.apply(files(TOUCH), notes)
    changed = files(TOUCH.replace(before, after))
    found = trigger.verify(changed, notes)
    assert [(each.state, each.note) for each in found.findings] == [("OUTDATED", note)]
    applied = trigger.apply(changed, notes)
    assert [each.what for each in applied.changes] == ["replaced"]
    assert not trigger.verify(changed, notes).faults()


@pytest.mark.parametrize(
    ("statement", "note"),
    [
        ("AFTER INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch()", "timing"),
        ("BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch()", "events"),
        (
            "BEFORE INSERT OR UPDATE OF text ON notes FOR EACH ROW EXECUTE FUNCTION touch()",
            "columns",
        ),
        ("BEFORE INSERT OR UPDATE ON notes FOR EACH STATEMENT EXECUTE FUNCTION touch()", "level"),
        ("BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch('x')", "arguments"),
        (
            "BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION other.touch()",
            "function",
        ),
        (
            "BEFORE INSERT OR UPDATE ON notes FOR EACH ROW WHEN (true) EXECUTE FUNCTION touch()",
            "when",
        ),
    ],
)
def test_a_trigger_that_differs_is_changed(
    cluster: Cluster, notes: Target, statement: str, note: str
) -> None:
    other = TOUCH.replace("touch()", "other.touch()")
    cluster.execute("CREATE SCHEMA other", notes.database)
    trigger.apply(files(TOUCH, other, ON_NOTES), notes)
    changed = files(TOUCH, other, f"CREATE OR REPLACE TRIGGER touch {statement};")
    found = trigger.verify(changed, notes)
    assert [(each.state, each.note) for each in found.faults()] == [("OUTDATED", note)]
    trigger.apply(changed, notes)
    assert not trigger.verify(changed, notes).faults()


def test_triggers_of_every_kind_are_found_again(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(
        TABLE + 'CREATE SCHEMA "it\'s 🐘"; CREATE TABLE "it\'s 🐘"."a ""b"" table" (id int);'
        " CREATE VIEW shown AS SELECT * FROM notes;"
        " CREATE TABLE parted (id int) PARTITION BY RANGE (id);"
        " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);",
        target.database,
    )
    made = files(
        TOUCH,
        """
        CREATE TRIGGER "an odd ""name"" 🐘" AFTER INSERT OR DELETE ON "it's 🐘"."a ""b"" table"
            FOR EACH ROW EXECUTE FUNCTION public.touch('it''s', '🐘', 'a b');
        CREATE CONSTRAINT TRIGGER later AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE PROCEDURE touch();
        CREATE TRIGGER moved AFTER UPDATE ON notes
            REFERENCING OLD TABLE AS before NEW TABLE AS after
            FOR EACH STATEMENT EXECUTE FUNCTION touch();
        CREATE TRIGGER emptied BEFORE TRUNCATE ON notes EXECUTE FUNCTION touch();
        CREATE TRIGGER columns BEFORE UPDATE OF price, text ON notes
            FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER instead INSTEAD OF INSERT ON shown FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER parts AFTER INSERT ON parted
            FOR EACH ROW WHEN (NEW.id IN (1, 2)) EXECUTE FUNCTION touch();
        """,
    )
    trigger.apply(made, target)
    found = trigger.verify(made, target)
    assert set(states(found).values()) == {"INSTALLED"}, found.lines()
    assert len(found.findings) == 8


def test_functions_of_every_kind_are_found_again(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(TABLE + "CREATE SCHEMA \"an 'odd' one\"", target.database)
    made = files(
        """
        CREATE FUNCTION "an 'odd' one"."F ""x"" 🐘"(a int, b timestamptz[] DEFAULT '{}',
            c public.mood DEFAULT 'low', d numeric(8, 2) DEFAULT 1 + 2,
            VARIADIC e text[] DEFAULT '{}')
            RETURNS SETOF character varying LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
            AS 'SELECT ''x''::varchar';
        CREATE FUNCTION pair(OUT a int, INOUT b text) LANGUAGE sql AS 'SELECT 1, b';
        CREATE FUNCTION listed(n double precision) RETURNS TABLE (a int, b text)
            LANGUAGE sql STABLE LEAKPROOF SET work_mem = '1MB' SET search_path FROM CURRENT
            SET "app.ratio" = 1.5 AS 'SELECT 1, ''x''';
        CREATE FUNCTION atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
        CREATE PROCEDURE done() LANGUAGE sql SET search_path = '' AS '';
        """
    )
    trigger.apply(made, target)
    found = trigger.verify(made, target)
    assert set(states(found).values()) == {"INSTALLED"}, found.lines()
    assert [each.note for each in found.findings if each.note] == [
        "its BEGIN ATOMIC body is not compared"
    ]


def test_the_side_that_has_changed_is_named(cluster: Cluster, notes: Target) -> None:
    """A fingerprint in the comment, after a user's own text, tells OUTDATED from DRIFTED."""
    comments = (
        "SELECT string_agg(regexp_replace(obj_description(o, c), '[0-9a-f]{16}', '#', 'g'), '|')"
        " FROM (SELECT oid, 'pg_proc' FROM pg_proc WHERE proname = 'touch'"
        " UNION ALL SELECT oid, 'pg_trigger' FROM pg_trigger WHERE NOT tgisinternal) AS x (o, c)"
    )
    trigger.apply(files(TOUCH), notes)
    cluster.execute(
        ON_NOTES + "COMMENT ON TRIGGER touch ON notes IS 'mine: %'", notes.database
    )  # by hand
    installed = trigger.verify(files(TOUCH, ON_NOTES), notes)
    assert not installed.faults()
    later = TOUCH.replace("now()", "clock_timestamp()"), when("NEW.id > 1")
    found = trigger.verify(files(*later), notes)
    assert states(found) == {"function touch()": "OUTDATED", "trigger touch on notes": "CHANGED"}

    trigger.apply(files(*later), notes)
    mark = "pgtasks: file=# database=#"
    assert cluster.value(comments, notes.database) == f"{mark}|mine: %\n{mark}"
    cluster.execute(f"{TOUCH} {when('NEW.id > 2')}", notes.database)
    drifted = trigger.verify(files(*later), notes)
    assert set(states(drifted).values()) == {"DRIFTED"}
    both = trigger.verify(files(later[0] + " ", when("NEW.id > 3")), notes)
    assert [each.note for each in both.findings] == ["body", "when, the file has changed too"]
    with pytest.raises(NotProven, match="2 drifted"):
        drifted.check()
    assert [each.what for each in trigger.apply(files(*later), notes).changes] == ["replaced"] * 2
    assert cluster.value(comments, notes.database) == f"{mark}|mine: %\n{mark}"


def test_fingerprints_are_no_difference_of_two_schemas(
    cluster: Cluster, notes: Target, fresh_database: Callable[..., str]
) -> None:
    """One has the triggers by `apply`, the other by psql."""
    other = replace(notes, database=fresh_database(cluster))
    own = "COMMENT ON TRIGGER touch ON notes IS E'mine: ''\\\\\n%'"
    cluster.execute(f"{TABLE} {TOUCH} {ON_NOTES} {own}", other.database)
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    texts = [file.text(each, HERE) for each in (notes, other)]
    assert "pgtasks: file" not in texts[0]
    assert "COMMENT" not in texts[0]
    trigger.apply(files(TOUCH, ON_NOTES.replace("INSERT OR", "")), notes)
    cluster.execute(own, notes.database)
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    assert fingerprint_of(cluster, notes) != ""
    assert file.text(notes, HERE) == texts[1]


def fingerprint_of(cluster: Cluster, target: Target) -> str:
    query = (
        "SELECT coalesce(substring(obj_description(oid, 'pg_trigger') FROM 'pgtasks: .*'), '')"
        " FROM pg_trigger WHERE tgname = 'touch'"
    )
    return str(cluster.value(query, target.database))


def test_a_role_that_may_not_comment_on_a_table_can_apply_a_trigger(
    plain: Callable[..., str], cluster: Cluster, notes: Target
) -> None:
    role = plain()
    cluster.execute(
        f"{TOUCH} GRANT TRIGGER ON notes TO {role}; GRANT CREATE ON SCHEMA public TO {role}",
        notes.database,
    )
    theirs = replace(notes, user=role)
    made = files(TOUCH, ON_NOTES)
    trigger.apply(made, theirs)
    assert not trigger.verify(made, theirs).faults()


def test_a_partition_in_which_a_trigger_is_disabled(
    any_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = any_cluster.target(fresh_database(any_cluster))
    any_cluster.execute(
        "CREATE TABLE notes (id int, at timestamptz) PARTITION BY RANGE (id);"
        " CREATE TABLE low PARTITION OF notes FOR VALUES FROM (1) TO (9) PARTITION BY RANGE (id);"
        " CREATE TABLE lowest PARTITION OF low FOR VALUES FROM (1) TO (5);",
        target.database,
    )
    made = files(TOUCH, ON_NOTES)
    trigger.apply(made, target)
    assert not trigger.verify(made, target).faults(orphans=True)
    # a file may describe what the partition inherits, too
    twice = files(TOUCH, ON_NOTES, ON_NOTES.replace("ON notes", "ON public.lowest"))
    assert not trigger.verify(twice, target).faults(orphans=True)
    assert trigger.apply(twice, target).changes == ()
    any_cluster.execute("ALTER TABLE lowest DISABLE TRIGGER touch", target.database)
    found = trigger.verify(made, target)
    assert [(each.state, each.note) for each in found.faults()] == [
        ("DISABLED", "enabled otherwise in public.lowest")
    ]
    trigger.apply(made, target)
    assert not trigger.verify(made, target).faults(orphans=True)


def test_a_default_value_that_differs_is_changed(notes: Target) -> None:
    text = "CREATE OR REPLACE FUNCTION f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a'"
    trigger.apply(files(text), notes)
    found = trigger.verify(files(text.replace("DEFAULT 1", "DEFAULT 2")), notes)
    assert [each.note for each in found.findings] == ["default values"]


@pytest.mark.parametrize(
    ("statement", "state", "note"),
    [
        ("DISABLE TRIGGER touch", "DISABLED", "disabled"),
        ("ENABLE REPLICA TRIGGER touch", "DISABLED", "fires in replication sessions only"),
        ("ENABLE ALWAYS TRIGGER touch", "DRIFTED", "fires always, in replication sessions too"),
    ],
)
def test_a_trigger_that_does_not_fire_as_it_should(
    cluster: Cluster, notes: Target, statement: str, state: str, note: str
) -> None:
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    cluster.execute(f"ALTER TABLE notes {statement}", notes.database)
    found = trigger.verify(files(TOUCH, ON_NOTES), notes)
    assert [(each.state, each.note) for each in found.faults()] == [(state, note)]
    said = files(TOUCH, ON_NOTES, f"ALTER TABLE notes {statement};")
    assert not trigger.verify(said, notes).faults()
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    assert not trigger.verify(files(TOUCH, ON_NOTES), notes).faults()


def test_orphans_are_named_and_count_if_asked_for(cluster: Cluster, notes: Target) -> None:
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    cluster.execute(
        "CREATE TRIGGER by_hand BEFORE DELETE ON notes EXECUTE FUNCTION touch();"
        # internal triggers, and the clones that partitions get, are nobody's orphans
        " CREATE TABLE other (id int REFERENCES notes);"
        " CREATE TABLE parted (id int) PARTITION BY RANGE (id);"
        " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);"
        " CREATE TRIGGER of_parts AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION touch()",
        notes.database,
    )
    found = trigger.verify(files(TOUCH, ON_NOTES), notes)
    orphans = [each.name for each in found.findings if each.state == "ORPHAN"]
    assert orphans == ["by_hand on public.notes", "of_parts on public.parted"]
    found.check()
    drop = "inv trigger.drop --orphans removes the orphans$"
    with pytest.raises(NotProven, match=f"2 orphan: {drop}"):
        found.check(orphans=True)
    more = trigger.verify(files(TOUCH, ON_NOTES, when("true").replace("touch", "more", 1)), notes)
    with pytest.raises(NotProven, match=f"inv trigger.apply makes the others agree; {drop}"):
        more.check(orphans=True)


def test_an_extensions_own_triggers_are_no_orphans(
    system_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = system_cluster.target(fresh_database(system_cluster))
    system_cluster.execute(TABLE + "CREATE EXTENSION tcn", target.database)
    trigger.apply(files(TOUCH, ON_NOTES), target)
    system_cluster.execute(
        "CREATE TRIGGER tell AFTER INSERT ON notes FOR EACH ROW"
        " EXECUTE FUNCTION triggered_change_notification();"
        " ALTER EXTENSION tcn ADD TABLE notes",
        target.database,
    )
    found = trigger.verify(files(TOUCH), target)
    assert states(found) == {"function touch()": "INSTALLED"}


def test_a_table_or_function_that_is_not_there(notes: Target) -> None:
    made = files(TOUCH, ON_NOTES.replace("ON notes", "ON nowhere.nothing"))
    found = trigger.verify(made, notes)
    assert [(each.state, each.note) for each in found.findings] == [
        ("MISSING", ""),
        ("MISSING", "its table is not there"),
    ]
    # nothing is promised that cannot be done
    with pytest.raises(Failed, match=r"touch.* on nowhere.nothing cannot be made: its table is"):
        trigger.plan(made, notes)
    with pytest.raises(NotProven, match=r"table nowhere.nothing is not there, without which inv"):
        found.check()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("CREATE TRIGGER x BEFORE INSERT ON notes\n  EXECUTE FUNCTION missing();", 4, "missing()"),
        ("CREATE TRIGGER x BEFORE INSERT ON gone EXECUTE FUNCTION touch();", 4, '"gone"'),
        ("SELECT 1,\n  2,\n  ü;", 6, "ü"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURNN 1;\nEND $$;",
            6,
            "RETURNN",
        ),
        ("\n\nCREATE TRIGGER x BEFOR INSERT", 6, "BEFOR"),
        ("\\set x 1", 4, "\\"),
    ],
)
def test_a_fault_is_named_with_file_and_line_and_changes_nothing(
    cluster: Cluster, notes: Target, text: str, line: int, words: str
) -> None:
    made = files(TOUCH, f"-- ü 🐘\n\n{ON_NOTES.strip().splitlines()[0][:0]}-- here\n{text}")
    with pytest.raises(Failed) as caught:
        trigger.apply(made, notes)
    assert caught.value.message.startswith(f"sql/2.sql:{line}: ")
    assert words in caught.value.message
    assert (
        cluster.value("SELECT count(*) FROM pg_proc WHERE proname = 'touch'", notes.database) == 0
    )


@pytest.mark.parametrize("text", ["BEGIN;", "COMMIT;", "ROLLBACK", "SAVEPOINT x"])
def test_a_file_cannot_end_the_transaction(cluster: Cluster, notes: Target, text: str) -> None:
    with pytest.raises(Refused, match=r"sql/2\.sql:2"):
        trigger.apply(files(TOUCH, f"\n{text}"), notes)
    assert (
        cluster.value("SELECT count(*) FROM pg_proc WHERE proname = 'touch'", notes.database) == 0
    )


def test_a_plan_says_what_would_change_and_locks_nothing(cluster: Cluster, notes: Target) -> None:
    trigger.apply(files(TOUCH), notes)
    made = files(
        TOUCH.replace("now()", "clock_timestamp()"), ON_NOTES, "GRANT SELECT ON notes TO public"
    )
    writer = cluster.connect(notes.database)
    writer.autocommit = False
    try:
        writer.cursor().execute("LOCK TABLE notes IN ROW EXCLUSIVE MODE")
        planned = trigger.plan(made, notes)
    finally:
        writer.close()
    assert [(each.what, each.name) for each in planned.changes] == [
        ("replaced", "touch()"),
        ("created", "touch on notes"),
    ]
    assert planned.sentence() == "would apply 3 files: 1 created, 1 replaced, 0 unchanged"
    assert planned.warnings == ("not compared: sql/3.sql:1: Grant",)
    assert set(states(trigger.verify(made, notes)).values()) == {"OUTDATED", "MISSING"}


def test_what_is_not_compared_is_said(notes: Target) -> None:
    block = (
        "DO $$ BEGIN CREATE TRIGGER made BEFORE INSERT ON notes EXECUTE FUNCTION touch(); END $$;"
    )
    made = files(TOUCH, "-- twice\n" + TOUCH, block + "\nGRANT SELECT ON notes TO public;")
    applied = trigger.apply(made, notes)
    assert ("created", "made on public.notes") in [(e.what, e.name) for e in applied.changes]
    found = trigger.verify(made, notes)
    assert found.unknown == ("sql/3.sql:1: Do", "sql/3.sql:2: Grant")
    assert found.warnings == (
        "sql/2.sql:3: touch() is described at sql/1.sql:2 too, the last one counts",
    )


def test_a_trigger_function_that_leaves_search_path_open_is_warned_of(notes: Target) -> None:
    text = TOUCH.replace("    SET search_path = pg_catalog, pg_temp\n", "")
    applied = trigger.apply(files(text), notes)
    assert [w.split(":")[0] for w in applied.warnings] == ["sql/1.sql"]
    assert "does not pin search_path" in applied.warnings[0]
    # under that path a table without schema is not found
    assert "pg_temp, and write every other name in it with its schema" in applied.warnings[0]


def test_drop_and_create_is_one_trigger(notes: Target) -> None:
    made = files(TOUCH, "DROP TRIGGER IF EXISTS touch ON notes;" + ON_NOTES)
    trigger.apply(made, notes)
    assert trigger.apply(made, notes).changes == ()
    assert not trigger.verify(made, notes).faults(orphans=True)
    assert trigger.verify(made, notes).unknown == ()


ONCE = "CREATE TRIGGER touch BEFORE UPDATE ON notes EXECUTE FUNCTION touch();"
LATE = "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch();"


@pytest.mark.parametrize(
    ("text", "name", "way_out"),
    [
        (ONCE, "touch", "write CREATE OR REPLACE TRIGGER, so that the file can be applied again"),
        (LATE, "late", "write DROP TRIGGER IF EXISTS late ON notes; before it"),
    ],
)
def test_a_trigger_that_can_be_created_only_once_is_warned_of(
    notes: Target, text: str, name: str, way_out: str
) -> None:
    made = files(TOUCH, text)
    warning = (
        f"sql/2.sql:1: trigger {name} on notes: CREATE TRIGGER fails if the trigger exists already"
        f" ({way_out})"
    )
    assert trigger.plan(made, notes).warnings == (warning,)
    assert trigger.apply(made, notes).warnings == (warning,)
    assert trigger.verify(made, notes).warnings == (warning,)
    assert trigger.apply(made, notes).changes == ()  # what is installed is not made again
    changed = files(TOUCH, text.replace("UPDATE", "INSERT"))
    with pytest.raises(Failed, match="already exists; nothing was changed") as caught:
        trigger.apply(changed, notes)
    assert caught.value.hint == way_out


@pytest.mark.parametrize(
    "drop",
    [
        "DROP TRIGGER IF EXISTS touch ON public.notes;",
        "DROP FUNCTION IF EXISTS touch() CASCADE;" + TOUCH,
        "DO $$ BEGIN DROP TRIGGER IF EXISTS touch ON notes; END $$;",
    ],
)
def test_a_trigger_that_is_dropped_first_is_not_warned_of(notes: Target, drop: str) -> None:
    made = files(TOUCH, drop + ONCE)
    trigger.apply(made, notes)
    assert not [each for each in trigger.apply(made, notes).warnings if "fails" in each]


def test_verify_holds_no_lock_and_waits_for_none_long(cluster: Cluster, notes: Target) -> None:
    made = files(TOUCH, when("NEW.text IN ('a', 'b')"))
    trigger.apply(made, notes)
    writer = cluster.connect(notes.database)
    writer.autocommit = False
    try:
        # what any write holds; CREATE TRIGGER would wait for it
        writer.cursor().execute("LOCK TABLE notes IN ROW EXCLUSIVE MODE")
        assert not trigger.verify(made, notes).faults()
        assert trigger.apply(made, notes).changes == ()
        with pytest.raises(Failed, match="lock timeout"):
            trigger.apply(files(TOUCH, when("NEW.text IN ('a', 'c')")), notes)
    finally:
        writer.close()


def test_a_diff_shows_the_parts_that_differ_and_no_others(cluster: Cluster, notes: Target) -> None:
    """The server writes varchar and the condition in its own way, which is no difference."""
    other = (
        "CREATE OR REPLACE FUNCTION pick(a varchar, b int DEFAULT 1) RETURNS int"
        " LANGUAGE sql STABLE AS 'SELECT 1';"
    )
    made = files(TOUCH + other, when("NEW.text IN ('a', 'b')"))
    trigger.apply(made, notes)
    assert trigger.diff(made, notes).lines() == ["files and database agree"]
    cluster.execute(
        "CREATE TRIGGER by_hand AFTER DELETE ON notes EXECUTE FUNCTION touch('it''s');"
        " ALTER TABLE notes DISABLE TRIGGER by_hand",
        notes.database,
    )
    changed = files(
        TOUCH.replace("now()", "clock_timestamp()"),
        other.replace("STABLE", "IMMUTABLE SET work_mem = '1MB'"),
        when("NEW.text IN ('a', 'c')", event="INSERT"),
        "CREATE TRIGGER new BEFORE TRUNCATE ON notes EXECUTE FUNCTION touch();",
    )
    found = trigger.diff(changed, notes)
    shown = [line for line in found.lines() if line.startswith(("-", "+"))]
    assert shown == [
        "--- database: function touch()",
        "+++ sql/1.sql:2 (OUTDATED)",
        "-    NEW.at := now(); -- ü 🐘",
        "+    NEW.at := clock_timestamp(); -- ü 🐘",
        "--- database: function pick(varchar, integer)",
        "+++ sql/2.sql:1 (OUTDATED)",
        "-    STABLE",
        "+    IMMUTABLE",
        "+    SET work_mem = 1MB",
        "--- database: trigger touch on notes",
        "+++ sql/3.sql:1 (OUTDATED)",
        "-    BEFORE UPDATE ON notes",
        "+    BEFORE INSERT ON notes",
        "-    WHEN (new.text::text = ANY(ARRAY['a'::varchar, 'b'::varchar]::text[]))",
        "+    WHEN (new.text IN ('a', 'c'))",
        "--- database: trigger new on notes",
        "+++ sql/4.sql:1 (MISSING)",
        "+CREATE TRIGGER new",
        "+    BEFORE TRUNCATE ON notes",
        "+    FOR EACH STATEMENT",
        "+    EXECUTE FUNCTION touch()",
        "--- database: trigger by_hand on public.notes",
        "+++ no file (ORPHAN)",
        "-CREATE TRIGGER by_hand",
        "-    AFTER DELETE ON public.notes",
        "-    FOR EACH STATEMENT",
        "-    EXECUTE FUNCTION public.touch('it''s')",
        "-    -- DISABLE TRIGGER",
    ]
    with pytest.raises(NotProven, match=r"5 differences, inv trigger\.apply brings"):
        found.check()


def test_a_list_tells_all_kinds_apart(
    system_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    target = system_cluster.target(fresh_database(system_cluster))
    system_cluster.execute(
        TABLE + "CREATE TABLE parted (id int, at timestamptz) PARTITION BY RANGE (id);"
        " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);"
        " CREATE TABLE told (id int REFERENCES notes);"
        " CREATE EXTENSION tcn; CREATE TRIGGER tell AFTER INSERT ON told FOR EACH ROW"
        " EXECUTE FUNCTION triggered_change_notification(); ALTER EXTENSION tcn ADD TABLE told",
        target.database,
    )
    made = files(TOUCH, ON_NOTES, ON_NOTES.replace("ON notes", "ON parted"))
    trigger.apply(made, target)
    system_cluster.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE OF id, text ON notes FOR EACH ROW"
        " EXECUTE FUNCTION touch(); ALTER TABLE notes ENABLE ALWAYS TRIGGER late",
        target.database,
    )
    gone = ON_NOTES.replace("ON notes", "ON gone")
    listed = trigger.listing([*made, *files("", "", "", gone)], target)
    assert [
        (each.table, each.trigger, each.kind, each.fires, each.enabled, each.partitions, each.state)
        for each in listed.triggers
    ] == [
        (
            "public.notes",
            "late",
            "constraint trigger",
            "after update of id, text",
            "always",
            0,
            "ORPHAN",
        ),
        ("public.notes", "touch", "trigger", "before insert, update", "yes", 0, "INSTALLED"),
        ("public.parted", "touch", "trigger", "before insert, update", "yes", 1, "INSTALLED"),
        ("public.told", "tell", "trigger", "after insert", "yes", 0, "EXTENSION"),
        ("gone", "touch", "trigger", "before insert, update", "-", 0, "MISSING"),
    ]
    assert "before insert, update, 1 partition" in "\n".join(listed.lines())
    assert trigger.listing([], target).triggers[1].state == "ORPHAN"


def test_triggers_are_dropped_by_name_table_or_as_orphans(cluster: Cluster, notes: Target) -> None:
    odd = '"a ""b"" 🐘"'
    cluster.execute(f"CREATE TABLE {odd} (id int, at timestamptz)", notes.database)
    made = files(TOUCH, ON_NOTES, ON_NOTES.replace("ON notes", f"ON {odd}"))
    trigger.apply(made, notes)
    hand = "CREATE TRIGGER {} BEFORE DELETE ON notes EXECUTE FUNCTION touch();"
    cluster.execute(hand.format("one") + hand.format(odd), notes.database)

    def names(**selection: Any) -> list[str]:
        planned = trigger.plan_drop(made, notes, trigger.Selection(**selection))
        return [f"{each.name} on {each.table}" for each in planned.triggers]

    assert names(orphans=True) == ['a "b" 🐘 on public.notes', "one on public.notes"]
    assert names(name="touch") == [f"touch on public.{odd}", "touch on public.notes"]
    assert names(table=odd) == [f"touch on public.{odd}"]
    assert names(name="one", table=odd) == []
    for table in ("gone", 'no "name'):
        with pytest.raises(Refused, match="no table"):
            names(table=table)
    with pytest.raises(Refused, match="which triggers"):
        names()
    planned = trigger.plan_drop(made, notes, trigger.Selection(orphans=True))
    dropped = trigger.drop(notes, planned)
    assert dropped.lines()[-1] == "dropped 2 triggers"
    assert dropped.lines()[1].startswith("CREATE TRIGGER one BEFORE DELETE ON public.notes")
    assert not trigger.verify(made, notes).faults(orphans=True)


def test_only_what_differs_is_run(cluster: Cluster, notes: Target) -> None:
    """Statements with an effect that is not known run too, and what they drop is made again."""
    log = "INSERT INTO ran SELECT count(*) + 1 FROM ran"
    cluster.execute("CREATE TABLE ran (number int)", notes.database)
    other = ON_NOTES.replace("TRIGGER touch", "TRIGGER other")
    block = f"DO $$ BEGIN {log}; END $$;"
    enabled = "ALTER TABLE notes ENABLE TRIGGER touch;"
    gone = "DROP TRIGGER IF EXISTS gone ON notes;"
    made = files(TOUCH, ON_NOTES + enabled, other, block, gone)
    trigger.apply(made, notes)
    oids = "SELECT json_object_agg(tgname, xmin::text) FROM pg_trigger WHERE NOT tgisinternal"
    before = cluster.value(oids, notes.database)

    changed = files(TOUCH, ON_NOTES + enabled, other.replace("INSERT OR", ""), block, gone)
    applied = trigger.apply(changed, notes)

    after = cluster.value(oids, notes.database)
    assert [(each.what, each.name) for each in applied.changes] == [
        ("replaced", "other on public.notes")
    ]
    assert before["touch"] == after["touch"]
    assert before["other"] != after["other"]
    assert cluster.value("SELECT max(number) FROM ran", notes.database) == 2

    cascading = files("DROP FUNCTION IF EXISTS touch() CASCADE;", *(f.text for f in changed))
    assert not trigger.verify(cascading, notes).faults()
    trigger.apply(cascading, notes)
    assert not trigger.verify(cascading, notes).faults()
    assert cluster.value("SELECT max(number) FROM ran", notes.database) == 3


def test_a_trigger_that_a_file_drops_for_good(cluster: Cluster, notes: Target) -> None:
    trigger.apply(files(TOUCH, ON_NOTES), notes)
    made = files(TOUCH, "DROP TRIGGER IF EXISTS touch ON public.notes;")
    assert [each.what for each in trigger.apply(made, notes).changes] == ["dropped"]
    with_lock = cluster.connect(notes.database)
    with_lock.autocommit = False
    with_lock.cursor().execute("LOCK TABLE notes IN ROW EXCLUSIVE MODE")
    assert trigger.apply(made, notes).changes == ()
    with_lock.close()
    with pytest.raises(Failed, match=r"sql/2.sql:1: trigger \"touch\" for table .* does not exist"):
        trigger.apply(files(TOUCH, "DROP TRIGGER touch ON public.notes;"), notes)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("", "needs function touch(), which neither a file nor the database has"),
        (
            "CREATE FUNCTION public.touch() RETURNS int LANGUAGE sql AS 'SELECT 1';",
            "function touch() does not return trigger",
        ),
    ],
)
def test_the_function_of_a_trigger_is_checked_before(
    cluster: Cluster, notes: Target, function: str, words: str
) -> None:
    message = f"^sql/2.sql:2: trigger touch on notes:? {re.escape(words)}; nothing was changed$"
    for made in (trigger.apply, trigger.plan):
        with pytest.raises(Failed, match=message):
            made(files(function, ON_NOTES), notes)
    if not function:
        trigger.apply(files(TOUCH), notes)  # the database has it
    else:
        cluster.execute(function, notes.database)
        with pytest.raises(Failed, match=message):
            trigger.apply(files("", ON_NOTES), notes)
        cluster.execute("DROP FUNCTION touch()", notes.database)
        trigger.apply(files(TOUCH), notes)
    trigger.apply(files("", ON_NOTES), notes)


def test_bodies_are_checked_where_plpgsql_check_is_installed(
    system_cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'plpgsql_check'"
    if not system_cluster.value(available):
        pytest.skip("no plpgsql_check: apt-get install postgresql-15-plpgsql-check")
    target = system_cluster.target(fresh_database(system_cluster))
    system_cluster.execute(
        TABLE + 'CREATE SCHEMA "the check"; CREATE EXTENSION plpgsql_check SCHEMA "the check"',
        target.database,
    )
    wrong = TOUCH.replace("NEW.at := now();", "\n    NEW.nowhere := 1;")
    with pytest.raises(
        Failed, match=r'^sql/1\.sql:8: touch\(\): record "new" has no field "nowhere"; nothing was'
    ):
        trigger.apply(files(wrong, ON_NOTES), target)
    assert set(states(trigger.verify(files(TOUCH, ON_NOTES), target)).values()) == {"MISSING"}
    unused = TOUCH.replace("BEGIN", "DECLARE\n    unused int;\nBEGIN")
    moved = (
        "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog"
        " AS $$ BEGIN PERFORM count(id) FROM after; RETURN NULL; END $$;"
        "CREATE OR REPLACE TRIGGER moved AFTER INSERT ON notes REFERENCING NEW TABLE AS after"
        " FOR EACH STATEMENT EXECUTE FUNCTION moved();"
    )
    applied = trigger.apply(files(unused, ON_NOTES, moved), target)
    assert applied.warnings == ('sql/1.sql:7: touch(): unused variable "unused" (warning)',)
    assert not trigger.verify(files(unused, ON_NOTES, moved), target).faults()
    assert trigger.apply(files(unused, ON_NOTES, moved), target).warnings == ()


def test_grants_and_tables_beside_functions_are_compared(
    plain: Callable[..., str], cluster: Cluster, notes: Target
) -> None:
    role = plain()
    made = files(
        TOUCH,
        "CREATE TABLE IF NOT EXISTS public.logged (id int);"
        " REVOKE EXECUTE ON FUNCTION touch() FROM PUBLIC;"
        f" GRANT ALL ON FUNCTION public.touch() TO {role};",
    )
    before = trigger.verify(made, notes)
    assert before.unknown == ()
    assert [(each.kind, each.name, each.state) for each in before.findings[1:]] == [
        ("table", "public.logged", "MISSING"),
        ("grant", "REVOKE EXECUTE ON touch() FROM PUBLIC", "MISSING"),
        ("grant", f"GRANT EXECUTE ON public.touch() TO {role}", "MISSING"),
    ]
    assert "+REVOKE EXECUTE ON touch() FROM PUBLIC" in trigger.diff(made, notes).lines()
    trigger.apply(made, notes)
    assert not trigger.verify(made, notes).faults()
    assert trigger.apply(made, notes).changes == ()
    cluster.execute(
        f"GRANT EXECUTE ON FUNCTION touch() TO PUBLIC; REVOKE ALL ON FUNCTION touch() FROM {role}",
        notes.database,
    )
    assert len(trigger.verify(made, notes).faults()) == 2
    planned = [(each.what, each.kind) for each in trigger.plan(made, notes).changes]
    assert planned == [("replaced", "grant")] * 2
    assert [each.name for each in trigger.apply(made, notes).changes] == ["touch()"]
    assert not trigger.verify(made, notes).faults()
    other = "GRANT EXECUTE ON FUNCTION touch() TO CURRENT_USER; GRANT EXECUTE ON FUNCTION touch TO"
    kept = trigger.verify(files(TOUCH, f"{other} {role}; CREATE TABLE IF NOT EXISTS a ()"), notes)
    assert kept.unknown == ("sql/2.sql:1: Grant", "sql/2.sql:1: Grant", "sql/2.sql:1: Create")


def test_two_hundred_installed_triggers_are_compared_in_time(
    cluster: Cluster, notes: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [f"t{number}" for number in range(200)]
    cluster.execute(
        "".join(f"CREATE TABLE {table} (id int, at timestamptz);" for table in tables),
        notes.database,
    )
    each = (
        "CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON {} FOR EACH ROW"
        " WHEN (current_setting('app.touch', true) IS DISTINCT FROM 'off')"
        " EXECUTE FUNCTION touch();\n"
    )
    made = files(TOUCH, "".join(map(each.format, tables)))
    trigger.apply(made, notes)
    statements: list[object] = []
    rows = connection.rows

    def counted(*args: Any, **options: Any) -> Any:
        statements.append(args[1])
        return rows(*args, **options)

    monkeypatch.setattr(connection, "rows", counted)
    began = time.process_time()  # other tests run meanwhile
    again = trigger.apply(made, notes)
    assert (again.changes, again.unchanged) == ((), 201)
    assert time.process_time() - began < 0.4
    assert len(statements) < 40  # not one for each trigger


# through the command line


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path) -> Path:
    cluster.execute(TABLE, database)
    for folder, text in (("functions", TOUCH), ("triggers", ON_NOTES)):
        (project / "sql" / folder).mkdir(parents=True)
        (project / "sql" / folder / "touch é.sql").write_text(text, encoding="utf-8")
    return project


def test_apply_and_verify_as_tasks(inv: Any, shop: Path) -> None:
    missing = inv("trigger.verify", "--json")
    assert missing.returncode == 5
    found = json.loads(missing.stdout)
    assert (found["exit_code"], found["counts"]["missing"]) == (5, 2)
    assert found["findings"][0]["where"] == "sql/functions/touch é.sql:2"

    planned = inv("trigger.apply", "--dry")
    assert planned.stdout.endswith("would apply 2 files: 2 created, 0 unchanged\n")
    base = json.loads(inv("trigger.apply", "--base", "--json").stdout)
    assert [each["name"] for each in base["changes"]] == ["touch()"]
    applied = inv("trigger.apply", "--json")
    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout)["files"] == [
        "sql/functions/touch é.sql",
        "sql/triggers/touch é.sql",
    ]
    verified = inv("trigger.verify")
    assert (verified.returncode, verified.stdout) == (0, "2 of 2 installed as the files say\n")


def test_list_diff_and_drop_as_tasks(inv: Any, shop: Path, cluster: Cluster, database: str) -> None:
    assert inv("trigger.apply").returncode == 0
    assert inv("trigger.diff").returncode == 0
    cluster.execute(
        "CREATE TRIGGER by_hand BEFORE DELETE ON notes EXECUTE FUNCTION touch()", database
    )
    assert inv("trigger.verify", "--allow-orphans").returncode == 0
    assert inv("trigger.verify").stderr.endswith(
        "1 orphan: inv trigger.drop --orphans removes the orphans\n"
    )
    differing = inv("trigger.diff", "--json")
    assert differing.returncode == 5
    assert [each["state"] for each in json.loads(differing.stdout)["diffs"]] == ["ORPHAN"]
    listed = json.loads(inv("trigger.list", "--json").stdout)["triggers"]
    assert [(each["trigger"], each["state"]) for each in listed] == [
        ("by_hand", "ORPHAN"),
        ("touch", "INSTALLED"),
    ]
    assert inv("trigger.drop", "--orphans").returncode == 2  # asks, and there is no terminal
    assert inv("trigger.drop", "--orphans", "--dry").stdout.endswith("would drop 1 trigger\n")
    assert inv("trigger.verify").returncode == 5
    dropped = inv("trigger.drop", "--orphans", "--yes")
    assert (dropped.returncode, dropped.stdout.splitlines()[-1]) == (0, "dropped 1 trigger")
    assert inv("trigger.verify").returncode == 0


def test_a_protected_target_wants_its_name(inv: Any, shop: Path, database: str) -> None:
    with (shop / "env" / "dev.yaml").open("a") as file:
        file.write("protected: true\n")
    assert inv("trigger.verify").returncode == 5
    assert inv("trigger.apply").returncode == 2
    assert inv("trigger.apply", "--confirm", database).returncode == 0
    assert inv("trigger.verify").returncode == 0


@pytest.mark.parametrize("task", ["trigger.apply", "trigger.verify"])
def test_a_project_without_files(inv: Any, task: str) -> None:
    done = inv(task)
    assert done.returncode == 2
    assert "no trigger files here" in done.stderr
