"""The reader of a protected environment: what only reads connects as a role that cannot write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import make_project, put_stamp
from servers import Cluster

from pgtasks.health import settings
from pgtasks.settings import project
from pgtasks.settings.environment import resolve
from pgtasks.settings.target import from_environment


@pytest.fixture
def prod(tmp_path: Path, cluster: Cluster, database: str) -> Iterator[Path]:
    """Make a project whose role does not exist, so that only what reads can connect."""
    role = f"reader_{database}"
    cluster.execute(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data")
    cluster.execute("CREATE TABLE t AS SELECT 1 AS a", database)
    put_stamp(cluster.target(database, environment="prod"))
    root = make_project(tmp_path / "shop", cluster.url(database), environment="prod")
    (root / "sql" / "functions").mkdir(parents=True)
    (root / "sql" / "functions" / "f.sql").write_text(
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1;\n"
    )
    (root / "env" / "prod.yaml").write_text(
        f"host: {cluster.host}\nport: {cluster.port}\nuser: nobody_here\n"
        f"database: {database}\nprotected: true\nreader: {role}\n"
    )
    yield root
    cluster.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("db.check",), 0),
        (("db.backup",), 0),
        (("--dry", "env.stamp"), 0),
        (("trigger.verify",), 5),
    ],
)
def test_what_only_reads_connects_as_the_reader(
    inv: Any, prod: Path, words: tuple[str, ...], code: int
) -> None:
    done = inv(*words, "--env", "prod", cwd=prod)
    assert done.returncode == code, done.stderr
    assert "reads as 'reader_" in done.stderr
    assert "nobody_here" not in done.stdout


def test_what_writes_does_not(inv: Any, prod: Path, database: str) -> None:
    done = inv("db.run", "--sql", "SELECT 1", "--env", "prod", "--confirm", database, cwd=prod)
    assert done.returncode == 4
    assert 'role "nobody_here" does not exist' in done.stderr
    shell = inv("db.shell", "--env", "prod", "--write", "--confirm", database, cwd=prod)
    assert shell.returncode == 4


def test_a_shell_of_the_reader_cannot_be_talked_into_writing(
    inv: Any, prod: Path, cluster: Cluster, database: str
) -> None:
    lift = "SET default_transaction_read_only = off;\nBEGIN READ WRITE;\nDELETE FROM t;\nCOMMIT;\n"
    done = inv("db.shell", "--env", "prod", input=lift, cwd=prod)
    assert "permission denied for table t" in done.stderr
    assert f"rights of role 'reader_{database}' protect it" in done.stderr
    assert cluster.value("SELECT count(*) FROM t", database) == 1


def test_a_shell_without_a_reader_says_what_its_setting_is_worth(
    inv: Any, prod: Path, cluster: Cluster, database: str
) -> None:
    text = (prod / "env" / "prod.yaml").read_text().replace("nobody_here", cluster.superuser)
    (prod / "env" / "prod.yaml").write_text(text.replace(f"reader: reader_{database}\n", ""))
    done = inv("db.shell", "--env", "prod", input="SELECT 1;", cwd=prod)
    assert "this only prevents accidents" in done.stderr
    assert "reader: ROLE in env/prod.yaml" in done.stderr
    findings = {one.check: one for one in settings.audit(project.load(prod), "prod").findings}
    assert findings["reader"].level == "note"


def test_a_reader_that_can_write_is_named(
    inv: Any, prod: Path, cluster: Cluster, database: str
) -> None:
    cluster.execute(f"ALTER ROLE reader_{database} SUPERUSER")
    done = inv("db.check", "--env", "prod", cwd=prod)
    assert f"reader_{database}, the reader, can write: use a read-only role" in done.stdout


def test_the_readers_password_is_its_own(prod: Path, database: str) -> None:
    (prod / "env" / "prod.env").write_text("DATABASE_PASSWORD=owners\nREADER_PASSWORD=readers\n")
    target = from_environment(resolve(project.load(prod), "prod"))
    reader = target.as_reader()
    assert target.password is not None
    assert reader.password is not None
    assert (target.password.reveal(), reader.password.reveal()) == ("owners", "readers")
    (prod / "env" / "prod.env").write_text("DATABASE_PASSWORD=owners\n")
    reader = from_environment(resolve(project.load(prod), "prod")).as_reader()
    assert (reader.user, reader.password) == (f"reader_{database}", None)
