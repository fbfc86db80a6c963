"""How days, times and sizes are written. All times are in UTC, which the foot of a page says."""

from __future__ import annotations

from datetime import date, datetime, timezone

from flask import Flask

from pgtasks import report
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.views import age

_RECORDED = "%Y-%m-%dT%H:%M:%S"
_LONGEST = 70  # characters of a program's name that are shown
# the first mark that is found counts: most browsers say that they are others too
_BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def day(value: date) -> str:
    """Return `Mon 30 Nov 2026`."""
    return f"{value:%a} {value.day} {value:%b} {value.year}"


def time(value: datetime) -> str:
    """Return `09:30`."""
    return f"{value.astimezone(timezone.utc):%H:%M}"


def moment(value: datetime) -> str:
    """Return `Mon 30 Nov 2026, 09:30`."""
    value = value.astimezone(timezone.utc)
    return f"{day(value.date())}, {time(value)}"


def recorded(text: str) -> str:
    """Return the moment of a time as the tasks record it, the text itself where it is none."""
    try:
        return moment(datetime.strptime(text[:19], _RECORDED).replace(tzinfo=timezone.utc))
    except ValueError:
        return text


def span(seconds: float) -> str:
    """Return `2 minutes`: the largest unit, rounded up, for how long to wait."""
    for length, name in _UNITS:
        if seconds > length or length == 1:
            number = max(1, -(-int(seconds + 0.999) // length))
            return f"{number} {name}{'' if number == 1 else 's'}"
    raise AssertionError


def iso(value: datetime) -> str:
    """Return what the attribute `datetime` of a time holds."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def browser(agent: str | None) -> str:
    """Return `Firefox on Linux` for what a browser says of itself."""
    if not agent:
        return "unknown browser"
    if not agent.startswith("Mozilla/"):
        return agent[:_LONGEST]
    name = next((name for mark, name in _BROWSERS if mark in agent), "A browser")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if system else name


def backup_age(backup: Backup) -> str:
    """Return how long ago the snapshot of a backup was taken."""
    return report.age(age(backup))


def init_app(app: Flask) -> None:
    """Give them to the templates."""
    for function in (browser, day, time, moment, iso, recorded, span, backup_age, report.size):
        app.add_template_filter(function)
