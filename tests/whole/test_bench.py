"""The benchmark itself: that it measures what it says, leaves nothing behind, and is published.

No figure is judged here: how fast something is, is what the benchmark is for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from servers import Cluster
from waiting import PATIENCE, until

from bench import cli, contest, measure, results, rows
from bench.cases import restore
from bench.clients import Clients
from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Figure, Row
from pgtasks.errors import Failed

RUN = [sys.executable, str(ROOT / "bench" / "run.py")]
MEGABYTE = 1_000_000
# the whole takes minutes; what is not run here is put together of the same parts
RAN = ["restore", "swap", "memory"]


# One run of everything, at its smallest ---------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run cases once at `small`; return the document, and what was printed as `printed`."""
    file = tmp_path_factory.mktemp("bench") / "results" / "small.json"
    argv = [*RUN, "--scale", "small", "--reps", "1", "--json", str(file), "--only", "|".join(RAN)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr
    return {**json.loads(file.read_text("utf-8")), "printed": done.stdout, "file": str(file)}


def test_every_case_has_rows(whole: dict[str, Any]) -> None:
    assert [*dict.fromkeys(row["case"] for row in whole["rows"])] == RAN


def test_every_comparison_has_a_ratio(whole: dict[str, Any]) -> None:
    beside = [row for row in whole["rows"] if row["theirs"]]
    assert len(beside) >= 5
    for row in beside:
        assert row["ours"]["median"] > 0
        assert row["theirs"]["median"] > 0
        assert row["least"] <= row["ratio"] <= row["greatest"]


def test_parts_of_a_restore_make_up_the_whole(whole: dict[str, Any]) -> None:
    for sample in whole["samples"]["restore"][restore.OURS]:
        parts = [sample[name] for name, _ in restore.PARTS]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(sample["seconds"], abs=0.01)


def test_memory_is_that_of_a_python_process(whole: dict[str, Any]) -> None:
    for row in whole["rows"]:
        if row["case"] == "memory":
            assert 10 * MEGABYTE < row["ours"]["median"] < 1000 * MEGABYTE


def test_clients_see_every_swap(whole: dict[str, Any]) -> None:
    for name in ("`inv db.undo`", "`inv db.restore`"):
        for sample in whole["samples"]["swap"][name]:
            assert sample["probes"] > sample["failed"]
            assert sample["gap"] > 0
            assert sample["swap"] > 0


def test_the_printed_table_is_that_of_the_document(whole: dict[str, Any]) -> None:
    assert whole["printed"].strip() == results.text(results.read(Path(whole["file"]))).strip()


def test_the_machine_is_named(whole: dict[str, Any]) -> None:
    for key in ("cpu", "cores", "memory_bytes", "postgresql", "date", "load_after", "others"):
        assert whole["machine"][key]
    assert whole["machine"]["settings"]["fsync"] == "on"


def test_the_document_names_no_path_of_this_machine(whole: dict[str, Any]) -> None:
    text = Path(whole["file"]).read_text("utf-8")
    assert str(ROOT) not in text
    assert "/tmp/" not in text


# Nothing is left behind -------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """Start a benchmark and wait until its first case runs."""
    argv = [*RUN, "--scale", "small", "--reps", "50", "--only", "startup"]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr
    for line in process.stderr:
        if line == "startup\n":
            break
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_removes_all(
    started: subprocess.Popen[str], sign: signal.Signals
) -> None:
    postmaster, room = server_of(started.pid)
    assert (room / "data").is_dir()
    started.send_signal(sign)
    assert started.wait(PATIENCE) == 130
    assert not alive(postmaster)
    assert not room.exists()


def test_a_killed_run_leaves_no_server(started: subprocess.Popen[str]) -> None:
    postmaster, room = server_of(started.pid)
    started.kill()
    until(lambda: not alive(postmaster))
    subprocess.run(["rm", "-rf", room], check=True)


def server_of(pid: int) -> tuple[int, Path]:
    """Return the postmaster that a benchmark started, and the benchmark's folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent(entry) == pid:
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue  # a command that was measured, which has ended
            if Path(words[0]).name == "postgres":
                return int(entry.name), Path(words[words.index("-D") + 1]).parent
    raise AssertionError("the benchmark has no server")


def parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# What is asked for ------------------------------------------------------------------------------


def test_an_unknown_case_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--only", "nonsense"]) == 2
    assert "no case matches 'nonsense', known: startup," in capfd.readouterr().err


def test_a_folder_without_a_server_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--server", str(tmp_path)]) == 1
    assert f"there is no PostgreSQL server in {str(tmp_path)!r}" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["--reps", "0"], ["--reps", "x"], ["--scale", "huge"]])
def test_a_bad_flag_is_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as found:
        cli.main(words)
    assert found.value.code == 2
    assert words[0] in capfd.readouterr().err


# Contenders, samples, rows ----------------------------------------------------------------------


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> Sample:
            order.append(name)
            return Sample(1.0)

        return Contender(name, run, lambda: order.append(f"before {name}"))

    bench = Bench(space=None, scale="small", reps=2)  # type: ignore[arg-type]
    found = bench.contest("case", [contender("a"), contender("b")])
    assert order == ["before a", "a", "before b", "b"] * 2
    assert bench.samples == {"case": found}
    assert len(found["a"]) == 2


def test_a_ratio_is_that_of_the_same_repetition() -> None:
    ours = [Sample(2.0, 1.0, 0.5), Sample(30.0, 2.0, 0.5), Sample(4.0, 3.0, 0.5)]
    theirs = [Sample(1.0), Sample(10.0), Sample(1.0)]
    row = rows.compared("case", "what", ("a", ours), ("b", theirs))
    assert (row.ours, row.theirs) == (Figure("a", 4.0, 2.5), Figure("b", 1.0, 0.0))
    assert (row.ratio, row.least, row.greatest, row.n) == (3.0, 2.0, 4.0, 3)


def test_a_row_survives_json() -> None:
    pair = rows.compared("case", "what", ("a", [Sample(2.0)]), ("b", [Sample(1.0)]))
    single = rows.alone("case", "what", ("a", [Sample(2.0)]), unit="ms")
    for row in (pair, single):
        assert Row.from_json(json.loads(json.dumps(row.as_json()))) == row


def test_a_losing_row_is_shown_as_one() -> None:
    ours, theirs = Sample(15.0, client=2.0, server=1.0), Sample(10.0, client=1.0)
    row = rows.compared("case", "backup", ("ours", [ours]), ("theirs", [theirs]))
    assert rows.table([row]).splitlines()[-1] == (
        "| backup | ours **15.0 s** | theirs **10.0 s** "
        "| **1.50** | 1.50 to 1.50 | +5.00 s | 3.00 s / 1.00 s | 1 |"
    )


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234, "s", "1.23 s"),
        (12.34, "s", "12.3 s"),
        (0.1234, "ms", "123 ms"),
        (217_000_000, "bytes", "217 MB"),
        (2.0, "times", "2"),
        (1.5, "times", "1.5"),
    ],
)
def test_figures_are_shown_with_their_unit(value: float, unit: str, shown: str) -> None:
    assert rows.shown(value, unit) == shown


def test_parts_end_at_their_boundaries() -> None:
    sample = Sample(10.0, steps={"loaded": 6.0, "proven": 9.0})
    parted = contest.parted(sample, [("load", "loaded"), ("proof", "proven"), ("end", "")])
    assert parted.extra == {"load": 6.0, "proof": 3.0, "end": 1.0}


# Measuring a command ----------------------------------------------------------------------------

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
EAT = "x = b'x' * 150_000_000"
BURN = "import time\nwhile time.process_time() < 0.3: pass"


def run(*words: str) -> Sample:
    return measure.run([sys.executable, "-c", *words], cwd=ROOT, env=os.environ)


def test_peak_is_that_of_the_process_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[measure._Peak] = []
    watch = measure._Peak._high_water

    def noted(look: measure._Peak) -> int:
        looks.append(look)
        return watch(look)

    monkeypatch.setattr(measure._Peak, "_high_water", noted)
    gate = tmp_path / "gate"  # at which it stays until it was looked at
    os.mkfifo(gate)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, f"{EAT}; open({str(gate)!r}).close()")
        try:
            until(lambda: looks and looks[0].peak > 150 * MEGABYTE)
        finally:
            opened = gate.open("r+b", buffering=0)
        with opened:
            assert running.result().peak > 150 * MEGABYTE
    assert 0 < run(CHILD, EAT).peak < 100 * MEGABYTE


def test_cpu_is_that_of_its_children_too() -> None:
    assert run(CHILD, BURN).client >= 0.3


def test_cpu_of_a_server_is_counted(cluster: Cluster) -> None:
    query = "SELECT count(*) FROM generate_series(1, 3000000)"
    psql = [cluster.bin / "psql", "-h", cluster.host, "-U", "postgres", "-c", query, "postgres"]
    pid = cluster.process.pid
    sample = measure.run(psql, cwd=ROOT, env=os.environ, postmasters=[pid])
    assert sample.server > sample.client


def test_lines_come_with_their_time() -> None:
    say = "print('{}', file=sys.stderr, flush=True)"
    sample = run(f"import sys, time; {say.format('a')}; time.sleep(0.1); {say.format('b')}")
    (first, a), (second, b) = sample.lines
    assert (a, b) == ("a\n", "b\n")
    assert 0 < first < second < sample.seconds


def test_a_failing_command_is_an_error_with_its_words() -> None:
    with pytest.raises(Failed, match="exit code 3") as found:
        run("import sys; print('no such thing', file=sys.stderr); sys.exit(3)")
    assert "no such thing" in found.value.hint


def test_clients_count_what_failed(cluster: Cluster) -> None:
    with Clients(cluster.url("not_there"), number=2) as clients:
        until(lambda: clients.probes >= 10)
    assert clients.failed == clients.probes


# What is published ------------------------------------------------------------------------------


def published() -> list[Path]:
    return sorted((ROOT / "bench" / "results").glob("*.json"))


def test_something_is_published() -> None:
    assert published()


def test_tables_in_readmes_are_those_of_the_documents() -> None:
    text = (ROOT / "bench" / "README.md").read_text("utf-8")
    found = re.findall(r"<!-- (bench/results/\S+): printed", text)
    assert found
    for name in found:
        assert results.block(ROOT / name) in text


def test_the_short_table_is_that_of_a_document_with_losing_rows_too() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    (name,) = re.findall(r"<!-- (bench/results/\S+): in short", text)
    block = results.brief_block(ROOT / name)
    assert block in text
    ratios = [float(ratio) for ratio in re.findall(r"\*\*(\d+\.\d+)\*\* \|$", block, re.MULTILINE)]
    assert min(ratios) < 1 < max(ratios)


def test_table_prints_the_block() -> None:
    for path in published():
        done = subprocess.run([*RUN, "--table", str(path)], capture_output=True, text=True)
        assert done.stdout.strip() == results.block(path)
