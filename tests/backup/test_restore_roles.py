"""Roles of a backup that the server lacks, and restores without grants."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from projects import put_stamp
from psycopg2 import sql
from roles import as_role
from servers import Cluster

from pgtasks.database import roles
from pgtasks.database.roles import SavedRole
from pgtasks.errors import Refused

_PID = os.getpid()
OWNER, READER, STAFF = f"o\"w'ner 🙂 {_PID}", f"reader_{_PID}", f"staff_{_PID}"
_QUOTED = OWNER.replace('"', '""')
CONTENT = f"""
CREATE TABLE person (id int PRIMARY KEY, name text);
CREATE TABLE secret (id int);
GRANT SELECT ON person TO {READER};
GRANT SELECT ON secret TO {STAFF} WITH GRANT OPTION;
ALTER TABLE person ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON person TO {READER} USING (true);
COMMENT ON POLICY mine ON person IS 'of readers';
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER};
INSERT INTO person VALUES (1, 'a'), (2, 'b');
"""
_FACTS = "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolbypassrls, rolconnlimit"
_OF = f"{_FACTS}, rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s"


@pytest.fixture
def lost(cluster: Cluster, database: str, project: Path, inv: Inv) -> Iterator[Callable[..., str]]:
    """Return what makes a backup of a database of three roles, and drops all of them."""

    def drop() -> None:
        cluster.drop(database)
        for name in (OWNER, READER, STAFF):
            cluster.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))

    def make(settings: str = "") -> str:
        cluster.execute(
            f'CREATE ROLE "{_QUOTED}" LOGIN CREATEDB PASSWORD $$hidden$$ CONNECTION LIMIT 7;'
            f"CREATE ROLE {STAFF} BYPASSRLS CREATEROLE;"
            f"CREATE ROLE {READER} NOLOGIN IN ROLE {STAFF}, pg_read_all_data;"
            f'ALTER DATABASE {database} OWNER TO "{_QUOTED}"'
        )
        cluster.execute(f'ALTER SCHEMA public OWNER TO "{_QUOTED}"', database)
        with cluster.connect(database, user=OWNER, password="hidden").cursor() as cursor:
            cursor.execute(CONTENT)
        put_stamp(cluster.target(database))
        if settings:
            with (project / "env" / "dev.yaml").open("a") as file:
                file.write(settings)
        done = inv("db.backup")
        assert done.returncode == 0, done.stderr
        drop()
        return database

    yield make
    drop()


def _grants(cluster: Cluster, database: str, table: str) -> list[tuple[Any, ...]]:
    query = (
        "SELECT r.rolname, a.privilege_type, a.is_grantable FROM pg_class c,"
        " aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee"
        " WHERE c.relname = %s AND a.grantee <> c.relowner ORDER BY 1, 2"
    )
    return list(cluster.execute(query, database, (table,)))


def test_roles_that_are_not_there(cluster: Cluster, lost: Callable[..., str], inv: Inv) -> None:
    database = lost()
    refused = inv("db.restore")
    assert refused.returncode == 2
    assert f"role {READER!r} does not exist here: create it (--create-roles" in refused.stderr
    assert f"--map-role {READER}=ROLE, or leave grants out with --no-acl" in refused.stderr
    dry = inv("db.restore", "--create-roles", "--dry")
    assert dry.returncode == 0, dry.stderr
    plan = [line.strip() for line in dry.stdout.splitlines()]
    assert f"role     {STAFF!r}: INHERIT, NOLOGIN, without CREATEROLE, BYPASSRLS" in plan
    assert f"role     {READER!r}: INHERIT, NOLOGIN, member of {STAFF!r}" in plan
    assert not cluster.execute(_OF, parameters=(READER,))  # tried, and rolled back

    done = inv("db.restore", "--create-roles")
    assert done.returncode == 0, done.stderr
    assert "created roles, which stay" in done.stderr
    assert "2 of 2 tables identical" in done.stdout
    facts = cluster.execute(_OF, parameters=(OWNER,))
    assert facts == [(True, False, False, False, False, 7, False)]
    assert cluster.execute(_OF, parameters=(STAFF,)) == [
        (False, False, False, False, False, -1, False)
    ]
    members = (
        "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        " JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = %s"
    )
    assert cluster.execute(members, parameters=(READER,)) == [(STAFF,)]
    assert _grants(cluster, database, "person") == [(READER, "SELECT", False)]
    assert _grants(cluster, database, "secret") == [(STAFF, "SELECT", True)]
    query = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'person'"
    assert cluster.value(query, database) == OWNER


def test_a_role_that_may_not_create_others_is_told_the_way(
    cluster: Cluster, lost: Callable[..., str], plain: Callable[..., str], project: Path, inv: Inv
) -> None:
    database, user = lost(), plain("CREATEDB")
    url = as_role(cluster, user, database)
    refused = inv("db.restore", "--create-roles", env={"DEV_DATABASE_URL": url})
    assert refused.returncode == 2, refused.stderr
    last = refused.stderr.splitlines()[-1]
    assert "permission denied to create role" in last
    assert f"(ALTER ROLE {user} CREATEROLE), or go without with --map-role or --no-owner" in last


def test_passwords_only_if_asked(cluster: Cluster, lost: Callable[..., str], inv: Inv) -> None:
    database = lost("backup: {globals_passwords: true}\n")
    words = ("--create-roles", "--with-passwords")
    refused = inv("db.restore", *words)
    assert refused.returncode == 2
    assert "whoever knows the passwords in the backup log in, add --confirm" in refused.stderr
    done = inv("db.restore", *words, "--confirm", database)
    assert done.returncode == 0, done.stderr
    assert "SCRAM" not in done.stderr + done.stdout
    assert cluster.execute(_OF, parameters=(OWNER,))[0][-1] is True
    alone = inv("db.restore", "--with-passwords")
    assert "--with-passwords is for --create-roles" in alone.stderr


def test_without_grants(cluster: Cluster, lost: Callable[..., str], inv: Inv) -> None:
    database = lost()
    cluster.execute(f'CREATE ROLE "{_QUOTED}" LOGIN; CREATE ROLE {READER}')  # of the policy
    assert inv("db.restore").returncode == 2
    done = inv("db.restore", "--no-acl")
    assert done.returncode == 0, done.stderr
    assert "grants are left out" in done.stderr
    assert "not proven: grants: they were not restored" in done.stderr
    assert _grants(cluster, database, "person") == []
    query = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'person'"
    assert cluster.value(query, database) == OWNER


@pytest.fixture
def others(cluster: Cluster, lost: Callable[..., str]) -> Iterator[tuple[str, str]]:
    """Return two roles that are there, of which no backup knows."""
    names = (f"user_{_PID}", f"View er_{_PID}")
    for name in names:
        cluster.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield names
    for name in names:
        statement = sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name))
        for (database,) in cluster.execute(
            "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", parameters=(name,)
        ):
            cluster.drop(database)
        cluster.execute(statement)


def _mapped(*pairs: tuple[str, str]) -> list[str]:
    quoted = [(a.replace('"', '""'), b) for a, b in pairs]
    return [word for a, b in quoted for word in ("--map-role", f'"{a}"="{b}"')]


@pytest.mark.parametrize("joined", [False, True])
def test_roles_that_others_take_the_place_of(
    cluster: Cluster,
    lost: Callable[..., str],
    others: tuple[str, str],
    inv: Inv,
    joined: bool,
) -> None:
    database, (owner, viewer) = lost(), others
    staff = viewer if joined else STAFF
    if not joined:
        cluster.execute(f"CREATE ROLE {STAFF}")
    pairs = [(OWNER, owner), (READER, viewer), *([(STAFF, viewer)] if joined else [])]
    dry = inv("db.restore", *_mapped(*pairs), "--dry")
    assert f"role     {READER!r} becomes {viewer!r}" in dry.stdout
    done = inv("db.restore", *_mapped(*pairs))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 tables identical" in done.stdout
    assert ("grants: they were not restored" in done.stderr) == joined
    assert _grants(cluster, database, "person") == [(viewer, "SELECT", False)]
    assert _grants(cluster, database, "secret") == [(staff, "SELECT", True)]
    query = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'person'"
    assert cluster.value(query, database) == owner
    policy = "SELECT polroles::regrole[]::text[], obj_description(oid, 'pg_policy') FROM pg_policy"
    ((named, comment),) = cluster.execute(policy, database)
    assert (named[0].strip('"'), comment) == (viewer, "of readers")
    default = "SELECT pg_get_userbyid(defaclrole), defaclacl::text FROM pg_default_acl"
    ((whose, granted),) = cluster.execute(default, database)
    assert whose == owner
    assert viewer in granted
    datdba = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    assert cluster.value(datdba, parameters=(database,)) == owner
    again = inv("db.restore", *_mapped(*pairs))  # in the place of one that is there
    assert again.returncode == 0, again.stderr
    assert cluster.value(query, database) == owner


def test_maps_that_are_refused(
    lost: Callable[..., str], others: tuple[str, str], inv: Inv, cluster: Cluster
) -> None:
    lost()
    for words, message in (
        (["--map-role", "a"], "--map-role 'a' is not A=B"),
        (["--map-role", "a=b", "--map-role", "a=c"], "gives 'a' twice: 'b' and 'c'"),
        (["--map-role", "nobody=postgres"], "'nobody': the backup has no such role"),
        (_mapped((OWNER, "not here")), "role 'not here' of --map-role does not exist here"),
        ([*_mapped((OWNER, others[0])), "--no-owner"], "--no-owner and --map-role exclude"),
    ):
        refused = inv("db.restore", *words)
        assert refused.returncode == 2, (words, refused.stdout)
        assert message in refused.stderr, refused.stderr


HOSTILE = """
\\restrict abc
CREATE ROLE evil;
ALTER ROLE evil WITH SUPERUSER REPLICATION BYPASSRLS CREATEROLE LOGIN PASSWORD 'known';
CREATE ROLE twice SUPERUSER IN ROLE pg_execute_server_program ADMIN postgres;
GRANT postgres TO evil;
GRANT pg_write_server_files TO evil WITH ADMIN OPTION;
GRANT evil TO postgres;
ALTER ROLE postgres PASSWORD 'mine';
ALTER SYSTEM SET archive_command = 'rm';
DROP DATABASE shop;
CREATE ROLE pg_new LOGIN;
\\unrestrict abc
"""


def test_of_a_crafted_file_only_plain_roles_are_made(cluster: Cluster) -> None:
    found = roles.saved(HOSTILE)
    with cluster.connect() as conn:
        made = roles.lacking(conn, found, ["evil", "twice", "postgres", "pg_new", "none"])
        assert [each.name for each in made] == ["evil", "twice"]
        evil = made[0]
        assert evil == SavedRole(
            "evil",
            ("LOGIN",),
            without=("SUPERUSER", "REPLICATION", "BYPASSRLS", "CREATEROLE"),
        )
        assert evil.create(password=True).as_string(conn) == 'CREATE ROLE "evil" LOGIN'
        assert made[1].create(password=True).as_string(conn) == 'CREATE ROLE "twice" '
        assert made[1].groups == ()
    with pytest.raises(Refused, match=r"globals.sql of the backup cannot be read"):
        roles.saved("CREATE ROLE x; DROP")
