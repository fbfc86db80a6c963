"""Contenders that take turns, so that what drifts on the machine hits all of them alike."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from bench.measure import Sample
from bench.rows import Row
from bench.workspace import Workspace
from pgtasks import report


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """One way to do the job; `name` is what a user would type, `prepare` is not timed."""

    name: str
    run: Callable[[], Sample]
    prepare: Callable[[], object] = _nothing


Samples = dict[str, list[Sample]]


@dataclass
class Bench:
    """What a case works with."""

    space: Workspace
    scale: str
    reps: int
    sets: re.Pattern[str] = re.compile("")  # of the databases that are copied
    samples: dict[str, Samples] = field(default_factory=dict)

    def contest(self, case: str, contenders: Sequence[Contender], *, reps: int = 0) -> Samples:
        """Run the contenders in turns, A B A B, and return the samples by name."""
        found: Samples = {one.name: [] for one in contenders}
        for _ in range(reps or self.reps):
            for one in contenders:
                one.prepare()
                found[one.name].append(one.run())
        self.samples.setdefault(case, {}).update(found)
        for name, samples in found.items():
            report.say(f"  {name}: {_summary(samples)}")
        return found


def _summary(samples: Sequence[Sample]) -> str:
    times = [one.seconds for one in samples]
    each = ", ".join(map(report.duration, times)) if len(times) <= 5 else f"n={len(times)}"
    return f"{report.duration(median(times))} ({each})"


def parted(sample: Sample, parts: Sequence[tuple[str, str]]) -> Sample:
    """Return the sample with the seconds of each part: a part ends where its boundary is passed.

    A part whose boundary is empty ends with the run.
    """
    passed = 0.0
    lengths = {}
    for name, boundary in parts:
        until = sample.steps[boundary] if boundary else sample.seconds
        lengths[name] = until - passed
        passed = until
    return replace(sample, extra={**sample.extra, **lengths})


Case = Callable[[Bench], list[Row]]


def told(name: str, case: Case, bench: Bench) -> list[Row]:
    """Run a case, saying which and how long it took."""
    report.say(name)
    began = time.monotonic()
    rows = case(bench)
    report.say(f"  ({report.duration(time.monotonic() - began)})")
    return rows
