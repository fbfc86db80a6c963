"""Compare two databases, or one with a backup, and the SQL that makes one like the other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from paths import SUPPORT
from servers import Cluster
from shops import two_revisions

from pgtasks.errors import Failed, NotProven, Refused
from pgtasks.schema.inspect.diagram.picture import picture
from pgtasks.schema.inspect.diff import columns, models, schema_file, sources
from pgtasks.schema.inspect.diff.compare import left_out
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.perform import Options, Place, databases
from pgtasks.schema.inspect.diff.perform import compared as compared_sides
from pgtasks.schema.inspect.diff.side import Side
from pgtasks.server import connection
from pgtasks.server.proof.toc import Entry
from pgtasks.server.reach import Reached
from pgtasks.settings.project import load
from pgtasks.settings.target import Target

SHOP = """
CREATE TABLE person (id int PRIMARY KEY, name varchar(40) NOT NULL,
  CONSTRAINT named CHECK (name <> ''));
CREATE TABLE "Odd ""t"" 🙂" (id int PRIMARY KEY, person int REFERENCES person);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touch BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW named AS SELECT name FROM person;
CREATE SEQUENCE counted;
INSERT INTO person VALUES (1, 'Ann'), (2, 'Bob');
"""
# what the other one has besides, and what it has otherwise
CHANGES = """
CREATE SCHEMA extra;
CREATE TYPE extra.mood AS ENUM ('good', 'bad');
CREATE TABLE extra.note (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person int NOT NULL
  REFERENCES person, at date DEFAULT now(), mood extra.mood);
CREATE INDEX ON extra.note (at);
COMMENT ON TABLE extra.note IS 'with a ''comment''';
GRANT SELECT ON extra.note TO PUBLIC;
ALTER TABLE person ADD COLUMN born date, ADD COLUMN alive bool NOT NULL DEFAULT true;
ALTER TABLE person ADD COLUMN email text NOT NULL DEFAULT 'x';
ALTER TABLE person ALTER COLUMN email DROP DEFAULT;
ALTER TABLE "Odd ""t"" 🙂" ALTER COLUMN person SET DEFAULT 1;
ALTER TABLE person DISABLE TRIGGER touch;
CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END';
CREATE INDEX by_person ON "Odd ""t"" 🙂" (person);
CREATE VIEW extra.living AS SELECT id, born FROM person WHERE alive;
CREATE VIEW extra.mailed AS SELECT email FROM person;
COMMENT ON TABLE person IS 'somebody';
GRANT INSERT ON person TO PUBLIC;
ALTER SEQUENCE counted RESTART WITH 5;
UPDATE person SET name = 'Eve' WHERE id = 2;
"""
# what the first one has alone
OWN = """
CREATE TABLE gone (id int PRIMARY KEY); CREATE INDEX by_name ON person (name);
GRANT DELETE ON person TO PUBLIC; INSERT INTO "Odd ""t"" 🙂" VALUES (1, 1);
"""
GRANTS = (
    "GRANT DELETE ON TABLE public.person TO PUBLIC only in dev; "
    "GRANT INSERT ON TABLE public.person TO PUBLIC only in prod"
)


@pytest.fixture
def pair(cluster: Cluster, fresh_database: Callable[..., str]) -> tuple[str, str]:
    names = fresh_database(cluster), fresh_database(cluster)
    for name in names:
        cluster.psql(name, SHOP)
    return names


def compared(cluster: Cluster, pair: tuple[str, str], **options: Any) -> Diff:
    places = (
        Place(side, Reached(cluster.target(name)), 2)
        for side, name in zip(("dev", "prod"), pair, strict=True)
    )
    return databases(*places, Options(**options))


def words(diff: Diff) -> dict[str, str]:
    return {change.name: change.words for change in diff.changes}


def in_json(document: str) -> dict[str, str]:
    return {each["name"]: each["difference"] for each in json.loads(document)["differences"]}


def test_two_of_the_same_schema(cluster: Cluster, pair: tuple[str, str]) -> None:
    same = compared(cluster, pair, rows=True)
    assert same.equal
    same.check()
    assert same.lines()[0] == "no difference between dev and prod in what was compared"
    assert same.lines()[1].startswith("compared: schema (")
    assert "rows of 2 tables" in same.lines()[1]
    partly = compared(cluster, pair, without=frozenset({"owners", "settings"}), sql=True)
    assert "rows: --rows compares them" in partly.skipped
    assert {"owners: left out by --without", "settings: left out by --without"} < {*partly.skipped}
    assert partly.lines() == ["-- what makes dev like prod, as far as nothing is lost by it"]


def test_what_pg_dump_does_not_show(cluster: Cluster, pair: tuple[str, str]) -> None:
    cluster.psql(
        pair[1],
        'ALTER TABLE "Odd ""t"" 🙂" DISABLE TRIGGER ALL;'
        f"COMMENT ON DATABASE {pair[1]} IS 'mine'; GRANT CREATE ON DATABASE {pair[1]} TO PUBLIC;"
        f"ALTER DATABASE {pair[1]} OWNER TO pg_read_all_data",
    )
    cluster.execute(f"ALTER DATABASE {pair[1]} IS_TEMPLATE true")
    try:
        diff = compared(cluster, pair)
        without = compared(cluster, pair, without=left_out(["owners,grants"]), sql=True)
    finally:
        cluster.execute(f"ALTER DATABASE {pair[1]} IS_TEMPLATE false")
    name = r'"Odd ""t"" 🙂"'
    both = {
        f'constraint public.{name}."Odd ""t"" 🙂_person_fkey"': "enforced in dev, "
        f"not enforced on public.{name} in prod",
        "comment of the database": "none in dev, 'mine' in prod",
        "template of the database": "no in dev, yes in prod",
    }
    assert words(without) == both
    assert words(diff) == both | {
        "grants of the database": "CONNECT to PUBLIC, TEMPORARY to PUBLIC in dev, "
        "CONNECT to PUBLIC, CREATE to PUBLIC, TEMPORARY to PUBLIC in prod",
        "owner of the database": f"{cluster.superuser} in dev, pg_read_all_data in prod",
    }
    assert f"-- comment of the database: {both['comment of the database']}" in without.lines()


def test_every_difference_has_a_name(cluster: Cluster, pair: tuple[str, str]) -> None:
    cluster.psql(pair[1], CHANGES)
    cluster.psql(pair[0], OWN)
    cluster.execute(f"ALTER DATABASE {pair[1]} SET work_mem = '5MB'")
    diff = compared(cluster, pair, rows=True, text=True)
    assert words(diff) == {
        "comment on table public.person": "only in prod",
        'table public."Odd ""t"" 🙂"': "column person: integer in dev, integer DEFAULT 1 in prod",
        "function public.touch()": "defined differently",
        "grants on table public.person": GRANTS,
        "index public.by_name": "only in dev",
        "index public.by_person": "only in prod",
        "schema extra": "only in prod",
        "setting work_mem": "not set in dev, 5MB in prod",
        "table extra.note": "only in prod, with its grants, comments, keys, foreign keys, "
        "indexes, sequences",
        "table public.gone": "only in dev, with its keys",
        "table public.person": "column born only in prod; column alive only in prod; "
        "column email only in prod",
        "trigger public.person.touch": "enabled in dev, disabled in prod",
        "type extra.mood": "only in prod",
        "view extra.living": "only in prod",
        "view extra.mailed": "only in prod",
        'rows of table public."Odd ""t"" 🙂"': "1 in dev, 0 in prod",
        "rows of table public.person": "2 rows in both, whose content differs",
        "rows of sequence public.counted": "1 (not yet handed out) in dev, "
        "5 (not yet handed out) in prod",
    }
    lines = diff.lines()
    assert "+    born date," in lines
    assert "+BEGIN RETURN old; END" in [line.replace("    AS $$", "") for line in lines] or any(
        "BEGIN RETURN old; END" in line and line.startswith("+") for line in lines
    )
    assert lines[-3] == "18 differences between dev and prod"
    with pytest.raises(NotProven, match="18 differences between dev and prod") as caught:
        diff.check()
    document = json.loads(json.dumps(caught.value.details))
    only = {each["name"]: each["only_in"] for each in document["differences"]}
    assert (only["table public.gone"], only["schema extra"]) == ("dev", "prod")
    assert only["table public.person"] is None


def test_the_script_makes_one_like_the_other_and_loses_nothing(
    cluster: Cluster, pair: tuple[str, str]
) -> None:
    cluster.psql(pair[1], CHANGES)
    cluster.psql(pair[0], OWN)
    script = "\n".join(compared(cluster, pair, sql=True).lines())
    statements = [line for line in script.splitlines() if not line.startswith("--")]
    assert not [line for line in statements if "DROP" in line or "REVOKE" in line]
    assert "CREATE INDEX CONCURRENTLY by_person" in script
    assert "-- table public.gone: only in dev, with its keys" in script
    assert "-- view extra.mailed: it needs table public.person as it is in prod" in script
    cluster.psql(pair[0], script)
    left = compared(cluster, pair)
    assert words(left) == {
        "grants on table public.person": GRANTS.partition(";")[0],
        'table public."Odd ""t"" 🙂"': "column person: integer in dev, integer DEFAULT 1 in prod",
        "index public.by_name": "only in dev",
        "table public.gone": "only in dev, with its keys",
        "table public.person": "column email only in prod",
        "view extra.mailed": "only in prod",
    }
    again = compared(cluster, pair, sql=True).lines()
    assert [line for line in again if line and not line.startswith("--")] == []
    assert cluster.value("SELECT count(*) FROM person", pair[0]) == 2


def written(entry: Entry, *, untrusted: bool = True) -> tuple[list[str], list[str]]:
    """Return the statements and the comments of the script that makes what one entry makes."""
    sides = [
        Side(name, 160000, 16, "", entries, untrusted=untrusted)
        for name, entries in (("a", []), ("b", [entry]))
    ]
    lines = compared_sides(*sides, Options(sql=True)).lines()
    left = lines.index("-- not done:") if "-- not done:" in lines else len(lines)
    return [line for line in lines[:left] if line], lines[left:]


_V = "CREATE VIEW public.v AS SELECT 1 AS a; "


@pytest.mark.parametrize("untrusted", [True, False])
@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIEW public.v AS SELECT 1 AS a;\n\\! touch /tmp/x\n",
        "CREATE VIEW public.v AS SELECT '\x1b[2J' AS a;",
        "CREATE VIEW public.v AS SELECT 1 AS a\u2028\\! id;",
        "CREATE VIEW public.v AS SELECT 1 AS a \\gexec\n;",
        "CREATE VIEW public.v AS SELECT ':x' AS a, :'x', :y;",
        "CREATE VIEW public.v AS SELECT arr[1:x] FROM t;",
        "CREATE VIEW public.w AS SELECT 1 AS a;",
        "CREATE VIEW other.v AS SELECT 1 AS a;",
        "CREATE OR REPLACE VIEW public.v AS SELECT 1 AS a;",
        "CREATE TEMP VIEW v AS SELECT 1 AS a;",
        *(
            _V + more
            for more in (
                "DROP TABLE person;",
                "COMMIT;",
                "ALTER TABLE person DROP COLUMN name;",
                "DO $$BEGIN NULL; END$$;",
                "ALTER SYSTEM SET port = 1;",
                "ALTER ROLE ann SUPERUSER;",
                "GRANT postgres TO ann;",
                "CREATE TABLE public.x AS WITH d AS (DELETE FROM public.person RETURNING *) "
                "SELECT * FROM d;",
                "ALTER TABLE public.person ALTER COLUMN name TYPE int USING 0;",
                "CREATE TABLE public.y AS SELECT pg_catalog.lo_import('/etc/passwd');",
                "REVOKE ALL ON public.person FROM PUBLIC;",
                "ALTER DOMAIN public.d DROP CONSTRAINT c;",
                "ALTER PUBLICATION p DROP TABLE public.person;",
                "ALTER SEQUENCE public.person_id_seq RESTART WITH 1;",
                "ALTER TABLE public.person DISABLE TRIGGER ALL;",
                "ALTER TABLE public.person OWNER TO mallory;",
                "CREATE OR REPLACE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql "
                "SECURITY DEFINER AS 'BEGIN DROP TABLE person; RETURN new; END';",
                "CREATE RULE r AS ON INSERT TO public.person DO INSTEAD NOTHING;",
                "ALTER TABLE public.parted DETACH PARTITION public.p1;",
                "ALTER EXTENSION hstore DROP TYPE hstore;",
                "ALTER EVENT TRIGGER guard DISABLE;",
                "CREATE MATERIALIZED VIEW public.z AS SELECT public.evil();",
                "CREATE INDEX i ON public.person (public.evil(name));",
                "CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p;",
                "CREATE USER mallory SUPERUSER;",
                "ALTER USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (SET host 'x');",
            )
        ),
    ],
)
def test_a_script_has_nothing_of_an_archive_but_what_makes_its_objects(
    definition: str, untrusted: bool
) -> None:
    entry = Entry("VIEW", "public", "v", "ann", definition=definition.encode(), number=1)
    statements, comments = written(entry, untrusted=untrusted)
    assert len(statements) == 1
    assert any(line.startswith("-- view public.v: its definition ") for line in comments)


# kind, name, statement: what an archive may have, and what only that of an own database may
_OWN = {
    ("VIEW", "v", "CREATE VIEW public.v AS SELECT 1 AS a;"): "any",
    ("TABLE", "t", "CREATE TABLE public.t (a int, CHECK (public.f(a)));"): "any",
    ("TABLE", "t", "CREATE TABLE IF NOT EXISTS public.t (a int);"): "none",
    ("TABLE", "t", "CREATE TABLE public.t (a int) PARTITION BY LIST (public.f(1));"): "own",
    (
        "TABLE",
        "t",
        "CREATE TABLE public.t (a int); ALTER TABLE ONLY public.t ALTER COLUMN a SET STATISTICS 5;",
    ): "any",
    (
        "TABLE",
        "t",
        "CREATE TABLE public.t (a int); ALTER TABLE ONLY public.u ALTER COLUMN a SET STATISTICS 5;",
    ): "none",
    ("MATERIALIZED VIEW", "m", "CREATE MATERIALIZED VIEW public.m AS SELECT 1 WITH NO DATA;"): (
        "any"
    ),
    ("MATERIALIZED VIEW", "m", "CREATE MATERIALIZED VIEW public.m AS SELECT public.f();"): "none",
    ("MATERIALIZED VIEW DATA", "m", "REFRESH MATERIALIZED VIEW public.m;"): "own",
    ("FUNCTION", "f()", "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1';"): (
        "any"
    ),
    ("FUNCTION", "f()", "CREATE FUNCTION public.g() RETURNS int LANGUAGE sql AS 'SELECT 1';"): (
        "none"
    ),
    ("FUNCTION", "f()", "CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS '/tmp/x.so';"): "own",
    ("INDEX", "i", "CREATE INDEX i ON public.t USING btree (lower(a));"): "any",
    ("INDEX", "i", "CREATE INDEX i ON public.t USING btree (public.f(a));"): "own",
    ("INDEX", "i", "CREATE INDEX i ON public.t USING gin (a public.ops);"): "own",
    ("INDEX", "i", "CREATE INDEX j ON public.t USING btree (a);"): "none",
    ("CONSTRAINT", "t k", "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY (a);"): "any",
    ("CONSTRAINT", "t k", "ALTER TABLE public.t ADD CONSTRAINT k UNIQUE USING INDEX x;"): "none",
    ("CONSTRAINT", "t k", "ALTER TABLE ONLY public.t DROP CONSTRAINT k;"): "none",
    ("CHECK CONSTRAINT", "t k", "ALTER TABLE public.t ADD CONSTRAINT k CHECK ((a > 1));"): "any",
    (
        "CHECK CONSTRAINT",
        "t k",
        "ALTER TABLE public.t ADD CONSTRAINT k CHECK ((query_to_xml('DELETE') IS NULL));",
    ): "own",
    ("SEQUENCE", "s", "CREATE SEQUENCE public.s START WITH 1;"): "any",
    (
        "SEQUENCE",
        "s",
        "ALTER TABLE public.t ALTER COLUMN a ADD GENERATED ALWAYS AS IDENTITY "
        "(SEQUENCE NAME public.s);",
    ): "any",
    ("SEQUENCE OWNED BY", "s", "ALTER SEQUENCE public.s OWNED BY public.t.a;"): "any",
    ("SEQUENCE OWNED BY", "s", "ALTER SEQUENCE public.s RESTART WITH 1;"): "none",
    ("DEFAULT", "t a", "ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT 1;"): "any",
    ("DEFAULT", "t a", "ALTER TABLE ONLY public.t ALTER COLUMN a DROP DEFAULT;"): "none",
    ("TYPE", "e", "CREATE TYPE public.e AS ENUM ('a');"): "any",
    ("DOMAIN", "d", "CREATE DOMAIN public.d AS text;"): "any",
    ("TABLE ATTACH", "p", "ALTER TABLE public.t ATTACH PARTITION public.p FOR VALUES IN (1);"): (
        "own"
    ),
    ("RULE", "t r", "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD NOTHING;"): "any",
    ("RULE", "v _RETURN", "CREATE OR REPLACE VIEW public.v AS SELECT 1 AS a;"): "own",
    ("COMMENT", "TABLE t", "COMMENT ON TABLE public.t IS 'x';"): "any",
    ("COMMENT", "TABLE t", "COMMENT ON TABLE public.u IS 'x';"): "none",
    ("COMMENT", "TABLE t", "COMMENT ON DATABASE t IS 'x';"): "none",
    ("ACL", "TABLE t", "GRANT SELECT ON TABLE public.t TO PUBLIC;"): "any",
    ("ACL", "TABLE t", "GRANT SELECT ON TABLE public.u TO PUBLIC;"): "none",
    ("ACL", "TABLE t", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC;"): "none",
    ("ACL", "TABLE t", "REVOKE ALL ON TABLE public.t FROM ann;"): "none",
    ("EVENT TRIGGER", "e", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION a.b();"): (
        "own"
    ),
    ("TRANSFORM", "t", "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION f());"): (
        "none"
    ),
}


@pytest.mark.parametrize(("kind", "name", "statement"), _OWN)
def test_a_script_has_the_statements_of_pg_dump(kind: str, name: str, statement: str) -> None:
    entry = Entry(kind, "public", name, "ann", definition=statement.encode(), number=1)
    first = statement.partition(" ")[0]
    printed = [
        any(line.startswith(first) for line in written(entry, untrusted=untrusted)[0])
        for untrusted in (True, False)
    ]
    expected = _OWN[kind, name, statement]
    assert printed == [expected == "any", expected != "none"]


def test_a_script_replaces_only_the_object_of_its_entry() -> None:
    text = "CREATE FUNCTION public.f({}) RETURNS int LANGUAGE sql AS 'SELECT {}';"
    old = Entry(
        "FUNCTION", "public", "f(integer)", "ann", definition=text.format("int", 1).encode()
    )
    for argument, replaced in (("int", True), ("text", False)):
        new = replace(old, definition=text.format(argument, 2).encode())
        sides = Side("a", 160000, 16, "", [old]), Side("b", 160000, 16, "", [new], untrusted=True)
        lines = compared_sides(*sides, Options(sql=True)).lines()
        assert any(line.startswith("CREATE OR REPLACE FUNCTION") for line in lines) is replaced
        assert (
            "-- The definitions are what the maker of the backup wrote: read them before "
            "you run them." in lines
        ) is replaced


def test_a_script_takes_no_privilege_and_rewrites_no_table(
    cluster: Cluster, pair: tuple[str, str]
) -> None:
    cluster.psql(
        pair[1],
        "REVOKE ALL ON FUNCTION touch() FROM PUBLIC; REVOKE ALL ON person FROM postgres;"
        "GRANT SELECT ON person TO postgres; CREATE DOMAIN low AS int CHECK (VALUE < 9);"
        "ALTER TABLE person ADD b int GENERATED ALWAYS AS (id + 1) STORED,"
        "  ADD c float DEFAULT random(), ADD d low, ADD e timestamptz DEFAULT now();"
        "CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "REVOKE ALL ON FUNCTION own() FROM PUBLIC",
    )
    file = "SELECT relfilenode FROM pg_class WHERE relname = 'person'"
    before = cluster.value(file, pair[0])
    lines = compared(cluster, pair, sql=True).lines()
    revokes = [line for line in lines if line.startswith("REVOKE")]
    assert revokes == ["REVOKE ALL ON FUNCTION public.own() FROM PUBLIC;"]  # which is made here
    for what in ("function public.touch()", "table public.person"):
        assert f"-- grants on {what}: fewer privileges than by default in prod" in lines
    cluster.psql(pair[0], "\n".join(lines))
    assert cluster.value(file, pair[0]) == before
    assert words(compared(cluster, pair))["table public.person"] == (
        "column b only in prod; column c only in prod; column d only in prod"
    )


def test_owners_and_grants_can_be_left_out(
    cluster: Cluster, plain: Callable[..., str], fresh_database: Callable[..., str]
) -> None:
    role = plain()
    pair = fresh_database(cluster), fresh_database(cluster)
    for name in pair:
        cluster.psql(name, SHOP)
    cluster.psql(
        pair[1], f'ALTER TABLE person OWNER TO "{role}"; GRANT SELECT ON named TO "{role}"'
    )
    assert words(compared(cluster, pair)) == {
        "table public.person": f"belongs to {cluster.superuser} in dev, to {role} in prod",
        "grants on table public.named": "only in prod",
    }
    assert compared(cluster, pair, without=left_out(["owners,grants"])).equal
    with pytest.raises(Refused, match="--without 'rows' is no part, known: owners, grants"):
        left_out(["rows"])


def test_a_role_that_may_not_read_all(
    cluster: Cluster, plain: Callable[..., str], fresh_database: Callable[..., str]
) -> None:
    role, name = plain(), fresh_database(cluster)
    cluster.psql(name, SHOP)
    target = cluster.target(name)
    limited = Place("prod", Reached(replace(target, user=role)), 2)
    with pytest.raises(Failed, match=f"'{role}' may not read all of prod, as pg_dump must: "):
        databases(limited, Place("dev", Reached(target), 2), Options())


def test_two_majors_say_what_they_could_not_compare(
    cluster: Cluster, cluster18: Cluster, fresh_database: Callable[..., str]
) -> None:
    names = fresh_database(cluster), fresh_database(cluster18)
    for server, name in zip((cluster, cluster18), names, strict=True):
        server.psql(name, SHOP)
    cluster18.psql(
        names[1], "DROP VIEW named; ALTER TABLE person ALTER COLUMN name TYPE varchar(60)"
    )
    places = (
        Place(side, Reached(server.target(name)), 2)
        for side, server, name in zip(("dev", "prod"), (cluster, cluster18), names, strict=True)
    )
    diff = databases(*places, Options(without=frozenset({"roles", "settings"})))
    assert words(diff) == {
        "table public.person": "column name: character varying(40) NOT NULL in dev, "
        "character varying(60) NOT NULL in prod",
        "view public.named": "only in dev",
    }
    assert "settings of the server: left out by --without" in diff.skipped


def test_what_a_server_prints_in_another_way_after_a_load(
    cluster: Cluster, pair: tuple[str, str]
) -> None:
    cluster.psql(
        pair[0], "CREATE TABLE t (kind varchar(9) CONSTRAINT kinds CHECK (kind IN ('a', 'b')))"
    )
    text = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'kinds'"
    printed = cluster.value(text, pair[0])
    cluster.psql(pair[1], f"CREATE TABLE t (kind varchar(9) CONSTRAINT kinds {printed})")
    assert cluster.value(text, pair[1]) != printed  # else this tests nothing
    assert compared(cluster, pair).equal


def test_pagila(cluster: Cluster, fresh_database: Callable[..., str]) -> None:
    """A database that we did not write: inspected, drawn, compared, made like another one."""
    text = gzip.decompress((SUPPORT / "data" / "pagila.sql.gz").read_bytes()).decode()
    pair = fresh_database(cluster), fresh_database(cluster)
    # it creates what every database has
    text = text.replace("CREATE PROCEDURAL LANGUAGE plpgsql;", "")
    for name in pair:
        cluster.psql(name, text)
    assert compared(cluster, pair, rows=True).equal
    cluster.psql(
        pair[1],
        "CREATE TABLE review (film int REFERENCES film, stars int); CREATE INDEX ON film (length);"
        "ALTER TABLE film ADD seen int; CREATE VIEW stars AS SELECT seen FROM film;"
        "ALTER TABLE rental DISABLE TRIGGER last_updated; DELETE FROM payment_p2007_05;",
    )
    diff = compared(cluster, pair, rows=True, sql=True)
    assert set(words(diff)) == {
        *("table public.review", "index public.film_length_idx", "table public.film"),
        *("view public.stars", "trigger public.rental.last_updated"),
        *("rows of table public.payment_p2007_05", "rows of table public.film"),
    }
    cluster.psql(pair[0], "\n".join(diff.lines()))
    assert compared(cluster, pair).equal
    with connection.session(cluster.target(pair[1]), read_only=True, purpose="test") as conn:
        drawn = picture(conn, title="pagila", as_svg=True)
    assert len(drawn.model.tables) == 16  # the children of payment are left out


def test_columns_of_a_table() -> None:
    text = "CREATE TABLE a.b (\n    id integer NOT NULL,\n    {}\n)\nPARTITION BY LIST (id);"
    one = text.format("name text DEFAULT 'a,\nb'::text,\n    CONSTRAINT ok CHECK ((id > 0))")
    two = text.format('"x y" text,\n    CONSTRAINT ok CHECK ((id > 1))')
    assert columns.words(one, two, ("A", "B")) == (
        'column name only in A; column "x y" only in B; '
        "constraint ok: CHECK ((id > 0)) in A, CHECK ((id > 1)) in B"
    )
    found = columns.parts(one)
    assert found is not None
    assert found.columns["name"] == "name text DEFAULT 'a,\nb'::text"
    swapped = "CREATE TABLE a.b (\n    b text,\n    a text\n);"
    straight = "CREATE TABLE a.b (\n    a text,\n    b text\n);"
    assert columns.words(swapped, straight, ("A", "B")) == "its columns have another order"
    assert columns.words("CREATE VIEW a AS SELECT 1", straight, ("A", "B")) == ""
    many = [f"CREATE TABLE t (\n    {', '.join(f'{c}{n} int' for n in range(4))}\n);" for c in "ab"]
    assert columns.words(many[0], many[1], ("A", "B")).endswith("; and 3 more")


def test_the_task(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    cluster.psql(database, SHOP)
    taken = inv("db.backup", "--json")
    assert taken.returncode == 0, taken.stderr
    same = inv("inspect.diff", "dev", "latest", "--rows")
    assert same.returncode == 0, (same.stdout, same.stderr)
    assert "no difference between dev and latest" in same.stdout
    assert "roles: not known of latest" in same.stdout
    assert same.stdout.count("not known of latest") == 1
    cluster.psql(database, "DROP VIEW named; DELETE FROM person WHERE id = 2")
    script = inv("inspect.diff", "dev", "latest", "--sql").stdout
    assert "-- The definitions are what the maker of the backup wrote" in script
    assert "CREATE VIEW public.named" in script
    by_path = f"dev/{database}/{json.loads(taken.stdout)['id']}"
    found = inv("inspect.diff", by_path, "dev", "--rows", "--json")
    assert found.returncode == 5, found.stderr
    document = json.loads(found.stdout)
    assert [each["name"] for each in document["differences"]] == [
        "view public.named",
        "rows of table public.person",
    ]
    assert document["differences"][1]["difference"] == f"2 in {by_path}, 1 in dev"
    refused = inv("inspect.diff", "dev", "dev")
    assert refused.returncode == 2
    assert "'dev' is compared with itself" in refused.stderr.splitlines()[-1]


def test_what_names_mean(project: Path) -> None:
    made = load(project)
    (project / "a.sql").write_text("")
    kinds = {word: sources.named(made, word).kind for word in ("Dev", "latest", "models")}
    assert kinds == {"Dev": "environment", "latest": "backup", "models": "models"}
    assert sources.named(made, str(project / "a.sql")).kind == "file"
    assert sources.environment(made, "latest", "dev") == "dev"
    for left, right, message in (
        ("latest", "models", "'latest' and 'models' are no environments, name one"),
        ("dev", "prdo", "unknown environment 'prdo'"),
    ):
        with pytest.raises(Refused, match=message):
            [sources.environment(made, left, right), sources.named(made, right)]


def test_the_models(project: Path, target: Target, inv: Inv, cluster: Cluster) -> None:
    shop = two_revisions(cluster, target, project)
    shop.up("one")
    made, reached = load(project), Reached(target)
    with pytest.raises(Failed, match="the models are not compared: the database is not at the"):
        models.with_models(made, "dev", reached, first=True)
    shop.up("two")
    same = models.with_models(made, "dev", reached, first=True)
    assert same.equal
    assert same.sides == ("models", "dev")
    assert any(each.startswith("a renamed table") for each in same.skipped)
    cluster.psql(
        target.database, "ALTER TABLE notes ADD extra int; CREATE INDEX extra ON notes (id)"
    )
    found = inv("inspect.diff", "dev", "models", "--json")
    assert found.returncode == 5, found.stderr
    assert in_json(found.stdout) == {
        "column notes.extra": "not in the models",
        "index extra of notes": "not in the models",
    }


@pytest.mark.parametrize(
    ("difference", "name", "words"),
    [
        ("add table: public.visits", "table public.visits", "only in models"),
        ("remove column: visits.room", "column visits.room", "not in the models"),
        ("modify type: visits.room", "visits.room", "another type in the models"),
    ],
)
def test_a_difference_of_alembic(difference: str, name: str, words: str) -> None:
    change = models.change(difference)
    assert (change.name, change.words) == (name, words)


def test_a_schema_file(project: Path, inv: Inv, cluster: Cluster, database: str) -> None:
    cluster.psql(database, f"{SHOP} COMMENT ON TABLE person IS $$\n\n-- table public.none\nx$$")
    assert inv("schema.write", "--file", "all.sql").returncode == 0
    same = inv("inspect.diff", "all.sql", "dev")
    assert same.returncode == 0, (same.stdout, same.stderr)
    assert "not compared: owners, grants and labels" in same.stdout
    cluster.psql(
        database,
        "ALTER TABLE person DISABLE TRIGGER touch, ADD born date; DROP VIEW named;"
        "CREATE TABLE more ();",
    )
    found = inv("inspect.diff", "all.sql", "dev", "--json")
    assert found.returncode == 5, found.stderr
    assert in_json(found.stdout) == {
        "table public.more": "only in dev",
        "table public.person": "column born only in dev",
        "trigger public.person.touch": "enabled in all.sql, disabled in dev",
        "view public.named": "only in all.sql",
    }
    (project / "bad.sql").write_text("SELECT 1;\nCREATE TABEL x ();\n")
    refused = inv("inspect.diff", "dev", "bad.sql")
    assert refused.returncode == 3
    assert refused.stderr.splitlines()[-1].startswith("error: bad.sql:2: ")


def test_statements_without_names_have_their_first_words() -> None:
    text = "SET x = 1;\nCREATE TABLE  a.b (id int);\nALTER TABLE a.b\n  ADD UNIQUE (id);"
    assert list(schema_file.statements(text, "f")) == [
        "create table a.b",
        "alter table a.b add unique",
    ]
