"""A data folder: made by initdb under a temporary name, and named when it is whole."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pgtasks.errors import Failed
from pgtasks.host import plainfile
from pgtasks.server.embedded.account import Account
from pgtasks.settings.environment import EMBEDDED_ROLE

SUPERUSER = "postgres"
OWNER = EMBEDDED_ROLE  # a plain role: owns what the tasks make, and may nothing outside of it
_MARK = "pgtasks-owner"  # a file in the data folder: its presence says that the role is there
LONGEST = 950  # bytes of a data folder's path; PostgreSQL cuts what exceeds 1024 (MAXPGPATH)
# C is everywhere; C.UTF-8 sorts the same and knows letters outside ASCII
LOCALES = ("C.UTF-8", "C")
# No CREATEROLE: below PostgreSQL 16 it leads to pg_execute_server_program, which runs commands.
_ROLES = f"""
CREATE ROLE {OWNER} LOGIN CREATEDB;
GRANT pg_signal_backend, pg_read_all_settings, pg_read_all_stats TO {OWNER};
"""
# Defaults of a development server, written once and the user's from then on.
SETTINGS = """
# Added by pgtasks when it made this data folder. Edit at will: it is not written again.
# Port, socket folder and listen_addresses are given on the command line.
shared_buffers = 128MB
log_line_prefix = '%m [%p] %q%u@%d %a '
log_checkpoints = off
log_min_duration_statement = -1
"""


def environment(programs: Path) -> dict[str, str]:
    """Return the environment of initdb and the server: nothing of the user's, no PG* variable."""
    path = os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "LANG": "C.UTF-8", "LC_MESSAGES": "C"}


def initdb_argv(programs: Path, data: Path, locale: str) -> list[str]:
    """Return the command that makes a data folder.

    Trust is safe there: the socket lies in a folder that only the server's account can enter, and
    no port is opened. Without an encoding of its own initdb makes SQL_ASCII under LC_ALL=C.
    """
    return [
        str(programs / "initdb"),
        f"--pgdata={data}",
        "--encoding=UTF8",
        f"--locale={locale}",
        f"--username={SUPERUSER}",
        "--auth-local=trust",
        "--auth-host=reject",
        "--no-instructions",
    ]


def make(programs: Path, data: Path, account: Account, *, locales: Sequence[str] = LOCALES) -> None:
    """Make a data folder with the first of the locales that this system has."""
    sweep(data)
    making = data.with_name(f"{data.name}.new-{secrets.token_hex(4)}")
    stderr = ""
    try:
        for locale in locales:
            making.mkdir(mode=0o700)
            account.take(making)
            stderr = _run(initdb_argv(programs, making, locale), making.parent, account)
            stderr = stderr or _add_roles(programs, making, account)
            if not stderr:
                _finish(making, data)
                return
            shutil.rmtree(making, ignore_errors=True)
            if "locale" not in stderr:
                break
    finally:
        shutil.rmtree(making, ignore_errors=True)
    raise Failed(f"initdb could not make {str(data)!r}: {complaint(stderr)}", hint=stderr.strip())


def complaint(stderr: str) -> str:
    """Return the line in which a PostgreSQL program says what is wrong, else its last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    worst = (
        line
        for line in lines
        if any(severity in line for severity in ("PANIC:", "FATAL:", "error:"))
    )
    return next(worst, lines[-1] if lines else "no reason given")


def _add_roles(programs: Path, making: Path, account: Account) -> str:
    """Make the plain role while no server runs; return what went wrong, nothing if nothing did.

    In single-user mode, so that a data folder that has its name has its roles.
    """
    argv = [str(programs / "postgres"), "--single", "-D", str(making), "template1"]
    # it ends with 0 after an error too, and says its errors among other words
    stderr = _run(argv, making.parent, account, text=_ROLES)
    faults = [line for line in stderr.splitlines() if re.search(r"\b(ERROR|FATAL|PANIC):", line)]
    return "\n".join(faults)


def role(data: Path) -> str:
    """Return the role that environments connect as: of a folder without the mark the superuser.

    Such a folder was made before there was a plain role, and its databases belong to the superuser.
    """
    try:
        (data / _MARK).lstat()
    except FileNotFoundError:
        return SUPERUSER if data.is_dir() else OWNER
    except OSError:
        pass  # another account's data folder; whoever uses it is told so
    return OWNER


def _run(argv: list[str], folder: Path, account: Account, *, text: str = "") -> str:
    """Run initdb or postgres; return what it said on its way down, nothing when it succeeded.

    With `text` for its stdin that is all that it said.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environment(Path(argv[0]).parent),
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **account.identity(),
        )
    except OSError as exc:
        return f"{exc.filename or argv[0]}: {exc.strerror}"
    stderr = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return stderr if text else ""
    return stderr or f"FATAL: it ended with status {done.returncode}"


def _finish(making: Path, data: Path) -> None:
    with (making / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    plainfile.replace(making, _MARK, f"{OWNER}\n".encode(), mode=0o644)  # the server reads it too
    making.rename(data)


def check_path(data: Path) -> None:
    """Raise Failed for a path that PostgreSQL would cut, or that its pid file cannot hold."""
    project = str(data.parent.parent)
    if "\n" in project:
        raise Failed(f"PostgreSQL takes no line break in a path, rename {project!r}")
    length = len(os.fsencode(data))
    if length > LONGEST:
        raise Failed(
            f"the data folder's path has {length} bytes, PostgreSQL takes {LONGEST}: "
            f"move the project to a shorter path than {project!r}"
        )


def sweep(data: Path) -> None:
    """Delete what an initdb that was killed left behind."""
    for old in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(old, ignore_errors=True)


def hand_over(data: Path, account: Account) -> None:
    """Make a copied data folder usable again: `cp -r` by root changes its owner."""
    status = data.stat()
    if account.other and status.st_uid != account.uid:
        account.take_tree(data.resolve())
    if status.st_mode & 0o027:
        data.chmod(0o700)  # PostgreSQL takes 0700 and 0750, nothing else
