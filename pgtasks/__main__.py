"""`python -m pgtasks init`: the one command outside Invoke, for a project that has no tasks yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pgtasks
from pgtasks.errors import PgtasksError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(argv)
    from pgtasks import report
    from pgtasks.init import init

    try:
        init(Path.cwd(), write=options.write)
    except PgtasksError as exc:
        report.say(f"error: {exc.message}")
        return exc.exit_code
    except KeyboardInterrupt:
        report.say("error: interrupted, nothing was written")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Prepare a project for pgtasks; all else is a task: inv --list shows them."
    parser = argparse.ArgumentParser(prog="python -m pgtasks", description=about)
    parser.add_argument("--version", action="version", version=pgtasks.__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    init = commands.add_parser(
        "init", help="add what an existing project needs", description="Changes no file there is."
    )
    init.add_argument(
        "--write", "--yes", action="store_true", help="write without asking (default: ask)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
