"""Get a password, and pass it to child processes in a file."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.host import child, tempfiles
from pgtasks.report import CONSOLE
from pgtasks.settings import libpq
from pgtasks.settings.environment import Environment
from pgtasks.settings.secret import Secret, redact
from pgtasks.settings.target import Target

_MOST = 65536  # most bytes that a password_command may print
_LOOK = 0.1  # seconds between checks whether it has ended


def unlocked(target: Target, root: Path | None = None) -> Target:
    """Return the target with the password of its password_command, if it has one.

    The program runs in `root`, the project's folder. Raises BadConfiguration if it fails, and for a
    passfile that libpq would ignore.
    """
    if target.password is None and target.password_command:
        return replace(target, password=_printed(target, root))
    unused = target.password is not None or not target.passfile
    if not unused and (fault := libpq.passfile_fault(Path(target.passfile))):
        raise BadConfiguration(f"environment {target.environment!r}: {fault}")
    return target


def _printed(target: Target, root: Path | None) -> Secret:
    name = (
        f"environment {target.environment!r}: password_command {program(target.password_command)!r}"
    )
    return printed(target.password_command, name, target.password_command_timeout, root)


def printed(
    command: str, name: str, seconds: int, root: Path | None, what: str = "password"
) -> Secret:
    """Return the secret that a program prints; `name` begins an error about it."""
    try:
        argv = shlex.split(command)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child.for_programs(),
            cwd=root,
            start_new_session=True,
        )
    except OSError as exc:
        raise BadConfiguration(f"{name}: {exc.strerror}") from None
    except ValueError as exc:
        raise BadConfiguration(f"{name}: {str(exc).lower()}") from None
    try:
        out, err = _output(process, seconds)
    except TimeoutError:
        raise BadConfiguration(
            f"{name}: no end within {seconds} s (password_command_timeout)"
        ) from None
    finally:
        _end(process)
    if process.returncode != 0 and len(out) < _MOST:
        raise BadConfiguration(f"{name}: exit code {process.returncode}", hint=redact(err.strip()))
    password = out.rstrip("\r\n")
    if not password or "\n" in password or len(out) >= _MOST:
        raise BadConfiguration(
            f"{name}: expected one line with the {what}", hint=redact(err.strip())
        )
    return Secret(password)


def program(command: str) -> str:
    """Return the program of a password_command without its arguments, which may be secret."""
    return next(iter(command.split()), "")


def _output(process: subprocess.Popen[bytes], seconds: float) -> tuple[str, str]:
    """Return the output of a program until it ends or prints too much, raising TimeoutError."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    output = {stream.fileno(): b"" for stream in streams}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and max(map(len, output.values())) < _MOST:
            # a daemon that it started, such as an agent, may keep the pipes open; what the program
            # printed at its end is read all the same
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _LOOK)
            if not ready and ended:
                break
            if time.monotonic() > deadline:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, _MOST)
                output[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
    if max(map(len, output.values())) < _MOST:
        _wait(process, deadline)
    out, err = (text[:_MOST].decode(errors="replace") for text in output.values())
    return out, err


def _wait(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children; other processes may keep its pipes open."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def source(target: Target, environment: Environment) -> str:
    """Return where the password of a target comes from: `from ...`, or `none: ...` and why."""
    if environment.password is not None:
        return f"from {environment.password_layer}"
    if target.password_command:
        return f"from the password_command of {environment.layer('password_command')}"
    path = Path(target.passfile or Path("~/.pgpass").expanduser())
    if not path.exists():
        return f"none: no setting has one, and there is no {path}"
    if fault := libpq.passfile_fault(path):
        return f"none: {fault}"
    text = path.read_text("utf-8", "replace")
    # libpq looks up its default socket folder as localhost; that folder depends on the package
    hosts = (target.host, "localhost") if target.socket else (target.host,)
    rest = (str(target.port), target.maintenance, target.user)
    if not any(libpq.passfile_password(text, (host, *rest)) for host in hosts):
        return f"none: {path} has no line for {':'.join((target.host, *rest))}"
    return f"from {path}"


def asked(target: Target) -> Target:
    """Return the target with a password typed on the terminal, else raise Refused."""
    CONSOLE.require(
        f"{target}: the server requires a password and there is no terminal to ask on: "
        "set password_command, a passfile or the environment's dotenv file"
    )
    try:
        typed = CONSOLE.ask_secret(f"password for {target}: ")
    except EOFError:
        raise Refused(f"{target}: no password was typed") from None
    return replace(target, password=Secret(typed))


@contextmanager
def passfile(target: Target, *, also: Sequence[str] = ()) -> Iterator[str]:
    """Yield the path of a password file for child processes, or None if none is needed.

    It has the password for the target's database, and for those in `also`, on its own server only.
    Only its owner can read the file. It is removed at the end of the block, also after an
    exception; the next run removes that of a killed run.
    """
    if target.password is None:
        yield target.passfile
        return
    handle, path = tempfiles.file(".pgpass")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(passfile_text(target.here(), also))
        yield str(path)
    finally:
        tempfiles.remove(path)


def passfile_text(target: Target, also: Sequence[str]) -> str:
    """Return the content of the password file of a target, with its client address."""
    assert target.password is not None
    return libpq.passfile_text(
        host=target.host,
        port=target.port,
        databases=(target.database, *also),
        user=target.user,
        password=target.password,
    )
