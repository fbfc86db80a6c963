"""The clinic's triggers: what they promise, and what tries to get around them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from typing import Any

import bcrypt
import psycopg2
import pytest
from clinics import OWNER, Clinic, Templates, apply_triggers, cloned
from psycopg2 import errors
from servers import Cluster

APP = "clinic_daily"  # a role that may do the daily work and nothing else
PLAIN = "Tr0ub4dor&3 it's"
HASHES = {
    "bcrypt": "$2b$12$" + "a" * 53,
    "bcrypt of PHP": "$2y$04$" + "./AZaz09" + "b" * 45,
    "argon2": "$argon2id$v=19$m=65536,t=3,p=4$" + "c" * 22 + "$" + "d" * 43,
    "werkzeug's scrypt": "scrypt:32768:8:1$" + "e" * 16 + "$" + "0a" * 64,
    "werkzeug's pbkdf2": "pbkdf2:sha256:600000$" + "f" * 16 + "$" + "0b" * 32,
    "passlib's scrypt": "$scrypt$ln=16,r=8,p=1$" + "g" * 22 + "$" + "h" * 43,
    "passlib's pbkdf2": "$pbkdf2-sha256$29000$" + "i" * 22 + "$" + "j" * 43,
}
NO_HASHES = {
    "a broken bcrypt": "$2x$12$" + "a" * 53,
    "a short bcrypt": "$2b$12$" + "a" * 52,
    "a long bcrypt": "$2b$12$" + "a" * 54,
    "bcrypt of no cost": "$2b$03$" + "a" * 53,
    "md5": "$1$salt$" + "a" * 22,
    "django": "pbkdf2_sha256$600000$" + "f" * 22 + "$" + "k" * 44,
    "pbkdf2 of one round": "pbkdf2:sha256:1$" + "f" * 16 + "$" + "0b" * 32,
    "a name alone": "argon2$secret",
}
HOSPITAL = """
INSERT INTO hospitals (code, name, license_no, email) VALUES ('H1', 'One', 'L1', 'a@example.org')
RETURNING hospital_id
"""


@pytest.fixture
def clinic(request: pytest.FixtureRequest, templates: Templates) -> Iterator[Clinic]:
    """A clinic with one hospital and nobody in it; on `cluster`, or `everywhere`."""
    cluster: Cluster = request.getfixturevalue(getattr(request, "param", "cluster"))
    with cloned(cluster, templates.bare(cluster)) as made:
        made.run(HOSPITAL)
        yield made


everywhere = pytest.mark.parametrize(
    "clinic", ["cluster", "cluster18", "system_cluster"], indirect=True
)


@pytest.fixture
def account(clinic: Clinic) -> Any:
    """Return what adds an account with a password to the one hospital."""
    clinic.run(
        """
        INSERT INTO branches (hospital_id, name, address, city, postal_code)
        SELECT hospital_id, 'Main', '-', '-', '-' FROM hospitals
        """
    )
    added = iter(range(1000))

    def add(password: str, *, into: Clinic = clinic, session: Any = None) -> str:
        number = next(added)
        into.run(
            """
            INSERT INTO staff (hospital_id, branch_id, employee_code, job, first_name, last_name,
                email, joined_on)
            SELECT hospital_id, branch_id, %s, 'nurse', 'A', 'B', 'a@example.org', '2020-01-01'
            FROM branches
            """,
            f"E{number}",
            session=session,
        )
        into.run(
            """
            INSERT INTO users (hospital_id, staff_id, username, password_hash)
            SELECT hospital_id, staff_id, %s, %s FROM staff WHERE employee_code = %s
            """,
            *(f"user{number}", password, f"E{number}"),
            session=session,
        )
        return f"user{number}"

    return add


def stored(clinic: Clinic, user: str) -> str:
    return str(clinic.value("SELECT password_hash FROM users WHERE username = %s", user))


def has_crypt(clinic: Clinic, schema: str = "public") -> bool:
    """Install pgcrypto where the server has it: nobody needs to be superuser for this."""
    if clinic.run("SELECT 1 FROM pg_available_extensions WHERE name = 'pgcrypto'"):
        clinic.run(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        clinic.run(f'CREATE EXTENSION pgcrypto SCHEMA "{schema}"')
        return True
    return False


# the files ----------------------------------------------------------------------------------------


@everywhere
def test_applying_the_files_again_changes_nothing(clinic: Clinic) -> None:
    query = (
        "SELECT pg_get_triggerdef(oid), tgenabled::text FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT pg_get_functiondef(oid), coalesce(proacl::text, '') FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace"
    )
    before = sorted(clinic.run(query))
    assert len(before) == 13 + 13 + 14 + 1 + 18
    apply_triggers(clinic.cluster, clinic.name)
    assert sorted(clinic.run(query)) == before


@everywhere
def test_every_function_pins_its_search_path(clinic: Clinic) -> None:
    # the names in a body that is parsed as it is created are found once and for all
    query = (
        "SELECT proname, proconfig FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND prosqlbody IS NULL"
    )
    for name, settings in clinic.run(query):
        assert any(line.startswith("search_path=pg_catalog,") for line in settings), name


@everywhere
def test_nobody_slips_other_objects_under_the_functions(clinic: Clinic, account: Any) -> None:
    clinic.run(
        """
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql
            AS $$ SELECT 'infinity'::timestamptz $$;
        CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql
            AS $$ SELECT 'infinity'::timestamptz $$;
        CREATE FUNCTION evil.yes(text, text) RETURNS bool LANGUAGE sql AS $$ SELECT true $$;
        CREATE OPERATOR evil.~ (FUNCTION = evil.yes, LEFTARG = text, RIGHTARG = text);
        CREATE TABLE evil.audit_logs (LIKE public.audit_logs);
        """
    )
    with closing(clinic.connect()) as session:
        clinic.run("SET search_path = evil, pg_catalog, public", session=session)
        clinic.run("CREATE TEMP TABLE audit_logs (LIKE public.audit_logs)", session=session)
        clinic.run("UPDATE hospitals SET phone = '1', created_at = NULL", session=session)
        with pytest.raises(errors.CheckViolation):
            account("$1$nohash$", session=session)
    assert clinic.value("SELECT isfinite(created_at) AND isfinite(updated_at) FROM hospitals")
    assert clinic.value("SELECT count(*) FROM evil.audit_logs") == 0
    assert clinic.value("SELECT count(*) FROM audit_logs WHERE action = 'UPDATE'") == 1


# timestamps ---------------------------------------------------------------------------------------


def test_an_insert_gets_the_time_of_its_transaction(clinic: Clinic) -> None:
    assert clinic.value("SELECT created_at = updated_at FROM hospitals")
    with closing(clinic.connect()) as session:
        session.autocommit = False
        began = clinic.value("SELECT now()", session=session)
        clinic.run("SELECT pg_sleep(0.01)", session=session)
        add = """
            INSERT INTO hospitals (code, name, license_no, email, created_at, updated_at)
            VALUES (%s, 'Two', %s, 'b@example.org', %s, %s) RETURNING created_at, updated_at
            """
        # an explicit null is no time either
        assert clinic.run(add, "H2", "L2", None, None, session=session) == [(began, began)]
        past = datetime(2001, 1, 1, tzinfo=timezone.utc)
        later = datetime(2002, 1, 1, tzinfo=timezone.utc)
        # what is given stays: history that a restore or a copy brings along
        assert clinic.run(add, "H3", "L3", past, later, session=session) == [(past, later)]
        assert clinic.run(add, "H4", "L4", past, None, session=session) == [(past, past)]


@everywhere
def test_an_update_always_moves_the_time(clinic: Clinic) -> None:
    born, first = clinic.run("SELECT created_at, updated_at FROM hospitals")[0]
    with closing(clinic.connect()) as session:
        session.autocommit = False
        seen = [first]
        for change in (
            "phone = '1'",
            "phone = phone",
            "updated_at = '2001-01-01', created_at = '2001-01-01'",
            "updated_at = NULL, created_at = NULL",
            "updated_at = 'infinity'",
            "updated_at = updated_at",
        ):
            again = f"UPDATE hospitals SET {change} RETURNING created_at, updated_at"
            created, updated = clinic.run(again, session=session)[0]
            assert created == born
            seen.append(updated)
        assert seen == sorted(set(seen))  # each later than the one before, in one transaction


def test_the_transaction_that_began_first_but_wrote_last_is_the_later_one(clinic: Clinic) -> None:
    with closing(clinic.connect()) as old:
        old.autocommit = False
        clinic.run("SELECT 1", session=old)
        young = clinic.value("UPDATE hospitals SET phone = 'young' RETURNING updated_at")
        after = clinic.value("UPDATE hospitals SET phone = 'old' RETURNING updated_at", session=old)
        assert after > young


# who ----------------------------------------------------------------------------------------------


def test_who_is_the_setting_or_else_who_logged_in(clinic: Clinic) -> None:
    who = "SELECT created_by, updated_by FROM hospitals"
    assert clinic.run(who) == [(OWNER, OWNER)]
    with closing(clinic.connect()) as session:
        session.autocommit = False
        clinic.run("SELECT set_config('clinic.user', 'a.schmidt', true)", session=session)
        clinic.run("UPDATE hospitals SET phone = '1'", session=session)
        assert clinic.run(who, session=session) == [(OWNER, "a.schmidt")]
        session.commit()
        # the setting has ended with its transaction, and reads as '' now
        clinic.run("UPDATE hospitals SET phone = '2'", session=session)
        assert clinic.run(who, session=session) == [(OWNER, OWNER)]


def test_nobody_writes_in_the_name_of_another(clinic: Clinic) -> None:
    who = "SELECT created_by, updated_by FROM hospitals WHERE code = 'H2'"
    with closing(clinic.connect()) as session:
        clinic.run("SELECT set_config('clinic.user', 'mallory', false)", session=session)
        clinic.run(
            "INSERT INTO hospitals (code, name, license_no, email, created_by, updated_by)"
            " VALUES ('H2', 'Two', 'L2', 'b@example.org', 'alice', 'alice')",
            session=session,
        )
        assert clinic.run(who) == [("mallory", "mallory")]
        clinic.run("UPDATE hospitals SET created_by = 'alice', updated_by = 'bob'", session=session)
        assert clinic.run(who) == [("mallory", "mallory")]
    clinic.run("UPDATE hospitals SET created_by = 'alice', updated_by = 'alice'")
    assert clinic.run(who) == [("mallory", OWNER)]


def test_another_role_is_not_another_person(clinic: Clinic) -> None:
    app = app_role(clinic)
    clinic.cluster.execute(f"GRANT {app} TO {OWNER}")
    with closing(clinic.connect()) as session:
        clinic.run(f"SET ROLE {app}", session=session)
        clinic.run("UPDATE hospitals SET phone = '1'", session=session)
    assert clinic.value("SELECT updated_by FROM hospitals") == OWNER


def test_without_a_setting_a_load_keeps_the_names_it_brings(clinic: Clinic) -> None:
    clinic.run(
        "INSERT INTO hospitals (code, name, license_no, email, created_by, updated_by)"
        " VALUES ('H2', 'Two', 'L2', 'b@example.org', 'alice', NULL)"
    )
    who = "SELECT created_by, updated_by FROM hospitals WHERE code = 'H2'"
    assert clinic.run(who) == [("alice", "alice")]


# the audit log ------------------------------------------------------------------------------------


def log(clinic: Clinic, table: str) -> list[tuple[Any, ...]]:
    return clinic.run(
        "SELECT action, actor, changed, old_row, new_row FROM audit_logs"
        " WHERE table_name = %s ORDER BY logged_at",
        table,
    )


@everywhere
def test_the_audit_log_has_the_row_before_and_after(clinic: Clinic) -> None:
    with closing(clinic.connect()) as session:
        clinic.run("SELECT set_config('clinic.user', 'a.schmidt', false)", session=session)
        clinic.run("UPDATE hospitals SET phone = '1'", session=session)
        clinic.run("DELETE FROM hospitals", session=session)
    inserted, updated, deleted = log(clinic, "hospitals")
    assert inserted[:3] == ("INSERT", OWNER, None)
    assert inserted[3] is None
    assert inserted[4]["code"] == "H1"
    assert updated[:3] == ("UPDATE", "a.schmidt", ["phone", "updated_at", "updated_by"])
    assert (updated[3]["phone"], updated[4]["phone"]) == (None, "1")
    assert deleted[:3] == ("DELETE", "a.schmidt", None)
    assert deleted[3] == updated[4]
    assert deleted[4] is None
    ids = clinic.run("SELECT DISTINCT row_id::text, hospital_id::text FROM audit_logs")
    assert ids == [(inserted[4]["hospital_id"],) * 2]


def test_changes_of_one_transaction_keep_their_order(clinic: Clinic) -> None:
    with closing(clinic.connect()) as session:
        session.autocommit = False
        for number in range(20):
            clinic.run("UPDATE hospitals SET phone = %s", str(number), session=session)
        session.commit()
    phones = [new["phone"] for *_, new in log(clinic, "hospitals")]
    assert phones == [None, *map(str, range(20))]
    assert clinic.value("SELECT count(DISTINCT logged_at) FROM audit_logs") == 21


def test_secrets_stay_out_of_the_audit_log(clinic: Clinic, account: Any) -> None:
    user = account(HASHES["bcrypt"])
    clinic.run("UPDATE users SET password_hash = %s", HASHES["argon2"])
    clinic.run(
        "INSERT INTO user_sessions (user_id, token_hash, expires_at)"
        " SELECT user_id, repeat('ab', 32), now() + interval '1 day' FROM users"
    )
    clinic.run("UPDATE user_sessions SET token_hash = repeat('cd', 32)")
    settings = {
        "sms": {"api_key": "s3cret", "sender": "H1"},
        "mail": [{"Password": "s3cret", "host": "mx"}, "s3cret of none"],
    }
    clinic.run("UPDATE hospitals SET settings = %s", json.dumps(settings))
    clinic.run("DELETE FROM users")
    entries = log(clinic, "users") + log(clinic, "user_sessions") + log(clinic, "hospitals")
    # account in, changed, out; its session in, changed, out; the hospital in, changed
    assert len(entries) == 3 + 3 + 2
    written = json.dumps([entry[3:] for entry in entries])
    for secret in ("$2b$12", "$argon2", "abab", "cdcd", "password_hash", "token_hash"):
        assert secret not in written
    changed = log(clinic, "hospitals")[-1][4]["settings"]
    assert changed == {"sms": {"sender": "H1"}, "mail": [{"host": "mx"}, "s3cret of none"]}
    # that it changed is said, what it became is not
    assert "password_hash" in log(clinic, "users")[1][2]
    assert user in written


def test_the_audit_log_can_be_switched_off_for_a_load(clinic: Clinic) -> None:
    with closing(clinic.connect()) as session:
        session.autocommit = False
        clinic.run("SET LOCAL clinic.audit = 'off'", session=session)
        clinic.run("UPDATE hospitals SET phone = 'quiet'", session=session)
        session.commit()
        assert len(log(clinic, "hospitals")) == 1
        clinic.run("UPDATE hospitals SET phone = 'heard'", session=session)
        session.commit()
    assert [entry[4]["phone"] for entry in log(clinic, "hospitals")] == [None, "heard"]


def app_role(clinic: Clinic) -> str:
    if not clinic.run("SELECT 1 FROM pg_roles WHERE rolname = %s", APP):
        clinic.cluster.execute(f"CREATE ROLE {APP} LOGIN")
    clinic.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON hospitals TO {APP}")
    return APP


def test_an_application_can_neither_avoid_nor_forge_the_audit_log(clinic: Clinic) -> None:
    hospital = str(clinic.value("SELECT hospital_id FROM hospitals"))
    with closing(clinic.connect(app_role(clinic))) as session:
        clinic.run("SELECT set_config('clinic.hospital', %s, false)", hospital, session=session)
        clinic.run("UPDATE hospitals SET phone = '1'", session=session)
        for statement in (
            "DELETE FROM audit_logs",
            "UPDATE audit_logs SET actor = 'alice'",
            "INSERT INTO audit_logs (table_name, row_id, action, actor, new_row)"
            " VALUES ('hospitals', gen_random_uuid(), 'INSERT', 'alice', '{}')",
            "CREATE TEMP TABLE patients (id uuid);"
            "CREATE TRIGGER t AFTER INSERT ON patients FOR EACH ROW"
            " EXECUTE FUNCTION public.write_audit_log('id')",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                clinic.run(statement, session=session)
    assert log(clinic, "hospitals")[-1][:2] == ("UPDATE", APP)


# passwords ----------------------------------------------------------------------------------------


@everywhere
def test_a_hash_passes_as_it_is(clinic: Clinic, account: Any) -> None:
    has_crypt(clinic)
    users = {account(text): text for text in HASHES.values()}
    assert {user: stored(clinic, user) for user in users} == users
    clinic.run("UPDATE users SET failed_logins = 1")
    assert {user: stored(clinic, user) for user in users} == users


def attempts(clinic: Clinic, account: Any, password: str) -> dict[str, Any]:
    """Return ways to bring a password in."""
    user = account(HASHES["bcrypt"])

    def copied() -> None:
        row = clinic.run("SELECT hospital_id FROM hospitals")[0][0]
        clinic.run(
            "INSERT INTO staff (hospital_id, branch_id, employee_code, job, first_name, last_name,"
            " email, joined_on) SELECT hospital_id, branch_id, 'copied', 'nurse', 'A', 'B',"
            " 'a@example.org', '2020-01-01' FROM branches"
        )
        staff = clinic.value("SELECT staff_id FROM staff WHERE employee_code = 'copied'")
        with closing(clinic.connect()) as session, session.cursor() as cursor:
            columns = "(hospital_id, staff_id, username, password_hash)"
            data = io.StringIO(f"{row}\t{staff}\tcopied\t{password}\n")
            cursor.copy_expert(f"COPY users {columns} FROM STDIN", data)

    return {
        "insert": lambda: account(password),
        "update": lambda: clinic.run(
            "UPDATE users SET password_hash = %s WHERE username = %s", password, user
        ),
        "upsert": lambda: clinic.run(
            "INSERT INTO users SELECT * FROM users WHERE username = %s"
            " ON CONFLICT (user_id) DO UPDATE SET password_hash = %s",
            *(user, password),
        ),
        "copy": copied,
    }


@everywhere
def test_plain_text_is_refused_or_hashed_whichever_way_it_comes(
    clinic: Clinic, account: Any
) -> None:
    crypt = has_crypt(clinic, 'my ""ext; --')
    ways = attempts(clinic, account, PLAIN)
    for way, bring in ways.items():
        if crypt:
            bring()
        else:
            with pytest.raises(errors.CheckViolation) as caught:
                bring()
            assert says_nothing(caught.value), way
            assert caught.value.diag.message_hint
    hashes = [text for (text,) in clinic.run("SELECT password_hash FROM users ORDER BY username")]
    made = [text for text in hashes if text != HASHES["bcrypt"]]
    # upsert and update meet in one row
    assert len(made) == (3 if crypt else 0)
    for text in made:
        assert text.startswith("$2a$10$")
        assert bcrypt.checkpw(PLAIN.encode(), text.encode())
    assert len(set(made)) == len(made)  # each has a salt of its own
    assert PLAIN not in json.dumps(clinic.run("SELECT to_jsonb(a) FROM audit_logs a"))


def says_nothing(error: psycopg2.Error, password: str = PLAIN) -> bool:
    """Return whether neither the error nor any of its fields has the password in it."""
    context = error.diag.context or ""
    # the server itself quotes the line at which COPY failed, whatever the reason
    quoted = context[context.index("COPY users, line") :] if "COPY users, line" in context else ""
    fields = [getattr(error.diag, name) for name in dir(error.diag) if name[0] != "_"]
    assert error.diag.message_primary
    said = [str(text).replace(quoted, "") for text in (str(error), *fields)]
    return not any(password in text for text in said)


@everywhere
def test_what_is_neither_a_hash_nor_a_password_is_refused(clinic: Clinic, account: Any) -> None:
    has_crypt(clinic)
    for text in NO_HASHES.values():  # hashed once more it would be safe, and of no use to anybody
        with pytest.raises(errors.CheckViolation, match="unknown format") as caught:
            account(text)
        assert says_nothing(caught.value, text)
    for text in ("", "   ", "ü" * 37, "x" * 73):
        with pytest.raises(errors.CheckViolation, match="empty password, or one of more than 72"):
            account(text)
    with pytest.raises(errors.NotNullViolation):
        account(None)
    assert clinic.value("SELECT count(*) FROM users") == 0


@everywhere
def test_with_the_triggers_switched_off_the_constraint_still_holds(
    clinic: Clinic, account: Any
) -> None:
    user = account(HASHES["bcrypt"])
    clinic.run("ALTER TABLE users DISABLE TRIGGER protect_password")
    change = "UPDATE users SET password_hash = %s"
    for password in (PLAIN, "", *NO_HASHES.values()):
        with pytest.raises(errors.CheckViolation, match="ck_users_password_hash"):
            clinic.run(change, password)
    for text in HASHES.values():
        clinic.run(change, text)
        assert stored(clinic, user) == text
