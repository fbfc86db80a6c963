from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import open_files, sh
from servers import Cluster, running, system_bins, threads, wheel_bin
from waiting import PATIENCE, until

from pgtasks.errors import Failed, Unreachable
from pgtasks.host import orphans
from pgtasks.host.base import Command
from pgtasks.host.local import LocalHost, LocalProcess
from pgtasks.host.pipeline import Pipeline, run
from pgtasks.server.embedded.port import free_port

HOST = LocalHost()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True, scope="module")
def shell() -> None:
    """Start the one shell of this process before anything counts children and open files."""
    orphans.forget(0)


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_bytes_pass_unchanged(tmp_path: Path) -> None:
    everything = bytes(range(256)) * 40_000
    (tmp_path / "in").write_bytes(everything)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        run(HOST, [sh("cat"), sh("cat"), sh("cat")], stdin=source, stdout=sink)
    assert (tmp_path / "out").read_bytes() == everything


def test_without_a_source_stdin_is_empty(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as sink:
        run(HOST, [sh("cat; echo end")], stdout=sink)
    assert (tmp_path / "out").read_bytes() == b"end\n"


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_names_the_stage_that_failed(guilty: int) -> None:
    stages = [Command(("/bin/cat",)), Command(("/usr/bin/sort",)), Command(("/usr/bin/uniq",))]
    stages[guilty] = sh(f"cat >/dev/null; echo words of {guilty} >&2; exit {guilty + 3}")
    with pytest.raises(Failed) as failure:
        run(HOST, stages)
    assert failure.value.message == f"sh failed: exit code {guilty + 3}"
    assert failure.value.hint == f"words of {guilty}"


def test_no_secret_of_a_statement_that_failed_is_in_the_error() -> None:
    words = "Command was: CREATE USER MAPPING FOR a SERVER s OPTIONS (\n    password 's3cret'\n);"
    with pytest.raises(Failed) as failure:
        run(HOST, [Command(("/bin/sh", "-c", 'echo "$0" >&2; exit 1', words))])
    assert failure.value.hint == "Command was: CREATE USER MAPPING FOR a SERVER s OPTIONS ***"


@pytest.mark.parametrize("bin", sorted(system_bins().values()) or [wheel_bin(16)], ids=str)
@pytest.mark.parametrize("place", ["/nowhere", "127.0.0.1"])
@pytest.mark.parametrize(
    "argv",
    [
        ("pg_dump", "-v", "shop"),
        ("pg_dumpall", "--globals-only"),
        ("pg_restore", "-v", "-d", "shop"),
        ("vacuumdb", "--analyze-only", "shop"),
    ],
    ids=lambda argv: argv[0],
)
def test_a_tool_that_no_server_answers_is_unreachable(
    bin: Path, place: str, argv: tuple[str, ...], tmp_path: Path
) -> None:
    env = {"PGHOST": place, "PGPORT": str(free_port()), "LC_ALL": "C"}
    words = (*argv, str(empty_dump(bin, tmp_path))) if argv[0] == "pg_restore" else argv
    with pytest.raises(Unreachable, match=f"^{argv[0]} failed: connection to server .* failed: "):
        run(HOST, [Command((str(bin / words[0]), *words[1:]), env)])


def empty_dump(bin: Path, folder: Path) -> Path:
    """Return an archive of nothing that pg_restore accepts: it connects before it restores."""
    path = folder / "empty.dump"
    with running(bin) as own:
        run(
            HOST,
            [
                Command(
                    (str(bin / "pg_dump"), "-Fc", "-f", str(path), "postgres"),
                    {"PGHOST": own.host, "PGPORT": str(own.port), "PGUSER": own.superuser},
                )
            ],
        )
    return path


def test_a_server_that_answers_with_an_error_is_reached(cluster: Cluster) -> None:
    env = {"PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser}
    with pytest.raises(Failed, match=r"^pg_dump failed: exit code 1$") as failure:
        run(HOST, [Command((str(cluster.bin / "pg_dump"), "no such"), env)])
    assert 'FATAL:  database "no such" does not exist' in failure.value.hint


def test_blames_the_reader_not_the_writer_it_left() -> None:
    with pytest.raises(Failed, match=r"^sh failed: exit code 7$"):
        run(HOST, [Command(("/usr/bin/yes",)), sh("exit 7")])


def test_blames_the_reader_of_a_shell_that_reports_a_broken_pipe() -> None:
    # what a login shell on another host ends with when its command died of SIGPIPE
    with pytest.raises(Failed, match="exit code 7"):
        run(HOST, [sh("yes | cat; exit 141"), sh("exit 7")])


def test_a_reader_that_stops_early_is_a_failure_too() -> None:
    with pytest.raises(Failed, match=r"^yes failed: signal SIGPIPE$"):
        run(HOST, [Command(("/usr/bin/yes",)), Command(("/usr/bin/head", "-1"))])


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_stage_fails_the_run(victim: int) -> None:
    stages = [Command(("/usr/bin/yes",)), Command(("/bin/cat",)), sh("exec cat >/dev/null")]
    with Pipeline(HOST, stages) as pipeline:
        processes = [stage.process for stage in pipeline._stages]
        os.kill(processes[victim].pid, signal.SIGKILL)
        # the last stage alone ends by itself, with 0, as its input ends
        with pytest.raises(Failed, match=rf"^{stages[victim]} failed: signal SIGKILL$"):
            pipeline.check()


def test_a_signal_without_a_name_has_its_number() -> None:
    with pytest.raises(Failed, match=r"signal 50$"):
        run(HOST, [sh("kill -50 $$")])


def test_a_program_that_is_not_there_leaves_nothing_running(tmp_path: Path) -> None:
    before, alone = open_files(), children()
    absent = str(tmp_path / "absent")
    with pytest.raises(Failed, match=f"cannot run '{absent}': No such file"):
        Pipeline(HOST, [Command(("/usr/bin/yes",)), Command((absent,))])
    assert children() == alone
    assert open_files() == before


def test_no_descriptor_and_no_zombie_is_left() -> None:
    run(HOST, [sh("echo warm up >&2")])
    before, alone, running = open_files(), children(), threads()
    for _ in range(5):
        run(HOST, [sh("echo a; echo b >&2"), sh("cat >/dev/null; echo c >&2")])
        with pytest.raises(Failed):
            run(HOST, [sh("exit 1"), sh("cat")])
        with Pipeline(HOST, [Command(("/usr/bin/yes",)), sh("cat")]):
            pass
    assert open_files() == before
    assert children() == alone
    until(lambda: threads() <= running)  # a thread ends some time after its work


def test_much_stderr_does_not_block() -> None:
    words = run(HOST, [sh("head -c 3000000 /dev/zero | tr '\\0' x >&2; seq 200000 >&2")])
    assert words[-1] == "200000"
    assert len(words) == 40


def test_lines_of_stderr_come_while_it_runs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    seen: list[str] = []
    script = sh('echo "first ü" >&2; cat "$1"; printf "last, no newline" >&2', tmp_path / "go")
    with Pipeline(HOST, [script], on_line=seen.append) as pipeline:
        until(lambda: seen)
        assert seen == ["first ü"]
        assert pipeline.running()
        (tmp_path / "go").write_text("")
        assert pipeline.check() == ["first ü", "last, no newline"]
    assert seen == ["first ü", "last, no newline"]


def test_what_on_line_raises_is_raised_and_stderr_still_drained() -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError(line)

    with (
        Pipeline(HOST, [sh("seq 100000 >&2")], on_line=broken) as pipeline,
        pytest.raises(BrokenPipeError, match=r"^1$"),
    ):
        pipeline.check()


def test_wait_has_one_limit_for_all_stages() -> None:
    with Pipeline(HOST, [sh("sleep 600"), sh("sleep 600")]) as pipeline:
        assert not pipeline.wait(0.05)
        assert pipeline.codes == [None, None]
    assert pipeline.codes == [-signal.SIGTERM, -signal.SIGTERM]


def test_leaving_the_block_ends_what_a_stage_started(tmp_path: Path) -> None:
    script = sh('sleep 600 & echo $! >"$1"; wait', tmp_path / "pid")
    with Pipeline(HOST, [script]):
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    until(lambda: not alive(pid))


def test_a_stage_gets_the_signal_that_ends_it_in_order(tmp_path: Path) -> None:
    script = 'trap "echo cancelled >&2; exit 3" INT; echo ready >&2; while :; do :; done'
    seen: list[str] = []
    with Pipeline(HOST, [sh(script, stop=signal.SIGINT)], on_line=seen.append):
        until(lambda: seen)
    assert seen == ["ready", "cancelled"]


def test_a_stage_can_be_stopped_for_a_while() -> None:
    seen: list[str] = []
    with Pipeline(HOST, [sh("while echo on >&2; do :; done")], on_line=seen.append) as pipeline:
        until(lambda: seen)
        pipeline.suspend()
        until(lambda: state(pipeline) == "T")
        pipeline.resume()
        until(lambda: state(pipeline) != "T")


def state(pipeline: Pipeline) -> str:
    """Return the state of the first stage's process."""
    return state_of(pipeline._stages[0].process.pid)  # type: ignore[attr-defined]


def state_of(pid: int) -> str:
    """Return the state of a process, as proc(5) has it: T if it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_stage_ends_with_its_block() -> None:
    with Pipeline(HOST, [sh("exec sleep 600")]) as pipeline:
        pipeline.suspend()
        until(lambda: state(pipeline) == "T")
    assert pipeline.codes == [-signal.SIGTERM]


def test_a_stage_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtasks.host.pipeline._GRACE", 0.2)
    seen: list[str] = []
    script = sh('trap "" TERM; echo ready >&2; while :; do :; done')
    with Pipeline(HOST, [script], on_line=seen.append) as pipeline:
        until(lambda: seen)
    until(lambda: pipeline.codes == [-signal.SIGKILL], lambda: f"{pipeline.codes}")


def test_a_process_left_behind_does_not_hold_the_run_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pgtasks.host.pipeline._GRACE", 0.2)
    # it keeps the stage's stderr open in a session of its own, as ssh's master does
    before = threads()
    script = sh('setsid sleep 600 & echo $! >"$1"; echo done >&2', tmp_path / "pid")
    try:
        seen: list[str] = []
        with Pipeline(HOST, [script], on_line=seen.append) as pipeline:
            until(lambda: seen)
            assert pipeline.check() == ["done"]
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    until(lambda: threads() <= before)  # its pipe is let go of, late


PARENT = """
import os, sys
from pgtasks.host.base import Command
from pgtasks.host.local import LocalHost, LocalProcess
from pgtasks.host.pipeline import Pipeline

def tell(line):  # in one piece, because each command has a thread
    os.write(1, f"{line}\\n".encode())

commands = [Command(("/bin/sh", "-c", script)) for script in sys.argv[1:]]
with Pipeline(LocalHost(), commands, on_line=tell) as pipeline:
    pipeline.check()
"""


@contextlib.contextmanager
def a_parent_of(*scripts: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Yield a process that runs a pipeline of scripts, each of which says its process first."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *scripts],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in scripts]
    try:
        yield parent, pids
    finally:  # a test that failed leaves nothing behind either
        parent.kill()
        parent.communicate()
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_children_end_with_their_parent(sign: signal.Signals) -> None:
    with a_parent_of(*["echo $$ >&2; exec sleep 600"] * 2) as (parent, pids):
        assert all(map(alive, pids))
        parent.send_signal(sign)
        parent.wait(PATIENCE)
        until(lambda: not any(map(alive, pids)))


def test_a_stopped_child_ends_with_its_parent() -> None:
    with a_parent_of("echo $$ >&2; kill -STOP $$; exec sleep 600") as (parent, pids):
        until(lambda: state_of(pids[0]) == "T")
        parent.kill()
        parent.wait(PATIENCE)
        until(lambda: not alive(pids[0]))


def test_a_command_outlives_the_thread_that_started_it() -> None:
    started: list[LocalProcess] = []
    command = Command(("/bin/sh", "-c", "read -r _"))
    thread = threading.Thread(
        target=lambda: started.append(HOST.start(command, stdin=subprocess.PIPE, stdout=None))
    )
    thread.start()
    thread.join()
    [process] = started
    with process:
        assert process.stdin is not None
        process.stdin.write(b"go on\n")
    assert process.returncode == 0


def test_what_has_ended_is_signalled_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("pgtasks.host.orphans._tell", lines.append)
    with HOST.start(Command(("/bin/true",)), stdin=None, stdout=None) as process:
        process.wait(PATIENCE)
        process.poll()
    assert lines == [f"TERM {process.pid}\n", f"- {process.pid}\n"]


class Hasty(LocalHost):
    """A host on which Ctrl-C comes while a process is being started."""

    def start(self, *args: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = super().start(*args, **options)
        signal.raise_signal(signal.SIGINT)
        return process


def test_ctrl_c_while_a_stage_is_started_leaves_no_orphan() -> None:
    alone = children()
    with pytest.raises(KeyboardInterrupt):
        Pipeline(Hasty(), [sh("exec sleep 600"), sh("exec sleep 600")])
    assert children() == alone
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_leaves_no_orphan() -> None:
    deaf = 'trap "echo asked >&2" TERM; echo $$ >&2; while :; do :; done'
    with a_parent_of(deaf) as (parent, pids):
        parent.send_signal(signal.SIGINT)
        assert parent.stdout is not None
        assert parent.stdout.readline() == "asked\n"
        parent.send_signal(signal.SIGINT)
        parent.wait(PATIENCE)
        until(lambda: not alive(pids[0]))


def test_children_start_in_a_process_that_was_forked() -> None:
    # the parent that a child must not outlive is the one that starts it, not the one that
    # imported the module
    code = (
        "import os, pgtasks.host.local as h, pgtasks.host.pipeline as p\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    p.run(h.LocalHost(), [h.Command(('/bin/true',))]); os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_children_see_no_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATABASE_URL", "PROD_DATABASE_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with (tmp_path / "out").open("wb") as sink:
        run(HOST, [Command(("/usr/bin/env",), {"PGHOST": "/s"})], stdout=sink)
    seen = dict(line.split("=", 1) for line in (tmp_path / "out").read_text().splitlines())
    assert "hidden" not in seen.values()
    assert (seen["PGHOST"], seen["LC_ALL"]) == ("/s", "C.UTF-8")


def test_capture_says_what_a_short_command_said() -> None:
    assert HOST.capture(sh("echo out; echo err >&2")) == "out\n"
    with pytest.raises(Failed, match=r"^sh: exit code 4$") as failure:
        HOST.capture(sh("echo why >&2; exit 4"))
    assert failure.value.hint == "why"
    with pytest.raises(Failed, match=r"^sh: no answer within 0\.1 s$"):
        HOST.capture(sh("exec sleep 600"), seconds=0.1)
