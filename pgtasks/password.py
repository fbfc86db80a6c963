"""Where a password comes from, and the file through which child processes get it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks import libpq
from pgtasks.errors import BadConfiguration, Refused
from pgtasks.secret import Secret, redact
from pgtasks.target import Target

COMMAND_SECONDS = 30


def unlocked(target: Target) -> Target:
    """Return the target with what its password_command prints, if it has one."""
    if target.password is None and target.password_command:
        return replace(target, password=_printed(target.password_command, target.environment))
    if target.passfile and (fault := libpq.passfile_fault(Path(target.passfile))):
        raise BadConfiguration(f"environment {target.environment!r}: {fault}")
    return target


def _printed(command: str, environment: str) -> Secret:
    name = f"environment {environment!r}: password_command {redact(command)!r}"
    try:
        argv = shlex.split(command)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_without_urls(os.environ),
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError) as exc:
        raise BadConfiguration(f"{name}: {getattr(exc, 'strerror', None) or exc}") from None
    try:
        out, err = process.communicate(timeout=COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        raise BadConfiguration(f"{name}: no answer within {COMMAND_SECONDS} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        words = err.decode(errors="replace").strip()
        raise BadConfiguration(f"{name}: exit code {process.returncode}", hint=words)
    password = out.decode(errors="replace").rstrip("\r\n")
    if not password or "\n" in password:
        raise BadConfiguration(f"{name}: expected one line with the password")
    return Secret(password)


def _without_urls(environ: Mapping[str, str]) -> dict[str, str]:
    # the program gets no other environment's password with ours
    return {key: value for key, value in environ.items() if not key.endswith("DATABASE_URL")}


def asked(target: Target) -> Target:
    """Return the target with a password typed on the terminal, else raise Refused."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            f"{target}: the server wants a password and there is no terminal to ask on: "
            "set password_command, a passfile or the environment's dotenv file"
        )
    import getpass

    typed = getpass.getpass(f"password for {target}: ", stream=sys.stderr)
    return replace(target, password=Secret(typed))


@contextmanager
def passfile(target: Target) -> Iterator[str]:
    """Yield the path of a password file for child processes, or nothing where none is needed.

    The file is readable by its owner alone and goes with the block, also after an exception;
    what a killed run leaves is removed by the next one (see `sweep`).
    """
    if target.password is None:
        yield target.passfile
        return
    handle, path = tempfile.mkstemp(prefix=f"pgtasks-{os.getpid()}-", suffix=".pgpass")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(libpq.passfile_line(target.user, target.password))
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def sweep() -> None:
    """Remove password files that killed runs of this user left behind."""
    for path in Path(tempfile.gettempdir()).glob("pgtasks-*-*.pgpass"):
        pid = path.name.split("-")[1]
        try:
            if path.stat().st_uid == os.getuid() and not _alive(pid):
                path.unlink()
        except OSError:
            continue  # another run removed it first


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
