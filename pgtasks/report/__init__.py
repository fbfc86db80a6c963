"""What a run says: to a person, to a program, to the journal.

account      who runs this
text         numbers, sizes and times as people write them; control characters written out
terminal     what stdout and stderr lead to: width, colours
tables       tables, on a terminal no wider than that
progress     how far long work is
console      the person at the terminal: said, asked, confirmed, chosen
output       data: lines, or one JSON document
commandline  what the command line says before Invoke acts on it
typed        commands as they must be typed here and now
boundaries   the steps of long operations, where tests and benchmarks listen
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
    from pgtasks.report.text import age, count, duration, plural, printable, shown, size

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
    "summarize",
    "table",
]

_MODULES = ("console", "output", "progress", "tables", "terminal", "text")


def __getattr__(name: str) -> Any:
    # `inv --list` imports this package on every press of TAB, and says nothing by it
    if name in __all__:
        for module in _MODULES:
            found = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
