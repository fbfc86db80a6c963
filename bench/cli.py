"""Compare pgtasks with what users would type instead: `make bench`.

Everything runs on a throw-away server in a folder of its own, both gone at the end. Contenders take
turns; the result is a Markdown table on stdout, with --json a document beside it. See README.md.
"""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from bench import machine, results, server, sets, workspace
from bench.cases import ALL
from bench.contest import Bench, told
from pgtasks import report
from pgtasks.errors import PgtasksError, Refused

SAYS = "Compare pgtasks with what users would type instead, as ratios within one run."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for, and return the exit code."""
    asked = parser().parse_args(arguments)
    if asked.table:
        print(results.block(asked.table))
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = run(asked)
    except KeyboardInterrupt:
        report.say("interrupted, everything is stopped and removed")
        return 130
    except PgtasksError as exc:
        report.say("\n".join([*exc.hint.splitlines(), f"error: {exc.message}"]))
        return exc.exit_code
    print(results.text(result))
    if asked.json:
        results.write(asked.json, result)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="bench/run.py", description=SAYS)
    made.add_argument(
        "--scale", choices=workspace.SCALES, default="medium", help="default: %(default)s"
    )
    made.add_argument(
        "--only",
        type=re.compile,
        default=re.compile(""),
        help="cases, a pattern: %(metavar)s",
        metavar="|".join(ALL),
    )
    made.add_argument(
        "--sets",
        type=re.compile,
        default=re.compile(""),
        help="databases of the case `copy`, a pattern: %(metavar)s",
        metavar="|".join(sets.names("large")),
    )
    made.add_argument("--reps", type=_positive, default=3, help="default: %(default)s")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    made.add_argument(
        "--server",
        type=Path,
        metavar="FOLDER",
        help="a server's bin folder (default: what `server: embedded` would choose)",
    )
    made.add_argument(
        "--table", type=Path, metavar="FILE", help="print the table of such a file, nothing else"
    )
    return made


def run(asked: argparse.Namespace) -> results.Result:
    """Bring up the server and the data, run the cases, and return the result."""
    cases = {name: case for name, case in ALL.items() if asked.only.search(name)}
    if not cases:
        raise Refused(f"no case matches {asked.only.pattern!r}, known: {', '.join(ALL)}")
    with server.running(asked.server) as (running, room):
        facts = machine.facts(running)
        space = workspace.make(running, room, asked.scale)
        bench = Bench(space, asked.scale, asked.reps, asked.sets)
        report.say(machine.line(facts))
        rows = [row for name, case in cases.items() for row in told(name, case, bench)]
        facts = results.ended(facts, bench.samples)
        return results.Result(asked.scale, asked.reps, facts, rows, bench.samples)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
