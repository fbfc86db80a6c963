"""Restores without an entry that cannot be loaded: all rows are back, and what lacks is named."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from roles import as_role
from servers import Cluster

from pgtasks.database import leaving
from pgtasks.errors import NotProven, Refused
from pgtasks.server import connection
from pgtasks.server.proof.difference import Difference, accepted, unused
from pgtasks.server.proof.toc import POST_DATA, Entry
from pgtasks.settings.target import Target

# a key that does not hold, a REFRESH and an index that fail under pg_restore's search_path
BROKEN = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int CONSTRAINT child_parent REFERENCES parent);
COMMENT ON CONSTRAINT child_parent ON child IS 'a comment that goes with it';
SET session_replication_role = replica;
INSERT INTO child VALUES (1, 1), (2, 2);
RESET session_replication_role;
CREATE FUNCTION lower_of(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql
  AS 'BEGIN RETURN (SELECT lower(t) FROM parent UNION SELECT lower(t) LIMIT 1); END';
CREATE TABLE word (w text);
INSERT INTO word VALUES ('A');
CREATE INDEX word_lower ON word (lower_of(w));
CREATE MATERIALIZED VIEW counted AS SELECT lower_of(w) AS l FROM word;
CREATE MATERIALIZED VIEW above AS SELECT count(*) FROM counted;
"""


def flag_of(done: Any) -> list[str]:
    """Return the flag that an error holds ready to paste."""
    (found,) = re.findall(r"--leave-out '[^']*'", done.stderr.splitlines()[-1])
    return shlex.split(found)


def test_what_cannot_be_loaded_is_named_and_left_out(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.execute(BROKEN, database)
    made = inv("db.backup")
    assert made.returncode == 0
    assert "would stop a restore: constraint public.child.child_parent does not hold" in made.stdout
    assert (
        "--leave-out 'constraint public.child.child_parent'" in inv("backup.show", "latest").stdout
    )
    cluster.execute("DELETE FROM child", database)
    flags: list[str] = []
    for _ in range(3):
        failed = inv("db.restore", "--jobs", "1", *flags, "--confirm", database)
        assert failed.returncode == 1, failed.stderr
        flags += flag_of(failed)
    assert set(flags[1::2]) == {
        "constraint public.child.child_parent",
        "index public.word_lower",
        "materialized view data public.counted",
    }
    refused = inv("db.restore", *flags)
    assert refused.returncode == 2
    assert f"add --confirm {database}" in refused.stderr
    done = inv("db.restore", *flags, "--confirm", database, "--json")
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)["left_out"]
    # with what hangs on it
    assert "materialized view data public.above" in left
    assert "comment on constraint public.child_parent ON child" in left
    assert cluster.value("SELECT count(*) FROM child", database) == 2
    assert cluster.value("SELECT count(*) FROM word", database) == 1

    cluster.execute("CREATE INDEX word_lower ON word (lower(w))", database)
    check = inv("db.check")
    assert check.returncode == 0, check.stderr
    assert "constraint public.child.child_parent: the restore left it out" in check.stdout
    assert "index public.word_lower" not in check.stdout


def test_a_table_is_never_left_out(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.execute(BROKEN, database)
    assert inv("db.backup").returncode == 0
    refused = inv("db.restore", "--leave-out", "table public.child", "--confirm", database)
    assert refused.returncode == 2
    assert "only what comes after the rows can be left out" in refused.stderr
    refused = inv("db.restore", "--leave-out", "index public.word_lowr", "--confirm", database)
    assert "did you mean 'index public.word_lower'" in refused.stderr


def entry(number: int, desc: str, tag: str, *needs: int, text: str = "") -> Entry:
    section = POST_DATA if desc != "TABLE" else 2
    return Entry(
        desc,
        "s",
        tag,
        "o",
        definition=text.encode(),
        number=number,
        section=section,
        needs=frozenset(needs),
    )


def test_a_name_is_what_was_typed_before_it_is_what_looks_alike() -> None:
    archive = [
        entry(1, "INDEX", "my  index"),
        entry(2, "INDEX", "my index"),
        entry(3, "INDEX", "a  b"),
    ]
    for number, typed in ((1, 'index s."my  index"'), (2, 'index s."my index"')):
        assert leaving.left(archive, [typed]).numbers == {number}
        assert leaving.flag(archive[number - 1]) == f"--leave-out '{typed}'"
    assert leaving.left(archive, ['index  s."a b"']).numbers == {3}
    with pytest.raises(Refused, match="did you mean"):
        leaving.left(archive, ['index s."my   index"'])
    both = [Difference('table "a b"', " is missing"), Difference('table "a  b"', " is missing")]
    with pytest.raises(NotProven) as caught:
        accepted(both, ['table "a  b"'], "problem")
    assert caught.value.details["differences"][0]["name"] == 'table "a b"'
    assert unused(both, ['table "a  b"', 'table "a   b"']) == ['table "a   b"']


def test_what_hangs_on_what_is_left_out_goes_too() -> None:
    archive = [
        entry(1, "TABLE", "t"),
        entry(2, "CONSTRAINT", "t t_pkey", 1),
        entry(3, "FK CONSTRAINT", "u u_t", 2),
        entry(4, "INDEX", "other", 1),
    ]
    found = leaving.left(archive, ["constraint s.t.t_pkey"])
    assert found.names == ("constraint s.t.t_pkey", "constraint s.u.u_t")
    assert [each.number for each in found.kept(archive)] == [1, 4]
    assert leaving.left(archive, []).kept(archive) == archive
    with pytest.raises(Refused, match="no entry of that name"):
        leaving.left(archive, ["zzz"])


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("CREATE POLICY p ON s.t TO a USING (true);\n", ("a",)),
        (
            'CREATE POLICY "p ON x TO y" ON "s""x"."t TO z" FOR ALL TO a, "B c" USING (t);\n',
            ("a", "B c"),
        ),
        ("CREATE POLICY p ON s.t AS RESTRICTIVE FOR ALL TO a;\n", ("a",)),
        ("CREATE POLICY p ON s.t USING ((x = 'TO b'::text));\n", None),
    ],
)
def test_the_roles_of_a_policy(text: str, roles: tuple[str, ...] | None) -> None:
    found = [names for _, names in leaving.of_roles([entry(1, "POLICY", "t p", text=text)])]
    assert found == ([] if roles is None else [roles])


def test_the_role_of_a_user_mapping() -> None:
    texts = (
        'CREATE USER MAPPING FOR "B c" SERVER s OPTIONS (',
        "CREATE USER MAPPING FOR public SERVER s;",
    )
    archive = [entry(number, "USER MAPPING", "m", text=text) for number, text in enumerate(texts)]
    assert [(each.number, roles) for each, roles in leaving.of_roles(archive)] == [(0, ("B c",))]


def test_policies_for_roles_that_are_not_here_are_left_out_of_a_mapped_restore(
    cluster: Cluster, cluster18: Cluster, database: str, project: Path, inv: Any
) -> None:
    for server, role in ((cluster, "only_reader"), (cluster18, "plain_dev")):
        server.execute(f"DROP ROLE IF EXISTS {role}")
        server.execute(f"CREATE ROLE {role}")
    cluster.execute(
        """
        CREATE TABLE t (n int);
        INSERT INTO t VALUES (1);
        ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        ALTER TABLE t FORCE ROW LEVEL SECURITY;
        CREATE POLICY mine ON t TO only_reader USING (true);
        CREATE POLICY all_of_us ON t USING (true);
        """,
        database,
    )
    other = cluster18.create(owner="plain_dev")
    (project / "env" / "test.yaml").write_text(f"url: '{cluster18.url(other)}'\n")
    try:
        assert inv("db.backup").returncode == 0
        (backup,) = project.glob("backups/dev/*/*/manifest.json")
        done = inv("db.restore", "--env", "test", "--backup", str(backup.parent))
        assert done.returncode == 0, done.stderr
        assert "without  policy public.t.mine" in done.stderr
        found = cluster18.execute("SELECT polname FROM pg_policy", other)
        assert found == [("all_of_us",)]
        assert cluster18.value("SELECT count(*) FROM t", other) == 1
    finally:
        cluster18.drop(other)
        cluster18.execute("DROP ROLE plain_dev")
        cluster.execute("DROP TABLE t; DROP ROLE only_reader", database)


# earthdistance's ll_to_earth, for one: planned in a view's place, it finds nothing
INLINED = """
CREATE TABLE t (n int);
INSERT INTO t VALUES (1);
CREATE FUNCTION doubled(n int) RETURNS int STABLE LANGUAGE sql AS 'SELECT n * factor() ';
CREATE MATERIALIZED VIEW twice AS SELECT doubled(n) FROM t;
CREATE MATERIALIZED VIEW fine AS SELECT n FROM t;
"""


def test_a_backup_names_the_view_of_ones_own_that_cannot_be_refreshed(
    owned: Target, inv: Any, tmp_path: Path
) -> None:
    """Planning a view runs code: of a superuser's, or another role's, nothing is claimed."""
    put_stamp(owned)
    with connection.session(owned, own_path=True) as conn:
        connection.execute(conn, "CREATE FUNCTION factor() RETURNS int LANGUAGE sql AS 'SELECT 2'")
        connection.execute(conn, INLINED)
    root = make_project(tmp_path / "own", owned.url())
    made = inv("db.backup", "--json", cwd=root)
    (met,) = json.loads(made.stdout)["obstacles"]
    assert met.startswith("materialized view data public.twice fails (")
    assert "--leave-out 'materialized view data public.twice'" in met


def test_a_key_that_holds_is_no_obstacle(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.execute(
        """
        CREATE TABLE p (a int, b text, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE c (x int, y text, FOREIGN KEY (x, y) REFERENCES p);
        CREATE TABLE "odd one" (" k" bigint, y text, FOREIGN KEY (" k", y) REFERENCES p);
        INSERT INTO p VALUES (1, 'a');
        INSERT INTO c VALUES (1, 'a'), (NULL, 'z'), (2, NULL);
        INSERT INTO "odd one" VALUES (1, 'a');
        CREATE TABLE later (x int, y text);
        INSERT INTO later VALUES (7, 'q');
        ALTER TABLE later ADD FOREIGN KEY (x, y) REFERENCES p NOT VALID;
        """,
        database,
    )
    made = inv("db.backup", "--json")
    assert json.loads(made.stdout)["obstacles"] == []


@pytest.mark.parametrize(
    "argv",
    [
        ("db.restore", "--leave-out", ""),
        ("db.restore", "--accept", "table x", "--accept", ""),
        ("db.run", "--file", ""),
        ("db.backup", "--exclude-table-data", ""),
        ("seed.load", "--set", ""),
    ],
)
def test_an_empty_value_of_a_repeatable_flag_is_refused(
    argv: tuple[str, ...], project: Path, inv: Any
) -> None:
    flag = argv[-2]
    done = inv(*argv)
    error = f"error: {flag} is empty: give it a value, or leave it out\n"
    assert (done.returncode, done.stderr) == (2, error)


# check constraints that held for the rows when they came, and do not now
CHECKED = """
CREATE FUNCTION fine(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION known(text) RETURNS bool LANGUAGE plpgsql STABLE
  AS 'BEGIN RETURN EXISTS (SELECT FROM word WHERE w = $1); END';
CREATE TABLE word (w text);
INSERT INTO word VALUES ('A');
CREATE DOMAIN "odd ""dom" AS text CONSTRAINT "Odd ""one" CHECK (fine(VALUE)) CHECK (VALUE <> 'x');
CREATE TABLE used (v "odd ""dom");
CREATE TABLE part (id int, v text, CONSTRAINT held CHECK (fine(v))) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF part DEFAULT PARTITION BY LIST (v);
CREATE TABLE part_3 PARTITION OF part_2 DEFAULT;
COMMENT ON CONSTRAINT held ON part IS 'goes with it';
COMMENT ON CONSTRAINT "Odd ""one" ON DOMAIN "odd ""dom" IS 'goes too';
CREATE TABLE path (v text CONSTRAINT in_path CHECK (known(v)));
INSERT INTO used VALUES ('A');
INSERT INTO part VALUES (1, 'a'), (2, 'b');
INSERT INTO path VALUES ('A');
CREATE OR REPLACE FUNCTION fine(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false';
"""


def test_check_constraints_that_rows_break_are_left_out(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.psql(database, CHECKED)
    assert inv("db.backup").returncode == 0
    flags: list[str] = []
    for _ in range(4):
        failed = inv("db.restore", "--jobs", "1", *flags, "--confirm", database)
        if failed.returncode == 0:
            break
        assert "pg_restore failed at the rows (" in failed.stderr
        flags += shlex.split(re.findall(r"--leave-out '[^']*'", failed.stderr.splitlines()[-1])[0])
    assert failed.returncode == 0, failed.stderr
    assert (
        sorted(flags[1::2])
        == [
            'constraint public."odd ""dom" Odd "one',
            "constraint public.part.held",
            "constraint public.path.in_path",
        ]
        or len(flags) == 6
    )
    assert "proven in" in failed.stderr
    left = cluster.execute("SELECT conname FROM pg_constraint WHERE contype = 'c'", database)
    assert not {"held", "in_path", 'Odd "one'} & {name for (name,) in left}
    assert cluster.value("SELECT count(*) FROM part", database) == 2
    odd = 'constraint public."odd ""dom Odd ""one"'
    assert odd in inv("db.check").stdout
    assert "constraint public.part.held" in inv("db.check").stdout
    again = """ALTER DOMAIN "odd ""dom" ADD CONSTRAINT "Odd ""one" CHECK (VALUE <> '')"""
    cluster.execute(again, database)
    cluster.execute("ALTER TABLE part ADD CONSTRAINT held CHECK (v <> '')", database)
    check = inv("db.check").stdout
    assert f"{odd}: the restore" not in check
    assert "constraint public.part.held" not in check
    known = json.loads((next(project.glob("backups/*/*/*/checks.json"))).read_text())
    assert not known.get("proven")


def test_rows_that_nothing_can_load_are_left_out(
    cluster: Cluster, database: str, project: Path, inv: Any
) -> None:
    cluster.psql(
        database,
        """
        CREATE FUNCTION priced(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END';
        CREATE TABLE bill (id int, price int GENERATED ALWAYS AS (priced(id)) STORED);
        CREATE TABLE ranked (id int) PARTITION BY RANGE (priced(id));
        CREATE TABLE "ran""ked 1" PARTITION OF ranked FOR VALUES FROM (0) TO (10);
        CREATE TABLE other (id int PRIMARY KEY);
        INSERT INTO bill VALUES (1);
        INSERT INTO ranked VALUES (1);
        INSERT INTO other VALUES (1), (2);
        CREATE OR REPLACE FUNCTION priced(int) RETURNS int LANGUAGE plpgsql IMMUTABLE
          AS $$ BEGIN RAISE EXCEPTION 'not any more'; END $$;
        """,
    )
    assert inv("db.backup").returncode == 0
    cluster.execute("DELETE FROM other", database)
    flags: list[str] = []
    for _ in range(2):
        failed = inv("db.restore", *flags, *(("--confirm", database) if flags else ()))
        assert failed.returncode == 1
        assert "pg_restore failed at the rows (not any more): --leave-out 'table" in failed.stderr
        assert cluster.value("SELECT count(*) FROM other", database) == 0
        flags += flag_of(failed)
    assert set(flags[1::2]) == {"table data public.bill", 'table data public."ran""ked 1"'}
    flags += ["--confirm", database]
    assert "without  table data public." in inv("db.restore", "--dry", *flags).stdout
    done = inv("db.restore", *flags)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 table identical, 2 rows" in done.stderr
    assert "not proven: table public.bill: its rows were left out" in done.stdout + done.stderr
    assert cluster.value("SELECT count(*) FROM bill", database) == 0
    assert "table data public.bill" in inv("db.check").stdout
    cluster.execute("ALTER TABLE bill DROP price; INSERT INTO bill VALUES (1)", database)
    assert "table data public.bill" not in inv("db.check").stdout


def test_what_is_left_out_demands_no_superuser(
    owned: Target, cluster: Cluster, tmp_path: Path, inv: Any
) -> None:
    name = owned.database
    root = make_project(tmp_path / "shop", as_role(cluster, owned.user, name))
    put_stamp(owned)
    cluster.execute(
        f"""
        CREATE TABLE t AS SELECT 1 AS n;
        CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER seen ON ddl_command_end EXECUTE FUNCTION seen();
        CREATE PUBLICATION every FOR ALL TABLES;
        ALTER TABLE t OWNER TO "{owned.user}";
        ALTER FUNCTION seen() OWNER TO "{owned.user}";
        """,
        name,
    )
    assert inv("db.backup", cwd=root).returncode == 0
    refused = inv("db.restore", cwd=root)
    assert refused.returncode == 2
    flags = shlex.split(" ".join(re.findall(r"--leave-out '[^']*'", refused.stderr)))
    assert flags == ["--leave-out", "publication every", "--leave-out", "event trigger seen"]
    done = inv("db.restore", *flags, "--confirm", name, cwd=root)
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT n FROM t", name) == 1
