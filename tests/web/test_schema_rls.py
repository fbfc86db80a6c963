"""Row-level security by hospital: the second wall, of each table, and what the role may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
from clinics import OWNER, Clinic, Templates, cloned, psql
from offices import APP_ROLE, GRANTS, grant
from psycopg2 import errors, sql
from servers import Cluster

from clinic.models import metadata
from clinic.web.security import permissions

HOSPITALS = ("H0001", "H0002")
# whose a row is, as the owner sees it
WHOSE = {
    **dict.fromkeys(("user_sessions", "user_role_mapping", "login_history"), "user_id"),
    "refresh_tokens": "session_id",
}
OF_ANOTHER = {
    "user_id": "(SELECT u.hospital_id FROM users u WHERE u.user_id = t.user_id)",
    "session_id": "(SELECT u.hospital_id FROM users u JOIN user_sessions s USING (user_id)"
    " WHERE s.session_id = t.session_id)",
}
ALL = sorted(table for table in metadata.tables)
OPEN = {"role_master", "module_master", "role_module_access", "login_throttle", "rate_limits"}
SECURED = [table for table in ALL if table not in OPEN]
# tables that somebody but the owner could read across hospitals: no policy, or none that names one
UNSECURED = """
SELECT c.relname::text
FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
              AND a.attname IN ('hospital_id', 'user_id', 'session_id'))
  AND NOT (c.relrowsecurity AND (c.relispartition OR EXISTS (
      SELECT FROM pg_policy p WHERE p.polrelid = c.oid
      AND pg_get_expr(p.polqual, p.polrelid) LIKE '%%clinic_hospital()%%')))
ORDER BY 1
"""
TABLES = """
SELECT relname::text FROM pg_class
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition
  AND relnamespace = 'public'::regnamespace ORDER BY 1
"""


@pytest.fixture(scope="module")
def clinic(cluster: Cluster, templates: Templates) -> Iterator[Clinic]:
    """A clinic with rows in all tables of both hospitals."""
    with cloned(cluster, templates.seeded(cluster)) as made:
        grant(made)
        made.run(
            "INSERT INTO refresh_tokens (token_hash, session_id, expires_at) SELECT encode(sha256("
            "session_id::text::bytea), 'hex'), session_id, now() + interval '1 day'"
            " FROM user_sessions"
        )
        made.run(
            "SELECT record_event('test', NULL, hospital_id, NULL, NULL, '', '{}') FROM hospitals"
        )
        yield made


@pytest.fixture
def own(cluster: Cluster, templates: Templates) -> Iterator[Clinic]:
    """A clinic without rows, to change."""
    with cloned(cluster, templates.bare(cluster)) as made:
        yield made


@contextmanager
def acting(clinic: Clinic, hospital: str = "") -> Iterator[Any]:
    """Yield a session of the application's role, in a transaction for a hospital; rolled back."""
    with closing(clinic.cluster.connect(clinic.name, user=OWNER)) as session:
        session.autocommit = False
        clinic.run(f"SET ROLE {APP_ROLE}", session=session)
        if hospital:
            clinic.run("SELECT set_config('clinic.hospital', %s, true)", hospital, session=session)
        yield session
        session.rollback()


def id_of(clinic: Clinic, code: str) -> str:
    return str(clinic.value("SELECT hospital_id FROM hospitals WHERE code = %s", code))


def whose(table: str) -> str:
    return OF_ANOTHER[WHOSE[table]] if table in WHOSE else "t.hospital_id"


def count(clinic: Clinic, table: str, hospital: str = "", session: Any = None) -> int:
    where = f" WHERE {whose(table)} = '{hospital}'" if hospital else ""
    return int(clinic.value(f"SELECT count(*) FROM {table} t{where}", session=session))


def forbidden(clinic: Clinic, statement: str, session: Any) -> bool:
    """Return whether the role has no right to a statement; the session goes on."""
    clinic.run("SAVEPOINT before", session=session)
    try:
        clinic.run(statement, session=session)
    except errors.InsufficientPrivilege:
        return True
    finally:
        clinic.run("ROLLBACK TO before", session=session)
    return False


@pytest.mark.parametrize("table", SECURED)
def test_a_hospital_sees_its_own_rows_and_no_others(clinic: Clinic, table: str) -> None:
    if table == "refresh_tokens":  # the role may not even read it: the policy is for other roles
        clinic.run(f"GRANT SELECT ON refresh_tokens TO {APP_ROLE}")
    try:
        for code in HOSPITALS:
            hospital = id_of(clinic, code)
            mine = count(clinic, table, hospital)
            assert mine > 0
            assert mine < count(clinic, table)  # the owner sees both
            with acting(clinic, hospital) as session:
                assert clinic.value(f"SELECT count(*) FROM {table}", session=session) == mine
        for nothing in ("", "00000000-0000-0000-0000-000000000000"):
            with acting(clinic, nothing) as session:
                assert clinic.value(f"SELECT count(*) FROM {table}", session=session) == 0
    finally:
        clinic.run(f"REVOKE ALL ON refresh_tokens FROM {APP_ROLE}")


@pytest.mark.parametrize("table", SECURED)
def test_nothing_of_another_hospital_can_be_written(clinic: Clinic, table: str) -> None:
    """Whatever the role may write: its grants are opened here, so that the policy alone decides."""
    mine, other = (id_of(clinic, code) for code in HOSPITALS)
    before = count(clinic, table, other)
    with closing(clinic.cluster.connect(clinic.name)) as session:
        session.autocommit = False
        clinic.run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {APP_ROLE}", session=session)
        clinic.run(f"SET LOCAL ROLE {APP_ROLE}", session=session)
        clinic.run("SELECT set_config('clinic.hospital', %s, true)", other, session=session)
        clinic.run(f"CREATE TEMP TABLE kept AS SELECT * FROM {table} LIMIT 1", session=session)
        clinic.run("SELECT set_config('clinic.hospital', %s, true)", mine, session=session)
        columns = ", ".join(
            column.name for column in metadata.tables[table].columns if column.computed is None
        )
        key = next(iter(metadata.tables[table].primary_key.columns)).name
        column = WHOSE.get(table, "hospital_id")
        # a row for the other one, and one of one's own that is given to it
        for statement in (
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM kept",
            f"UPDATE {table} SET {column} = (SELECT {column} FROM kept) WHERE {key} ="
            f" (SELECT {key} FROM {table} LIMIT 1)",
        ):
            assert forbidden(clinic, statement, session), statement
        for statement in (
            f"UPDATE {table} SET {key} = {key} WHERE {key} = (SELECT {key} FROM kept)",
            f"DELETE FROM {table} WHERE {key} = (SELECT {key} FROM kept)",
        ):
            with session.cursor() as cursor:
                cursor.execute(statement)
                assert cursor.rowcount == 0, statement
        session.rollback()
    assert count(clinic, table, other) == before


def test_each_table_of_a_hospital_has_a_policy(clinic: Clinic) -> None:
    assert clinic.run(UNSECURED) == []


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE wards (hospital_id uuid)",
        "CREATE TABLE wards (user_id uuid)",
        "CREATE TABLE wards (hospital_id uuid); ALTER TABLE wards ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE wards (hospital_id uuid); ALTER TABLE wards ENABLE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON wards USING (true)",
        "CREATE TABLE wards PARTITION OF audit_logs"
        " FOR VALUES FROM ('2030-01-01') TO ('2030-02-01')",
    ],
)
def test_a_new_table_without_a_policy_is_noticed(own: Clinic, change: str) -> None:
    own.run(change)
    assert own.run(UNSECURED) == [("wards",)]


def test_each_table_is_named_in_the_grants(clinic: Clinic) -> None:
    named = set(re.findall(r"public\.(\w+)", re.sub(r"--.*", "", GRANTS.read_text("utf-8"))))
    tables = {table for (table,) in clinic.run(TABLES)}
    assert tables - named == set()
    assert set(ALL) <= tables


def test_a_new_table_is_not_named_in_the_grants(own: Clinic) -> None:
    own.run("CREATE TABLE wards (id int)")
    with pytest.raises(AssertionError, match="wards"):
        test_each_table_is_named_in_the_grants(own)


# what the role may do -----------------------------------------------------------------------------


def test_the_role_reads_and_writes_what_the_application_needs(clinic: Clinic) -> None:
    rights = clinic.run(
        "SELECT c.relname::text, string_agg(lower(p.privilege), ' ' ORDER BY p.privilege)"
        " FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE',"
        " 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)"
        " WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"
        " AND has_table_privilege(%s, c.oid, p.privilege) GROUP BY 1 ORDER BY 1",
        APP_ROLE,
    )
    write, read = "insert select update", "select"
    every = "delete insert select update"
    assert dict(rights) == {
        **dict.fromkeys(
            ("patients", "appointments", "consultations", "prescriptions", "invoices"), write
        ),
        **dict.fromkeys(("user_role_mapping", "login_throttle", "rate_limits"), every),
        **dict.fromkeys(("hospitals", "branches", "staff"), read),
        **dict.fromkeys(("login_history", "security_events", "audit_logs"), read),
        **dict.fromkeys(("role_master", "module_master", "role_module_access"), read),
        "alembic_version": read,
    }  # of users and user_sessions some columns


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password_hash FROM users",
        "SELECT * FROM users",
        "UPDATE users SET password_hash = password_hash",
        "DELETE FROM users",
        "SELECT token_hash FROM user_sessions",
        "INSERT INTO user_sessions (user_id, token_hash, expires_at)"
        " SELECT user_id, repeat('a', 64), now() + interval '1 day' FROM users LIMIT 1",
        "UPDATE user_sessions SET expires_at = now() + interval '1 year'",
        "SELECT * FROM refresh_tokens",
        "INSERT INTO login_history (username) VALUES ('x')",
        "DELETE FROM login_history",
        "DELETE FROM audit_logs",
        "UPDATE security_events SET event = 'login'",
        "SELECT * FROM audit_logs_default",
        "TRUNCATE patients",
        "ALTER TABLE patients DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE public.mine (id int)",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql RETURN 1",
        "CREATE OR REPLACE FUNCTION public.clinic_hospital() RETURNS uuid LANGUAGE sql"
        " RETURN gen_random_uuid()",
        "DROP POLICY own_hospital ON patients",
        "UPDATE role_module_access SET can_delete = true",
        "UPDATE alembic_version SET version_num = 'x'",
        "SELECT write_audit_log()",
    ],
)
def test_the_role_may_not(clinic: Clinic, statement: str) -> None:
    with acting(clinic, id_of(clinic, "H0001")) as session:
        assert forbidden(clinic, statement, session)


def test_row_security_cannot_be_switched_off_by_the_role(clinic: Clinic) -> None:
    with acting(clinic, id_of(clinic, "H0001")) as session:
        clinic.run("SET LOCAL row_security = off", session=session)
        assert forbidden(clinic, "SELECT count(*) FROM patients", session)


def test_functions_that_see_everything_are_for_the_role_alone(clinic: Clinic) -> None:
    functions = clinic.run(
        "SELECT p.oid::regprocedure::text, has_function_privilege('public', p.oid, 'EXECUTE'),"
        " has_function_privilege(%s, p.oid, 'EXECUTE'), coalesce(p.proconfig::text, ''),"
        " p.prorettype = 'trigger'::regtype"
        " FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace",
        APP_ROLE,
    )
    assert len(functions) >= 11
    for name, public, role, configured, is_trigger in functions:
        assert not public, name
        assert role is not is_trigger, name
        assert "search_path=pg_catalog, public, pg_temp" in configured, name


def test_a_function_names_the_user_to_the_end_of_the_transaction(clinic: Clinic) -> None:
    hospital = id_of(clinic, "H0002")
    token, user = clinic.run(
        "UPDATE user_sessions s SET expires_at = now() + interval '1 hour', revoked_at = NULL,"
        " last_seen_at = now() FROM users u WHERE u.user_id = s.user_id AND u.is_active"
        " AND u.hospital_id = %s AND NOT EXISTS (SELECT FROM staff p WHERE p.staff_id = u.staff_id"
        " AND p.left_on IS NOT NULL) RETURNING s.token_hash, u.username",
        hospital,
    )[0]
    with acting(clinic) as session:
        found = clinic.run(
            "SELECT username FROM session_account('web', %s, NULL, '1 hour')",
            token,
            session=session,
        )
        assert found == [(user,)]
        now = "SELECT current_setting('clinic.user'), current_setting('clinic.hospital')"
        assert clinic.run(now, session=session) == [(user, hospital)]
        assert clinic.value("SELECT count(*) FROM hospitals", session=session) == 1
        session.commit()
        assert clinic.run(now, session=session) == [("", "")]
        assert clinic.value("SELECT count(*) FROM hospitals", session=session) == 0


def test_policies_use_the_indexes(clinic: Clinic) -> None:
    with acting(clinic, id_of(clinic, "H0001")) as session:
        clinic.run("SET LOCAL enable_seqscan = off", session=session)
        plan = clinic.run(
            "EXPLAIN SELECT * FROM patients WHERE last_name = 'Schmidt'", session=session
        )
        text = "\n".join(line for (line,) in plan)
        assert "ix_patients_hospital_id_last_name_first_name" in text
        assert "hospital_id = " in text


# the file that grants -----------------------------------------------------------------------------


def test_the_file_can_be_run_again(clinic: Clinic) -> None:
    acl = (
        "SELECT relname::text, relacl::text FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT proname || pg_get_function_identity_arguments(oid), proacl::text"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION ALL SELECT attrelid::regclass || '.' || attname, attacl::text FROM pg_attribute"
        " WHERE attacl IS NOT NULL ORDER BY 1"
    )
    before = clinic.run(acl)
    clinic.run(f"GRANT ALL ON refresh_tokens, hospitals TO {APP_ROLE}")
    clinic.run(f"GRANT SELECT (token_hash) ON user_sessions TO {APP_ROLE}")
    assert clinic.run(acl) != before
    grant(clinic)
    assert clinic.run(acl) == before


@pytest.mark.parametrize("name", ["cluster", "cluster18", "system_cluster"])
def test_an_owner_that_may_create_roles_needs_nobody(
    request: pytest.FixtureRequest, templates: Templates, name: str
) -> None:
    cluster: Cluster = request.getfixturevalue(name)
    with cloned(cluster, templates.bare(cluster)) as clinic:
        renamed(cluster, clinic, "clinic_own_app", "CREATEROLE")


def test_an_owner_that_may_not_is_told(cluster: Cluster, own: Clinic) -> None:
    with pytest.raises(AssertionError, match="permission denied to create role"):
        renamed(cluster, own, "clinic_own_app", "NOCREATEROLE")


def renamed(cluster: Cluster, clinic: Clinic, role: str, attribute: str) -> None:
    """Run the file as the owner for a role that is not there, and act as that role."""
    owner = sql.Identifier(OWNER)
    text = GRANTS.read_text("utf-8").replace(APP_ROLE, role)
    cluster.execute(sql.SQL("ALTER ROLE {} {}").format(owner, sql.SQL(attribute)))
    try:
        done = psql(cluster, clinic.name, "-c", text)
        assert done.returncode == 0, done.stderr
        with closing(clinic.connect()) as session:
            clinic.run(f"SET ROLE {role}", session=session)
            assert clinic.value("SELECT count(*) FROM patients", session=session) == 0
            with pytest.raises(psycopg2.Error, match="permission denied"):
                clinic.run("SELECT * FROM refresh_tokens", session=session)
        assert psql(cluster, clinic.name, "-c", text).returncode == 0
    finally:
        cluster.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(owner))
        if cluster.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", parameters=(role,)):
            cluster.execute(f"DROP OWNED BY {role}; DROP ROLE {role}", clinic.name)


def test_the_permissions_that_routes_ask_for_are_those_of_the_database(clinic: Clinic) -> None:
    codes = {code for (code,) in clinic.run("SELECT code FROM module_master")}
    assert set(permissions.MODULES) == codes
    columns = {f"can_{action}" for action in permissions.ACTIONS}
    assert columns <= set(metadata.tables["role_module_access"].columns.keys())
    with pytest.raises(ValueError, match=r"unknown permission patients\.veiw"):
        permissions.permission("patients", "veiw")
