"""`db.restore --only-table`: single tables, from a backup into the live database."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rewriting
from conftest import Inv
from halting import Start, end_backends, halted, interrupt, kill, unlocked
from matrix import matrix
from projects import make_project, put_stamp
from psycopg2 import sql
from restores import logins, save, sides
from servers import Cluster
from waiting import PATIENCE

from pgtasks.backup.store.local import LocalStore
from pgtasks.report import boundaries

LONG = "ü" * 31 + "x"  # 63 bytes
SHOP = f"""
CREATE SCHEMA "odd schema 🙂";
CREATE TYPE "odd schema 🙂"."mood's" AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE person (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE,
  boss int REFERENCES person, upper text GENERATED ALWAYS AS (upper(name)) STORED,
  mood "odd schema 🙂"."mood's", age positive);
CREATE TABLE bill (id serial PRIMARY KEY, person int NOT NULL REFERENCES person ON DELETE CASCADE,
  total numeric(10, 2), at timestamptz DEFAULT '2026-01-01');
CREATE TABLE "odd schema 🙂".bill (id int, "it's" text);
CREATE TABLE "odd schema 🙂"."{LONG}" (id int PRIMARY KEY, "t" jsonb);
CREATE SEQUENCE shared;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE UNLOGGED TABLE cache (k text PRIMARY KEY, v bytea, n int DEFAULT nextval('shared'),
  one int DEFAULT one(), EXCLUDE USING gist (box(point(n, n), point(n, n)) WITH &&));
CREATE TABLE base (id int);
CREATE TABLE child (more text) INHERITS (base);
CREATE TABLE nothing ();
CREATE STATISTICS "it's" ON k, n FROM cache;
CREATE RULE quiet AS ON DELETE TO child DO INSTEAD NOTHING;
INSERT INTO base VALUES (1);
INSERT INTO child VALUES (2, 'x');
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE egg (id int PRIMARY KEY, hen int);
CREATE TABLE hen (id int PRIMARY KEY, egg int REFERENCES egg);
ALTER TABLE egg ADD CONSTRAINT "it's laid" FOREIGN KEY (hen) REFERENCES hen;
COMMENT ON CONSTRAINT "it's laid" ON egg IS 'by a ''hen''';
CREATE TABLE log (id int, day date NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE note (log int, day date, FOREIGN KEY (log, day) REFERENCES log);
CREATE TABLE fired (what text);
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.fired VALUES (TG_OP || TG_TABLE_NAME); RETURN NEW; END';
CREATE TRIGGER a AFTER INSERT OR DELETE ON bill FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER "b's" AFTER TRUNCATE ON bill FOR EACH STATEMENT EXECUTE FUNCTION fire();
CREATE TRIGGER c BEFORE INSERT ON bill FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TRIGGER d BEFORE INSERT ON bill FOR EACH ROW EXECUTE FUNCTION fire();
ALTER TABLE bill DISABLE TRIGGER c;
ALTER TABLE bill ENABLE ALWAYS TRIGGER d;
CREATE TRIGGER e AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE secret (id int PRIMARY KEY, mine text);
CREATE POLICY none ON secret USING (false) WITH CHECK (false);
CREATE INDEX ON bill (total) WHERE total > 0;
COMMENT ON TABLE bill IS 'what is owed';
COMMENT ON COLUMN bill.total IS 'in euros';
GRANT SELECT ON bill TO PUBLIC;
CREATE VIEW debts AS SELECT person, sum(total) FROM bill GROUP BY 1;
INSERT INTO person (name, boss, mood, age) SELECT 'n' || i, nullif(i / 2, 0), 'ok', i
  FROM generate_series(1, 100) i;
INSERT INTO bill (person, total) SELECT 1 + i % 50, i FROM generate_series(1, 300) i;
INSERT INTO "odd schema 🙂".bill VALUES (1, 'x'), (2, NULL);
INSERT INTO "odd schema 🙂"."{LONG}" VALUES (1, '{{"a": 1.0}}');
INSERT INTO cache VALUES ('a', '\\x00ff');
INSERT INTO egg VALUES (1, NULL), (2, NULL);
INSERT INTO hen VALUES (1, 1), (2, 2);
UPDATE egg SET hen = 3 - id;
INSERT INTO log SELECT i, date '2026-01-01' + i FROM generate_series(1, 50) i;
INSERT INTO note VALUES (1, '2026-01-02');
INSERT INTO secret VALUES (1, 'a'), (2, 'b');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
DELETE FROM fired;
"""
# what pg_dump prints of everything, as text
Dump = Callable[[], str]


@pytest.fixture(scope="module")
def owner(cluster: Cluster) -> Iterator[str]:
    """Return a plain role that owns the databases here; the superuser works on them."""
    name = f"keeper{os.getpid()}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    cluster.execute(f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def saved(cluster: Cluster, owner: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of a backup of SHOP that all tests here restore from."""
    name = cluster.create(owner=owner)
    with cluster.connect(name, user=owner).cursor() as cursor:
        cursor.execute(SHOP)
    put_stamp(cluster.target(name))
    backup = save(make_project(tmp_path_factory.mktemp("saved") / "shop", cluster.url(name)))
    cluster.drop(name)
    return backup


@pytest.fixture
def live(cluster: Cluster, database: str, project: Path, owner: str) -> str:
    """Return the project's database, filled by its plain owner."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
    cluster.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    with cluster.connect(database, user=owner).cursor() as cursor:
        cursor.execute(SHOP)
    return database


@pytest.fixture
def restore(inv: Inv, saved: str) -> Callable[..., Any]:
    def run(*tables: str, flags: tuple[str, ...] = ("--yes",), code: int = 0) -> Any:
        words = [word for table in tables for word in ("--only-table", table)]
        done = inv("db.restore", "--backup", saved, *words, *flags)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    return run


def dumped(cluster: Cluster, database: str) -> str:
    """Return all of a database as pg_dump prints it, without what differs in each run."""
    import subprocess

    argv = [cluster.bin / "pg_dump", "-h", cluster.host, "-p", str(cluster.port)]
    argv += ["-U", cluster.superuser, "--inserts", database]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("\\", "--")))


def test_rows_of_one_table_become_those_of_the_backup(
    cluster: Cluster, live: str, restore: Callable[..., Any]
) -> None:
    before = dumped(cluster, live)
    cluster.execute("DELETE FROM bill WHERE id > 10; UPDATE bill SET total = 7;", live)
    cluster.execute(
        "INSERT INTO \"odd schema 🙂\".bill VALUES (3, 'stays'); DELETE FROM fired", live
    )
    done = restore("public.bill")
    assert "restored public.bill of" in done.stdout
    assert "1 of 1 table identical, 300 rows" in done.stdout
    assert "4 triggers" not in done.stderr
    assert cluster.value('SELECT count(*) FROM "odd schema 🙂".bill', live) == 3
    assert cluster.value("SELECT count(*) FROM fired", live) == 0
    cluster.execute('DELETE FROM "odd schema 🙂".bill WHERE id = 3', live)
    assert dumped(cluster, live) == before
    assert sides(cluster, live) == []
    assert logins(cluster, live) == []


def test_every_kind_of_table(cluster: Cluster, live: str, restore: Callable[..., Any]) -> None:
    before = dumped(cluster, live)
    cluster.execute(
        f"""
        DELETE FROM note; DELETE FROM log; DELETE FROM bill; UPDATE person SET boss = NULL;
        DELETE FROM person WHERE id > 20; UPDATE person SET name = name || 'x';
        UPDATE egg SET hen = NULL; UPDATE hen SET egg = 1; DELETE FROM egg WHERE id > 1;
        TRUNCATE ONLY base, cache, secret, nothing, "odd schema 🙂"."{LONG}";
        DELETE FROM "odd schema 🙂".bill; DELETE FROM fired;
        """,
        live,
    )
    done = restore("public.*", '"odd schema 🙂".*')
    assert "15 of 15 tables identical" in done.stdout, done.stdout
    assert dumped(cluster, live) == before


def test_a_key_that_went_with_a_table_is_named(
    cluster: Cluster, live: str, restore: Callable[..., Any]
) -> None:
    cluster.execute("DROP TABLE egg CASCADE", live)
    done = restore("egg", flags=("--yes", "--dry"))
    assert "foreign key hen_egg_fkey of public.hen, to public.egg, is not made" in done.stdout
    cluster.execute("DROP TABLE hen", live)
    assert "hen_egg_fkey" not in restore("egg", "hen", flags=("--yes", "--dry")).stdout


def test_tables_that_do_not_exist(cluster: Cluster, live: str, restore: Callable[..., Any]) -> None:
    before = dumped(cluster, live)
    cluster.execute(
        "DROP TABLE bill, egg, hen, log, note, secret, cache, child, nothing CASCADE;"
        "DROP VIEW IF EXISTS debts",
        live,
    )
    names = ("public.bill", "egg", "hen", "log", "note", "secret", "cache", "child", "nothing")
    refused = restore(*names, code=2).stderr
    assert "--accept 'table public.child' creates it" in refused  # of a backup made elsewhere
    restore(*names, flags=("--accept", "table public.child", "--confirm", live))
    cluster.execute("CREATE VIEW debts AS SELECT person, sum(total) FROM bill GROUP BY 1", live)
    cluster.execute(f"ALTER VIEW debts OWNER TO {owner_of(cluster, live)}", live)
    assert sorted(dumped(cluster, live).splitlines()) == sorted(before.splitlines())


def owner_of(cluster: Cluster, database: str) -> str:
    query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    return str(cluster.value(query, parameters=(database,)))


def test_rows_of_other_tables_depend_on_what_would_go(
    cluster: Cluster, live: str, restore: Callable[..., Any]
) -> None:
    cluster.execute("INSERT INTO person (name) VALUES ('new'), ('newer')", live)
    cluster.execute(
        "INSERT INTO bill (person, total) SELECT 101, 1 FROM generate_series(1, 3)", live
    )
    before = dumped(cluster, live)
    done = restore("person", code=2)
    assert done.stderr.splitlines()[-1] == (
        "error: nothing was changed: 3 rows of public.bill would refer to rows of public.person "
        "that the backup does not have (foreign key bill_person_fkey)"
    )
    assert dumped(cluster, live) == before
    restore("person", "public.bill")
    assert cluster.value("SELECT count(*) FROM bill", live) == 300


def test_rows_of_the_backup_refer_to_what_is_not_there(
    cluster: Cluster, live: str, restore: Callable[..., Any]
) -> None:
    cluster.execute("DELETE FROM person WHERE id > 40", live)  # and their bills
    cluster.execute("DELETE FROM log WHERE day > '2026-01-05'; TRUNCATE note;", live)
    cluster.execute("DELETE FROM log", live)
    before = dumped(cluster, live)
    done = restore("public.bill", "note", code=2)
    said = done.stderr.splitlines()
    assert said[-1].startswith("error: nothing was changed: 60 rows of public.bill in the backup")
    assert "refer to rows of public.person that are not there" in said[-1]
    assert any("1 row of public.note in the backup refer to rows of public.log" in x for x in said)
    assert dumped(cluster, live) == before


def test_another_shape_is_refused(cluster: Cluster, live: str, restore: Callable[..., Any]) -> None:
    cluster.execute(
        "ALTER TABLE egg ADD COLUMN size int; ALTER TABLE cache ALTER COLUMN v TYPE text USING 'x';"
        "ALTER TABLE person DROP COLUMN upper",
        live,
    )
    before = dumped(cluster, live)
    said = restore("egg", "cache", "person", code=2).stderr
    assert "column public.egg.size is in the database only" in said
    assert "column public.cache.v is bytea in the backup, text in the database" in said
    assert "column public.person.upper is in the backup only" in said
    assert dumped(cluster, live) == before
    cluster.execute("DROP VIEW debts; DROP TABLE bill; CREATE VIEW bill AS SELECT 1", live)
    refused = restore("public.bill", code=2).stderr
    assert "public.bill is a table in the backup, a view in the database" in refused


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (["bil"], "--only-table 'bil' matches no table of the backup, did you mean 'bill'?"),
        (
            ["bill"],
            "'bill' is a table of several schemas, name one: \"odd schema 🙂\".bill, public",
        ),
        (["debts"], "--only-table 'debts' is a view in the backup"),
        (["public.bill", "x*"], "'x*' matches no table"),
    ],
)
def test_names(live: str, restore: Callable[..., Any], tables: list[str], words: str) -> None:
    assert words in restore(*tables, code=2).stderr


def test_the_plan_and_the_guard(
    cluster: Cluster, live: str, restore: Callable[..., Any], project: Path, saved: str
) -> None:
    cluster.execute(
        "DELETE FROM bill WHERE id > 10; CREATE TABLE log_3 PARTITION OF log"
        " FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');"
        "INSERT INTO log VALUES (1, '2026-03-02'); DROP TABLE cache;"
        f"ALTER TABLE log_3 OWNER TO {owner_of(cluster, live)}",
        live,
    )
    before = dumped(cluster, live)
    plan = restore("log", "cache", "egg", flags=("--dry",)).stdout
    assert "lock     public.hen, public.note, which refer to them" in plan
    assert "undo     there is none: --backup-first keeps the rows of now in a backup" in plan
    assert "create   public.cache in" in plan
    assert "partition public.log_3 is not in the backup: it will be empty" in plan
    assert not [line for line in plan.splitlines() if line.split()[-2:] == ["0", "0"]]
    assert plan.splitlines()[-2].split() == ["public.log_2", "19", "19"] or "log_2" in plan
    document = json.loads(restore("log", flags=("--dry", "--json")).stdout)
    assert {"table": "public.log_3", "now": 1, "backup": None} in document["rows"] or any(
        row["table"] == "public.log_3" for row in document["rows"]
    )
    refused = restore("log", flags=(), code=2)
    assert "this cannot be undone and there is no terminal to ask on" in refused.stderr
    wrong = restore("log", flags=("--confirm", "other"), code=2)
    assert "is not the database's name" in wrong.stderr
    assert dumped(cluster, live) == before
    restore("log", flags=("--confirm", live))
    assert cluster.value("SELECT count(*) FROM log_3", live) == 0
    assert cluster.value("SELECT count(*) FROM log", live) == 50


def test_a_backup_first_brings_them_back(
    cluster: Cluster, live: str, inv: Inv, restore: Callable[..., Any]
) -> None:
    cluster.execute("DELETE FROM bill WHERE id > 10", live)
    before = dumped(cluster, live)
    done = restore("public.bill", flags=("--yes", "--backup-first"))
    command = next(line for line in done.stdout.splitlines() if "are in a backup" in line)
    words = command.partition(": inv ")[2].split()
    assert words[:2] == ["db.restore", "--backup"]
    back = inv(*words, "--yes")
    assert back.returncode == 0, back.stderr
    assert dumped(cluster, live).replace("10, true", "300, true") == before.replace(
        "10, true", "300, true"
    )


def test_a_reader_is_not_queued_behind_for_ever(
    cluster: Cluster, live: str, restore: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.connect(live, application_name="a long report") as reader:
        reader.autocommit = False
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bill")
            done = restore("public.bill", code=6)
    assert "the tables are in use, nothing was changed: public.bill by process" in done.stderr
    assert "a long report" in done.stderr
    assert sides(cluster, live) == []


def test_sequences_never_go_back(cluster: Cluster, live: str, restore: Callable[..., Any]) -> None:
    cluster.execute("SELECT setval('bill_id_seq', 5); SELECT setval('person_id_seq', 5000)", live)
    done = restore("public.bill", "person")
    assert "sequence set: public.bill_id_seq 300" in done.stdout
    restore("person")  # bills refer to it, ON DELETE CASCADE
    assert cluster.value("SELECT count(*) FROM bill", live) == 300
    assert cluster.value("SELECT last_value FROM bill_id_seq", live) == 300
    assert cluster.value("SELECT last_value FROM person_id_seq", live) == 5000


_NEW = ("tables.committed",)
_STEPS = [*boundaries.RESTORE_TABLES, "restore.loading"]


@matrix(step=_STEPS, fault=[kill, interrupt, end_backends])
def test_an_interrupted_run_leaves_old_or_new(
    cluster: Cluster,
    live: str,
    saved: str,
    inv: Inv,
    start_inv: Start,
    step: str,
    fault: Callable[..., None],
) -> None:
    new = dumped(cluster, live)
    cluster.execute("DELETE FROM bill WHERE id > 10; DELETE FROM fired", live)
    old = dumped(cluster, live)
    words = ("--backup", saved, "--only-table", "public.bill", "--yes")
    process = halted(start_inv, step, "db.restore", *words)
    fault(process, cluster)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (-signal.SIGKILL if fault is kill else 130), said
    if fault is not kill:
        state = "are restored" if step in _NEW else "are as they were"
        assert f"interrupted: the tables {state}" in said or "is as it was" in said, said
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert dumped(cluster, live) == (new if step in _NEW else old)
    assert sides(cluster, live) == []
    assert logins(cluster, live) == []


def test_a_damaged_row_is_found_before_the_commit(
    cluster: Cluster, live: str, saved: str, inv: Inv, start_inv: Start
) -> None:
    """Somebody changes the rows in the side database."""
    cluster.execute("DELETE FROM bill WHERE id > 10", live)
    before = dumped(cluster, live)
    words = ("--backup", saved, "--only-table", "public.bill", "--yes")
    process = halted(start_inv, "tables.loaded", "db.restore", *words)
    (side,) = sides(cluster, live)
    cluster.execute("UPDATE bill SET total = 99 WHERE id = 200", side)
    os.kill(process.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, said
    assert "table public.bill: 300 rows as expected, but their content differs" in said
    assert dumped(cluster, live) == before


def test_a_table_that_changes_after_the_plan(
    cluster: Cluster, live: str, saved: str, start_inv: Start
) -> None:
    words = ("--backup", saved, "--only-table", "egg", "--yes")
    process = halted(start_inv, "tables.loaded", "db.restore", *words)
    cluster.execute(sql.SQL('ALTER TABLE egg DROP CONSTRAINT "it\'s laid"'), live)
    before = dumped(cluster, live)
    os.kill(process.pid, signal.SIGUSR1)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "altered since the plan, nothing was changed" in said
    assert dumped(cluster, live) == before


# ---- what a backup, or the owner of the database, could make of it

# as its owner's code in the live database itself, which a superuser's session would run
CLIMBING = """
CREATE FUNCTION climb(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$
BEGIN
  BEGIN
    PERFORM set_config('role', 'none', false);
    EXECUTE 'ALTER ROLE ' || quote_ident('{0}') || ' SUPERUSER';
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  RETURN true;
END $f$;
CREATE TABLE bait (name text CHECK (climb(name)));
CREATE INDEX ON bait (climb(name));
CREATE TABLE precious (id int PRIMARY KEY);
INSERT INTO bait VALUES ('x');
INSERT INTO precious VALUES (1);
"""


@pytest.fixture
def planted(cluster: Cluster, database: str, project: Path, owner: str, inv: Inv) -> str:
    """Return the project's database with its owner's code, backed up once."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
    cluster.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    with cluster.connect(database, user=owner).cursor() as cursor:
        cursor.execute(CLIMBING.format(owner))
    assert inv("db.backup").returncode == 0
    return database


@pytest.mark.parametrize("drop", [False, True])
def test_the_owners_code_runs_as_the_owner_alone(
    cluster: Cluster, planted: str, owner: str, inv: Inv, drop: bool
) -> None:
    cluster.execute("DROP TABLE bait" if drop else "TRUNCATE bait", planted)
    done = inv("db.restore", "--only-table", "bait", "--yes")
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(*) FROM bait", planted) == 1
    query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
    assert cluster.value(query, parameters=(owner,)) is False
    assert logins(cluster, planted) == []


@pytest.mark.parametrize(
    "use",
    [
        "CHECK (climb(name))",
        "EXCLUDE USING btree (climb(name) WITH =)",
        "extra text GENERATED ALWAYS AS (climb(name)::text) STORED",
        "extra own",
    ],
)
def test_a_superuser_runs_no_code_of_a_plain_role(
    cluster: Cluster, database: str, project: Path, owner: str, inv: Inv, use: str
) -> None:
    """The table is a superuser's, the code that it uses is not."""
    cluster.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    with cluster.connect(database, user=owner).cursor() as cursor:
        cursor.execute(CLIMBING.partition("CREATE TABLE")[0].format(owner))
        cursor.execute("CREATE DOMAIN own AS text CHECK (climb(VALUE))")
    cluster.execute(f"CREATE TABLE bait (name text, {use})", database)
    cluster.execute(
        "CREATE TABLE plain (id int CHECK (id > 0)); INSERT INTO plain VALUES (1)", database
    )
    cluster.execute(f"ALTER ROLE {owner} NOSUPERUSER")
    assert inv("db.backup").returncode == 0
    done = inv("db.restore", "--only-table", "bait", "--yes")
    assert done.returncode == 2, done.stderr
    assert "table public.bait uses types or functions of a plain role" in done.stderr
    assert inv("db.restore", "--only-table", "plain", "--yes").returncode == 0
    query = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
    assert cluster.value(query, parameters=(owner,)) is False


@pytest.mark.parametrize(
    ("desc", "definition", "words"),
    [
        ("COMMENT", "DROP TABLE public.precious", "has other statements than pg_dump writes"),
        ("COMMENT", "COMMENT ON TABLE public.precious IS 'x'", "has other statements"),
        ("INDEX", "CREATE INDEX i ON public.precious (id)", ""),
        ("ACL", "GRANT ALL ON TABLE public.precious TO PUBLIC", "has other statements than grants"),
        ("CONSTRAINT", "ALTER TABLE public.precious DROP CONSTRAINT precious_pkey", ""),
    ],
)
def test_a_crafted_archive_alters_nothing_else(
    cluster: Cluster,
    database: str,
    project: Path,
    owner: str,
    inv: Inv,
    desc: str,
    definition: str,
    words: str,
) -> None:
    """Somebody rewrote the entries of a table, which is made anew in the live database."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
    cluster.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    with cluster.connect(database, user=owner).cursor() as cursor:
        cursor.execute(
            "CREATE TABLE precious (id int PRIMARY KEY); CREATE TABLE bait (id int PRIMARY KEY);"
            "COMMENT ON TABLE bait IS 'a'; CREATE INDEX i ON bait (id);"
            "GRANT SELECT ON bait TO PUBLIC; INSERT INTO precious VALUES (1)"
        )
    assert inv("db.backup").returncode == 0
    made = LocalStore(project / "backups").list().backups[0]
    contents = rewriting.Contents((made.dump / "toc.dat").read_bytes())
    tags = {
        b"COMMENT": b"TABLE bait",
        b"INDEX": b"i",
        b"ACL": b"TABLE bait",
        b"CONSTRAINT": b"bait bait_pkey",
    }
    (row,) = (r for r in contents.rows if r.desc == desc.encode() and r.tag == tags[r.desc])
    row.definition = definition.encode() + b";\n"
    made = rewriting.put(made, contents.bytes(contents.rows))
    rewriting.put_json(made, "proof.json", {"schema": {"view public.none": ["a", "b", "c"]}})
    cluster.execute("DROP TABLE bait", database)
    before = dumped(cluster, database)
    done = inv("db.restore", "--only-table", "bait", "--yes")
    if not words:  # the entry is no part of the table, and left out
        assert done.returncode == 0, done.stderr
        cluster.execute("DROP TABLE bait", database)
    else:
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.splitlines()[-1]
    assert dumped(cluster, database) == before


def test_an_entry_that_claims_to_belong_to_a_table(
    cluster: Cluster, database: str, project: Path, owner: str, inv: Inv
) -> None:
    """The archive says what belongs to what: of grants on another table, too."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
    cluster.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database)
    with cluster.connect(database, user=owner).cursor() as cursor:
        cursor.execute(
            "CREATE TABLE precious (id int); CREATE TABLE bait (id int);"
            "GRANT SELECT ON precious TO PUBLIC"
        )
    assert inv("db.backup").returncode == 0
    made = LocalStore(project / "backups").list().backups[0]
    contents = rewriting.Contents((made.dump / "toc.dat").read_bytes())
    (table,) = (r for r in contents.rows if r.desc == b"TABLE" and r.tag == b"bait")
    (grant,) = (r for r in contents.rows if r.desc == b"ACL" and r.tag == b"TABLE precious")
    number = int.from_bytes(table.id[1:], "little")
    grant.needs = [str(number).encode()]
    made = rewriting.put(made, contents.bytes(contents.rows))
    rewriting.put_json(made, "proof.json", {"schema": {"view public.none": ["a", "b", "c"]}})
    cluster.execute("DROP TABLE bait; REVOKE ALL ON precious FROM PUBLIC", database)
    before = dumped(cluster, database)
    done = inv("db.restore", "--only-table", "bait", "--yes")
    assert done.returncode == 2, done.stderr
    assert "grants on table public.precious" in done.stderr.splitlines()[-1]
    assert dumped(cluster, database) == before


def test_a_plain_role_and_tables_of_others(
    cluster: Cluster, live: str, saved: str, project: Path, inv: Inv, plain: Callable[..., str]
) -> None:
    other = plain("CREATEDB")
    target = cluster.target(live)
    (project / "env" / "dev.yaml").write_text(f"url: '{replace(target, user=other).url()}'\n")
    done = inv("db.restore", "--backup", saved, "--only-table", "egg", "--yes")
    assert done.returncode == 2
    assert "no member of" in done.stderr
    own = owner_of(cluster, live)
    cluster.execute(f"GRANT {own} TO {other}")
    cluster.execute("UPDATE egg SET hen = NULL", live)
    done = inv("db.restore", "--backup", saved, "--only-table", "egg", "--yes")
    assert done.returncode == 0, done.stderr
    assert cluster.value("SELECT count(hen) FROM egg", live) == 2
    cluster.execute(f"ALTER TABLE hen OWNER TO {other}; REVOKE {own} FROM {other}", live)
    (project / "env" / "dev.yaml").write_text(f"url: '{target.url()}'\n")
    done = inv("db.restore", "--backup", saved, "--only-table", "egg", "--yes")
    assert done.returncode == 2
    assert "one session with the rights of one owner cannot write all" in done.stderr
    done = inv("db.restore", "--backup", saved, "--only-table", "egg", "--as-superuser")
    assert "add --confirm" in done.stderr
    words = ("--as-superuser", "--confirm", live)
    done = inv("db.restore", "--backup", saved, "--only-table", "egg", *words)
    assert done.returncode == 0, done.stderr
    cluster.execute(f"ALTER TABLE hen OWNER TO {own}", live)


def test_a_backup_without_a_proof_and_one_without_rows(
    cluster: Cluster, live: str, inv: Inv
) -> None:
    assert inv("db.backup", "--no-proof").returncode == 0
    cluster.execute("TRUNCATE bill", live)
    done = inv("db.restore", "--only-table", "public.bill", "--yes")
    assert done.returncode == 0, done.stderr
    assert "are compared with what was loaded" in done.stderr
    assert cluster.value("SELECT count(*) FROM bill", live) == 300
    made = inv("db.backup", "--exclude-table-data", "public.bill", "--json")
    id = json.loads(made.stdout)["id"]
    done = inv("db.restore", "--backup", id, "--only-table", "public.bill", "--yes")
    assert done.returncode == 2
    assert "the backup has no rows of public.bill: they were left out" in done.stderr
    for flag in ("--masked", "--keep-owners"):
        refused = inv("db.restore", flag, "--only-table", "egg", "--yes")
        assert f"{flag} is for a whole database, not for --only-table" in refused.stderr


def test_a_deferred_key_and_a_stopped_run(
    cluster: Cluster, live: str, saved: str, inv: Inv, start_inv: Start
) -> None:
    cluster.execute(
        "ALTER TABLE bill ALTER CONSTRAINT bill_person_fkey DEFERRABLE INITIALLY DEFERRED;"
        "DELETE FROM person WHERE id > 40",
        live,
    )
    before = dumped(cluster, live)
    words = ("--backup", saved, "--only-table", "public.bill", "--yes")
    done = inv("db.restore", *words)
    assert done.returncode == 2, done.stderr
    assert "refer to rows of public.person that are not there" in done.stderr
    process = halted(start_inv, "tables.filled", "db.restore", *words)
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'idle in transaction'"
    )
    assert cluster.value(query, parameters=(live,)) == 1
    kill(process, cluster)
    process.communicate(timeout=PATIENCE)
    healed = unlocked(inv, "db.recover")
    assert healed.returncode == 0, healed.stderr
    assert dumped(cluster, live) == before
