"""The schema file: the same on every major, loaded back by psql, without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from schemas import EVERYTHING, tool
from servers import Cluster
from shops import two_revisions

from pgtasks.host.local import HERE
from pgtasks.schema import file as schema
from pgtasks.schema import printed
from pgtasks.settings.target import Target

# what each major prints in another way
SOME = """
CREATE SCHEMA "odd schema 🐘";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE people (id serial PRIMARY KEY, name varchar(9) NOT NULL UNIQUE, mood mood,
  born date DEFAULT CURRENT_DATE, CHECK (name <> 'x' AND born > '1900-01-01'));
CREATE TABLE "odd schema 🐘"."it's" (n int REFERENCES people ON DELETE CASCADE, "t" text);
CREATE TABLE log (at timestamptz NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY,
  twice int GENERATED ALWAYS AS (1 + 1) STORED) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE INDEX ON log (at DESC);
CREATE UNIQUE INDEX ON people (lower(name)) WHERE mood = 'ok';
CREATE VIEW happy AS SELECT p.id, p.name AS "N.p", count(*) OVER (PARTITION BY p.mood)
  FROM people p WHERE p.mood = 'ok' AND p.id IN (SELECT n FROM "odd schema 🐘"."it's");
CREATE VIEW "p.people" AS SELECT people.id, 'people.id' AS text, people.name FROM people
  ORDER BY people.name;
CREATE VIEW of_both AS SELECT people.id, i.t FROM people JOIN "odd schema 🐘"."it's" i ON i.n = id;
CREATE VIEW two AS SELECT id FROM people UNION ALL SELECT n FROM "odd schema 🐘"."it's";
CREATE MATERIALIZED VIEW counted AS SELECT count(*), people.mood FROM people GROUP BY people.mood;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
-- \\restrict
  RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE OF name ON people FOR EACH ROW
  WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION touch();
COMMENT ON TABLE people IS E'of\\n-- two lines';
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON people USING (name = current_user::text);
INSERT INTO people (name) VALUES ('a');
"""


def load(cluster: Cluster, database: str, text: str) -> None:
    options = ("--no-psqlrc", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--quiet")
    tool(cluster, "psql", *options, f"--dbname={database}", input=text.encode())


def made(cluster: Cluster, database: str) -> str:
    return schema.text(cluster.target(database), HERE)


@pytest.mark.parametrize("other", ["cluster18", "system_cluster"])
def test_the_same_text_on_every_major(
    fresh_database: Callable[..., str],
    cluster: Cluster,
    other: str,
    request: pytest.FixtureRequest,
) -> None:
    second: Cluster = request.getfixturevalue(other)
    texts = []
    for server in (cluster, second):
        database = fresh_database(server)
        server.execute(SOME, database)
        texts.append(made(server, database))
    assert "CREATE TABLE public.people" in texts[0]
    assert texts[1] == texts[0]


def test_the_file_can_be_loaded_back(
    fresh_database: Callable[..., str], cluster: Cluster, cluster18: Cluster
) -> None:
    origin, again, newer = (fresh_database(server) for server in (cluster, cluster, cluster18))
    cluster.psql(origin, EVERYTHING)
    cluster.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)", origin)
    cluster.execute("INSERT INTO alembic_version VALUES ('it''s')", origin)
    text = made(cluster, origin)
    load(cluster, again, text)
    assert made(cluster, again) == text
    assert cluster.value("SELECT version_num FROM alembic_version", again) == "it's"
    load(cluster18, newer, text)


VIEWS = (
    *("SELECT row_to_json(t) AS j FROM t", "SELECT count(t.*) AS n FROM t", "SELECT t FROM t"),
    "SELECT x.a AS q FROM t x WHERE x.a > 1 GROUP BY x.a HAVING max(x.b) > 1",
    *("SELECT a AS b FROM t ORDER BY t.b", "SELECT a AS b, b AS a FROM t ORDER BY t.b"),
    "SELECT DISTINCT ON (t.b) a AS b FROM t",
    "SELECT a, (SELECT max(u.a) FROM t u WHERE u.b = t.b) m FROM t",
    *("SELECT to_jsonb(t.*) - 'a' AS j FROM t", "SELECT a FROM t WHERE t IS NOT NULL"),
    *("SELECT (t.c).r FROM t", "SELECT sum(a) OVER (ORDER BY t.b) AS b FROM t"),
    "SELECT a AS b FROM t GROUP BY t.a, t.b ORDER BY max(t.b), t.b",
    "SELECT a AS b, max(b) FROM t GROUP BY t.a HAVING max(t.b) > 1 ORDER BY t.a",
)


@pytest.mark.parametrize("origin", ["cluster", "system_cluster"])
def test_views_mean_the_same_when_they_are_loaded(
    fresh_database: Callable[..., str],
    cluster: Cluster,
    origin: str,
    request: pytest.FixtureRequest,
) -> None:
    server: Cluster = request.getfixturevalue(origin)
    before, after, direct = (fresh_database(each) for each in (server, cluster, cluster))
    statements = "CREATE TYPE co AS (r float, i float); CREATE TABLE t (a int, b int, c co);"
    statements += "".join(f"CREATE VIEW v{n} AS {view};" for n, view in enumerate(VIEWS))
    server.psql(before, statements)
    cluster.psql(direct, statements)
    load(cluster, after, made(server, before))
    query = (
        "SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v'"
        " AND relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    assert cluster.execute(query, after) == cluster.execute(query, direct)


def test_no_password_is_in_the_file(fresh_database: Callable[..., str], cluster: Cluster) -> None:
    database = fresh_database(cluster)
    cluster.execute(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        " CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (password 's3cret')",
        database,
    )
    text = made(cluster, database)
    assert "CREATE SERVER s" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (
            "CREATE VIEW v AS\n SELECT a.b,\n a.c AS a\n FROM s.a;",
            "CREATE VIEW v AS\n SELECT b,\n c AS a\n FROM s.a;",
        ),
        (
            "CREATE VIEW v AS SELECT x.b FROM a x WHERE x.c > 1",
            "CREATE VIEW v AS SELECT b FROM a x WHERE c > 1",
        ),
        ("CREATE VIEW v AS SELECT a.b FROM a, c", None),
        ("CREATE VIEW v AS SELECT a.b FROM a JOIN c ON true", None),
        ("CREATE VIEW v AS SELECT a.b FROM a UNION SELECT c.b FROM c", None),
        ("CREATE VIEW v AS SELECT (SELECT a.b FROM c) FROM a", None),
        (
            'CREATE VIEW v AS SELECT "ü.""a".b FROM "ü.""a"',
            'CREATE VIEW v AS SELECT b FROM "ü.""a"',
        ),
        ("CREATE VIEW v AS SELECT 'a.b', b.c FROM a", None),
        ("CREATE VIEW v AS SELECT count(t.*) AS n, to_jsonb(t.*) FROM t", None),
        ("CREATE VIEW v AS SELECT a AS b FROM t ORDER BY t.b", None),
        ("CREATE VIEW v AS SELECT DISTINCT ON (t.b) a AS b FROM t ORDER BY t.b DESC", None),
        (
            "CREATE VIEW v AS SELECT t.a, t.b AS b FROM t ORDER BY t.a, t.b",
            "CREATE VIEW v AS SELECT a, b AS b FROM t ORDER BY a, b",
        ),
        ("CREATE VIEW v (b) AS SELECT a FROM t ORDER BY t.b", None),
        (
            "CREATE VIEW v AS SELECT t.a AS b FROM t GROUP BY t.a, t.b ORDER BY max(t.b), t.c",
            "CREATE VIEW v AS SELECT a AS b FROM t GROUP BY a, b ORDER BY max(b), c",
        ),
        ("not SQL", None),
    ],
)
def test_a_view_of_one_table_names_columns_alone(view: str, expected: str | None) -> None:
    assert printed.unqualified(view) == (expected or view)


def test_write_and_check(inv: Any, cluster: Cluster, target: Target, project: Path) -> None:
    shop = two_revisions(cluster, target, project)
    shop.up()
    missing = inv("schema.write", "--check")
    assert missing.returncode == 5
    assert "there is no sql/schema.sql: inv schema.write writes it" in missing.stderr

    done = json.loads(inv("schema.write", "--json").stdout)

    assert (done["file"], done["written"]) == ("sql/schema.sql", True)
    text = (project / "sql" / "schema.sql").read_text()
    assert text.count("CREATE TABLE") == 3
    assert 'INSERT INTO "public"."alembic_version" (version_num) VALUES (\'two\');' in text
    assert inv("schema.write", "--check").returncode == 0
    assert json.loads(inv("schema.write", "--json").stdout)["written"] is False
    shop.cluster.execute("ALTER TABLE tags ADD more int", target.database)
    differs = inv("schema.write", "--check", "--json")
    assert differs.returncode == 5
    assert "+    more integer" in json.loads(differs.stdout)["difference"]
    other = inv("schema.write", "--file", "db/structure.sql")
    assert other.stdout.startswith("wrote db/structure.sql")


def test_what_somebody_else_wrote_stays(
    inv: Any, cluster: Cluster, target: Target, project: Path
) -> None:
    shop = two_revisions(cluster, target, project)
    tasks = (project / "tasks.py").read_text()
    refused = inv("schema.write", "--file", "tasks.py")
    words = "is no schema file that schema.write has written"
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: tasks.py {words}: it stays")
    assert (project / "tasks.py").read_text() == tasks
    checked = inv("schema.write", "--check", "--file", "tasks.py")
    assert checked.returncode == 5
    assert checked.stderr.splitlines()[-1] == f"error: tasks.py {words}"

    own = project / "sql" / "schema.sql"
    own.parent.mkdir(exist_ok=True)
    own.write_text("CREATE TABLE by_hand ();\n")
    done = inv("migrate.up", "--no-backup")
    assert done.returncode == 0, done.stderr
    assert f"sql/schema.sql {words}" in done.stderr
    assert own.read_text() == "CREATE TABLE by_hand ();\n"
    own.write_text("\n")  # made by hand for the first time
    assert inv("schema.write").returncode == 0
    assert shop.tables() == ["alembic_version", "notes", "tags"]
