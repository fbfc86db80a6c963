"""The files of roles: a database that is set up, reset or migrated has their privileges."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from projects import make_project
from psycopg2 import sql
from roles import as_role, plain  # noqa: F401
from servers import Cluster
from setups import make_shop
from waiting import PATIENCE

from migrations import revision
from pgtasks.database import wayback
from pgtasks.errors import Failed, PgtasksError
from pgtasks.schema import privileges, trigger
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.server import connection, embedded
from pgtasks.service.testing import fileset
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load
from pgtasks.settings.target import Target, from_environment

Inv = Callable[..., Any]
NAME = 'it\'s a "new" 🐘'


def step(done: Any, name: str = "roles") -> tuple[str, str]:
    assert done.stdout, done.stderr
    found = {each["step"]: each for each in json.loads(done.stdout)["steps"]}[name]
    return found["result"], found["text"]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def role(cluster: Cluster) -> Iterator[str]:
    """The name of a role that nobody has made yet."""
    name = f'app "1" 🐘 {os.getpid()}'
    yield name
    cluster.drop(NAME)  # first, which has privileges of it
    cluster.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.fixture
def shop(cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path, role: str) -> Path:
    """A project with all parts, whose file of roles makes the role too."""
    root = make_shop(cluster, fresh_database, tmp_path / "shop")
    grants(
        root,
        f"DO $$ BEGIN IF to_regrole($r${quoted(role)}$r$) IS NULL THEN"
        f" CREATE ROLE {quoted(role)}; END IF; END $$;\n"
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quoted(role)};\n"
        f"GRANT SELECT, INSERT ON notes TO {quoted(role)};\n",
    )
    return root


def grants(root: Path, text: str) -> None:
    (root / "sql" / "roles").mkdir(parents=True, exist_ok=True)
    (root / "sql" / "roles" / "app.sql").write_text(text, encoding="utf-8")


def may(cluster: Cluster, role: str, right: str, table: str = "notes") -> bool:
    query = "SELECT has_table_privilege(%s, %s, %s)"
    return bool(cluster.execute(query, NAME, parameters=(role, table, right))[0][0])


def test_a_setup_gives_them_and_the_next_changes_nothing(
    inv: Inv, shop: Path, cluster: Cluster, role: str
) -> None:
    first = inv("setup", "--json", cwd=shop)
    assert step(first) == ("done", "1 file: privileges changed")
    assert may(cluster, role, "INSERT")
    assert not may(cluster, role, "DELETE")
    assert step(inv("setup", "--json", cwd=shop)) == ("unchanged", "1 file: privileges as before")
    cluster.execute(f"GRANT DELETE ON notes TO {quoted(role)}", NAME)
    assert step(inv("setup", "--json", cwd=shop)) == ("done", "1 file: privileges changed")
    assert not may(cluster, role, "DELETE")


def test_a_reset_keeps_them(inv: Inv, shop: Path, cluster: Cluster, role: str) -> None:
    assert inv("setup", cwd=shop).returncode == 0
    done = inv("db.reset", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert may(cluster, role, "INSERT")


def test_a_migration_is_followed_by_them(inv: Inv, shop: Path, cluster: Cluster, role: str) -> None:
    assert inv("setup", cwd=shop).returncode == 0
    revision(shop / "migrations", "two", "one", "op.execute('CREATE TABLE tags (id int)')")
    with (shop / "sql" / "roles" / "app.sql").open("a", encoding="utf-8") as file:
        file.write(f"GRANT SELECT ON tags TO {quoted(role)};\n")
    planned = inv("migrate.up", "--dry", cwd=shop)
    assert "roles: 1 file" in planned.stdout
    done = inv("migrate.up", "--json", cwd=shop)
    assert step(done) == ("done", "1 file: privileges changed")
    assert may(cluster, role, "SELECT", "tags")


def test_an_error_names_its_line_and_gives_nothing(
    inv: Inv, shop: Path, cluster: Cluster, role: str
) -> None:
    assert inv("setup", cwd=shop).returncode == 0
    grants(shop, f"GRANT DELETE ON notes TO {quoted(role)};\n\nGRANT SELECT ON nothing TO public;")
    failed = inv("setup", cwd=shop)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == (
        'error: sql/roles/app.sql:3: relation "nothing" does not exist; nothing was changed'
    )
    assert not may(cluster, role, "DELETE")


@pytest.mark.parametrize(
    ("text", "exit_code", "message"),
    [
        ("SELECT 1;\nCOMMIT;", 2, "sql/roles/app.sql:2: COMMIT in a role file: all files run in"),
        ("GRANT SELECT ON;", 1, 'sql/roles/app.sql:1: syntax error at or near ";"'),
        ("\\password x", 1, "sql/roles/app.sql:1: syntax error at or near"),
    ],
)
def test_a_file_that_cannot_run_is_named(
    inv: Inv, shop: Path, text: str, exit_code: int, message: str
) -> None:
    grants(shop, text)
    failed = inv("setup", cwd=shop)
    assert failed.returncode == exit_code
    assert f"error: {message}" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_owner_who_may_not_make_the_role_is_told_the_statements(
    inv: Inv,
    shop: Path,
    cluster: Cluster,
    role: str,
    plain: Callable[..., str],  # noqa: F811
) -> None:
    owner = plain("CREATEDB")
    (shop / "env" / "dev.yaml").write_text(f"url: '{as_role(cluster, owner, NAME)}'\n")
    result, text = step(inv("setup", "--json", cwd=shop))
    assert result == "skipped"
    before, _, statements = text.partition(" runs ")
    assert before == (
        f"role {role!r} is not there, and {owner!r} may not create roles: an administrator of the "
        "server"
    )
    cluster.execute(statements)
    assert step(inv("setup", "--json", cwd=shop)) == ("done", "1 file: privileges changed")
    assert may(cluster, role, "INSERT")


def test_an_embedded_server_gets_the_roles(inv: Inv, tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop", "")
    (root / "env" / "dev.yaml").write_text("server: embedded\n")
    grants(
        root,
        'GRANT CREATE ON SCHEMA public TO "my app", postgres, public;'
        'GRANT "my app" TO CURRENT_USER;',
    )
    try:
        done = inv("setup", "--json", cwd=root)
        assert step(done) == ("done", "1 file: privileges changed, made 'my app'")
        assert step(inv("setup", "--json", cwd=root)) == (
            "unchanged",
            "1 file: privileges as before",
        )
        target = embedded.located(from_environment(resolve(load(root), "dev")), root)
        query = (
            "SELECT pg_has_role(%(user)s, 'my app', 'MEMBER'),"
            " pg_has_role(%(user)s, 'postgres', 'MEMBER'),"
            " (SELECT rolcanlogin OR rolsuper OR rolcreaterole FROM pg_roles"
            "  WHERE rolname = 'my app')"
        )
        user = {"user": embedded.servers(root)[0].role}
        with connection.session(embedded.as_superuser(target), purpose="test") as conn:
            assert connection.rows(conn, query, user) == [(True, False, False)]
    finally:
        embedded.remove(root)


@pytest.fixture
def stranger(owned: Target, plain: Callable[..., str], cluster: Cluster) -> str:  # noqa: F811
    """A role without rights, which may create functions in the schema public of `owned`."""
    name = plain()
    cluster.execute(f"GRANT CREATE ON SCHEMA public TO {name}", owned.database)
    return name


def applied(target: Target, *texts: str) -> privileges.Granted:
    given = [SqlFile(f"sql/roles/{n}.sql", text) for n, text in enumerate(texts)]
    return privileges.apply(given, target)


def test_no_function_of_another_role_runs(owned: Target, stranger: str, cluster: Cluster) -> None:
    cluster.execute(
        f"SET ROLE {stranger}; CREATE FUNCTION public.concat(text, oid) RETURNS text"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran as %', current_user; END $$;"
        "CREATE FUNCTION public.concat_ws(text, text, oid, int) RETURNS text"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran as %', current_user; END $$",
        owned.database,
    )
    assert applied(owned, f"GRANT USAGE ON SCHEMA public TO {stranger}").changed


def test_a_setting_ends_with_its_file(owned: Target, stranger: str, cluster: Cluster) -> None:
    applied(
        owned.at(owned.database),
        "CREATE SCHEMA aside; SET search_path = aside; CREATE TABLE inside (id int);",
        "CREATE TABLE outside (id int);",
    )
    places = "SELECT relname, relnamespace::regnamespace::text FROM pg_class WHERE relname ~ 'side'"
    assert set(cluster.execute(places + " AND relkind = 'r'", owned.database)) == {
        ("inside", "aside"),
        ("outside", "public"),
    }
    as_superuser = cluster.target(owned.database)
    applied(as_superuser, f"SET SESSION AUTHORIZATION {stranger};", "CREATE TABLE after (id int);")
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'after'"
    assert cluster.value(owner, owned.database) == cluster.superuser


def test_a_setting_of_a_trigger_file_ends_with_it(owned: Target, cluster: Cluster) -> None:
    function = "CREATE FUNCTION {}() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    texts = ("CREATE SCHEMA aside; SET search_path = aside; " + function.format("f"), "g")
    files = [SqlFile("sql/functions/f.sql", texts[0])]
    files += [SqlFile("sql/functions/g.sql", function.format(texts[1]))]
    trigger.apply(files, owned)
    places = "SELECT proname, pronamespace::regnamespace::text FROM pg_proc WHERE proname IN"
    found = cluster.execute(f"{places} ('f', 'g')", owned.database)
    assert set(found) == {("f", "aside"), ("g", "public")}


def test_what_was_not_granted_is_said(owned: Target, stranger: str, cluster: Cluster) -> None:
    cluster.execute(f"CREATE TABLE t (id int); GRANT SELECT ON t TO {owned.user}", owned.database)
    granted = applied(owned, f"SELECT 1;\nGRANT SELECT ON t TO {stranger};")
    assert granted.warnings == ('sql/roles/0.sql:2: no privileges were granted for "t"',)
    assert not granted.changed


def test_a_membership_is_a_change(target: Target, stranger: str, role: str) -> None:
    text = f"DO $$ BEGIN CREATE ROLE {quoted(role)}; END $$; GRANT {quoted(role)} TO {stranger};"
    assert applied(target, text).changed
    again = f"GRANT {quoted(role)} TO {stranger};"
    assert not applied(target, again).changed


def test_two_runs_make_a_role_one_after_the_other(
    target: Target,
    cluster: Cluster,
    fresh_database: Callable[..., str],
    role: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # the first to come stays until the other one waits for it
    waits = f"SELECT FROM pg_locks WHERE classid = {privileges._KEYS[0]} AND NOT granted"
    text = (
        f"DO $$ BEGIN IF to_regrole($r${quoted(role)}$r$) IS NULL THEN"
        f" FOR i IN 1..{int(20 * PATIENCE)} LOOP EXIT WHEN EXISTS ({waits});"
        " PERFORM pg_sleep(0.05); END LOOP;"
        f" CREATE ROLE {quoted(role)}; END IF; END $$;"
    )
    with ThreadPoolExecutor() as pool:
        places = (target, target.at(fresh_database(cluster)))
        results = list(pool.map(lambda place: applied(place, text).changed, places))
    assert sorted(results) == [False, True]
    assert "waiting for another run that changes roles: roles, process" in capsys.readouterr().err


def test_an_error_says_which_roles_stay(inv: Inv, tmp_path: Path) -> None:
    root = make_project(tmp_path / "shop", "")
    (root / "env" / "dev.yaml").write_text("server: embedded\n")
    grants(root, "GRANT CREATE ON SCHEMA public TO app;\nGRANT SELECT ON nothing TO app;")
    try:
        failed = inv("setup", cwd=root)
        assert failed.returncode == 1
        assert failed.stderr.splitlines()[-1] == (
            'error: sql/roles/app.sql:2: relation "nothing" does not exist; nothing was changed'
            " but that role 'app' is there now"
        )
    finally:
        embedded.remove(root)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("COPY pg_class TO STDOUT;", "COPY of the client's rows in a role file", ""),
        ("GRANT CREATE ON SCHEMA public TO pg_lacking", 'role "pg_lacking" does not exist', ""),
        ("GRANT CREATE ON SCHEMA public TO lacking", "does not exist", "CREATE ROLE lacking NOLOG"),
        ("CREATE ROLE postgres", "already exists", "write a DO block that looks into pg_roles"),
    ],
)
def test_an_error_leads_on(target: Target, text: str, message: str, hint: str) -> None:
    with pytest.raises(PgtasksError, match=re.escape(message)) as failed:
        applied(target, text)
    assert hint in failed.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT lacking TO CURRENT_USER",
        "ALTER DEFAULT PRIVILEGES FOR ROLE lacking GRANT SELECT ON TABLES TO PUBLIC",
    ],
)
def test_each_role_that_is_not_there_is_named(owned: Target, statement: str) -> None:
    assert applied(owned, statement).lacking == ("lacking",)


def test_the_files_of_other_roles_run(owned: Target, stranger: str, cluster: Cluster) -> None:
    """A reset would take the privileges of one role away because another one is new."""
    texts = [f"GRANT USAGE ON SCHEMA public TO {role}" for role in ("lacking", stranger)]
    granted = applied(owned, *texts)
    assert (granted.files, granted.left) == (("sql/roles/1.sql",), ("sql/roles/0.sql",))
    assert granted.changed
    assert granted.sentence().startswith(
        "1 file: privileges changed; sql/roles/0.sql not run: role 'lacking' is not there, and"
    )


def test_files_of_an_editor_and_pipes_do_not_hold_a_run(inv: Inv, shop: Path) -> None:
    roles = shop / "sql" / "roles"
    (roles / ".#app.sql").symlink_to("me@here.1")
    assert [file.name for file in privileges.read(load(shop))] == ["sql/roles/app.sql"]
    os.mkfifo(roles / "pipe.sql")
    with pytest.raises(Failed, match=re.escape("sql/roles/pipe.sql: a named pipe")):
        privileges.read(load(shop))


def test_a_role_that_comes_later_makes_another_template(
    owned: Target, cluster: Cluster, role: str
) -> None:
    given = [SqlFile("sql/roles/app.sql", f"GRANT CREATE ON SCHEMA public TO {quoted(role)}")]
    assert privileges.lacking(given, owned) == (role,)
    cluster.execute(f"CREATE ROLE {quoted(role)}")
    assert privileges.lacking(given, owned) == ()


def test_a_restore_and_a_copy_without_grants_name_the_way_back(
    inv: Inv, shop: Path, cluster: Cluster, fresh_database: Callable[..., str], role: str
) -> None:
    assert inv("setup", cwd=shop).returncode == 0
    assert inv("db.backup", cwd=shop).returncode == 0
    way = "grants were left out: inv setup gives those of sql/roles, and loads seeds: core, demo"
    whole = inv("db.restore", "--confirm", NAME, cwd=shop)
    assert "grants were left out" not in whole.stdout
    for flag in ("--no-owner", "--no-acl"):
        done = inv("db.restore", "--as-superuser", "--confirm", NAME, flag, cwd=shop)
        assert done.returncode == 0, done.stderr
        assert way in done.stdout.splitlines()
        assert not may(cluster, role, "INSERT")
        assert step(inv("setup", "--json", cwd=shop))[0] == "done"
        assert may(cluster, role, "INSERT")
    other = fresh_database(cluster)
    (shop / "env" / "qa.yaml").write_text(f"url: {cluster.url(other)}\n")
    flags = ["--no-owner", "--as-superuser", "--confirm", other]
    copied = inv("db.copy", "dev", "qa", *flags, cwd=shop)
    assert copied.returncode == 0, copied.stderr
    way = "grants were left out: inv setup --env qa gives those of sql/roles"
    assert way in copied.stdout.splitlines()
    (shop / "sql" / "roles" / "app.sql").unlink()
    assert "grants were left out" not in inv("db.copy", "dev", "qa", *flags, cwd=shop).stdout


def test_a_folder_that_cannot_be_read_fails_no_restore(tmp_path: Path, target: Target) -> None:
    project = load(make_project(tmp_path / "shop", ""))
    roles = tmp_path / "shop" / "sql" / wayback.FOLDER
    roles.parent.mkdir()
    roles.symlink_to("roles")  # a loop: not even root can list it
    (line,) = wayback.of_grants(project, target)
    assert line.startswith("grants were left out, sql/roles cannot be read: Too many levels")
    roles.unlink()
    roles.mkdir()
    (roles / ".#app.sql").symlink_to("me@here:1")  # of an editor, as a setup passes it over
    assert wayback.of_grants(project, target) == ()


def test_a_role_that_an_embedded_server_lacks_is_made_by_a_setup(inv: Inv, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for root in (first, second):
        make_project(root, "")
        (root / "env" / "dev.yaml").write_text("server: embedded\ndatabase: shop\n")
        grants(root, 'GRANT CREATE ON SCHEMA public TO "my app";\n')
    try:
        assert inv("setup", cwd=first).returncode == 0
        assert inv("db.backup", cwd=first).returncode == 0
        (backup,) = (first / "backups" / "dev" / "shop").glob("2*")
        refused = inv("db.restore", "--backup", str(backup), cwd=second)
        assert refused.returncode != 0
        assert "role 'my app' does not exist here: create it (inv setup makes" in refused.stderr
        assert inv("setup", cwd=second).returncode == 0
        done = inv("db.restore", "--backup", str(backup), cwd=second)
        assert done.returncode == 0, done.stderr
        assert "grants were left out" not in done.stdout
    finally:
        embedded.remove(first)
        embedded.remove(second)


def test_a_changed_file_makes_another_template_for_tests(shop: Path) -> None:
    project = load(shop)
    before = fileset.digest(project, ())
    grants(shop, "GRANT SELECT ON notes TO public;")
    assert fileset.digest(project, ()) != before
