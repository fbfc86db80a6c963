"""The output of a run, for a person and for a program.

account       the account of this process
text          format numbers, sizes and times; escape control characters
terminal      terminals: width and colours of stdout and stderr
tables        tables that fit the width of the terminal
progress      progress of long work
console       messages to a person, and questions
output        results on stdout: lines, or one JSON document
junit         results as JUnit's XML, for a CI system
commandline   read the command line before Invoke does
typed         commands with the flags that they need here
interruption  what a run left that a signal ended
boundaries    the steps of long operations, for tests and benchmarks
version       the version of pgtasks
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgtasks.report.console import CONSOLE, Console, Say, is_yes, say
    from pgtasks.report.output import (
        SUMMARY,
        Reported,
        data,
        document,
        failure,
        result,
        silence,
        summarize,
    )
    from pgtasks.report.progress import Progress
    from pgtasks.report.tables import hanging, table
    from pgtasks.report.terminal import lent_width, painted
    from pgtasks.report.text import age, count, duration, plural, printable, shown, size, span

__all__ = [
    "CONSOLE",
    "SUMMARY",
    "Console",
    "Progress",
    "Reported",
    "Say",
    "age",
    "count",
    "data",
    "document",
    "duration",
    "failure",
    "hanging",
    "is_yes",
    "lent_width",
    "painted",
    "plural",
    "printable",
    "result",
    "say",
    "shown",
    "silence",
    "size",
    "span",
    "summarize",
    "table",
]

_MODULES = ("console", "output", "progress", "tables", "terminal", "text")


def __getattr__(name: str) -> Any:
    # `inv --list` and TAB import this package, and print nothing with it
    if name in __all__:
        for module in _MODULES:
            names = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in names:
                globals()[name] = names[name]  # the next time it is found without a search
                return names[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
