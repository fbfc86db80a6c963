"""`python -m pgtasks init`: the one command outside Invoke, for a project that has no tasks yet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pgtasks
from pgtasks.errors import Failed, Interrupted, PgtasksError


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        from pgtasks.cli.init import init

        init(Path.cwd(), write=options.write)
    except PgtasksError as exc:
        _say(exc.message)
        return exc.exit_code
    except OSError as exc:  # a folder that may not be entered, say
        _say(f"{exc.filename or 'init'}: {exc.strerror or exc}")
        return Failed.exit_code
    except KeyboardInterrupt:  # while it writes, Interrupted says what it wrote
        _say("interrupted")
        return Interrupted.exit_code
    return 0


def _say(message: str) -> None:
    from pgtasks import report

    try:
        report.say(f"error: {message}")
    except OSError:  # nobody hears
        report.silence(sys.stderr)


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
