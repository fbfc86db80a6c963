"""This machine as a host."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgtasks.errors import Failed, PgtasksError
from pgtasks.host import child, installations, orphans, password, tempfiles
from pgtasks.host.base import SHORT, Command, Sink, Source, signal_name
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class LocalHost:
    """This machine."""

    name: str = "this machine"
    lost: str = ""

    @property
    def bundled(self) -> tuple[str, ...]:
        """Return the folders of the tools in the wheel."""
        folders = [folder / "bin" for folder in installations.in_wheel()]
        return tuple(str(folder) for folder in folders if (folder / "pg_dump").exists())

    def start(self, command: Command, *, stdin: Source, stdout: Sink) -> LocalProcess:
        """Start a command in its own session, so that its children can be ended too."""
        try:
            return LocalProcess(
                command,
                command.argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.DEVNULL if stdout is None else stdout,
                stderr=subprocess.PIPE,
                env={**child.for_tools(), **command.env},
                start_new_session=True,
            )
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None

    def capture(self, command: Command, *, seconds: float = 30, most: int = SHORT) -> str:
        """Return the output of a short command; its size is not limited here."""
        try:
            done = subprocess.run(
                command.argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={**child.for_tools(), **command.env},
                timeout=seconds,
                check=False,
            )
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"{command}: no answer within {seconds:g} s") from None
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise Failed(f"{command}: exit code {done.returncode}", hint=words)
        return done.stdout.decode(errors="replace")

    def interact(self, command: Command) -> int:
        """Give the terminal to a command until it ends; Ctrl-C reaches only the command."""
        # a handler, because the child would inherit SIG_IGN
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            env = {**child.for_tools(terminal=True), **command.env}
            with subprocess.Popen(command.argv, env=env) as process:
                try:
                    return process.wait()
                except BaseException:
                    process.send_signal(command.stop)
                    raise
        except OSError as exc:
            raise Failed(f"cannot run {command.argv[0]!r}: {exc.strerror}") from None
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def passfile(self, target: Target, *, also: Sequence[str] = ()) -> Iterator[str]:
        """Write a password file for the length of a block."""
        with password.passfile(target, also=also) as path:
            yield path

    @contextmanager
    def lend(self, content: bytes) -> Iterator[str]:
        """Write a file for the length of a block."""
        handle, path = tempfiles.file(".txt")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            yield str(path)
        finally:
            tempfiles.remove(path)

    def view(self, target: Target) -> Target:
        """Return the target as commands on this machine reach it."""
        return target.here()

    def free_bytes(self, path: str) -> int | None:
        """Return the free bytes of the file system that contains `path`."""
        try:
            return shutil.disk_usage(path).free
        except OSError:
            return None

    def close(self) -> None:
        """Do nothing."""


class LocalProcess(subprocess.Popen[bytes]):
    """A child process in its own process group, which is ended with this process."""

    _ended = False

    def __init__(self, command: Command, *args: Any, **options: Any) -> None:
        self.command = command
        super().__init__(*args, **options)
        orphans.watch(self.pid, command.stop)

    def poll(self) -> int | None:
        """Return the exit code, minus a signal's number, None while it runs."""
        return self._seen(super().poll())

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, raising subprocess.TimeoutExpired."""
        super().wait(timeout)
        self._seen(self.returncode)
        return self.returncode

    def _seen(self, exit_code: int | None) -> int | None:
        if exit_code is not None and not self._ended:
            self._ended = True
            orphans.forget(self.pid)
        return exit_code

    def end(self, sign: signal.Signals) -> None:
        """Signal the process and its children, unless it has ended."""
        if self.poll() is None:
            try:
                os.killpg(self.pid, sign)
                if sign != signal.SIGSTOP:  # a stopped process takes no other signal
                    os.killpg(self.pid, signal.SIGCONT)
            except ProcessLookupError:
                pass  # it ended between the check and the signal

    def failure(self, hint: str) -> PgtasksError:
        """Return the error for a failed process."""
        code = self.returncode
        how = f"exit code {code}" if code > 0 else f"signal {signal_name(-code)}"
        return Failed(f"{self.command} failed: {how}", hint=hint)


HERE = LocalHost()
