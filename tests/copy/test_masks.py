"""Masks: values that are replaced while a copy reads them, and columns that nobody decided."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from projects import put_stamp
from restores import sides
from servers import Cluster

from pgtasks.copy.mask import key
from pgtasks.settings.secret import Secret

KEY = "not so secret, for tests only"
TABLES = """
CREATE TABLE people (
  id int PRIMARY KEY, name text NOT NULL, email varchar(60) UNIQUE, phone text, born date,
  code varchar(20), score numeric(8,2), notes text, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE visits (id int PRIMARY KEY, email varchar(60) REFERENCES people (email), note text);
INSERT INTO people SELECT i, 'Erika Muster ' || i, 'erika' || i || '@clinic.test', '+49 30 ' || i,
  DATE '1960-01-01' + i, 'C' || i, i / 7.0, repeat('secret ', i % 9)
  FROM generate_series(1, 500) i;
INSERT INTO visits SELECT i, 'erika' || i || '@clinic.test', 'Muster said ' || i
  FROM generate_series(1, 400) i;
CREATE MATERIALIZED VIEW known AS SELECT id, email FROM people;
"""
RULES = {
    "public.people.id": "plain",
    "public.people.name": "name",
    "*.*.email": "email",
    "public.people.phone": "phone",
    "type date": "date 90 days",
    "public.people.code": "'C' || id || '-' || length(name)",
    "public.people.score": "number 0 to 100",
    "public.people.notes": "text",
    "public.visits.id": "plain",
    "public.visits.note": "null",
}


def rules(chosen: dict[str, Any]) -> str:
    """Return the block of an environment's file."""
    return "mask:\n" + "".join(
        f"  {json.dumps(where)}: {json.dumps(text)}\n" for where, text in chosen.items()
    )


class Source:
    """The environment qa of a project, protected, with its rules."""

    def __init__(self, cluster: Cluster, database: str, project: Path) -> None:
        self.cluster, self.database = cluster, database
        self._file = project / "env" / "qa.yaml"
        (project / "env" / "qa.env").write_text(f"MASK_KEY='{KEY}'\n", encoding="utf-8")
        (project / "env" / "qa.env").chmod(0o600)

    def decide(self, chosen: dict[str, Any], *, protected: bool = True) -> None:
        """Write the rules."""
        text = f"url: '{self.cluster.url(self.database)}'\nprotected: {str(protected).lower()}\n"
        self._file.write_text(text + (rules(chosen) if chosen else ""), encoding="utf-8")


@pytest.fixture
def source(cluster: Cluster, fresh_database: Callable[..., str], project: Path) -> Source:
    """Return the environment qa, with personal data."""
    name = fresh_database(cluster)
    cluster.execute(TABLES, name)
    put_stamp(cluster.target(name, environment="qa"))
    made = Source(cluster, name, project)
    made.decide(RULES)
    return made


@pytest.fixture
def goal(cluster: Cluster, database: str, plain_owner: str) -> str:
    """Return the database of environment dev."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {plain_owner}')
    cluster.execute("CREATE TABLE old AS SELECT 1 AS n", database)
    put_stamp(cluster.target(database))
    return database


def every(cluster: Cluster, database: str, query: str) -> list[Any]:
    return cluster.execute(query, database)


def test_a_copy_of_a_protected_source_is_masked(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    done = inv("db.copy", "qa", "dev", "--json")
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    shown = json.loads(done.stdout)
    assert shown["sentence"].startswith("2 of 2 tables identical")
    assert shown["masks"]["columns"]["public.people.name"] == "name"
    people = every(cluster, goal, "SELECT * FROM people ORDER BY id")
    assert len(people) == 500
    before = every(cluster, source.database, "SELECT * FROM people ORDER BY id")
    for was, now in zip(before, people, strict=True):
        assert was[::8] == now[::8]
        assert all(a != b for a, b in zip(was[1:-1], now[1:-1], strict=True) if a)
    text = "\n".join(map(str, people + every(cluster, goal, "SELECT * FROM known")))
    for word in ("Erika", "erika", "clinic.test", "secret"):
        assert word not in text
    assert cluster.value("SELECT count(DISTINCT email) FROM people", goal) == 500
    joined = "SELECT count(*) FROM people JOIN visits USING (email)"
    assert cluster.value(joined, goal) == 400
    assert cluster.value("SELECT count(note) FROM visits", goal) == 0
    assert (
        cluster.value(
            "SELECT count(*) FROM people WHERE abs(born - (DATE '1960-01-01' + id)) "
            "BETWEEN 1 AND 90",
            goal,
        )
        == 500
    )


def test_the_digest_is_that_of_hmac(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    assert inv("db.copy", "qa", "dev").returncode == 0
    key = hashlib.sha256(KEY.encode()).digest()
    digest = hmac.new(key, b"email:erika7@clinic.test", hashlib.sha256).hexdigest()
    masked = cluster.value("SELECT email FROM people WHERE id = 7", goal)
    assert masked == f"u{digest[:16]}@example.com"


def test_undecided_columns_refuse_the_copy(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    chosen = dict(RULES)
    del chosen["public.people.notes"], chosen["public.visits.id"]
    source.decide(chosen)
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2, refused.stderr
    assert "2 columns of it are neither masked nor declared plain" in refused.stderr
    assert "public.people.notes: " in refused.stderr
    assert sides(cluster, goal) == []
    source.decide(chosen, protected=False)
    assert inv("db.copy", "qa", "dev").returncode == 0
    text = str(every(cluster, goal, "SELECT name FROM people"))
    assert "Erika" not in text


def test_values_that_stay_refuse_the_swap(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    some = "CASE WHEN id = 3 THEN notes ELSE 'x' END"
    source.decide({**RULES, "public.people.notes": some})
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 5, refused.stderr
    assert "public.people.notes: 1 value as in the source" in refused.stderr
    assert sides(cluster, goal) == []
    assert cluster.value("SELECT count(*) FROM old", goal) == 1
    source.decide({**RULES, "public.people.notes": f"partly {some}"})
    assert inv("db.copy", "qa", "dev").returncode == 0


@pytest.mark.parametrize(
    ("where", "text", "words"),
    [
        ("public.people.nam", "name", "no such column, did you mean 'public.people.name'"),
        ("public.people.notes", "txet", "did you mean 'text'"),
        ("public.people.notes", "notes", "it is the column itself"),
        ("public.people.notes", "'a'; DROP TABLE people", "syntax error"),
        ("public.people.notes", "'a') FROM people --", "a comment does not belong"),
        ("public.people.notes", "'a'), ('b'", "more than one expression"),
        ("public.people.notes", "(SELECT note FROM public.visits LIMIT 1)", "reads table"),
        ("public.people.notes", "random()::text", "random() is volatile"),
        ("public.people.notes", "now()::text", "now() has another value in each session"),
        ("public.people.notes", "current_date::text", "another value in each session"),
        ("public.people.notes", "max(notes)", "aggregate functions are not allowed"),
        ("public.people.notes", "generate_series(1, 2)::text", "set-returning functions"),
        ("public.people.notes", "hidden(notes)", "function hidden does not exist"),
        ("public.people.name", "null", "it is NOT NULL"),
        ("public.people.notes", "date 9 days", "it is of type text"),
        ("public.people.email", "text", "does not keep the values"),
        ("public.visits.email", "hash", "their masks differ"),
        ("public.people.twice", "plain", "it is computed from other columns"),
        ("people.notes", "text", "expected schema.table.column"),
    ],
)
def test_rules_that_cannot_be(
    cluster: Cluster,
    source: Source,
    goal: str,
    inv: Callable[..., Any],
    where: str,
    text: str,
    words: str,
) -> None:
    source.decide({**RULES, where: text})
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode == 3, refused.stderr
    assert words in refused.stderr
    if words != "their masks differ":
        assert "env/qa.yaml:" in refused.stderr


def test_a_mask_needs_a_key(
    source: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    (project / "env" / "qa.env").write_text("", encoding="utf-8")
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode == 3
    assert "needs the key of the masks: put MASK_KEY=... into env/qa.env" in refused.stderr
    (project / "env" / "qa.env").write_text("MASK_KEY=short\n", encoding="utf-8")
    assert "fewer than 16 characters" in inv("db.copy", "qa", "dev", "--dry").stderr


@pytest.mark.parametrize("protected", [True, False])
def test_files_that_hold_what_is_masked_are_not_copied(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], protected: bool
) -> None:
    source.decide(RULES, protected=protected)
    refused = inv("db.copy", "qa", "dev", "--template")
    assert refused.returncode == 2
    assert "cannot copy the files of the source: columns are masked" in refused.stderr
    assert json.loads(inv("db.copy", "qa", "dev", "--dry", "--json").stdout)["way"] == "rows"
    refused = inv("db.copy", "qa", "dev", "--no-proof")
    assert "whether the masks changed the values: omit --no-proof" in refused.stderr
    assert sides(cluster, goal) == []


@pytest.mark.parametrize("task", [("mask.check", "--env", "qa"), ("db.copy", "qa", "dev", "--dry")])
def test_a_date_is_moved_by_a_column_that_exists(
    source: Source, goal: str, inv: Callable[..., Any], task: tuple[str, ...]
) -> None:
    source.decide({**RULES, "public.people.born": "date 90 days by nobody"})
    refused = inv(*task)
    assert refused.returncode == 3, refused.stderr
    assert "'public.people.born': column people.nobody does not exist" in refused.stderr


def test_an_error_shows_no_value(source: Source, goal: str, inv: Callable[..., Any]) -> None:
    source.decide({**RULES, "public.people.notes": "name::int::text"})
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 1, refused.stderr
    assert "a mask or a condition failed (InvalidTextRepresentation, 22P02)" in refused.stderr
    assert "Erika" not in refused.stderr + refused.stdout
    assert "Erika" not in inv("journal.list", "--json").stdout


@pytest.mark.parametrize("code", ["ERIKA", "57014", "57P01", "08006", "0A000", "P0001"])
def test_an_error_shows_no_value_whatever_its_sqlstate(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], code: str
) -> None:
    raises = f"RAISE EXCEPTION 'Erika %', t USING DETAIL = t, HINT = t, ERRCODE = '{code}'"
    cluster.execute(
        "CREATE FUNCTION public.fails(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        f" $f$ BEGIN {raises}; END $f$",
        source.database,
    )
    source.decide({**RULES, "public.people.notes": "public.fails(name)"})
    refused = inv("db.copy", "qa", "dev", "--json")
    assert refused.returncode in (1, 4), refused.stderr
    assert "people: " in refused.stderr
    shown = refused.stderr + refused.stdout + inv("journal.list", "--json").stdout
    assert "Erika" not in shown
    assert "ERIKA" not in shown


def test_the_key_is_in_no_statement(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(f"ALTER DATABASE \"{source.database}\" SET log_statement = 'all'")
    assert inv("db.copy", "qa", "dev").returncode == 0
    text = (cluster.folder / "log").read_text(errors="replace")
    assert "pgtasks.mask_inner" in text
    for secret in (KEY, *(each.reveal() for each in key.session_settings(Secret(KEY)).values())):
        assert secret not in text


def test_a_file_that_is_not_always_there_has_no_rules(
    source: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    block = {"pgtasks": {"environments": {"qa": {"mask": {"public.people.name": "plain"}}}}}
    (project / "loose.yaml").write_text(json.dumps(block), encoding="utf-8")
    refused = inv("-f", "loose.yaml", "db.copy", "qa", "dev")
    assert refused.returncode == 3
    assert "mask: neither a variable nor a -f file can do that" in refused.stderr


def test_code_of_another_role_is_not_run(
    cluster: Cluster, source: Source, goal: str, plain_owner: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(
        "CREATE FUNCTION public.low(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        f"ALTER FUNCTION public.low(text) OWNER TO {plain_owner};"
        "CREATE INDEX ON people (public.low(name))",
        source.database,
    )
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode == 2, refused.stderr
    assert "its masks would run code of another role" in refused.stderr


def test_no_value_is_in_the_files_of_the_target(
    cluster: Cluster,
    cluster18: Cluster,
    source: Source,
    fresh_database: Callable[..., str],
    project: Path,
    inv: Callable[..., Any],
) -> None:
    hidden, shown = f"hidden{os.getpid()}", f"shown{os.getpid()}"
    cluster.execute(
        f"UPDATE people SET name = '{hidden}' || id, notes = name, code = '{shown}' || id;"
        "UPDATE people SET notes = name",
        source.database,
    )
    source.decide({**RULES, "public.people.code": "plain"})
    name = fresh_database(cluster18)
    put_stamp(cluster18.target(name))
    (project / "env" / "dev.yaml").write_text(f"url: '{cluster18.url(name)}'\n", encoding="utf-8")
    done = inv("db.copy", "qa", "dev", "--as-superuser", "--confirm", name)
    assert done.returncode == 0, done.stderr
    cluster18.execute("CHECKPOINT")
    assert found(cluster18, shown) >= {"base", "pg_wal"}
    assert found(cluster18, hidden) == set()


def found(cluster: Cluster, word: str) -> set[str]:
    """Return the folders of a server whose files contain a word."""
    folders = set()
    for path in cluster.folder.rglob("*"):
        # the server renames and removes files of its own at any moment
        with suppress(FileNotFoundError):
            if path.is_file() and word.encode() in path.read_bytes():
                folders.add(next(part for part in path.parts[::-1][1:] if not part.isdigit()))
    return folders


def test_what_is_no_column_is_decided_too(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(
        "SELECT lo_from_bytea(0, 'Erika'); CREATE FOREIGN DATA WRAPPER w; CREATE SERVER away"
        " FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER away OPTIONS (p 'hidden')",
        source.database,
    )
    large, mappings = "SELECT count(*) FROM pg_largeobject", "SELECT count(*) FROM pg_user_mapping"
    refused = inv("db.copy", "qa", "dev", "--as-superuser", "--confirm", goal)
    assert refused.returncode == 2
    assert "its large objects are neither left out nor declared plain" in refused.stderr
    for rule, number in {"null": 0, "plain": 1}.items():
        source.decide({**RULES, "large objects": rule, "user mappings": rule})
        done = inv("db.copy", "qa", "dev", "--as-superuser", "--confirm", goal)
        assert done.returncode == 0, done.stderr
        assert cluster.value(large, goal) == number
        assert cluster.value(mappings, goal) == number
    source.decide({**RULES, "large objects": "plain"})
    done = inv("db.copy", "qa", "dev", "--as-superuser", "--confirm", goal)
    assert done.returncode == 0, done.stderr
    assert "without user mappings that have options, which hold passwords" in done.stderr
    assert cluster.value(mappings, goal) == 0


PARTS = """
CREATE TABLE parts (id int, who text, born date) PARTITION BY RANGE (born);
CREATE TABLE parts_60 PARTITION OF parts FOR VALUES FROM ('1960-01-01') TO ('1970-01-01')
  PARTITION BY HASH (who);
CREATE TABLE parts_60_0 PARTITION OF parts_60 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_60_1 PARTITION OF parts_60 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE parts_more PARTITION OF parts DEFAULT;
CREATE INDEX ON parts (who);
INSERT INTO parts SELECT i, 'Erika ' || i, DATE '1960-01-01' + i * 20
  FROM generate_series(1, 400) i;
CREATE TABLE child (more text) INHERITS (visits);
INSERT INTO child SELECT i, NULL, 'Erika said', 'Erika' FROM generate_series(1000, 1010) i;
"""


def test_partitions_have_the_rules_of_their_table(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute(PARTS, source.database)
    decided = {**RULES, "public.parts.who": "hash", "public.parts.*": "plain"}
    decided |= {"public.parts.born": "date 900 days", "public.child.more": "text"}
    source.decide(decided)
    done = inv("db.copy", "qa", "dev", "--json")
    assert done.returncode == 0, done.stderr
    counted = "SELECT count(*) FROM parts"
    assert cluster.value(counted, goal) == 400
    assert cluster.value(f"{counted} WHERE who ~ '^[0-9a-f]{{32}}$'", goal) == 400
    assert cluster.value("SELECT count(note) FROM ONLY child", goal) == 0
    del decided["public.child.more"]
    source.decide(decided)
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    assert "1 column of it is neither masked nor declared plain" in refused.stderr
    assert "public.child.more: text" in refused.stderr


def arriving(project: Path, **files: str) -> None:
    """Write files of sql/arrive."""
    folder = project / "sql" / "arrive"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text, encoding="utf-8")


def test_files_run_on_the_copy_after_its_proof(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    project: Path,
    inv: Callable[..., Any],
) -> None:
    arriving(
        project,
        b="UPDATE people SET notes = 'arrived' WHERE id = 3; SELECT 'printed';",
        a="CREATE TABLE hooks AS SELECT current_user::text who, current_database()::text place",
    )
    planned = inv("db.copy", "qa", "dev", "--dry")
    assert "run      sql/arrive/a.sql, sql/arrive/b.sql, after the proof" in planned.stdout
    done = inv("db.copy", "qa", "dev", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["sentence"].startswith("2 of 2 tables identical")
    changed = {"table": "public.people", "inserted": 0, "updated": 1, "deleted": 0}
    assert changed in shown["arrived"]["tables"]
    assert "which is no longer equal to the source" in done.stderr
    ((who, place),) = cluster.execute("SELECT who, place FROM hooks", goal)
    assert who == plain_owner
    assert place.startswith(f"{goal}__new_")
    assert cluster.value("SELECT notes FROM people WHERE id = 3", goal) == "arrived"
    assert cluster.value("SELECT to_regclass('hooks') IS NULL", source.database)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("UPDATE people SET name = NULL", 1, "sql/arrive/a.sql:1: "),
        ("COMMIT;", 2, "would end the transaction"),
        ("\\copy people to 'out'", 2, "reads or writes a file of this machine"),
        ("RESET ROLE; ALTER DATABASE postgres SET work_mem = '1MB'", 1, "must be owner"),
    ],
)
def test_a_file_that_fails_ends_the_copy(
    cluster: Cluster,
    source: Source,
    goal: str,
    project: Path,
    inv: Callable[..., Any],
    text: str,
    code: int,
    words: str,
) -> None:
    arriving(project, a=text)
    done = inv("db.copy", "qa", "dev")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert cluster.value("SELECT count(*) FROM old", goal) == 1
    assert sides(cluster, goal) == []


@pytest.fixture
def prod(source: Source, project: Path, inv: Callable[..., Any]) -> Source:
    """Return the environment qa with a backup."""
    saved = inv("db.backup", "--env", "qa")
    assert saved.returncode == 0, saved.stderr
    return source


def backup_of(project: Path) -> str:
    (path,) = project.glob("backups/qa/*/*/manifest.json")
    return str(path.parent)


def test_a_backup_of_another_environment_is_masked(
    cluster: Cluster, prod: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    words = ("db.restore", "--backup", backup_of(project), "--masked", "--confirm", goal)
    dry = inv(*words, "--dry")
    assert dry.returncode == 0, dry.stderr
    assert "its values reach this server's files before they are masked" in dry.stdout
    assert "until then the target's owner can read them" in dry.stdout
    done = inv(*words, "--json")
    assert done.returncode == 0, done.stderr
    version = stamped(cluster, goal)
    assert json.loads(done.stdout)["masked"] == [f"9 columns of 2 tables, rules {version}"]
    text = str(cluster.execute("SELECT * FROM people", goal))
    assert "Erika" not in text
    assert cluster.value("SELECT count(DISTINCT email) FROM people", goal) == 500
    assert cluster.value("SELECT count(*) FROM people JOIN visits USING (email)", goal) == 400
    (kept,) = sides(cluster, goal)
    assert "__old_" in kept
    assert inv("db.undo").returncode == 0
    assert cluster.value("SELECT count(*) FROM old", goal) == 1


def test_files_run_on_a_masked_restore(
    cluster: Cluster, prod: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    arriving(project, a="UPDATE people SET notes = notes || ' arrived' WHERE id = 3;")
    words = ("db.restore", "--backup", backup_of(project), "--masked", "--confirm", goal)
    assert "runs sql/arrive/a.sql once it is masked and proven" in inv(*words, "--dry").stdout
    done = inv(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arrived"]["files"] == ["sql/arrive/a.sql"]
    assert cluster.value("SELECT notes FROM people WHERE id = 3", goal).endswith(" arrived")
    arriving(project, a="UPDATE people SET nothing = 1;")
    refused = inv(*words)
    assert refused.returncode == 1, refused.stderr
    assert "sql/arrive/a.sql:1: " in refused.stderr
    assert [name for name in sides(cluster, goal) if "__old_" not in name] == []


def stamped(cluster: Cluster, database: str) -> str:
    """Return the version of the masks in the stamp of a database."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    comment = cluster.value(query, parameters=(database,))
    return dict(word.partition("=")[::2] for word in comment.split())["masks"]


def test_a_masked_restore_that_fails_leaves_the_target(
    cluster: Cluster, prod: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    chosen = dict(RULES)
    del chosen["public.people.notes"]
    prod.decide(chosen)
    words = ("db.restore", "--backup", backup_of(project), "--masked", "--confirm", goal)
    refused = inv(*words)
    assert refused.returncode == 2, refused.stderr
    assert "the backup is of environment 'qa': 1 column of it is neither" in refused.stderr
    assert sides(cluster, goal) == []
    assert cluster.value("SELECT count(*) FROM old", goal) == 1


def test_an_environment_is_not_masked_itself(
    prod: Source, project: Path, inv: Callable[..., Any]
) -> None:
    refused = inv("db.restore", "--env", "qa", "--masked", "--confirm", prod.database)
    assert refused.returncode == 2, refused.stderr
    assert "would lose its own data" in refused.stderr


FOREIGN = """
CREATE SCHEMA more AUTHORIZATION {owner};
SET ROLE {owner};
CREATE FUNCTION more.low(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE OPERATOR more.@@ (FUNCTION = more.low, RIGHTARG = text);
CREATE TYPE more.pair AS (a text);
CREATE FUNCTION more.made(text) RETURNS more.pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1)';
CREATE CAST (text AS more.pair) WITH FUNCTION more.made(text) AS ASSIGNMENT;
RESET ROLE;
ALTER TABLE people ADD pair more.pair;
"""


@pytest.mark.parametrize(
    ("where", "text", "words"),
    [
        ("notes", "more.low(notes)", "low() is or runs code of role"),
        ("notes", "OPERATOR(more.@@) notes", "@@() is or runs code of role"),
        ("pair", "'a'", "it is of a type of a plain role"),
    ],
)
def test_code_of_a_plain_role_does_not_run_as_a_superuser(
    cluster: Cluster,
    source: Source,
    goal: str,
    plain_owner: str,
    inv: Callable[..., Any],
    where: str,
    text: str,
    words: str,
) -> None:
    cluster.execute(FOREIGN.format(owner=plain_owner), source.database)
    decided = {**RULES, "public.people.pair": "plain"}
    source.decide(decided)
    assert inv("db.copy", "qa", "dev", "--dry").returncode == 0
    source.decide({**decided, f"public.people.{where}": text})
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode in (2, 3), refused.stderr
    assert words in refused.stderr


def test_a_part_is_masked_too(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    done = inv("db.copy", "qa", "dev", "--where", "visits=note LIKE 'Muster said 1%'")
    assert done.returncode == 0, done.stderr
    visits = cluster.value("SELECT count(*) FROM visits", goal)
    assert 0 < visits < 400
    joined = "SELECT count(*) FROM people JOIN visits USING (email)"
    assert cluster.value(joined, goal) == visits
    assert "Erika" not in str(every(cluster, goal, "SELECT * FROM people"))


def test_a_program_prints_the_key(
    source: Source, goal: str, project: Path, inv: Callable[..., Any]
) -> None:
    (project / "env" / "qa.env").write_text("", encoding="utf-8")
    file = project / "env" / "qa.yaml"
    settings = file.read_text(encoding="utf-8")
    file.write_text(f"{settings}mask_key_command: printf '{KEY}'\n", encoding="utf-8")
    shown = inv("env.show", "--env", "qa")
    assert "mask_key_command" in shown.stdout
    assert KEY not in shown.stdout
    assert "public.people.name" in shown.stdout
    assert inv("db.copy", "qa", "dev", "--dry").returncode == 0
    file.write_text(f"{settings}mask_key_command: printf ''\n", encoding="utf-8")
    refused = inv("db.copy", "qa", "dev", "--dry")
    assert refused.returncode == 3
    assert "mask_key_command 'printf': expected one line with the key" in refused.stderr


@pytest.mark.parametrize("protected", [True, False])
def test_files_with_large_objects_that_a_rule_leaves_out_are_not_copied(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], protected: bool
) -> None:
    cluster.execute("SELECT lo_from_bytea(0, 'Erika in a large object')", source.database)
    source.decide({"*.*.*": "plain", "large objects": "null"}, protected=protected)
    refused = inv("db.copy", "qa", "dev", "--template")
    assert "files of the source: a rule leaves something out of them" in refused.stderr
    done = inv("db.copy", "qa", "dev", "--json")
    assert json.loads(done.stdout)["way"] == "rows", done.stderr
    assert every(cluster, goal, "SELECT oid FROM pg_largeobject_metadata") == []


def test_a_copy_of_some_tables_is_not_stamped_as_masked(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any]
) -> None:
    cluster.execute("DROP MATERIALIZED VIEW known; ALTER TABLE visits DROP email", source.database)
    cluster.execute(
        "CREATE TABLE people (id int, name text); INSERT INTO people VALUES (1, 'Real Name');"
        "CREATE TABLE visits (id int PRIMARY KEY, note text)",
        goal,
    )
    done = inv("db.copy", "qa", "dev", "--tables", "visits")
    assert done.returncode == 0, done.stderr
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    assert "masks=" not in cluster.execute(comment, parameters=(goal,))[0][0]
    assert every(cluster, goal, "SELECT name FROM people") == [("Real Name",)]


@pytest.mark.parametrize(
    ("rule", "why"),
    [("1 / (id - 1)", "DivisionByZero"), ("number 900 to 1000000", "NumericValueOutOfRange")],
)
def test_a_mask_that_fails_says_why(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], rule: str, why: str
) -> None:
    cluster.execute("ALTER TABLE people ALTER score TYPE numeric(5,2)", source.database)
    source.decide({**RULES, "public.people.score": rule})
    failed = inv("db.copy", "qa", "dev")
    assert failed.returncode == 1, failed.stderr
    assert f"table public.people: a mask or a condition failed ({why}, " in failed.stderr
    assert "partly" not in failed.stderr
    assert sides(cluster, goal) == []


def test_a_refusal_has_rules_to_paste(
    cluster: Cluster, source: Source, goal: str, inv: Callable[..., Any], project: Path
) -> None:
    cluster.execute(
        "ALTER TABLE people ADD words tsvector, ADD sure tsvector NOT NULL DEFAULT ''",
        source.database,
    )
    refused = inv("db.copy", "qa", "dev")
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    block = lines[lines.index("mask:") + 1 : -1]
    assert [line.partition("#")[0].strip() for line in block] == [
        'public.people.words: "null"',
        "public.people.sure: \"''::tsvector\"",
    ]
    assert "inv mask.suggest --env qa" in lines[-1]
