"""What a run of the suite says: one line of progress, the slowest tests, and what was not run.

It is for `make test`: with -q or -v pytest's own letters and lines are shown instead.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Generator, Sequence

import pluggy
import pytest

_SLOWEST = 10
_EVERY = 30.0  # seconds between two lines where they cannot be written over
_WAYS = {
    r"namespaces need root": "run as root: the hosts of these tests are namespaces",
    r"namespaces cannot be made": "run where root may make them: docker run --privileged ...",
    r"^(unshare|nsenter|setpriv|pivot_root) is not": "apt install util-linux",
    r"^(ip|tc) is not|a link cannot be slowed": "apt install iproute2, a kernel with sch_tbf",
    r"^(sudo|git|perl|socat) is not installed": r"apt install \1",
    r"^(openssh-server|openssh-client) is not": r"apt install \1",
    r"^(?:/usr)?/bin/(\w+) is not installed": r"apt install \1",
    r"PgBouncer is not installed": "apt install pgbouncer",
    r"[Tt]his system('s)? (has no )?PostgreSQL|the system's PostgreSQL|a PostgreSQL of its own"
    r"|psql is not installed": "apt install postgresql (14 to 18), with contrib",
    r"needs root|only root can|only root gives|^no account": "run as root",
    r"SAMPLE_DATA": "SAMPLE_DATA=folder-of-samples make test",
    r"not a git checkout": "git clone",
    r"minutes of this slice were over": "make torture, without --minutes",
}


def way(reason: str) -> str:
    """Return how to get what a test was skipped for, or nothing."""
    for pattern, words in _WAYS.items():
        if match := re.search(pattern, reason):
            return match.expand(words)
    return ""


def clock(seconds: float) -> str:
    """Return a length of time as 4:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """A plugin of the process that reports."""

    def __init__(self) -> None:
        """Count from now on."""
        self._begun = self._told = time.monotonic()
        self._done: Counter[str] = Counter()
        self._skips: list[tuple[str, str]] = []  # reason, file
        self._durations: dict[str, float] = {}
        self._session: pytest.Session | None = None
        self._terminal: pytest.TerminalReporter | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take hold of pytest's terminal."""
        self._session = session
        self._terminal = session.config.pluginmanager.get_plugin("terminalreporter")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_report_teststatus(
        self,
    ) -> Generator[None, pluggy.Result[tuple[str, str, str]], None]:
        """Let pytest write no letter for a test."""
        outcome = yield
        category, _, _ = outcome.get_result()
        outcome.force_result((category, "", ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, and name at once one that failed."""
        if report.when == "call" and not report.skipped:
            self._durations[report.nodeid] = report.duration
        if report.failed:
            self._done["failed"] += 1
            self._write(f"FAILED {report.nodeid}" + (f" ({report.when})" * (report.when != "call")))
        elif report.skipped and not hasattr(report, "wasxfail"):
            self._done["skipped"] += 1
            self._skips.append((_reason(report), report.nodeid.partition("::")[0]))
        if report.when == "teardown":
            self._done["run"] += 1
            self._show(report.nodeid)

    def line(self, nodeid: str) -> str:
        """Return how far the run is."""
        assert self._session is not None
        done, total = self._done["run"], max(self._session.testscollected, self._done["run"])
        passed = time.monotonic() - self._begun
        parts = [f"{done} of {total} tests"]
        parts += [
            f"{self._done[word]} {word}" for word in ("failed", "skipped") if self._done[word]
        ]
        left = passed / done * (total - done)
        parts.append(f"{clock(passed)} gone, about {clock(left)} left")
        return f"{done * 100 // total:3}%  {', '.join(parts)}  {nodeid.partition('::')[0]}"

    def _show(self, nodeid: str) -> None:
        terminal, now = self._terminal, time.monotonic()
        assert terminal is not None
        if terminal.isatty:
            width = terminal._tw.fullwidth
            terminal.rewrite(self.line(nodeid)[: width - 1], erase=True)
        elif now - self._told >= _EVERY:
            self._told = now
            self._write(self.line(nodeid))

    def _write(self, line: str) -> None:
        assert self._terminal is not None
        if self._terminal.isatty:
            self._terminal.rewrite("", erase=True)
        self._terminal.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the slowest tests, then what was not run and how to get it."""
        slowest = sorted(self._durations.items(), key=lambda item: -item[1])[:_SLOWEST]
        if slowest:
            terminalreporter.section(f"the {len(slowest)} slowest tests")
        for nodeid, seconds in slowest:
            terminalreporter.write_line(f"{seconds:6.1f} s  {nodeid}")
        if self._skips:
            terminalreporter.section(f"{len(self._skips)} tests were not run")
        for line in not_run(self._skips):
            terminalreporter.write_line(line)


def not_run(skips: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each reason for which tests were skipped: how many, why, and the way."""
    counts = Counter(reason for reason, _ in skips)
    lines = []
    for reason, number in counts.most_common():
        files = sorted({file for why, file in skips if why == reason})
        lines.append(f"{number:4}  {reason}: {way(reason) or 'nothing to install'}")
        lines.append(f"      {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else ""))
    return lines


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")
