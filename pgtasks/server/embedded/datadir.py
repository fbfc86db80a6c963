"""Create a data folder with initdb under a temporary name, and rename it when complete."""

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
OWNER = EMBEDDED_ROLE  # a plain role, which owns the databases of the tasks
_MARK = "pgtasks-owner"  # a file in the data folder, which exists if the role does
LONGEST = 950  # bytes of a data folder's path; PostgreSQL truncates above 1024 (MAXPGPATH)
# C is everywhere; C.UTF-8 sorts the same and knows letters outside ASCII
LOCALES = ("C.UTF-8", "C")
# No CREATEROLE: below PostgreSQL 16 it leads to pg_execute_server_program, which runs commands.
_ROLES = f"""
CREATE ROLE {OWNER} LOGIN CREATEDB;
GRANT pg_signal_backend, pg_read_all_settings, pg_read_all_stats TO {OWNER};
"""
# Defaults of a development server, written once and the user's from then on.
SETTINGS = """
# Added by pgtasks when it created this data folder. You can edit it: it is not written again.
# Port, socket folder and listen_addresses are given on the command line.
shared_buffers = 128MB
log_line_prefix = '%m [%p] %q%u@%d %a '
log_checkpoints = off
log_min_duration_statement = -1
"""


def environment(programs: Path) -> dict[str, str]:
    """Return the variables of initdb and the server, without the user's and PG* variables."""
    path = os.pathsep.join([str(programs), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "LANG": "C.UTF-8", "LC_MESSAGES": "C"}


def initdb_argv(programs: Path, data: Path, locale: str) -> list[str]:
    """Return the command that creates a data folder.

    Trust is safe: the socket is in a folder that only the server's account can enter, and no port
    is opened. Without an explicit encoding initdb would choose SQL_ASCII under LC_ALL=C.
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
    """Create a data folder with the first locale that this system has."""
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
    """Return the error line of a PostgreSQL program, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    worst = (
        line
        for line in lines
        if any(severity in line for severity in ("PANIC:", "FATAL:", "error:"))
    )
    return next(worst, lines[-1] if lines else "no reason given")


def _add_roles(programs: Path, making: Path, account: Account) -> str:
    """Create the plain role in single-user mode; return the error, empty if there is none.

    This is done before the folder gets its name, so that a data folder always has its roles.
    """
    argv = [str(programs / "postgres"), "--single", "-D", str(making), "template1"]
    # its exit code is 0 after an error too, and it prints other messages besides errors
    stderr = _run(argv, making.parent, account, text=_ROLES)
    faults = [line for line in stderr.splitlines() if re.search(r"\b(ERROR|FATAL|PANIC):", line)]
    return "\n".join(faults)


def role(data: Path) -> str:
    """Return the role that environments connect as, the superuser without the mark.

    A folder without it comes from an earlier version, and the superuser owns its databases.
    """
    try:
        (data / _MARK).lstat()
    except FileNotFoundError:
        return SUPERUSER if data.is_dir() else OWNER
    except OSError:
        pass  # another account's data folder: using it fails with a message
    return OWNER


def _run(argv: list[str], folder: Path, account: Account, *, text: str = "") -> str:
    """Run initdb or postgres; return its error messages, empty if it succeeded.

    With `text` for its stdin, return all of its messages.
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
    return stderr or f"FATAL: exit code {done.returncode}"


def _finish(making: Path, data: Path) -> None:
    with (making / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    plainfile.replace(making, _MARK, f"{OWNER}\n".encode(), mode=0o644)  # the server reads it too
    making.rename(data)


def check_path(data: Path) -> None:
    """Raise Failed for a path that PostgreSQL would truncate, or that breaks its pid file."""
    project = str(data.parent.parent)
    if "\n" in project:
        raise Failed(f"PostgreSQL does not allow a line break in a path, rename {project!r}")
    length = len(os.fsencode(data))
    if length > LONGEST:
        raise Failed(
            f"the data folder's path has {length} bytes, PostgreSQL allows {LONGEST}: "
            f"move the project to a shorter path than {project!r}"
        )


def sweep(data: Path) -> None:
    """Delete the folders of killed initdb processes."""
    for old in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(old, ignore_errors=True)


def hand_over(data: Path, account: Account) -> None:
    """Make a copied data folder usable again: `cp -r` by root changes its owner."""
    status = data.stat()
    if account.other and status.st_uid != account.uid:
        account.take_tree(data.resolve())
    if status.st_mode & 0o027:
        data.chmod(0o700)  # PostgreSQL accepts only 0700 and 0750
