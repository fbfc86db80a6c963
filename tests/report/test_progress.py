from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Ended, answer, lines

from pgtasks.report import progress

WORK = """
import sys, time
from pgtasks import report
report.Progress._EVERY = float(sys.argv[1])
with report.Progress("dump", 1_000_000) as progress:
    for done in range(0, 1_500_001, 100_000):
        progress.update(done, note=f"t{done}")
        time.sleep(0.02)
print("end", flush=True)
"""


def test_progress_in_a_log_is_a_line_now_and_then() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK, "0.05"], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 16
    for line in lines:
        assert re.fullmatch(r"  dump: \d.* of about 1\.0 MB, .* t\d+", line)
    assert "\x1b" not in done.stderr
    assert done.stdout == "end\n"
    quiet = [sys.executable, "-c", WORK, "10"]
    assert subprocess.run(quiet, capture_output=True, text=True, check=True).stderr == ""


def test_progress_on_a_terminal_is_a_bar_that_goes(tmp_path: Path) -> None:
    ended = answer([sys.executable, "-c", WORK, "10"], [], cwd=tmp_path, env={"TERM": "xterm"})
    assert ended.code == 0
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", ended.screen)
    assert re.search(r"dump [━╸╺]+ 1\.5 MB  [\d.]+ [kM]B/s  t1500000\s*\n", plain)
    assert plain.endswith("end\n")
    assert ended.screen != plain


LONG = """
import sys, time
from pgtasks import report
report.Progress._AFTER = 0
began = time.monotonic()
drawn = 0
class Counted(report.Progress):
    def _draw(self, now):
        global drawn
        drawn += 1
        super()._draw(now)
with Counted("load", 340_000_000) as progress:
    # the first time takes long: what draws is loaded then
    while (took := time.monotonic() - began) < 1.05 or drawn < 6:
        progress.update(int(took * 1e8), note="表 [red]\\x1b[2J\\n" + "x" * 300)
        if "talk" in sys.argv and drawn == 3:
            report.say(f"warning: {took} 中文")
            sys.argv.remove("talk")
    if "raise" in sys.argv:
        raise KeyboardInterrupt
print(f"drawn {drawn} in {time.monotonic() - began:.1f} s")
"""


def long(tmp_path: Path, *words: str, columns: int = 80, **streams: int) -> Ended:
    env = {"TERM": "xterm", "NO_COLOR": "1"}
    argv = [sys.executable, "-c", LONG, *words]
    return answer(argv, [], cwd=tmp_path, env=env, columns=columns, **streams)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 250])
def test_a_bar_keeps_to_one_line(columns: int, tmp_path: Path) -> None:
    ended = long(tmp_path, columns=columns)
    assert len(lines(ended.screen, columns)) == 2  # the bar's place is taken by what comes next
    assert ended.screen.count("  load") == ended.screen.count("\x1b[2K")
    assert "\x1b[2J" not in ended.screen
    if columns >= 80:
        state = r"\d+ MB of 340 MB  \d+ MB/s  \d\.\d s left  表 \[re"
        assert re.search(rf"  load [━╸╺ ]{{20,40}} {state}", ended.screen)
    drawn = [each for each in ended.screen.split("\x1b[2K") if " left" in each]
    assert ("表 [red]\\x1b[2J\\nxx" in "".join(drawn)) is (columns >= 120)


def test_a_bar_is_drawn_ten_times_a_second_at_most(tmp_path: Path) -> None:
    told = re.search(r"drawn (\d+) in ([\d.]+) s", long(tmp_path).screen)
    assert told
    assert 3 <= int(told[1]) <= 10 * float(told[2]) + 2  # at 0.0, 0.1 ... and at the end


def test_talk_goes_above_the_bar(tmp_path: Path) -> None:
    ended = long(tmp_path, "talk")
    shown = lines(ended.screen, 80)
    assert re.fullmatch(r"warning: \d+\.\d+ 中文", shown[0])
    assert [line for line in shown[1:] if line.strip()] == [f"drawn {_number(ended)}"]


def _number(ended: Ended) -> str:
    return ended.screen.rpartition("drawn ")[2].strip()


def test_the_cursor_comes_back_from_an_interrupted_bar(tmp_path: Path) -> None:
    ended = long(tmp_path, "raise")
    assert ended.screen.count("\x1b[?25l") == ended.screen.count("\x1b[?25h") == 1
    assert ended.screen.index("\x1b[?25h") < ended.screen.index("KeyboardInterrupt")


def test_what_goes_to_stdout_is_no_part_of_a_bar(tmp_path: Path) -> None:
    code = LONG.replace("print(f", "    print(f").replace('raise" in sys.argv', 'x" == ""')
    with (tmp_path / "data").open("w") as file:
        argv = [sys.executable, "-c", code]
        ended = answer(argv, [], cwd=tmp_path, env={"TERM": "xterm"}, stdout=file.fileno())
    assert re.fullmatch(r"drawn \d+ in [\d.]+ s\n", (tmp_path / "data").read_text())
    assert "drawn" not in ended.screen
    assert "340 MB" in ended.screen


def test_work_that_ends_at_once_has_no_bar(tmp_path: Path) -> None:
    code = "from pgtasks import report\nwith report.Progress('x', 9) as it: it.update(3)"
    assert (
        answer([sys.executable, "-c", code], [], cwd=tmp_path, env={"TERM": "xterm"}).screen == ""
    )


def test_a_terminal_without_a_cursor_gets_lines(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WORK, "0.05"]
    screen = answer(argv, [], cwd=tmp_path, env={"TERM": "dumb"}).screen
    assert "\x1b" not in screen
    assert re.search(r"^  dump: .* of about 1\.0 MB, .* t\d+$", screen, re.MULTILINE)


def test_no_time_is_told_before_a_part_of_the_work_is_done() -> None:
    assert progress.state(9_000, 1_000_000, 9_000.0) == "9.0 kB of 1.0 MB  9.0 kB/s"
    assert progress.state(20_000, 1_000_000, 10_000.0) == ("20 kB of 1.0 MB  10 kB/s  98.0 s left")
