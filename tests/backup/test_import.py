"""Imports: a dump of anybody becomes a backup with a proof, a stray backup comes home."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from halting import halted, unlocked
from restores import fill, rows, save, sides
from servers import Cluster
from waiting import until

from backups import processes_with
from pgtasks.backup.drill.place import LOGIN, SUPERUSER
from pgtasks.host import tempfiles
from pgtasks.report import boundaries

Inv = Callable[..., Any]
OLD = 1_700_000_000


def dumped(cluster: Cluster, database: str, path: Path, *flags: str) -> Path:
    """Make a dump with pg_dump, of some time ago."""
    place = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser}
    argv = [cluster.bin / "pg_dump", f"--file={path}", *flags, database]
    subprocess.run(argv, env={**os.environ, **place}, check=True)
    os.utime(path, (OLD, OLD))
    return path


@pytest.mark.parametrize("flags", [[], ["-Ft"]], ids=["plain", "tar"])
def test_a_dump_becomes_a_backup(
    flags: list[str],
    cluster: Cluster,
    database: str,
    plain_owner: str,
    project: Path,
    tmp_path: Path,
    inv: Inv,
) -> None:
    fill(cluster, database)
    path = dumped(cluster, database, tmp_path / "given", *flags)
    before = cluster.databases()
    planned = inv("backup.import", str(path), "--dry")
    assert planned.returncode == 0, planned.stderr
    assert not list(project.glob("backups/*/*/*"))
    done = inv("backup.import", str(path), "--note", "old box", "--json")
    assert done.returncode == 0, done.stderr
    assert cluster.databases() == before  # nothing of it ran there
    made = json.loads(done.stdout)
    assert (made["environment"], made["database"]) == ("dev", database)
    assert (made["rows"], made["note"]) == (2000, "imported from dump given; old box")
    assert (made["newest"], made["newest_other"]) == (True, None)
    assert made["snapshot_time"] == "2023-11-14T22:13:20Z"
    assert any("values of the rows" in line for line in made["not_proven"])
    assert not list(project.glob("backups/dev/*/.*"))
    assert inv("backup.verify").returncode == 0
    cluster.execute('DROP TABLE "odd schema"."it\'s 🐘"', database)
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {plain_owner}')
    restored = inv("db.restore", "--no-owner")
    assert restored.returncode == 0, restored.stderr
    assert "2 of 2 tables identical, 2,000 rows" in restored.stdout
    assert "backup.import made this backup of a dump that somebody else made" in restored.stderr
    assert rows(cluster, database) == 1000
    found = inv("journal.list", "--json")
    assert "backup.import" in found.stdout


def test_owners_of_a_dump_are_kept(
    cluster: Cluster, database: str, plain_owner: str, project: Path, tmp_path: Path, inv: Inv
) -> None:
    cluster.execute(
        f"CREATE TABLE t (n int); ALTER TABLE t OWNER TO {plain_owner};"
        f"CREATE TABLE u (n int); GRANT SELECT ON u TO {plain_owner}",
        database,
    )
    path = dumped(cluster, database, tmp_path / "given.sql")
    done = inv("backup.import", str(path))
    assert done.returncode == 0, done.stderr
    (made,) = project.glob(f"backups/dev/{database}/*/dump*")
    toc = subprocess.run(
        [cluster.bin / "pg_restore", "--list", made], capture_output=True, text=True, check=True
    ).stdout
    assert f"TABLE public t {plain_owner}" in toc
    assert "TABLE public u postgres" in toc
    assert "ACL public TABLE u postgres" in toc
    assert not (made.parent / "globals.sql").exists()  # those of a throw-away server


def test_an_older_dump_is_not_the_newest_backup(
    cluster: Cluster, database: str, project: Path, tmp_path: Path, inv: Inv
) -> None:
    fill(cluster, database)
    path = dumped(cluster, database, tmp_path / "given.sql")
    newest = Path(save(project)).name
    done = inv("backup.import", str(path))
    assert done.returncode == 0, done.stderr
    assert "taken 2023-11-14T22:13:20Z, which is the time of the file" in done.stdout
    assert f"the newest of dev/{database} stays {newest}" in done.stdout
    assert inv("backup.show", "latest").stdout.split()[1] == newest
    os.utime(path)
    done = inv("backup.import", str(path))
    made = json.loads(inv("backup.list", "--json").stdout)["backups"][0]["id"]
    assert f"it is now the newest of dev/{database}" in done.stdout
    assert f"takes it by default; before, that was {newest}" in done.stdout
    assert inv("backup.show", "latest").stdout.split()[1] == made != newest


def test_a_cut_or_hostile_dump_leaves_nothing(
    cluster: Cluster, database: str, project: Path, tmp_path: Path, inv: Inv
) -> None:
    fill(cluster, database)
    whole = dumped(cluster, database, tmp_path / "given.sql").read_bytes()
    cut, hostile = tmp_path / "cut.gz", tmp_path / "hostile.sql"
    cut.write_bytes(gzip.compress(whole)[:-20])
    hostile.write_text("CREATE TABLE t (n int);\n\\! touch pwned\nCOMMENT ON DATABASE x IS 'y';\n")
    for path, code in ((cut, 5), (hostile, 2), (tmp_path / "nothing", 2)):
        done = inv("backup.import", str(path))
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()[-1]) < 400
        assert not list(project.glob("backups/*/*/*"))
    done = inv("backup.import", str(hostile), "--leave-out", "\\!")
    assert done.returncode == 0, done.stderr
    assert "not applied: COMMENT ON DATABASE, of the database itself" in done.stdout
    assert "not proven: COMMENT" not in done.stdout


def test_a_dump_that_names_the_superuser_of_the_server_gets_none_of_its_rights(
    project: Path, tmp_path: Path, inv: Inv
) -> None:
    mark, path = Path("/tmp") / f"imported-{os.getpid()}", tmp_path / "given.sql"
    path.write_text(f"""
-- PostgreSQL database dump
-- Name: s; Type: SCHEMA; Schema: -; Owner: {SUPERUSER}
CREATE SCHEMA s;
-- Name: t; Type: TABLE; Schema: s; Owner: {LOGIN}
CREATE TABLE s.t (n int);
DO $$ BEGIN
SET ROLE {SUPERUSER};
COPY (SELECT 1) TO PROGRAM 'touch {mark}';
EXCEPTION WHEN insufficient_privilege THEN
END $$;
-- PostgreSQL database dump complete
""")
    done = inv("backup.import", str(path))
    assert done.returncode == 0, done.stderr
    assert f"role '{SUPERUSER}' owns objects" in done.stdout
    assert not mark.exists()


@pytest.mark.parametrize("step", [*boundaries.IMPORT, "backup.begun", "backup.written"])
def test_a_killed_import_leaves_nothing_listed(
    step: str,
    cluster: Cluster,
    database: str,
    project: Path,
    tmp_path: Path,
    start_inv: Any,
    inv: Inv,
) -> None:
    fill(cluster, database)
    path = dumped(cluster, database, tmp_path / "given.sql")
    process = halted(start_inv, step, "backup.import", str(path))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    listed = json.loads(inv("backup.list", "--json").stdout)
    assert listed["backups"] == []
    assert sides(cluster, database) == []
    # its server ends by itself, and writes into the folder that the next run removes until then
    until(lambda: processes_with(f"pgtasks-run-{process.pid}-") == [])
    done = unlocked(inv, "backup.import", str(path))
    assert done.returncode == 0, done.stderr
    listed = json.loads(inv("backup.list", "--json").stdout)["backups"]
    # one whose files were all written is completed by the next run
    assert len(listed) == (2 if step == "backup.written" else 1)
    assert inv("backup.verify").returncode == 0
    assert not tempfiles.left(os.environ["TMPDIR"])


def test_a_backup_of_a_lost_machine_comes_home(
    cluster: Cluster, database: str, project: Path, tmp_path: Path, inv: Inv
) -> None:
    fill(cluster, database)
    made = Path(save(project))
    stray = tmp_path / "usb stick" / made.name
    stray.parent.mkdir()
    shutil.move(made, stray)
    said = {"proven": "2026-01-01T00:00:00Z", "proven_by": "somebody"}
    (stray / "checks.json").write_text(json.dumps(said))
    (project / "env" / "other.yaml").write_text("inherits: dev\n")
    damaged = tmp_path / "damaged"
    shutil.copytree(stray, damaged)
    dump = next(path for path in damaged.rglob("*") if path.suffix == ".gz" or "dump." in path.name)
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    refused = inv("backup.import", str(damaged))
    assert refused.returncode == 5, refused.stderr
    assert not made.exists()
    done = inv("backup.import", str(stray), "--env", "other")
    assert done.returncode == 0, done.stderr
    assert "every byte as written" in done.stdout
    assert str(made) in done.stdout  # below its own environment
    assert json.loads((made / "checks.json").read_text()).get("proven") is None
    assert "it is of environment 'dev', as its manifest says, and not of 'other'" in done.stdout
    assert "there was none before" in done.stdout
    again = inv("backup.import", str(stray / "manifest.json"))
    assert "is there already" in again.stdout
    file = made / dump.relative_to(damaged)
    whole = file.read_bytes()
    file.write_bytes(content)
    again = inv("backup.import", str(stray))
    assert again.returncode == 0, again.stderr
    name = file.relative_to(made)
    assert f"replaced a damaged copy, which is in the trash: {name}: its content" in again.stdout
    assert file.read_bytes() == whole
    cluster.execute("DROP TABLE people CASCADE", database)
    assert inv("db.restore").returncode == 0
    assert rows(cluster, database) == 1000
