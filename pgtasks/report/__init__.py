"""What a run says: to a person, to a program, to the journal.

account      who runs this
output       lines, tables, progress and documents
commandline  what the command line says before Invoke acts on it
typed        commands as they must be typed here and now
boundaries   the steps of long operations, where tests and benchmarks listen
"""

from __future__ import annotations

from pgtasks.report.output import (
    RED,
    SUMMARY,
    YELLOW,
    Progress,
    Reported,
    age,
    ask,
    colored,
    count,
    data,
    document,
    duration,
    failure,
    plural,
    printable,
    result,
    say,
    say_colored,
    shown,
    silence,
    size,
    summarize,
    table,
)

__all__ = [
    "RED",
    "SUMMARY",
    "YELLOW",
    "Progress",
    "Reported",
    "age",
    "ask",
    "colored",
    "count",
    "data",
    "document",
    "duration",
    "failure",
    "plural",
    "printable",
    "result",
    "say",
    "say_colored",
    "shown",
    "silence",
    "size",
    "summarize",
    "table",
]
