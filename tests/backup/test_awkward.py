"""What few servers have: pg_dump prints the restored database as it prints the source.

The other awkward things, which every server has, are zoo.sql and menagerie.sql.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from projects import make_project, put_stamp
from restores import save
from schemas import tool
from servers import Cluster

Inv = Callable[..., Any]
XML = """
CREATE TABLE papers (id int PRIMARY KEY, paper xml, pages xml[], CHECK (paper IS DOCUMENT));
INSERT INTO papers VALUES (1, '<?xml version="1.0"?><a b="ü &amp; 🐘"><![CDATA[ x ]]></a>', '{}'),
  (2, '<a xmlns:x="urn:x">  <x:b/> <!-- c --> </a>', ARRAY['<p/>', NULL, 'text &lt; more'::xml]),
  (3, NULL, NULL);
CREATE VIEW titles AS SELECT id, (xpath('/a/@b', paper))[1]::text AS title FROM papers;
CREATE INDEX ON papers (((xpath('/a/@b', paper))[1]::text));
CREATE MATERIALIZED VIEW texts AS SELECT id, xmlserialize(CONTENT paper AS text) FROM papers;
"""
EXTENSIONS = """
CREATE SCHEMA tools;
CREATE EXTENSION pg_trgm SCHEMA tools;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION hstore;
CREATE EXTENSION citext SCHEMA tools;
CREATE EXTENSION btree_gist;
CREATE EXTENSION ltree;
CREATE EXTENSION postgres_fdw;
COMMENT ON EXTENSION hstore IS 'ours';
CREATE TABLE things (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name tools.citext UNIQUE,
  more hstore, path ltree, secret bytea, during tstzrange,
  EXCLUDE USING gist (name WITH =, during WITH &&));
CREATE INDEX ON things USING gin (name tools.gin_trgm_ops);
CREATE INDEX ON things USING gist (path);
INSERT INTO things (name, more, path, secret, during) SELECT 'Thing ' || g,
  hstore('a "' || g, NULL), ('top.n' || g)::ltree, digest(g::text, 'sha256'), '[2024-01-01,)'
  FROM generate_series(1, 50) g;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere', dbname 'x');
CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'x', password_required 'true');
CREATE FOREIGN TABLE elsewhere (id int) SERVER far OPTIONS (table_name 't');
"""


@pytest.mark.parametrize("content", [XML, EXTENSIONS], ids=["xml", "extensions"])
def test_pg_dump_prints_it_as_its_source(
    system_cluster: Cluster,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    inv: Inv,
    content: str,
) -> None:
    name = fresh_database(system_cluster)
    try:
        system_cluster.execute(content, name)
    except (psycopg2.errors.FeatureNotSupported, psycopg2.errors.UndefinedFile) as exc:
        pytest.skip(f"the system's server lacks it: {exc}")
    put_stamp(system_cluster.target(name))
    project = make_project(tmp_path / "shop", system_cluster.url(name))
    before = printed(system_cluster, name)
    save(project)
    assert inv("backup.verify", cwd=project).returncode == 0
    done = inv("db.restore", "--as-superuser", "--confirm", name, cwd=project)
    assert done.returncode == 0, done.stderr
    assert printed(system_cluster, name) == before


def printed(cluster: Cluster, name: str) -> list[bytes]:
    """Return what pg_dump prints, but for the random word that it guards psql by."""
    text = tool(cluster, "pg_dump", f"--dbname={name}")
    return [line for line in text.splitlines() if b"restrict" not in line]
