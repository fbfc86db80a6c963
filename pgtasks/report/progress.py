"""The progress of long work: a live bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from pgtasks.report import terminal
from pgtasks.report.text import duration, printable, size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SAMPLES = 100  # samples for the rate, of the last ten seconds
_TELLING = 100  # before this part of the work is done, its rate says nothing about the rest
_NARROWEST, _WIDEST = 10, 40  # cells of a bar; a terminal without room for it shows none
_BESIDE = 60  # cells for the text beside it


def state(done: int, total: int, rate: float) -> str:
    """Return what stands after a bar: `1.2 GB of 3.4 GB  120 MB/s  18 s left`; in bytes."""
    of = f" of {size(total)}" if done < total else ""
    left = total - done
    is_known = rate > 0 and left > 0 and done >= total / _TELLING
    time_left = f"{duration(max(1.0, left / rate))} left" if is_known else ""
    return f"{size(done)}{of}  {size(rate)}/s  {time_left}".rstrip()


class Progress:
    """Show the progress of long work, in bytes.

    `total` may be an estimate: the bar reaches its end only with the block. Short work shows no
    bar. No thread draws, because programs are started while a bar is shown, and a fork inherits
    locks that other threads hold.
    """

    _EVERY = 10.0  # seconds between the lines in a log
    _AFTER = 0.3  # seconds before a bar is shown
    _BETWEEN = 0.1  # seconds between updates

    def __init__(self, what: str, total: int = 0, *, quiet: bool = False) -> None:
        self.what, self.total = what, total
        self._done, self._note = 0, ""
        self._quiet, self._drawn = quiet, terminal.is_drawn_on(sys.stderr)
        self._bar: Bar | None = None
        self._begun = time.monotonic()
        self._seen = deque([(self._begun, 0)], maxlen=_SAMPLES)
        self._next = self._begun + (self._AFTER if self._drawn else self._EVERY)

    def __enter__(self) -> Progress:
        return self

    @property
    def due(self) -> bool:
        """Return whether an update would be shown now; measuring the progress may be expensive."""
        return not self._quiet and time.monotonic() >= self._next

    def expect(self, total: int) -> None:
        """Set the total number of bytes, once it is known."""
        self.total = total

    def advance(self, more: int) -> None:
        """Add to the number of bytes done."""
        self.update(self._done + more, self._note)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of bytes done."""
        self._done, self._note = done, printable(note)
        if not self.due:
            return
        now = time.monotonic()
        self._next = now + (self._BETWEEN if self._drawn else self._EVERY)
        if self._drawn:
            self._draw(now)
        else:
            self._log(now - self._begun)

    def _draw(self, now: float) -> None:
        if self._bar is None:
            self._bar = _bar(self.what, self.total)
            self._bar.start()
            terminal.keep_line(bar=True)
        self._seen.append((now, self._done))
        shown = min(self._done, self.total - 1) if self.total else self._done
        (before, less), (_, done) = self._seen[0], self._seen[-1]
        rate = (done - less) / max(now - before, 1e-3)
        text = f"{state(done, self.total, rate)}  {self._note}".rstrip()
        self._bar.update(self._bar.task_ids[0], completed=shown, state=text, refresh=True)

    def _log(self, seconds: float) -> None:
        of = f" of about {size(self.total)}" if self.total else ""
        terminal.talk(f"  {self.what}: {size(self._done)}{of}, {duration(seconds)} {self._note}\n")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._draw(time.monotonic())
            self._bar.stop()
            terminal.keep_line(bar=False)


def _bar(label: str, total: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    console = Console(stderr=True)
    # the bar takes the rest of the line
    rest = Column(no_wrap=True, ratio=1)
    width = min(_WIDEST, console.width - _BESIDE)
    bar = Progress(
        TextColumn("  {task.description}", markup=False),
        *([BarColumn(width)] if width >= _NARROWEST else []),
        TextColumn("{task.fields[state]}", markup=False, table_column=rest),
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        transient=True,
        expand=True,
    )
    bar.add_task(label, total=total or None, state="")
    return bar
