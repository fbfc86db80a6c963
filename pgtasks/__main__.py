"""`python -m pgtasks init`: a command outside Invoke, for projects without tasks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pgtasks
from pgtasks.errors import Failed, Interrupted, PgtasksError, Refused


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options, unknown = parser.parse_known_args(argv)
    if options.command is None and not unknown:
        parser.print_help(sys.stderr)
        return Refused.exit_code
    try:
        _refuse(unknown)
        from pgtasks.cli.init import init

        init(Path.cwd(), write=options.write)
    except PgtasksError as exc:
        _say(exc.message)
        return exc.exit_code
    except OSError as exc:  # for example a folder without permission
        _say(f"{exc.filename or 'init'}: {exc.strerror or exc}")
        return Failed.exit_code
    except KeyboardInterrupt:  # after the first written file, the error is Interrupted
        _say("interrupted")
        return Interrupted.exit_code
    return 0


def _refuse(unknown: Sequence[str]) -> None:
    if unknown:
        from pgtasks.settings import fields

        word = unknown[0]
        raise Refused(
            f"{word!r} is no argument of init, {fields.meant(word, ('--write', '--help'))}"
        )


def _say(message: str) -> None:
    from pgtasks import report

    try:
        report.say(f"error: {message}")
    except OSError:  # nobody reads stderr
        report.silence(sys.stderr)


def _parser() -> argparse.ArgumentParser:
    about = "Set up a project for pgtasks. `inv --list` shows the tasks."
    parser = argparse.ArgumentParser(prog="python -m pgtasks", description=about)
    parser.add_argument("--version", action="version", version=pgtasks.__version__)
    commands = parser.add_subparsers(metavar="command", dest="command")
    init = commands.add_parser(
        "init",
        help="add the missing files to a project",
        description="It changes no existing file.",
    )
    init.add_argument(
        "--write", "--yes", action="store_true", help="write without asking (default: ask)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
