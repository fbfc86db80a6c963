"""What a person is asked and told, on a terminal of his own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Ended, answer, lines

from pgtasks.errors import Interrupted, Refused
from pgtasks.report import CONSOLE, Console

COLORS = {"TERM": "xterm", "NO_COLOR": ""}


def told(code: str, *answers: tuple[str, str], cwd: Path) -> Ended:
    """Run lines of a program that has a console on a terminal."""
    program = f"from pgtasks.report import CONSOLE\nfrom pgtasks import report\n{code}"
    return answer([sys.executable, "-c", program], answers, cwd=cwd)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", "True"), ("YES\n", "True"), ("n\n", "False"), ("\n", "False"), ("yess\n", "False")],
)
def test_only_yes_confirms(typed: str, answer: str, tmp_path: Path) -> None:
    ended = told("print(CONSOLE.confirm('go on?'))", (r"go on\? \[y/N\] ", typed), cwd=tmp_path)
    assert ended.screen.splitlines()[-1] == answer


MISSED = """
import signal, threading

def end(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGUSR1, end)
# a signal that the main thread's read is not broken off by, as one that comes just before the read
signalled = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
threading.Timer(0.3, signalled).start()
print(CONSOLE.ask('well? '))
"""


def test_a_signal_that_the_wait_has_missed_ends_a_question(tmp_path: Path) -> None:
    ended = told(MISSED, (r"well\? ", ""), cwd=tmp_path)
    assert "interrupted, not confirmed: nothing was done" in ended.screen


CHOOSE = "print(CONSOLE.choose(('backup', 'note'), [('a1', '发布 🐘'), ('b2', 'x\\x1b[2J')]))"


def test_a_row_is_chosen_by_its_number(tmp_path: Path) -> None:
    which = r"which one\? \[1-2\] "
    ended = told(CHOOSE, (which, "3\n"), (which, "²\n"), (which, "2\n"), cwd=tmp_path)
    assert ended.screen.splitlines()[:4] == [
        "   backup  note",
        "-  ------  --------",
        "1  a1      发布 🐘",
        "2  b2      x\\x1b[2J",
    ]
    assert "'3', expected 1 to 2\n" in ended.screen
    assert "'²', expected 1 to 2\n" in ended.screen
    assert ended.screen.endswith("\n1\n")


@pytest.mark.parametrize("typed", ["\n", "\x04"])
def test_no_answer_chooses_nothing(typed: str, tmp_path: Path) -> None:
    ended = told(CHOOSE, (r"which one\? \[1-2\] ", typed), cwd=tmp_path)
    assert ended.screen.endswith("None\n")


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    code = "secret = CONSOLE.ask_secret('password for \\x1b[2J: ')\nprint(secret.upper())"
    ended = told(code, (r"password for \\x1b\[2J: ", "opensesame\n"), cwd=tmp_path)
    assert "opensesame" not in ended.screen
    assert ended.screen.endswith("OPENSESAME\n")


def test_an_interrupted_question_says_that_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdin, "readline", interrupt)
    with pytest.raises(Interrupted, match="nothing was done"):
        CONSOLE.ask("go on? ")
    assert capsys.readouterr().err == "go on? \n"


@pytest.mark.parametrize("lacking", ["stdin", "stderr"])
def test_nobody_is_asked_without_a_terminal(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"stdin", "stderr"} - {lacking}:
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)
    monkeypatch.setattr(getattr(sys, lacking), "isatty", lambda: False)
    assert not CONSOLE.interactive
    with pytest.raises(Refused, match="add --write"):
        CONSOLE.require("no terminal to ask on, add --write")
    monkeypatch.setattr(getattr(sys, lacking), "isatty", lambda: True)
    CONSOLE.require("")


def test_nobody_is_asked_where_stdin_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert not CONSOLE.interactive


STATES = r"""
for line in ("warning: x", "note: x", "an error: x", "prod: u@h (protected)", "x (protected) y"):
    report.say(line)
report.data(report.table(("what", "", "found"), [
    ("a", "ok", "x"), ("b", "note", "y"), ("c", "fault", "z"), ("d", "okay", "\x1b[32mok")]))
report.data("backup  intact  note\nbackup  DAMAGED  x\nprod  failed (4)  1 s\nFAILED  server")
"""


def test_states_are_in_colour(tmp_path: Path) -> None:
    program = [sys.executable, "-c", f"from pgtasks import report\n{STATES}"]
    screen = answer(program, [], cwd=tmp_path, env=COLORS).screen
    colored = re.findall(r"\x1b\[([\d;]+)m(.*?)\x1b\[0m", screen)
    assert colored == [
        ("33", "warning:"),
        ("33", "note:"),
        ("33", "(protected)"),
        ("32", "ok"),
        ("33", "note"),
        ("31", "fault"),
        ("1;31", "DAMAGED"),
        ("31", "failed (4)"),
        ("31", "FAILED"),
    ]
    plain = answer(program, [], cwd=tmp_path, env={"TERM": "xterm", "NO_COLOR": "1"}).screen
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]+m", "", screen) == plain
    assert answer(program, [], cwd=tmp_path, env={"TERM": "dumb", "NO_COLOR": ""}).screen == plain
    piped = subprocess.run(program, stdout=-1, stderr=subprocess.STDOUT, text=True, check=True)
    assert sorted(piped.stdout.splitlines()) == sorted(plain.splitlines())


def test_a_line_is_coloured_by_the_stream_that_it_goes_to(tmp_path: Path) -> None:
    program = [sys.executable, "-c", f"from pgtasks import report\n{STATES}"]
    with (tmp_path / "data").open("w+") as file:
        screen = answer(program, [], cwd=tmp_path, env=COLORS, stdout=file.fileno()).screen
        assert "\x1b" not in (tmp_path / "data").read_text()
    assert "\x1b[33mwarning:\x1b[0m x\n" in screen
    assert "DAMAGED" not in screen


DRAWN = "import sys; sys.exit([it for it in sys.modules if it.partition('.')[0] == 'rich'] or 0)"


@pytest.mark.parametrize("piped", [True, False])
def test_rich_is_loaded_where_a_terminal_is_drawn_on(piped: bool, tmp_path: Path) -> None:
    code = f"""
from pgtasks import report
report.say("warning: x")
report.data(report.table(("a", "b"), [("发布" * 50, "🐘")]))
with report.CONSOLE.progress("load", 10) as progress:
    progress._AFTER = 0
    progress.update(5)
{DRAWN}
"""
    if piped:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "warning: x\n")
    else:
        ended = answer([sys.executable, "-c", code], [], cwd=tmp_path, env=COLORS)
        assert "rich.cells" in ended.screen
        assert "rich.progress" not in ended.screen  # work that ends at once


def test_a_quiet_console_shows_no_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pgtasks.report.Progress._EVERY", 0.0)
    for quiet in (True, False):
        with Console(quiet=quiet).progress("load", 10) as progress:
            assert progress.due is not quiet
            progress.update(5)
        assert bool(capsys.readouterr().err) is not quiet


TABLE = """
from pgtasks import report
rows = [("20260131T020003Z-5f1c", "客户_地址表_" * n, "🐘" * n, n * 1000) for n in (1, 2, 9, 30)]
report.data(report.table(("backup", "table", "note", "rows"), rows, whole=("backup",)))
"""


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_wide_characters_take_two_cells(columns: int, tmp_path: Path) -> None:
    from rich.cells import cell_len

    ended = answer([sys.executable, "-c", TABLE], [], cwd=tmp_path, columns=columns)
    shown = lines(ended.screen, columns)
    assert len(shown) == 7  # headings, rule, four rows, the cursor's
    rows = shown[2:6]
    assert {cell_len(line) for line in rows} == {cell_len(shown[1])}
    assert [line.split()[-1] for line in rows] == ["1,000", "2,000", "9,000", "30,000"]
    assert ("…" in ended.screen) is (True)
