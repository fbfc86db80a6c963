"""The main job from end to end, on a PostgreSQL of its own: `make demo`.

Each step is a command that a user would type, run as it would be typed. The environment is `demo`;
`dev` is never touched. Run again, it starts from what is there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from pgtasks.database import replaced, side
from pgtasks.database.drop import drop
from pgtasks.errors import PgtasksError, Refused
from pgtasks.host import journal
from pgtasks.report import typed as told
from pgtasks.server import connection, embedded
from pgtasks.server.reach import reach
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load
from pgtasks.settings.target import from_environment

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "demo"
_INV = Path(sys.executable).parent / "inv"

STORY = (
    ("the server comes up, with nothing of a last run kept", "server.start"),
    ("schema, triggers and data go in, and are checked", "setup"),
    ("a backup is taken, with the proof of its content", "db.backup --note demo"),
    ("the data is damaged: a table dropped, rows gone", "db.run --file clinic/damage.sql"),
    ("a restore builds a copy, proves it and swaps it in", "db.restore"),
    ("the restore is undone: the damage is back", "db.undo"),
    ("the undo is undone: the content is back", "db.undo"),
)
NEXT = ("backup.list --env demo", "db.check --env demo", "db.restore --env demo --dry")


def main() -> int:
    """Run the story, or with --clean remove what it made; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m clinic.demo", description=__doc__)
    parser.add_argument("--clean", action="store_true", help="remove what the demo made")
    if parser.parse_args().clean:
        try:
            return clean()
        except PgtasksError as exc:
            print(f"error: {exc.message}", file=sys.stderr)
            return exc.exit_code
    for number, (title, task) in enumerate(STORY, 1):
        print(f"\n{number}. {title}", flush=True)
        if code := typed(task):
            print(f"\nthe demo stopped at step {number}", file=sys.stderr)
            return code
        if number == 1:
            forget_the_last_run()
    print_end()
    return 0


def typed(task: str) -> int:
    """Run one task as a user would, its output as it comes; return its exit code."""
    words = [*task.split(), "--env", ENVIRONMENT]
    print(f"   $ inv {' '.join(words)}", flush=True)
    process = subprocess.Popen(
        [_INV, *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout
    for line in process.stdout:
        print(f"     {line}", end="", flush=True)
    return process.wait()


def forget_the_last_run() -> None:
    """Drop the database that a last run kept, so that runs do not pile up."""
    subprocess.run(
        [_INV, "db.forget", "--yes", "--env", ENVIRONMENT],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,  # on the first run there is nothing to drop
    )


def print_end() -> None:
    """Print what the journal holds of this run, and what to try next."""
    entries, _ = journal.read(ROOT / "backups")
    own = [entry for entry in entries if entry.environment == ENVIRONMENT]
    restored = next(entry for entry in reversed(own) if entry.task == "db.restore")
    undone = next(entry for entry in reversed(own) if entry.task == "db.undo")
    took = round(undone.details["swap_seconds"] * 1000)
    print(f"\n{restored.details['sentence']}, undone in {took} ms")
    print("try next:")
    for task in NEXT:
        print(f"  .venv/bin/inv {task}")


def clean() -> int:
    """Remove the demo's databases and backups, and the server where nothing else lives on it.

    Raises Refused while somebody has a session on the server, as `make web` and psql do.
    """
    if (server := embedded.status(ROOT)) is not None:
        if server.pid and (used := _sessions()):
            raise Refused(
                f"the server has sessions of others, and stays with .venv: {', '.join(used)}: end "
                "what has them (make web: Ctrl-C), or stop the server with "
                f"{told.inv('server.stop')}"
            )
        try:
            others = drop_the_demos()
        finally:
            embedded.stop(ROOT)
        majors = [f"PostgreSQL {server.major}" for server in embedded.servers(ROOT)]
        others += majors if len(majors) > 1 else []
        if others:
            print(f"the server is stopped; its data stays, because of {', '.join(others)}")
        else:
            embedded.remove(ROOT)
    shutil.rmtree(ROOT / "backups" / ENVIRONMENT, ignore_errors=True)
    return 0


def _sessions() -> list[str]:
    """Return the sessions of others on the running server, by database."""
    with closing(reach(from_environment(resolve(load(ROOT), ENVIRONMENT)), ROOT)) as reached:
        target = reached.target
    with connection.session(target.at(target.maintenance), purpose="demo") as conn:
        names = connection.rows(conn, "SELECT datname FROM pg_database ORDER BY 1", into=tuple[str])
        found = [(name, replaced.look(conn, name)) for (name,) in names]
    return [
        f"{', '.join(map(str, database.sessions))} in {name!r}"
        for name, database in found
        if database and database.sessions
    ]


def drop_the_demos() -> list[str]:
    """Drop the demo's databases on the server, started for it; return those that are left."""
    with closing(reach(from_environment(resolve(load(ROOT), ENVIRONMENT)), ROOT)) as reached:
        target = reached.target
    with connection.session(target.at(target.maintenance), purpose="demo") as conn:
        ours = [found.name for found in side.find(conn, target) if not found.alone]
        for name in [target.database, *ours]:
            drop(conn, target, name)
        return [
            name
            for (name,) in connection.rows(
                conn,
                "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> %s"
                " ORDER BY 1",
                (target.maintenance,),
            )
        ]


if __name__ == "__main__":
    sys.exit(main())
