"""What tests of backups share: small databases, backups, restores by hand, tools that interfere."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from consoles import Recorder
from schemas import contents, dump, tool
from servers import Cluster
from waiting import until

from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.format.manifest import Manifest
from pgtasks.backup.format.records import FileRecord
from pgtasks.backup.listing import BackupList, StorePart
from pgtasks.backup.store import filestream, tarstream, tree
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.filestream import Admit, Tell
from pgtasks.backup.store.local import LocalStore
from pgtasks.server import connection, proof
from pgtasks.server.proof.toc import Entry
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

MEDDLER = "meddler"  # the application_name of what interferes with a backup
SHOP = """
CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, total numeric);
INSERT INTO customers (name) SELECT 'customer ' || g FROM generate_series(1, 100) g;
INSERT INTO orders (customer, total) SELECT g % 100 + 1, g * 1.5 FROM generate_series(1, 1000) g;
"""


def local_backup(path: Path, known: Manifest | None = None) -> Backup:
    """Return the backup in a folder of this machine, with its manifest or another one."""
    return Backup(path, known or tree.manifest_in(path), LocalStore(path.parent), str(path))


def listed(backups: Sequence[Backup], **more: Any) -> BackupList:
    """Return the list of some backups of one store."""
    return BackupList([StorePart("here", Contents(backups, **more))])


def unpacked(
    source: IO[bytes],
    folder: Path,
    tell: Tell | None = None,
    *,
    admit: Admit = lambda name, size: None,
) -> dict[str, FileRecord]:
    """Write the files of an archive below a folder, and return their records."""
    records: dict[str, FileRecord] = {}
    files = filestream.admitted(tarstream.unpack(source), admit)
    filestream.laid(folder, filestream.measured(filestream.told(files, tell), records))
    return records


def make(target: Target | Reached, folder: Path, **options: Any) -> Backup:
    """Make a backup, quietly."""
    return said(target, folder, **options)[0]


@dataclass(frozen=True)
class Patient(Recorder):
    """Let who waited for an attempt to end be done before the next one: it would disturb that too.

    They are the sessions of `interfering_tools`.
    """

    target: Target = field(kw_only=True)

    def say(self, line: str = "") -> None:
        """Keep a line, and wait."""
        super().say(line)
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
        with connection.session(self.target.at(self.target.maintenance)) as conn:
            named = (self.target.database, MEDDLER)
            until(lambda: connection.value(conn, query, named, into=int) == 0)


def said(target: Target | Reached, folder: Path, **options: Any) -> tuple[Backup, list[str]]:
    """Make a backup and return it with what was said on the way."""
    is_disturbed = isinstance(target, Target) and target.tools
    console = Patient(target=target) if is_disturbed else Recorder()
    made = create.create(
        target if isinstance(target, Reached) else Reached(target),
        store=LocalStore(folder),
        options=DumpOptions(**options),
        console=console,
    )
    return made, console.lines


def restored(backup: Backup, cluster: Cluster, fresh: Callable[..., str]) -> Target:
    """Restore a backup by hand with pg_restore; return the target of the new database."""
    name = fresh(cluster)
    tool(cluster, "pg_restore", "-e", "-d", name, backup.dump)
    return cluster.target(name)


def differences(backup: Backup, target: Target) -> tuple[str, ...]:
    """Return how a database's rows differ from what a backup's proof says."""
    expected = backup.proof()
    assert expected is not None
    return tuple(map(str, proof.compare(expected, proof.take(target)).differences))


def described(cluster: Cluster, name: str) -> list[Entry]:
    """Return the entries of a database as pg_dump of its server's major describes it."""
    return contents(dump(cluster, name))


def below(folder: Path) -> list[str]:
    """Return the names of all that is below a folder, hidden too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def interfering_tools(folder: Path, cluster: Cluster, before: str = "", locked: str = "") -> Path:
    """Make a folder of tools whose pg_dump runs SQL at an awkward moment; return the folder.

    `before` runs before pg_dump connects, `locked` when it holds its locks (in a session of its
    own, in the background). Both are format strings with the number of the run, from 1.
    """
    folder.mkdir()
    for name in ("pg_dumpall", "pg_restore", "psql"):
        (folder / name).symlink_to(cluster.bin / name)
    script = folder / "pg_dump"
    script.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(f"""
        import os, subprocess, sys, time
        real, count = {str(cluster.bin / "pg_dump")!r}, {str(folder / "count")!r}
        if "--version" in sys.argv:
            os.execv(real, [real, "--version"])
        runs = 1 + (int(open(count).read()) if os.path.exists(count) else 0)
        open(count, "w").write(str(runs))
        env = {{k: v for k, v in os.environ.items() if k != "PGOPTIONS"}}
        env["PGAPPNAME"] = {MEDDLER!r}
        def psql(text):
            argv = [{str(cluster.bin / "psql")!r}, "-Xqc", text.format(runs)]
            return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
        def waiting():
            argv = [{str(cluster.bin / "psql")!r}, "-XqAtc",
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"]
            return subprocess.run(argv, env=env, capture_output=True).stdout.strip() != b"0"
        if {before!r}:
            psql({before!r}).wait()
        dump = subprocess.Popen([real, *sys.argv[1:]], stderr=subprocess.PIPE)
        for line in dump.stderr:
            if {locked!r} and line.startswith(b"pg_dump: reading user-defined functions"):
                meddler = psql({locked!r})
                while meddler.poll() is None and not waiting():
                    time.sleep(0.01)
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
        sys.exit(dump.wait())
        """)
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return folder


def back_up_within(size: int, project: Path) -> subprocess.CompletedProcess[str]:
    """Run a backup none of whose processes may write a larger file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [Path(sys.executable).with_name("inv"), "db.backup"],
        cwd=project,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def once(statement: str) -> str:
    """Return what runs a statement in the first run of `interfering_tools` alone."""
    return f"DO $$ BEGIN IF {{0}} = 1 THEN {statement}; END IF; END $$"


def processes_with(*words: str) -> list[str]:
    """Return the command lines of living processes that hold one of the words, but for our own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if any(word in line for word in words) and state != "Z" and int(entry.name) != os.getpid():
            found.append(line)
    return found
