"""Commands on a database host: their bytes, their ends, what is left of them."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import paramiko
import pytest
from commands import open_files, sh
from hosts import DatabaseHost
from remains import clear, left, running
from waiting import PATIENCE, until

from pgtasks.errors import Failed, Unreachable
from pgtasks.host.base import Command
from pgtasks.host.pipeline import Pipeline, run
from pgtasks.host.ssh.host import SshHost
from pgtasks.host.ssh.link import Link
from pgtasks.host.ssh.watchdog import NoCommand
from pgtasks.settings.ssh import Login

MIB = 1 << 20
Reach = Callable[..., SshHost]


def login(place: DatabaseHost, **more: Any) -> Login:
    return Login(**place.place(**more))


@pytest.fixture
def reach_db1(db1: DatabaseHost) -> Iterator[Reach]:
    """Return what opens a link to db1; closed after the test, with nothing left there."""
    opened: list[SshHost] = []

    def reach(**more: Any) -> SshHost:
        opened.append(SshHost(Link(login(db1, **more))))
        return opened[-1]

    yield reach
    for host in opened:
        host.close()
    try:
        db1.quiet()
        assert left(db1) == []
    finally:
        clear(db1)


@pytest.fixture
def there(reach_db1: Reach) -> SshHost:
    return reach_db1()


# bytes


def test_much_output_arrives_whole_in_flat_memory(there: SshHost, tmp_path: Path) -> None:
    script = (
        'copy=$(mktemp) && head -c 52428800 /dev/urandom | tee "$copy"; sha256sum <"$copy" >&2;'
        ' rm "$copy"'
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (tmp_path / "out").open("wb") as sink:
        words = run(there, [sh(script)], stdout=sink)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    digest = hashlib.sha256()
    with (tmp_path / "out").open("rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    assert words == [f"{digest.hexdigest()}  -"]
    assert (tmp_path / "out").stat().st_size == 50 * MIB
    assert grown < 20 * 1024, f"{grown} KiB more than before"


def test_data_for_stdin_arrive_whole(there: SshHost, tmp_path: Path) -> None:
    everything = os.urandom(3 * MIB) + bytes(range(256)) * 16
    (tmp_path / "in").write_bytes(everything)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        words = run(there, [sh("sha256sum >&2")], stdin=source, stdout=sink)
        assert words == [f"{hashlib.sha256(everything).hexdigest()}  -"]
        source.seek(0)
        run(there, [sh("cat")], stdin=source, stdout=sink)
    assert (tmp_path / "out").read_bytes() == everything


def test_new_keys_on_the_way_break_nothing(
    reach_db1: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSH changes its keys every 512 MiB: every 4 here."""
    monkeypatch.setattr("paramiko.packet.Packetizer.REKEY_BYTES", 4 * MIB)
    there = reach_db1(silence=5)
    with Path("/dev/null").open("wb") as sink:
        words = run(there, [sh("head -c 60000000 /dev/zero; echo sent >&2")], stdout=sink)
    assert words == ["sent"]
    source = subprocess.Popen(["head", "-c", "60000000", "/dev/zero"], stdout=subprocess.PIPE)
    with source:
        assert run(there, [sh("wc -c >&2")], stdin=source.stdout) == ["60000000"]


def test_a_slow_line_is_no_lost_line(reach_db1: Reach, db1: DatabaseHost, tmp_path: Path) -> None:
    """Signs of life get through beside the data, whichever way these go."""
    there = reach_db1(silence=10)
    (tmp_path / "in").write_bytes(os.urandom(3 * MIB))  # 12 s
    copy = f"{db1.temporary}/copy"
    with db1.slow("2mbit"):
        with (tmp_path / "in").open("rb") as source:
            run(there, [sh(f"cat >{copy}")], stdin=source)
        with (tmp_path / "out").open("wb") as sink:
            run(there, [sh(f"cat {copy}; rm {copy}")], stdout=sink)
    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()


def test_stdin_without_a_source_is_empty(there: SshHost) -> None:
    assert there.capture(sh("cat; echo end")) == "end\n"


def test_arguments_and_variables_arrive_as_they_are(there: SshHost) -> None:
    odd = ["a b", "it's", '"', "\\n", "%s %b", "$HOME `id`", "x\ny", "é🐘", "", "-n", "*", "\\0101"]
    shown = there.capture(
        Command(("/bin/sh", "-c", 'printf "<%s>" "$V" "$@"', "sh", *odd), {"V": odd[4]})
    )
    assert shown == f"<{odd[4]}>" + "".join(f"<{each}>" for each in odd)


def test_a_command_sees_little_of_the_account(there: SshHost) -> None:
    seen = dict(line.split("=", 1) for line in there.capture(sh("exec env")).splitlines())
    assert set(seen) <= {
        *("HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "TZ"),
        *("PWD", "PGTASKS_ROOM"),
    }


def test_output_that_does_not_fit_here_is_our_fault(there: SshHost) -> None:
    with Path("/dev/full").open("wb") as sink, pytest.raises(Failed) as failure:
        run(there, [sh("head -c 10 /dev/zero")], stdout=sink)
    assert failure.value.message == "cannot write what sh sends: No space left on device"


# ends


def test_an_exit_code_is_a_failure_in_the_tools_words(there: SshHost) -> None:
    with pytest.raises(Failed, match=r"^sh failed: exit code 7$") as failure:
        run(there, [sh("echo first >&2; echo why >&2; exit 7")])
    assert failure.value.hint == "first\nwhy"
    with pytest.raises(Failed, match=r"^sh failed: exit code 255$"):
        run(there, [sh("exit 255")])


@pytest.mark.parametrize("sign", ["KILL", "TERM", "SEGV", "HUP"])
def test_a_signal_is_named(there: SshHost, sign: str) -> None:
    with pytest.raises(Failed, match=rf"^sh failed: signal SIG{sign}$"):
        run(there, [sh(f"ulimit -c 0; kill -{sign} $$; sleep 20")])


def test_a_program_that_is_not_there_says_so(there: SshHost) -> None:
    with pytest.raises(
        Failed, match=r"^such: exit code 127$|^such failed: exit code 127$"
    ) as failure:
        there.capture(Command(("/no/such",)))
    assert "/no/such" in failure.value.hint


def test_lines_of_stderr_come_while_it_runs(there: SshHost) -> None:
    seen: list[str] = []
    script = sh('echo "first ü" >&2; read -r line; printf "last, no newline" >&2')
    reader, writer = os.pipe()
    with Pipeline(there, [script], stdin=reader, on_line=seen.append) as pipeline:
        os.close(reader)
        until(lambda: seen, lambda: "no line came")
        assert pipeline.running()
        os.write(writer, b"go\n")
        os.close(writer)
        assert pipeline.check() == ["first ü", "last, no newline"]


def test_much_stderr_does_not_block(there: SshHost) -> None:
    words = run(there, [sh("head -c 3000000 /dev/zero | tr '\\0' x >&2; seq 200000 >&2")])
    assert words[-1] == "200000"


def test_a_short_command_has_a_limit(there: SshHost, db1: DatabaseHost) -> None:
    with pytest.raises(Unreachable, match=r"sh: no answer within 1 s$"):
        there.capture(sh("exec sleep 4711"), seconds=1)
    until(lambda: not running(db1, "4711"), lambda: "it still runs")


# bounds: what a host says is input


@pytest.fixture
def flat() -> Iterator[None]:
    """Fail a test that needs much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024, f"{grown} KiB more than before"


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("script", ["yes", "cat /dev/zero", "cat /dev/zero >&2 & yes"])
def test_a_short_command_that_never_stops_talking(
    there: SshHost, db1: DatabaseHost, script: str
) -> None:
    with pytest.raises(Failed, match=r"^[^\n]*: sh prints more than 16,777,216 bytes$"):
        there.capture(sh(script))
    until(lambda: not running(db1, script[:8]), lambda: f"{db1.processes()}")


@pytest.mark.usefixtures("flat")
def test_endless_words_on_stderr(there: SshHost) -> None:
    with pytest.raises(Unreachable, match="no answer within 3 s"):
        there.capture(sh("exec cat /dev/zero >&2"), seconds=3)
    with pytest.raises(Failed, match="exit code 3") as failure:
        there.capture(sh("head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 3"))
    assert 0 < len(failure.value.hint) <= 4000


_ONE_LINE = r"^[^\n]*: no command starts there[^\n]*$"
_TALK = {
    "flood": "yes",
    "one line": "cat /dev/zero",
    "drip": "while echo x; do sleep 0.2; done",
    "drip on stderr": "exec >&2; while echo x; do sleep 0.2; done",
    "silence": "exec sleep 4716",
}


@pytest.mark.usefixtures("flat")
@pytest.mark.parametrize("when", ["lifeline", "command"])
@pytest.mark.parametrize("talk", _TALK)
def test_a_login_shell_that_never_stops_talking(
    db1: DatabaseHost, monkeypatch: pytest.MonkeyPatch, talk: str, when: str
) -> None:
    monkeypatch.setattr("pgtasks.host.ssh.process._QUEUE", 0)
    user = db1.user_with(role=False, shell="/bin/bash")
    profile = db1.path(f"/home/{user}/.bashrc")
    if when == "lifeline":
        profile.write_text(f"{_TALK[talk]}\n")
        with pytest.raises(Unreachable, match=_ONE_LINE) as failure:
            Link(login(db1, user=user, channel_timeout=3))
    else:
        there = SshHost(Link(login(db1, user=user)))
        there.link.login = login(db1, user=user, channel_timeout=3)
        profile.write_text(f"{_TALK[talk]}\n")
        with pytest.raises(Unreachable, match=_ONE_LINE) as failure:
            run(there, [sh("echo never")])
        there.close()
    assert len(failure.value.message) < 1000
    until(lambda: _ended(db1, "sleep 4716"), lambda: f"{db1.processes()}")


def _ended(place: DatabaseHost, silent: str) -> bool:
    """End what outlives the line, since it says nothing; return whether all there is over."""
    for each in place.processes():
        if silent in each.command:
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(each.outside, signal.SIGKILL)
    return not place.processes()


def test_a_shell_that_ends_before_it_reads_is_quoted(
    db1: DatabaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = db1.user_with(shell="/usr/sbin/nologin")
    exec_command = paramiko.Channel.exec_command

    def run_to_its_end(channel: paramiko.Channel, command: str) -> None:
        exec_command(channel, command)
        until(lambda: channel.closed)

    monkeypatch.setattr(paramiko.Channel, "exec_command", run_to_its_end)
    with pytest.raises(NoCommand, match=r"This account is currently not available.*exit code 1"):
        Link(login(db1, user=user))


# pipelines


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_each_stage_is_checked(there: SshHost, guilty: int) -> None:
    stages = [Command(("/bin/cat",)), Command(("/usr/bin/sort",)), Command(("/usr/bin/uniq",))]
    stages[guilty] = sh(f"cat >/dev/null; echo words of {guilty} >&2; exit {guilty + 3}")
    with pytest.raises(Failed) as failure:
        run(there, stages)
    assert failure.value.message == f"sh failed: exit code {guilty + 3}"
    assert failure.value.hint == f"words of {guilty}"


def test_the_reader_is_blamed_not_the_writer_it_left(there: SshHost, db1: DatabaseHost) -> None:
    with pytest.raises(Failed, match=r"^sh failed: exit code 7$"):
        run(there, [Command(("/usr/bin/yes",)), sh("exit 7")])
    until(lambda: not running(db1, "yes"), lambda: "yes still runs")


def test_a_reader_that_stops_early_is_a_failure_too(there: SshHost) -> None:
    with pytest.raises(Failed, match=r"^yes failed: signal SIGPIPE$"):
        run(there, [Command(("/usr/bin/yes",)), Command(("/usr/bin/head", "-1"))])


def test_bytes_pass_through_two_stages(there: SshHost, tmp_path: Path) -> None:
    everything = os.urandom(5 * MIB)
    (tmp_path / "in").write_bytes(everything)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        run(there, [sh("cat"), sh("gzip -1"), sh("gunzip")], stdin=source, stdout=sink)
    assert (tmp_path / "out").read_bytes() == everything


def test_leaving_the_block_ends_what_a_stage_started(there: SshHost, db1: DatabaseHost) -> None:
    with Pipeline(there, [sh("sleep 4712 & sleep 4713")]):
        until(lambda: running(db1, "sleep 4713"), lambda: "it never ran")
    until(lambda: not running(db1, "sleep 471"), lambda: f"still runs: {db1.processes()}")


def test_a_command_that_is_about_to_begin_is_ended_too(there: SshHost, db1: DatabaseHost) -> None:
    for _ in range(5):
        process = there.start(sh("exec sleep 4714"), stdin=None, stdout=None)
        process.end(signal.SIGTERM)
        assert process.wait(PATIENCE) in (254, -signal.SIGTERM)
    until(lambda: not running(db1, "4714"), lambda: f"{db1.processes()}")


def test_a_stage_gets_the_signal_that_ends_it_in_order(there: SshHost) -> None:
    script = 'trap "echo cancelled >&2; exit 3" INT; echo ready >&2; while :; do :; done'
    seen: list[str] = []
    with Pipeline(there, [sh(script, stop=signal.SIGINT)], on_line=seen.append):
        until(lambda: seen, lambda: "it never was ready")
    assert seen == ["ready", "cancelled"]


def test_a_stage_that_does_not_listen_is_killed(
    there: SshHost, db1: DatabaseHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.host.pipeline._GRACE", 0.2)
    seen: list[str] = []
    script = sh('trap "" TERM; echo ready >&2; while :; do sleep 0.01; done')
    with Pipeline(there, [script], on_line=seen.append) as pipeline:
        until(lambda: seen, lambda: "it never was ready")
    until(lambda: pipeline.codes == [-signal.SIGKILL], lambda: f"{pipeline.codes}")
    until(lambda: not running(db1, "trap"), lambda: "it still runs")


@pytest.mark.parametrize("said", ["", "echo some; "])
def test_a_process_left_behind_does_not_hold_the_run_up(
    reach_db1: Reach, db1: DatabaseHost, tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgtasks.host.ssh.process._GRACE", 1.0)
    there = reach_db1(silence=5)
    script = sh(f"{said}echo words >&2; setsid sleep 4715 & exit 0")
    try:
        with (tmp_path / "out").open("wb") as sink:
            assert run(there, [script], stdout=sink) == ["words"]
    finally:
        for each in db1.processes():
            if "4715" in each.command:
                os.kill(each.outside, signal.SIGKILL)
    assert (tmp_path / "out").read_text() == ("some\n" if said else "")


def test_output_that_comes_late_is_waited_for(
    reach_db1: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is long over when the last of its output comes: nothing of it is left out."""
    monkeypatch.setattr("pgtasks.host.ssh.process._GRACE", 0.0)
    there = reach_db1(silence=5)
    with (tmp_path / "out").open("wb") as sink:
        run(there, [sh("sleep 3; head -c 20000000 /dev/zero")], stdout=sink)
    assert (tmp_path / "out").stat().st_size == 20_000_000


def test_no_descriptor_and_no_thread_is_left(db1: DatabaseHost) -> None:
    before, threads = open_files(), set(threading.enumerate())
    there = SshHost(Link(login(db1)))
    kept, with_link = open_files(), set(threading.enumerate())
    for _ in range(3):
        run(there, [sh("echo a; echo b >&2"), sh("cat >/dev/null; echo c >&2")])
        with pytest.raises(Failed):
            run(there, [sh("exit 1"), sh("cat")])
        reader, writer = os.pipe()  # nobody ever writes into it
        with Pipeline(there, [sh("exit 0")], stdin=reader):
            os.close(reader)
        until(lambda: set(threading.enumerate()) <= with_link, lambda: f"{threading.enumerate()}")
        os.close(writer)
        assert open_files() == kept
    there.close()
    until(lambda: set(threading.enumerate()) <= threads, lambda: f"{threading.enumerate()}")
    gc.collect()
    assert open_files() == before
    db1.quiet()


# login shells


@pytest.mark.parametrize(
    "shell", ["/bin/bash", "/bin/dash", "/bin/tcsh", "/usr/bin/fish", "/bin/zsh"]
)
def test_any_login_shell_will_do(reach_db1: Reach, db1: DatabaseHost, shell: str) -> None:
    words = "Welcome! this is no output"
    user = db1.user_with(shell=shell, greeting=words)
    there = reach_db1(user=user)
    with pytest.raises(Failed) as failure:
        there.capture(sh("echo out; echo 'it is' >&2; exit 3"))
    assert failure.value.hint == "it is"
    assert there.capture(Command(("printf", "%s", "a 'b' $c"))) == "a 'b' $c"


def test_a_shell_that_talks_on_stderr_is_not_the_command(
    reach_db1: Reach, db1: DatabaseHost
) -> None:
    user = db1.user_with(shell="/bin/bash", greeting="ignored' >&2; echo 'and that")
    there = reach_db1(user=user)
    assert run(there, [sh("echo mine >&2")]) == ["mine"]
    assert there.capture(sh("echo mine")) == "mine\n"


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false", "/bin/true"])
def test_an_account_without_a_shell_says_so(db1: DatabaseHost, shell: str) -> None:
    user = db1.user_with(shell=shell)
    with pytest.raises(Unreachable) as failure:
        Link(login(db1, user=user))
    line = failure.value.message
    assert line.startswith(f"{user}@{db1.address}: no command starts there: ")
    assert "\n" not in line
    assert ("not available" in line) == ("nologin" in shell)
    db1.quiet()


def test_a_host_without_room_for_files_says_so(db1: DatabaseHost) -> None:
    db1.do("chmod", "755", "/tmp")
    try:
        with pytest.raises(Unreachable) as failure:
            Link(login(db1))
    finally:
        db1.do("chmod", "1777", "/tmp")
    assert "/tmp/pgtasks-" in failure.value.message
    assert "Permission denied" in failure.value.message
    assert "\n" not in failure.value.message
    db1.quiet()


def test_two_links_do_not_know_of_each_other(reach_db1: Reach) -> None:
    one, other = reach_db1(), reach_db1()
    assert one.link.room != other.link.room
    one.close()
    assert other.capture(sh('[ -d "$PGTASKS_ROOM" ] && echo there')) == "there\n"


def test_sessions_that_sshd_does_not_open_are_named(db1: DatabaseHost) -> None:
    with db1.start_sshd(MaxSessions="2"):
        host = SshHost(Link(login(db1)))
        try:
            with pytest.raises(Unreachable, match="MaxSessions"):
                run(host, [sh("cat"), sh("cat"), sh("cat")], stdin=None)
        finally:
            host.close()
        db1.quiet()
