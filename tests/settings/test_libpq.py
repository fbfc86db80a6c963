"""URLs, PG* variables, service files and password files mean here what they mean to libpq."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from servers import Cluster

from pgtasks.errors import BadConfiguration
from pgtasks.settings import libpq
from pgtasks.settings.libpq import ConnInfo
from pgtasks.settings.secret import Secret

FULL = "postgresql://al%40ice:p%3Ass%2F%40%25w@db.example:6543/my%20db?sslmode=verify-full"


def place(url: str) -> ConnInfo:
    return libpq.parse_url(url, "DEV_DATABASE_URL")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (FULL, ("db.example", 6543, "my db", "al@ice", "p:ss/@%w")),
        ("postgres://h/d", ("h", None, "d", "", None)),
        ("postgresql+psycopg2://u@h/d", ("h", None, "d", "u", None)),
        ("POSTGRESQL://u@H/d", ("H", None, "d", "u", None)),
        ("postgresql:///d", ("", None, "d", "", None)),
        ("postgresql://", ("", None, "", "", None)),
        ("postgresql://[::1]:5/d", ("::1", 5, "d", "", None)),
        ("postgresql://%2Fvar%2FRun/d", ("/var/Run", None, "d", "", None)),
        ("postgresql:///d?host=/tmp/S&port=7", ("/tmp/S", 7, "d", "", None)),
        ("postgresql://h?user=u&password=a+b%20c&dbname=x", ("h", None, "x", "u", "a+b c")),
        ("postgresql://u:50%25%32@h/d", ("h", None, "d", "u", "50%2")),
        ("postgresql://u:a,b#c@h/d", ("h", None, "d", "u", "a,b#c")),
        ("postgresql://ü:☃@h/😀", ("h", None, "😀", "ü", "☃")),
        (" postgresql://h/d\n", ("h", None, "d", "", None)),
        ("psql://u:p@h/d", ("h", None, "d", "u", "p")),
        ("pgsql://h/d", ("h", None, "d", "", None)),
        ("postgis://h/d", ("h", None, "d", "", None)),
    ],
)
def test_a_url_is_taken_apart(url: str, expected: tuple[Any, ...]) -> None:
    found = place(url)
    password = found.password.reveal() if found.password else None
    assert (found.host, found.port, found.database, found.user, password) == expected


@pytest.mark.parametrize("url", [FULL, "postgresql://u:a+b@h:1/d", "postgresql://u@[::1]/d%2Fe"])
def test_libpq_reads_a_url_alike(url: str) -> None:
    theirs, ours = parse_dsn(url), place(url)
    assert theirs.get("host") == ours.host
    assert theirs.get("dbname") == ours.database
    assert theirs.get("user") == ours.user
    assert theirs.get("password") == (ours.password.reveal() if ours.password else None)
    assert theirs.get("port") == (str(ours.port) if ours.port else None)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("sslmode=require", {"sslmode": "require"}),
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=verify-full", {"sslmode": "verify-full"}),
        ("ssl=true&sslmode=verify-ca", {"sslmode": "verify-ca"}),
        (
            "sslrootcert=/a%20b.pem&hostaddr=10.0.0.1",
            {"sslrootcert": "/a b.pem", "hostaddr": "10.0.0.1"},
        ),
        ("application_name=x&pool_size=5", {}),
        ("options=-csearch_path%3Da", {"options": "-csearch_path=a"}),
        ("connect_timeout=3", {"connect_timeout": "3"}),
        ("sslmode=allow&sslmode=allow", {"sslmode": "allow"}),
        ("pool_size=5&pool_size=6", {}),
    ],
)
def test_parameters_of_the_connection_are_kept(query: str, parameters: dict[str, str]) -> None:
    assert place(f"postgresql://h/d?{query}").parameters == parameters


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:s3cret@h/d", "a mysql:// URL, expected postgresql://"),
        ("s3cret", "no PostgreSQL URL (postgresql://user@host/database)"),
        (
            "postgresql://u:s3cret/d",
            "port is not a number up to 65535 (in a password, percent-escape",
        ),
        (
            "postgresql://u:s3/cret@h/d",
            "port is not a number up to 65535 (in a password, percent-escape",
        ),
        (
            "postgresql://h:abc/d",
            "port is not a number up to 65535 (in a password, percent-escape",
        ),
        ("postgresql://h:99999/d", "port is not a number up to 65535"),
        ("postgresql:///d?port=99999", "port '99999', expected 1 to 65535"),
        ("postgresql://u:s3cret@a,b/d", "several hosts, name one"),
        ("postgresql://u:s3cret@a:1,b:2/d", "several hosts, name one"),
        ("postgresql:///d?host=a,b", "several hosts in 'a,b', name one"),
        ("postgresql:///d?port=1,2", "several ports in '1,2', name one"),
        ("postgresql://h/d?sslmode=on", "sslmode 'on', known: disable, allow, prefer"),
        ("postgresql://h/d?ssl=maybe", "sslmode 'maybe', known: disable, allow, prefer"),
        ("postgresql://h/d?optoins=x", "unknown parameter 'optoins', did you mean 'options': it"),
        (
            "postgresql://h/d?options=-ca%3D1&sslmode=allow&options=-cb%3D2",
            "'options' is given twice, with two values: write both into one, with %20 between",
        ),
        (
            "postgresql://h/d?sslmode=require&sslmode=disable",
            "'sslmode' is given twice, with two values: give it once",
        ),
        ("postgresql://u@h/d?password=s3cret&password=s3cret2", "'password' is given twice, with"),
        ("postgresql://h/d?ssl=true&ssl=false", "'ssl' is given twice, with two values: give it"),
        ("postgresql://h/d?schema=s", "unknown parameter 'schema': it may decide where"),
    ],
)
def test_a_bad_url_is_one_line_without_its_password(url: str, message: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        place(url)
    assert caught.value.message.startswith(f"DEV_DATABASE_URL: {message}")
    assert "s3cret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "made",
    [
        {"host": "h", "port": 5, "database": "a b", "user": "u", "password": "p@:/%?#+ ü"},
        {"host": "/run/x y", "port": 5, "database": "d'\"", "user": "ü😀"},
        {"host": "::1", "port": None, "database": "d", "user": ""},
        {
            "host": "h",
            "port": 1,
            "database": "d",
            "user": "u",
            "parameters": {"sslmode": "require"},
        },
    ],
)
def test_a_made_url_reads_back(made: dict[str, Any]) -> None:
    url = libpq.make_url(**made)
    ours, theirs = place(url), parse_dsn(url)
    assert (ours.host, ours.port, ours.database, ours.user) == tuple(
        made[key] for key in ("host", "port", "database", "user")
    )
    assert (ours.password.reveal() if ours.password else None) == made.get("password")
    assert theirs["dbname"] == made["database"]
    assert theirs.get("password") == made.get("password")
    assert ours.parameters == made.get("parameters", {})


def test_libpqs_variables_are_taken_out_and_others_stay() -> None:
    environ = {"PGHOST": "a", "PGCONNECT_TIMEOUT": "1", "PGTASKS_ENV": "dev", "PATH": "/bin"}
    assert libpq.detach_variables(environ) == {"PGHOST": "a", "PGCONNECT_TIMEOUT": "1"}
    assert environ == {"PGTASKS_ENV": "dev", "PATH": "/bin"}


SERVICES = """
# comment
[shop]
host = db1
port=6000
dbname=shop
user=alice
password=s3cret
sslmode=require
[other]
host=db2
"""


def test_a_service_is_looked_up_where_libpq_looks(tmp_path: Path) -> None:
    own, system = tmp_path / "own.conf", tmp_path / "pg_service.conf"
    own.write_text(SERVICES)
    system.write_text("[everywhere]\nhost=db3\n")
    variables = {"PGSERVICEFILE": str(own), "PGSYSCONFDIR": str(tmp_path)}
    found = libpq.service_place("shop", variables, "env/dev.yaml:1")
    assert found == ConnInfo("db1", 6000, "shop", "alice", Secret("s3cret"), {"sslmode": "require"})
    assert libpq.service_place("everywhere", variables, "x").host == "db3"


def test_a_service_at_home_is_found() -> None:
    home = Path(os.environ["HOME"])
    (home / ".pg_service.conf").write_text(SERVICES)
    assert libpq.service_place("other", {}, "x").host == "db2"


def test_a_service_that_is_nowhere_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration) as caught:
        libpq.service_place("shpo", {"PGSYSCONFDIR": str(tmp_path)}, "env/dev.yaml:1")
    assert "env/dev.yaml:1: service 'shpo' is in none of" in caught.value.message
    assert str(tmp_path / "pg_service.conf") in caught.value.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("port=abc", "port 'abc', expected 1 to 65535"),
        ("sslmode=on", "sslmode 'on', known"),
        ("host=a\nhost=b", "'host' is given twice, with two values: give it once"),
        (
            "options=-ca=1\n[else]\n[bad]\noptions=-cb=2",
            "'options' is given twice, with two values",
        ),
    ],
)
def test_a_bad_service_is_one_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "pg_service.conf").write_text(f"[bad]\n{line}\n")
    with pytest.raises(BadConfiguration, match=message):
        libpq.service_place("bad", {"PGSYSCONFDIR": str(tmp_path)}, "x")


@pytest.mark.parametrize("password", [r"a:b\c", "ü☃", " ", "#x", "*", "a'b\"c"])
def test_libpq_reads_a_passfile_for_one_server_and_its_databases(
    password_cluster: Cluster, tmp_path: Path, password: str
) -> None:
    role = f"pass_{os.getpid()}"
    password_cluster.execute(f"DROP ROLE IF EXISTS {role}")
    password_cluster.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", parameters=(password,))
    path = tmp_path / "pass"
    place = {"host": password_cluster.host, "port": password_cluster.port}
    text = libpq.passfile_text(
        **place, databases=("a:b\\c", "postgres"), user=role, password=Secret(password)
    )
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    known = {"user": role, "passfile": str(path), "dbname": "postgres", **place}
    psycopg2.connect(make_dsn(**known)).close()
    elsewhere = [
        {"passfile": "/nowhere"},
        {"dbname": "template1"},
        {"host": "127.0.0.1", "port": password_cluster.tcp_port},
    ]
    for other in elsewhere:
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(make_dsn(**{**known, **other}))
    password_cluster.execute(f"DROP ROLE {role}")


def test_a_password_with_a_line_break_is_refused() -> None:
    known = {"host": "h", "port": 1, "databases": ("d",), "user": "u"}
    with pytest.raises(BadConfiguration) as caught:
        libpq.passfile_text(**known, password=Secret("a\n*:*:*:*:b"))
    assert "line break" in caught.value.message
    assert "*" not in caught.value.message


@pytest.mark.parametrize(
    ("mode", "fault"), [(0o600, ""), (0o400, ""), (0o640, "chmod 600"), (0o604, "libpq ignores it")]
)
def test_an_open_passfile_is_a_fault(tmp_path: Path, mode: int, fault: str) -> None:
    path = tmp_path / "my pass"
    path.write_text("*:*:*:*:x\n")
    path.chmod(mode)
    found = libpq.passfile_fault(path)
    assert (fault in found) if fault else not found


def test_a_passfile_that_is_none_is_a_fault(tmp_path: Path) -> None:
    assert "No such file" in libpq.passfile_fault(tmp_path / "none")
    assert "not a regular file" in libpq.passfile_fault(tmp_path)
