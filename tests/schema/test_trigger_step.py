"""Managed triggers in step with migrations: off while a revision works, then as they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import Cluster
from shops import Shop
from triggers import TOUCH

from migrations import revision, write_env
from pgtasks.errors import Failed
from pgtasks.schema import trigger
from pgtasks.schema.trigger.detached import literal
from pgtasks.schema.trigger.touch import Touch, touches
from pgtasks.settings.project import load

# the function was made for a column that a later revision adds
LATER = TOUCH.replace("NEW.at := now();", "NEW.at := now(); NEW.later := 1;")
STATE = """
SELECT string_agg(format('%s %s %s %s', tgname, tgrelid::regclass, tgenabled,
    coalesce(obj_description(oid, 'pg_trigger'), '-')), '; ' ORDER BY tgrelid, tgname)
FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0
"""
TABLES = """
CREATE TABLE notes (id int PRIMARY KEY, text text, at timestamptz);
CREATE TABLE tags (id int PRIMARY KEY, note int REFERENCES notes ON DELETE CASCADE, at timestamptz);
CREATE VIEW shown AS SELECT * FROM notes;
CREATE TABLE parted (id int, at timestamptz) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (9);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (9) TO (19);
"""


CHANGES = [
    "UPDATE notes SET text = 'b'",
    "UPDATE shown SET text = 'b'",
    "INSERT INTO public.notes VALUES (2, 'b')",
    "WITH x AS (INSERT INTO notes VALUES (3) RETURNING id) SELECT * FROM x",
    "MERGE INTO notes USING (SELECT 1) AS s (id) ON notes.id = s.id"
    " WHEN MATCHED THEN UPDATE SET text = 'b'",
    "DO $$ BEGIN UPDATE notes SET text = 'b';END $$",
    "SELECT 1;UPDATE notes SET text = 'b'",
    "DELETE FROM notes",  # of tags, too
    "INSERT INTO parted VALUES (1)",
    "INSERT INTO parted_1 VALUES (1)",
    "ALTER TABLE notes RENAME TO memos; UPDATE memos SET text = 'b'; INSERT INTO memos VALUES (9)",
]


def on(table: str, when: str = "BEFORE INSERT OR UPDATE OR DELETE") -> str:
    return (
        f"CREATE OR REPLACE TRIGGER touch {when} ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION touch();\n"
    )


class Stepping(Shop):
    """A project whose first revision makes the tables, with triggers that fail where they fire."""

    def write(self, name: str, text: str) -> None:
        path = self.root / "sql" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def apply(self) -> None:
        trigger.apply(trigger.read(load(self.root)), self.target)

    def execute(self, statement: str) -> None:
        self.cluster.execute(statement, self.target.database)

    def value(self, statement: str) -> Any:
        return self.cluster.value(statement, self.target.database)

    def revise(self, name: str, below: str, *up: str, down: str = "pass") -> None:
        """Write a revision of SQL statements."""
        revision(self.folder, name, below, "\n".join(f"op.execute({each!r})" for each in up), down)


@pytest.fixture
def shop(cluster: Cluster, target: Any, project: Path) -> Stepping:
    made = Stepping(cluster, target, project)
    write_env(made.folder)
    made.revise(
        "one", None, TABLES, "INSERT INTO notes VALUES (1, 'a')", "INSERT INTO tags VALUES (1, 1)"
    )  # type: ignore[arg-type]
    made.up()
    made.write("functions/touch.sql", LATER)
    made.write("triggers/touch.sql", on("notes") + on("public.tags") + on("parted"))
    made.apply()
    made.execute(
        "ALTER TABLE tags ENABLE ALWAYS TRIGGER touch;"
        " ALTER TABLE parted_2 DISABLE TRIGGER touch;"
        " COMMENT ON TRIGGER touch ON parted IS 'it''s: %(x)s'"
    )
    return made


def test_a_data_migration_meets_no_trigger(shop: Stepping) -> None:
    """Their function was made for a later column; the triggers are as before afterwards."""
    before = shop.value(STATE)
    assert "touch tags A pgtasks: file=" in before
    unlike = "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'parted_2'::regclass"
    below = "one"
    for number, statement in enumerate(CHANGES):
        shop.revise(f"r{number}", below, *statement.split("; "))
        below = f"r{number}"
        shop.up()
        after = shop.value(STATE)
        assert after == (before.replace("notes", "memos") if "memos" in statement else before)
        assert shop.value(unlike) == "D"
    with pytest.raises(Exception, match='record "new" has no field "later"'):
        shop.execute("INSERT INTO tags VALUES (9)")


@pytest.mark.parametrize("end", ["", "$pgtasks", "$pgtasks$ and $pgtasks_", "$"])
def test_a_string_constant_ends_where_its_text_does(cluster: Cluster, end: str) -> None:
    assert cluster.value(f"SELECT {literal('it' + end)}") == "it" + end


def test_a_column_named_in_update_of_is_dropped_or_gets_another_type(
    shop: Stepping, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where it cannot be as it was it is as the file says."""
    shop.execute("DROP VIEW shown")
    shop.write("functions/touch.sql", TOUCH)
    shop.write("triggers/touch.sql", on("notes", "BEFORE UPDATE OF text, at"))
    shop.apply()
    shop.revise("two", "one", "ALTER TABLE notes ALTER text TYPE varchar(20)")
    before = shop.value(STATE)
    shop.up()
    assert shop.value(STATE) == before

    comment = "off since $pgtasks"
    shop.execute(
        f"COMMENT ON TRIGGER touch ON notes IS '{comment}'; ALTER TABLE notes DISABLE TRIGGER touch"
    )
    shop.write("triggers/touch.sql", on("notes", "BEFORE UPDATE OF at"))
    shop.revise("three", "two", "ALTER TABLE notes DROP text", "UPDATE notes SET at = now()")
    shop.up()
    assert f"touch notes D {comment};" in shop.value(STATE)
    why = 'public.notes is as its file says now: column "text" of relation "notes" does not exist'
    assert why in capfd.readouterr().err
    definition = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'notes'::regclass"
    assert "BEFORE UPDATE OF at ON" in shop.value(definition + " AND tgname = 'touch'")


def test_a_trigger_that_cannot_be_created_again_waits_for_the_next_revision(
    shop: Stepping, capfd: pytest.CaptureFixture[str]
) -> None:
    shop.execute("DROP VIEW shown")
    shop.write("functions/touch.sql", TOUCH)
    shop.write("triggers/touch.sql", on("notes", "BEFORE UPDATE OF text"))
    shop.apply()
    shop.write("triggers/touch.sql", on("notes", "BEFORE UPDATE OF words"))
    shop.revise("two", "one", "ALTER TABLE notes DROP text")
    shop.up()
    assert (
        "warning: trigger touch on public.notes cannot be created again after revision two:"
        ' column "words" of relation "notes" does not exist' in capfd.readouterr().err
    )
    assert shop.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass") == 2
    shop.revise("three", "two", "ALTER TABLE notes ADD words text")
    shop.revise("four", "three", "UPDATE notes SET words = 'x'")
    shop.up()
    shop.apply()
    assert not trigger.verify(trigger.read(load(shop.root)), shop.target).faults()


def test_a_downgrade_meets_no_trigger(shop: Stepping) -> None:
    down = "op.execute('ALTER TABLE notes DROP later')\n"
    down += "op.execute(\"UPDATE notes SET text = 'back'\")"
    shop.revise("two", "one", "ALTER TABLE notes ADD later int", down=down)
    shop.up()
    shop.apply()
    shop.execute("INSERT INTO notes VALUES (5)")  # with its column the function works
    before = shop.value(STATE)
    shop.down()
    assert shop.value(STATE) == before
    assert shop.value("SELECT count(*) FROM notes WHERE text = 'back'") == 2


def test_triggers_are_there_whenever_something_is_committed(
    shop: Stepping, capfd: pytest.CaptureFixture[str]
) -> None:
    """In an autocommit block they stay in force, and after it they are off again."""
    before = shop.value(STATE)
    revision(
        shop.folder,
        "two",
        "one",
        "op.execute(\"UPDATE notes SET text = 'b'\")\n"
        "with op.get_context().autocommit_block():\n"
        f"    state = op.get_bind().exec_driver_sql({STATE!r}.replace('%', '%%')).scalar()\n"
        "    op.execute('CREATE INDEX CONCURRENTLY by_text ON notes (text)')\n"
        "    try:\n"
        "        op.execute(\"UPDATE notes SET text = 'c'\")\n"
        "    except Exception as error:\n"
        "        met = str(error)\n"
        "op.execute(\"UPDATE notes SET text = text || 'd'\")\n"
        f"assert state == {before!r}, state\n"
        "assert 'has no field' in met",
    )
    shop.up()
    assert shop.value(STATE) == before
    assert shop.value("SELECT text FROM notes") == "bd"
    assert (
        "warning: revision two touches notes outside a transaction: its triggers stay in force"
        in capfd.readouterr().err
    )


def test_a_revision_that_fails_leaves_the_triggers(shop: Stepping) -> None:
    before = shop.value(STATE)
    shop.revise("two", "one", "UPDATE notes SET text = 'b'", "SELECT 1/0")
    with pytest.raises(Failed, match="division by zero"):
        shop.up()
    assert shop.value(STATE) == before


ANY = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND NOT tgisinternal"
COMMITS = {
    "statement": "op.execute('COMMIT')",
    "chain": "op.execute('COMMIT AND CHAIN')",
    "end": "op.execute('END')",
    "script": "op.execute(\"UPDATE notes SET text = 'c'; COMMIT\")",
    "driver": "op.get_bind().connection.commit()",
    "cursor": "op.get_bind().connection.cursor().execute('COMMIT')",
}


@pytest.mark.parametrize(
    ("how", "then"),
    [
        *((how, "1/0") for how in COMMITS),
        ("driver", "op.execute('SELECT 1/0')"),
        ("statement", "op.execute('SELECT 1')"),
        ("driver", ""),
        ("cursor", ""),
    ],
)
def test_a_commit_of_the_revision_itself_leaves_the_triggers(
    shop: Stepping, how: str, then: str
) -> None:
    """And the error counts what it left."""
    shop.write("functions/touch.sql", TOUCH)
    shop.apply()
    before = shop.value(STATE)
    update = "op.execute(\"UPDATE notes SET text = 'b'\")"
    revision(shop.folder, "two", "one", "\n".join((update, COMMITS[how], then)), "pass")
    if "1/0" in then:
        number = r"2 statements" if how == "script" else r"1 statement"
        with pytest.raises(Failed, match=f"by zero; {number} of it had been committed and stay"):
            shop.up()
    else:
        shop.up()
    assert shop.value(STATE) == before
    assert shop.value("SELECT text FROM notes") in "bc"


@pytest.mark.parametrize("how", ["statement", "chain", "script"])
def test_nobody_sees_the_table_without_its_triggers(shop: Stepping, how: str) -> None:
    shop.write("functions/touch.sql", TOUCH)
    shop.apply()
    seen = (
        f"import psycopg2\nother = psycopg2.connect({shop.target.url(reveal=True)!r})\n"
        f"cursor = other.cursor()\ncursor.execute({ANY!r})\nassert cursor.fetchone() == (1,)\n"
        "other.close()"
    )
    update = "op.execute(\"UPDATE notes SET text = 'b'\")"
    steps = update, COMMITS[how], seen, update, COMMITS[how], seen
    revision(shop.folder, "two", "one", "\n".join(steps), "pass")
    shop.up()
    assert shop.value(ANY) == 1


def test_a_rollback_as_a_statement_is_looked_for(shop: Stepping) -> None:
    """It brings a trigger back, or drops one that was given back after the savepoint."""
    update, back = "UPDATE notes SET text = 'b'", "ROLLBACK TO SAVEPOINT x"
    shop.revise("two", "one", "SAVEPOINT x", update, back, update)
    before = shop.value(STATE)
    shop.up()
    renames = "ALTER TABLE notes RENAME text TO words"
    shop.revise("three", "two", update, "SAVEPOINT x", renames, back, "SELECT 1")
    shop.up()
    shop.revise("four", "three", update, "ROLLBACK", "SELECT 1")
    shop.up()
    assert shop.value(STATE) == before


def test_a_revision_that_speaks_of_the_triggers_itself(shop: Stepping) -> None:
    """It finds them as they are without us, and what it does to them stays."""
    shop.revise(
        "two",
        "one",
        "UPDATE notes SET text = 'b'",
        "DROP TRIGGER touch ON notes",
        "UPDATE tags SET note = note",
        "ALTER TABLE tags DISABLE TRIGGER touch",
        "UPDATE tags SET note = note",
        "UPDATE parted SET id = id",
        "ALTER TRIGGER touch ON parted RENAME TO touched",
    )
    shop.up()
    assert shop.value(STATE).startswith("touch tags D pgtasks: ")
    assert shop.value(STATE).endswith("; touched parted O it's: %(x)s")


def test_triggers_that_a_revision_needs_stay_in_force(shop: Stepping) -> None:
    """Those of a view, without which it takes no rows, and all if the revision says so."""
    shop.execute("CREATE VIEW joined AS SELECT n.id FROM notes n, tags")
    instead = TOUCH.replace("touch()", "instead()").replace("NEW.at := now();", "")
    shop.write("functions/instead.sql", instead)
    shop.write(
        "triggers/instead.sql",
        "CREATE OR REPLACE TRIGGER instead INSTEAD OF INSERT ON joined FOR EACH ROW"
        " EXECUTE FUNCTION instead();",
    )
    shop.apply()
    shop.revise("two", "one", "INSERT INTO joined VALUES (5)")
    shop.up()
    shop.revise("three", "two", "UPDATE notes SET text = 'b'")
    file = shop.folder / "versions" / "three.py"
    file.write_text(file.read_text() + "keep_triggers = True\n")
    with pytest.raises(Failed, match='has no field "later"'):
        shop.up()


def test_triggers_of_a_table_that_the_role_does_not_own_stay_in_force(
    plain: Callable[..., str], shop: Stepping, capfd: pytest.CaptureFixture[str]
) -> None:
    role = plain()
    shop.execute(f"GRANT ALL ON notes, alembic_version TO {role}; DROP TRIGGER touch ON notes")
    shop.write("functions/touch.sql", TOUCH)
    shop.apply()
    shop.revise("two", "one", "UPDATE notes SET text = 'b'")
    shop.target = replace(shop.target, user=role)
    shop.up()
    assert shop.value("SELECT text FROM notes WHERE at IS NOT NULL") == "b"
    words = "revision two touches public.notes, which the role does not own: its triggers stay"
    assert words in capfd.readouterr().err


def test_what_a_savepoint_rolls_back_is_looked_for_again(shop: Stepping) -> None:
    before = shop.value(STATE)
    revision(
        shop.folder,
        "two",
        "one",
        "nested = op.get_bind().begin_nested()\n"
        "op.execute(\"UPDATE notes SET text = 'lost'\")\n"
        "nested.rollback()\n"
        "op.execute(\"UPDATE notes SET text = 'kept'\")",
    )
    shop.up()
    assert shop.value(STATE) == before
    assert shop.value("SELECT text FROM notes") == "kept"


def test_deferred_constraints_are_no_obstacle(shop: Stepping) -> None:
    """The server drops no trigger of a table with pending events of such a constraint."""
    deferred = "ALTER TABLE tags ALTER CONSTRAINT tags_note_fkey DEFERRABLE INITIALLY DEFERRED"
    shop.execute(deferred)
    before = shop.value(STATE)
    shop.revise("two", "one", "INSERT INTO tags VALUES (11, 1)")
    shop.revise("three", "two", "INSERT INTO tags VALUES (12, 1)")
    shop.up()
    assert shop.value(STATE) == before
    assert shop.value("SELECT count(*) FROM tags") == 3


def test_a_trigger_file_with_an_error_stops_the_run_before_it_begins(shop: Stepping) -> None:
    shop.write("triggers/touch.sql", "\nCREATE TRIGGER x BEFOR")
    shop.revise("two", "one", "UPDATE notes SET text = 'b'")
    with pytest.raises(Failed, match=r"^sql/triggers/touch\.sql:2: syntax error"):
        shop.up()


def test_triggers_that_no_file_has_stay_in_force(shop: Stepping) -> None:
    shop.execute(
        "DROP TRIGGER touch ON notes; CREATE TRIGGER own BEFORE UPDATE ON notes FOR EACH ROW"
        " EXECUTE FUNCTION touch()"
    )
    shop.revise("two", "one", "UPDATE notes SET text = 'b'")
    with pytest.raises(Failed, match='has no field "later"'):
        shop.up()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1", []),
        ("CREATE TABLE t (updated int)", []),
        ("ALTER TABLE t ADD COLUMN c int", []),
        ("INSERT INTO t VALUES (%(a)s, '100%%')", [("rows", "t")]),
        ("UPDATE t SET a = %(a)s::INTEGER WHERE b = %s", [("rows", "t")]),
        ('DELETE FROM "T" USING u', [("deletes", '"T"')]),
        ("WITH d AS (DELETE FROM a RETURNING *) INSERT INTO s.b SELECT * FROM d", None),
        ("TRUNCATE a, b", [("deletes", "a"), ("deletes", "b")]),
        ("COPY a FROM STDIN", [("rows", "a")]),
        ("COPY a TO STDOUT", []),
        ("ALTER TABLE t DROP c, ADD d int", [("columns", "t")]),
        ("ALTER TABLE t ALTER c TYPE text", [("columns", "t")]),
        ("ALTER TABLE t DISABLE TRIGGER ALL", [("defines", "t")]),
        ("ALTER TABLE t RENAME c TO d", [("defines", "t")]),
        ("ALTER TABLE t SET SCHEMA s", [("defines", "t")]),
        ("CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION f()", [("defines", "t")]),
        ("DROP TRIGGER x ON s.t", [("defines", "s.t")]),
        ("UPDATE t SET", [("names", "UPDATE t SET")]),
        ("end", [("commits", "")]),
        ("UPDATE t SET a = 1; COMMIT AND CHAIN", [("rows", "t"), ("commits", "")]),
        ("PREPARE TRANSACTION 'x'", [("commits", "")]),
        ("ABORT", [("returns", "")]),
        ("ROLLBACK TO SAVEPOINT x", [("returns", "")]),
        ("COMMIT PREPARED 'x'", []),
    ],
)
def test_the_tables_that_a_statement_touches(
    statement: str, expected: list[tuple[str, str]] | None
) -> None:
    if expected is None:
        assert set(touches(statement)) == {Touch("deletes", "a"), Touch("rows", "s.b")}
    else:
        assert touches(statement) == [Touch(*each) for each in expected]
