"""The ways to a database on another host: passwords, TLS, own engines, and what fails where."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Inv
from hosts import DatabaseHost
from network import Network
from projects import make_project
from psycopg2 import sql
from servers import Cluster, system_bins
from waiting import until

import pgtasks

PASSWORD = "s3cret:with\\odd 'characters' ü"
ROLE = "shop_owner"
_DATA = "/var/lib/postgresql/data"
OWN_ENGINE = """
import os
from alembic import context
from sqlalchemy import create_engine

url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
with create_engine(url).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from alembic import op

revision, down_revision = "1", None


def upgrade():
    op.execute("CREATE TABLE migrated ()")


def downgrade():
    op.execute("DROP TABLE migrated")
"""


@pytest.fixture
def database(db1: DatabaseHost) -> Iterator[str]:
    """Return the name of an empty database on the host."""
    name = db1.cluster.create(owner=db1.user)
    yield name
    db1.cluster.drop(name)


@pytest.fixture
def shop(db1: DatabaseHost, database: str, tmp_path: Path) -> Path:
    """Return a project whose dev is that database, stamped."""
    root = make_project(tmp_path / "shop", "")
    write(root, **db1.settings(database=database))
    return root


def write(root: Path, **settings: Any) -> None:
    (root / "env" / "dev.yaml").write_text(json.dumps(settings))


def taken(done: subprocess.CompletedProcess[str]) -> list[tuple[str, bool, str]]:
    """Return the steps that were taken, in order."""
    assert done.stdout, done.stderr
    return [(step["name"], step["ok"], step["text"]) for step in json.loads(done.stdout)["steps"]]


# --- step by step -------------------------------------------------------------------------------

ALL = [
    *("ssh", "host key", "ssh login", "command", "socket", "tunnel", "answer", "password"),
    *("login", "database"),
]


def test_all_steps_of_a_connection(inv: Inv, shop: Path, db1: DatabaseHost) -> None:
    done = inv("db.check", "--verbose", "--json", cwd=shop)
    assert done.returncode == 0, done.stderr
    steps = {name: text for name, ok, text in taken(done) if ok}
    assert list(steps) == ALL
    assert steps["ssh"].startswith(f"{db1.address} port {db1.port}: OpenSSH_")
    assert steps["host key"].startswith("ssh-ed25519 SHA256:")
    assert steps["ssh login"] == f"{db1.user}, with {db1.identity}"
    assert steps["tunnel"].endswith(f" here leads to {db1.sockets}:5432 there")


def stranger(tmp_path: Path) -> Path:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")]
    subprocess.run(argv, check=True)
    return tmp_path / "stranger"


@pytest.mark.parametrize(
    ("failing", "change"),
    [
        ("ssh", lambda tmp: {"ssh": {"port": 1}}),
        ("host key", lambda tmp: {"ssh": {"known_hosts": str(tmp / "none")}}),
        ("ssh login", lambda tmp: {"ssh": {"identity": str(stranger(tmp))}}),
        ("socket", lambda tmp: {"port": 5499}),
        ("tunnel", lambda tmp: {"host": "127.0.0.1", "port": 1}),
        ("login", lambda tmp: {"user": "nobody_there"}),
        ("database", lambda tmp: {"database": "not_there"}),
    ],
)
def test_the_step_that_fails_is_named(
    inv: Inv,
    shop: Path,
    db1: DatabaseHost,
    database: str,
    tmp_path: Path,
    failing: str,
    change: Callable[[Path], dict[str, Any]],
) -> None:
    changed = {"database": database, **change(tmp_path)}
    write(shop, **{**db1.settings(ssh=changed.pop("ssh", None)), **changed})
    done = inv("db.check", "--verbose", "--json", cwd=shop)
    assert done.returncode == 4
    *before, (name, ok, text) = taken(done)
    assert (name, ok) == (failing, False)
    assert all(ok for _, ok, _ in before)
    assert json.loads(done.stdout)["error"] == f"{name}: {text}"
    if failing == "socket":
        assert text.endswith("is not there, there are ports 5432")
    assert inv("db.check", cwd=shop).returncode == 4


# --- what a URL and the embedded server have to do with it --------------------------------------


def test_a_url_is_the_place_as_its_host_sees_it(
    inv: Inv, shop: Path, db1: DatabaseHost, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = inv("env.show", "--url", cwd=shop)
    there = f"postgresql://{db1.user}@/{database}?host={db1.sockets}&port=5432"
    assert done.stdout == f"{there}\n"
    assert f"as {db1.user}@{db1.address} sees it" in done.stderr
    said = json.loads(inv("env.show", "--url", "--json", cwd=shop).stdout)
    assert (said["url"], said["ssh"]) == (there, f"{db1.user}@{db1.address}")
    monkeypatch.setenv("PGTASKS_ROOT", str(shop))
    assert pgtasks.get_database_url("dev") == there
    rows = inv("env.show", cwd=shop).stdout.splitlines()
    assert [row.split()[0] for row in rows if row.startswith("ssh.")][:2] == [
        "ssh.host",
        "ssh.port",
    ]


def test_the_embedded_server_is_of_this_machine(inv: Inv, shop: Path, db1: DatabaseHost) -> None:
    write(shop, ssh=db1.place(), server="embedded")
    for argv in (["db.check"], ["setup", "--dry"], ["server.start"], ["env.show"]):
        done = inv(*argv, cwd=shop)
        assert done.returncode == 3
        assert "embedded, which runs on this machine only: keep one" in done.stderr
    assert not (shop / ".pgtasks").exists()


def test_a_shell_on_a_protected_database_reads(
    inv: Inv, shop: Path, db1: DatabaseHost, database: str
) -> None:
    assert inv("env.stamp", cwd=shop).returncode == 0
    write(shop, **db1.settings(database=database, protected=True))
    refused = inv("db.shell", cwd=shop, input="CREATE TABLE t ();\n")
    assert "cannot execute CREATE TABLE in a read-only transaction" in refused.stderr
    argv = ["db.shell", "--write", "--confirm", database]
    assert inv(*argv, cwd=shop, input="CREATE TABLE t ();\n").returncode == 0
    assert db1.cluster.value("SELECT to_regclass('t')", database) == "t"


def test_an_env_py_that_makes_its_own_engine(
    inv: Inv, shop: Path, db1: DatabaseHost, database: str, cluster: Cluster
) -> None:
    versions = shop / "migrations" / "versions"
    versions.mkdir(parents=True)
    (shop / "migrations" / "env.py").write_text(OWN_ENGINE)
    (versions / "1.py").write_text(REVISION)
    elsewhere = {"DATABASE_URL": cluster.url()}
    done = inv("migrate.up", cwd=shop, env=elsewhere)
    assert done.returncode == 0, done.stderr
    assert db1.cluster.value("SELECT to_regclass('migrated')", database) == "migrated"
    assert cluster.value("SELECT to_regclass('migrated')") is None
    done = inv("migrate.down", "--confirm", database, cwd=shop, env=elsewhere)
    assert done.returncode == 0, done.stderr
    assert db1.cluster.value("SELECT to_regclass('migrated')", database) is None


# --- a password, and TLS to the server's real name ----------------------------------------------


@pytest.fixture(scope="module")
def vault(network: Network, tmp_path_factory: pytest.TempPathFactory) -> DatabaseHost:
    """Return a host whose server wants a password, by TLS on 127.0.0.1 there, or on its socket."""
    if network.lacks:
        pytest.skip(f"needs a machine of its own: {network.lacks}")
    host = network.database(
        "vault",
        settings={"listen_addresses": "127.0.0.1"},
        hba=f"local all {ROLE} scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256",
    )
    folder = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    argv += ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")]
    subprocess.run(argv, check=True, capture_output=True)
    for name in ("server.key", "server.crt"):
        host.path(f"{_DATA}/{name}").write_bytes((folder / name).read_bytes())
        host.do("chown", "postgres", f"{_DATA}/{name}")
        host.do("chmod", "600", f"{_DATA}/{name}")
    role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
    host.cluster.execute(role.format(sql.Identifier(ROLE), sql.Literal(PASSWORD)))
    host.cluster.execute("ALTER SYSTEM SET ssl = on")
    host.cluster.execute("SELECT pg_reload_conf()")
    until(lambda: host.cluster.value("SHOW ssl") == "on", lambda: "no TLS")
    (host.machine.folder / "root.crt").write_bytes((folder / "server.crt").read_bytes())
    host.cluster.create("guarded", owner=ROLE)
    return host


@pytest.fixture
def guarded(vault: DatabaseHost, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return what makes a project on that host; the password is in ~/.pgpass by its real place."""

    def make(**settings: Any) -> Path:
        root = make_project(tmp_path / "shop", "")
        said = {**vault.settings(database="guarded", user=ROLE), **settings}
        write(root, **said)
        path = Path.home() / ".pgpass"
        secret = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        path.write_text(f"{said['host']}:5432:guarded:{ROLE}:{secret}\n", encoding="utf-8")
        path.chmod(0o600)
        return root

    yield make
    vault.cluster.execute("DROP TABLE IF EXISTS made", "guarded")


def used(root: Path, inv: Inv) -> None:
    """Let all who connect do so: psycopg2, psql here, pg_dump and pg_restore there."""
    (root / "make.sql").write_text("CREATE TABLE made AS SELECT 1 AS one;\n")
    run = ["db.run", "--file", "make.sql"]
    for argv in (["env.stamp"], run, ["db.backup"], ["db.restore"], ["db.forget", "--yes"]):
        done = inv(*argv, cwd=root)
        assert done.returncode == 0, done.stderr


def test_a_password_file_names_the_real_place(
    inv: Inv, guarded: Callable[..., Path], vault: DatabaseHost
) -> None:
    root = guarded()
    used(root, inv)
    assert vault.cluster.value("SELECT one FROM made", "guarded") == 1
    (Path.home() / ".pgpass").unlink()
    refused = inv("db.check", cwd=root)
    assert (refused.returncode, "the server requires a password" in refused.stderr) == (2, True)


def test_tls_is_verified_against_the_real_name(
    inv: Inv, guarded: Callable[..., Path], vault: DatabaseHost
) -> None:
    if not system_bins():
        pytest.skip("the psql of the wheel has no TLS")
    tls = {"sslmode": "verify-full", "sslrootcert": str(vault.machine.folder / "root.crt")}
    root = guarded(host="localhost", **tls)
    used(root, inv)
    assert vault.cluster.value("SELECT one FROM made", "guarded") == 1
    (root / "tls.sql").write_text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n")
    assert " t\n" in inv("db.run", "--file", "tls.sql", cwd=root).stdout
    steps = {
        name: text for name, _, text in taken(inv("db.check", "--verbose", "--json", cwd=root))
    }
    assert steps["answer"] == "a PostgreSQL server with TLS, sslmode is verify-full"


def test_a_server_of_another_name_is_refused(
    inv: Inv, guarded: Callable[..., Path], vault: DatabaseHost
) -> None:
    tls = {"sslmode": "verify-full", "sslrootcert": str(vault.machine.folder / "root.crt")}
    done = inv("db.check", cwd=guarded(host="127.0.0.1", **tls))
    assert done.returncode == 4
    assert 'does not match host name "127.0.0.1"' in done.stderr
