"""A password leaves its place towards libpq alone: looked for in all that runs start and write."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest
import servers
from projects import make_project, put_stamp
from servers import Cluster
from waiting import until
from watching import INV, SECRET, TOKEN, Watched, watched

PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "vacuumdb")
RECORDER = """#!/bin/sh
{{ printf '<%s>' "$0" "$@"; echo; env; }} >>{log}
exec {real} "$@"
"""


# --- what a run starts ---------------------------------------------------------------------------


# --- where a password may stand ------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """A project beside a server that wants a password, and the tools that are recorded."""

    project: Path
    home: Path
    temporary: Path
    record: Path
    cluster: Cluster
    database: str
    host: str
    secret: str = SECRET

    @property
    def bare(self) -> str:
        """The URL without the password."""
        return self.url.replace(f":{quote(self.secret, safe='')}@", "@")

    @property
    def url(self) -> str:
        login = f"{self.cluster.superuser}:{quote(self.secret, safe='')}"
        if self.host.startswith("/"):
            where = f"host={self.host}&port={self.cluster.port}"
            return f"postgresql://{login}@/{self.database}?{where}"
        return f"postgresql://{login}@{self.host}:{self.cluster.tcp_port}/{self.database}"

    def settings(self, **settings: str) -> None:
        settings = {"tools": str(self.record.parent / "bin"), **settings}
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
        (self.project / "env" / "dev.yaml").write_text("".join(lines), encoding="utf-8")

    def secret_file(self, path: Path, text: str) -> Path:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        return path

    def inv(self, *args: str, env: dict[str, str] | None = None, text: str = "") -> Watched:
        place = {"HOME": str(self.home), "TMPDIR": str(self.temporary), **(env or {})}
        return watched([str(INV), *args], self.project, place, text)

    def written(self, *but: Path) -> list[str]:
        """Return the files below project, home and TMPDIR that hold the token."""
        folders = (self.project, self.home, self.temporary, self.record.parent)
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return [
            str(path) for path in files if path not in but and TOKEN.encode() in path.read_bytes()
        ]


def _pgpass(site: Site) -> str:
    fields = (site.cluster.superuser, site.secret.replace("\\", "\\\\").replace(":", "\\:"))
    return f"*:*:*:{':'.join(fields)}\n"


def in_dotenv(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    site.settings()
    return {}, (site.secret_file(site.project / "env" / "dev.env", f"DATABASE_URL='{site.url}'"),)


def in_yaml(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    site.settings(url=site.url)
    return {}, (site.project / "env" / "dev.yaml",)


def in_a_variable(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    site.settings()
    return {"DEV_DATABASE_URL": site.url}, ()


def in_invokes_variable(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    site.settings()
    return {"INVOKE_PGTASKS_ENVIRONMENTS_DEV_URL": site.url}, ()


def in_a_program(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    secret = site.secret_file(site.home / "secret", site.secret)
    site.settings(url=site.bare, password_command=f"cat {shlex.quote(str(secret))}")
    return {}, (secret,)


def in_a_passfile(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    passfile = site.secret_file(site.home / "of the server", _pgpass(site))
    site.settings(url=site.bare, passfile=str(passfile))
    return {}, (passfile,)


def in_pgpass(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    site.settings(url=site.bare)
    return {}, (site.secret_file(site.home / ".pgpass", _pgpass(site)),)


def in_a_service(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    port = site.cluster.port if site.host.startswith("/") else site.cluster.tcp_port
    text = (
        f"[shop]\nhost={site.host}\nport={port}\ndbname={site.database}\n"
        f"user={site.cluster.superuser}\npassword={site.secret}\n"
    )
    site.settings(service="shop")
    return {}, (site.secret_file(site.home / ".pg_service.conf", text),)


def in_libpqs_variable(site: Site) -> tuple[dict[str, str], tuple[Path, ...]]:
    # fills an environment that names no place; `dev` would be the embedded server then
    (site.project / "env" / "dev.yaml").unlink(missing_ok=True)
    (site.project / "env" / "local.yaml").write_text(
        f"tools: {json.dumps(str(site.record.parent / 'bin'))}\n"
    )
    place = {"PGHOST": site.host, "PGUSER": site.cluster.superuser, "PGDATABASE": site.database}
    port = site.cluster.port if site.host.startswith("/") else site.cluster.tcp_port
    return {**place, "PGPORT": str(port), "PGPASSWORD": site.secret, "PGTASKS_ENV": "local"}, ()


PLACES = (
    *(in_dotenv, in_yaml, in_a_variable, in_invokes_variable, in_a_program, in_a_passfile),
    *(in_pgpass, in_a_service, in_libpqs_variable),
)


@pytest.fixture(scope="module")
def guarded_cluster() -> Iterator[Cluster]:
    """A server that wants SECRET: the system's on 127.0.0.1, else the wheel's on its socket."""
    found = {major: bin for major, bin in servers.system_bins().items() if 14 <= major <= 18}
    bin = found[max(found)] if found else servers.wheel_bin(16)
    with servers.running(bin, password=SECRET, tcp=True) as running:
        yield running


@pytest.fixture
def site(guarded_cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    tcp = guarded_cluster.bin.is_relative_to("/usr")  # the wheel's tools serve sockets only
    database = guarded_cluster.create()
    guarded_cluster.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS a", database)
    put_stamp(guarded_cluster.target(database))
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    record = tools / "record"
    for name in PROGRAMS:
        real, log = guarded_cluster.bin / name, shlex.quote(str(record))
        wrapper = tools / "bin" / name
        wrapper.write_text(RECORDER.format(log=log, real=shlex.quote(str(real))))
        wrapper.chmod(0o755)
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    yield Site(
        project=make_project(tmp_path / "shop", "postgresql:///x"),
        home=tmp_path / "home",
        temporary=tmp_path / "tmp",
        record=record,
        cluster=guarded_cluster,
        database=database,
        host="127.0.0.1" if tcp else guarded_cluster.host,
    )
    guarded_cluster.drop(database)


def clean(run: Watched, code: int = 0) -> Watched:
    """Check that a run ended as it should and let nothing out."""
    assert run.code == code, run.said
    assert run.leaks() == []
    return run


# --- the tests -----------------------------------------------------------------------------------


def test_the_watch_sees_what_leaks(tmp_path: Path) -> None:
    half = len(TOKEN) // 2  # in two halves, so that the shell's own argv is clean
    script = f"""t={TOKEN[:half]}''{TOKEN[half:]}
        sh -c 'sleep 0.3; : $0' $t & LEAK=$t sleep 0.3; wait"""
    run = watched(["/bin/sh", "-c", script], tmp_path, {})
    assert {leak.partition(" ")[0] for leak in run.leaks()} == {"argv", "variables"}
    assert watched(["/bin/echo", TOKEN], tmp_path, {}).leaks()[0] == "output"


@pytest.mark.parametrize("place", PLACES)
def test_a_password_stays_where_it_is(site: Site, place: object) -> None:
    env, where = place(site)  # type: ignore[operator]
    name = "local" if place is in_libpqs_variable else "dev"
    if name == "local":
        put_stamp(site.cluster.target(site.database, environment="local"))
    (site.project / "bad.sql").write_text("SELECT 1;\nSELECT nope;\n")

    clean(site.inv("db.check", "--verbose", env=env))
    clean(site.inv("verify.connection", "-v", env=env))
    clean(site.inv("env.show", "--json", env=env))
    clean(site.inv("db.run", "--file", "bad.sql", env=env), code=1)
    clean(site.inv("db.backup", "--json", env=env))

    assert site.written(*where) == []
    assert list(site.temporary.iterdir()) == []  # no password file is left
    recorded = site.record.read_text("utf-8", "replace")
    assert {"/psql>", "/pg_dump>"} <= {word for word in ("/psql>", "/pg_dump>") if word in recorded}
    assert "PGPASSFILE=" in recorded or place is in_pgpass
    assert "PGPASSWORD" not in recorded
    assert "DATABASE_URL" not in recorded


def test_every_task_keeps_it(site: Site) -> None:
    _, where = in_dotenv(site)
    (site.project / "good.sql").write_text("SELECT current_user;\n")
    tasks = (
        *("db.check", "db.check --json", "db.create", "db.run --file good.sql"),
        *("db.run --file good.sql --dry", "db.backup --dry", "db.backup", "backup.list --json"),
        *("backup.show latest --json", "backup.verify --json", "db.restore --dry --json"),
        *("db.restore --json", "db.undo --json", "db.recover", "db.forget --yes", "db.drop --dry"),
        *("env.show", "env.show --url", "env.list --json", "env.status --json", "env.stamp --json"),
        *("journal.list --json", "env.show --url --json"),
    )
    started: set[str] = set()
    for task in tasks:
        started |= clean(site.inv(*task.split())).programs()
    clean(site.inv("db.shell", text="SELECT 1;"))
    run = site.inv("env.check")
    assert run.leaks() == []
    assert {"pg_dump", "pg_restore", "psql"} <= started  # the watch saw them at work
    assert site.written(*where) == []
    assert list(site.temporary.iterdir()) == []
    assert "pg_restore>" in site.record.read_text("utf-8", "replace")


def test_reveal_is_the_one_way_to_see_it(site: Site) -> None:
    in_dotenv(site)
    shown = site.inv("env.show", "--url", "--reveal")
    assert (shown.code, TOKEN in shown.said) == (0, True)


def test_a_password_file_that_a_killed_run_left_goes_with_the_next_run(site: Site) -> None:
    in_dotenv(site)
    (site.project / "nap.sql").write_text("SELECT pg_sleep(600);\n")
    (site.project / "a.sql").write_text("SELECT 1;\n")
    env = {**os.environ, "HOME": str(site.home), "TMPDIR": str(site.temporary)}
    argv = [str(INV), "db.run", "--file", "nap.sql"]
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'"
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, cwd=site.project, env=env, stdout=quiet, stderr=quiet) as process:
        until(lambda: site.cluster.value(asleep))
        process.kill()
    (left,) = site.temporary.glob("*.pgpass")
    assert left.stat().st_mode & 0o777 == 0o600
    clean(site.inv("db.run", "--file", "a.sql"))
    assert list(site.temporary.iterdir()) == []


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_password_is_not_shown_either(site: Site, place: object) -> None:
    site = replace(site, secret=f"wrong {SECRET}")
    env, where = place(site)  # type: ignore[operator]
    clean(site.inv("verify.connection", "-v", "--json", env=env), code=4)
    run = clean(site.inv("db.check", "--verbose", "--json", env=env), code=4)
    assert "password authentication failed" in run.said
    assert site.written(*where) == []


def test_feature_checks_show_no_password(site: Site) -> None:
    env, where = in_dotenv(site)
    checked = clean(site.inv("verify.all", "--json", env=env))
    assert '"check": "a wrong password is refused",\n      "result": "passed"' in checked.said
    assert site.written(*where) == []


def test_a_wrong_password_stops_each_task_and_is_not_shown(site: Site) -> None:
    site = replace(site, secret=f"wrong {SECRET}")
    _, where = in_dotenv(site)
    (site.project / "a.sql").write_text("SELECT 1;\n")
    for task in ("db.check", "db.backup --json", "db.run --file a.sql", "db.restore", "db.drop"):
        clean(site.inv(*task.split()), code=4)
    assert site.written(*where) == []
