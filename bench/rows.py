"""Rows of the result: ours beside theirs, computed from the samples of one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.measure import Sample
from pgtasks import report


@dataclass(frozen=True)
class Figure:
    """What was typed, the median of what it took, and of the CPU seconds of client and server."""

    name: str
    median: float
    cpu: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `ratio` is the median over the repetitions of ours divided by theirs in the same repetition,
    `least` and `greatest` are the extremes of it. Without `theirs` there is no ratio, and the
    extremes are of our own figure. `unit` is s, ms, us, bytes or times.
    """

    case: str
    what: str
    unit: str
    ours: Figure
    theirs: Figure | None
    ratio: float | None
    least: float
    greatest: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        """Return the row that `as_json` wrote."""
        theirs = Figure(**data["theirs"]) if data["theirs"] else None
        return cls(**{**data, "ours": Figure(**data["ours"]), "theirs": theirs})


Pick = Callable[[Sample], float]
Named = tuple[str, Sequence[Sample]]


def seconds(sample: Sample) -> float:
    """Pick the time."""
    return sample.seconds


def peak(sample: Sample) -> float:
    """Pick the memory of the command's own process."""
    return sample.peak


def size(sample: Sample) -> float:
    """Pick the bytes that were written."""
    return sample.size


def extra(key: str) -> Pick:
    """Return what picks one of the other figures of a sample."""
    return lambda sample: sample.extra[key]


def compared(
    case: str,
    what: str,
    ours: Named,
    theirs: Named,
    *,
    pick: Pick = seconds,
    unit: str = "s",
) -> Row:
    """Return the row of two contenders that took turns."""
    mine, other = ([pick(one) for one in samples] for _, samples in (ours, theirs))
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return Row(
        case=case,
        what=what,
        unit=unit,
        ours=_figure(ours, pick),
        theirs=_figure(theirs, pick),
        ratio=_rounded(median(ratios)),
        least=_rounded(min(ratios)),
        greatest=_rounded(max(ratios)),
        n=len(ratios),
    )


def alone(
    case: str,
    what: str,
    ours: Named,
    *,
    pick: Pick = seconds,
    unit: str = "s",
) -> Row:
    """Return the row of a figure that nothing stands beside."""
    mine = [pick(one) for one in ours[1]]
    low, high = _rounded(min(mine)), _rounded(max(mine))
    return Row(case, what, unit, _figure(ours, pick), None, None, low, high, len(mine))


def _figure(named: Named, pick: Pick) -> Figure:
    name, samples = named
    cpu = _rounded(median(one.client + one.server for one in samples))
    return Figure(name, _rounded(median(map(pick, samples))), cpu if pick is seconds else None)


def _rounded(value: float) -> float:
    return round(value, 4 if value >= 0.1 else 7)


HEADINGS = ("what", "ours", "theirs", "ours ÷ theirs", "spread", "difference", "CPU", "n")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [_line(HEADINGS), _line(["---"] * 3 + ["--:"] * (len(HEADINGS) - 3))]
    return "\n".join(lines + [_line(_cells(row)) for row in rows])


# what the README shows: where we win, and where we lose
_TOLD = ("backup of a nearly empty database", "backup", "restore", "take a restore back")
_BRIEF = slice(0, 4)  # what, ours, theirs, their ratio


def brief(rows: Sequence[Row]) -> str:
    """Return the comparisons that matter most as a narrow Markdown table."""
    told = [row for row in rows if row.what in _TOLD and row.ratio is not None]
    lines = [_line(HEADINGS[_BRIEF]), _line(["---"] * 3 + ["--:"])]
    return "\n".join(lines + [_line(_cells(row)[_BRIEF]) for row in told])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    if row.theirs is None or row.ratio is None:
        spread = f"{shown(row.least, row.unit)} to {shown(row.greatest, row.unit)}"
        return [row.what, _cell(row.ours, row.unit), "", "", spread, "", "", str(row.n)]
    difference = row.ours.median - row.theirs.median
    return [
        row.what,
        _cell(row.ours, row.unit),
        _cell(row.theirs, row.unit),
        f"**{row.ratio:.2f}**",
        f"{row.least:.2f} to {row.greatest:.2f}",
        f"{'+' if difference >= 0 else '−'}{shown(abs(difference), row.unit)}",
        _cpu(row),
        str(row.n),
    ]


def _cell(figure: Figure, unit: str) -> str:
    return f"{figure.name} **{shown(figure.median, unit)}**"


def _cpu(row: Row) -> str:
    if row.theirs is None or row.ours.cpu is None or row.theirs.cpu is None:
        return ""
    return f"{shown(row.ours.cpu, row.unit)} / {shown(row.theirs.cpu, row.unit)}"


def shown(value: float, unit: str) -> str:
    """Return a figure with its unit, as people write it."""
    if unit == "s":
        return f"{value:.1f} s" if value >= 9.95 else f"{value:.2f} s"
    if unit == "ms":
        return f"{value * 1000:.0f} ms"
    if unit == "us":
        return f"{value * 1_000_000:,.0f} µs"
    if unit == "bytes":
        return report.size(value)
    return f"{value:g}"
