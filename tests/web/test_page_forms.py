"""What the pages' forms take and refuse, and how they write times: no server is asked."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from clinic.web import characters
from clinic.web.calendar import Times, free, slots
from clinic.web.pages import texts
from clinic.web.pages.paths import local_path

MONDAY = date(2026, 11, 30)


def at(hour: int, minute: int = 0, *, day: date = MONDAY) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "path", ["/", "/appointments", "/appointments?period=all&page=2", "/a/../b", "/ä", "/x#y"]
)
def test_a_path_of_this_site_is_kept(path: str) -> None:
    assert local_path(path) == path


# what a browser takes for another site, or for a script
ELSEWHERE = [
    *("", None, "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example"),
    *("https://evil.example", "https:evil.example", "http:/evil.example", "javascript:alert(1)"),
    *("evil.example", "/\t/evil.example", "/\n/evil.example", "/\r\nSet-Cookie: a=b", " //evil"),
    *("/\0/evil", "\t//evil", "/ /evil", "data:text/html,x", "//[", "/" + "x" * 500),
    *("/\u202e/moc.live", "ftp://evil", "?next=//evil", "#//evil", "/\x7f/evil", "/a\\..\\b"),
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_path_that_leads_elsewhere_is_none(path: str | None) -> None:
    assert local_path(path) == ""


@pytest.mark.parametrize("name", ["Zoë", "محمد", "דוד", "李", "O'Brien", "a-b", "👩‍⚕️", "e\u0301"])
def test_names_of_all_scripts_are_plain(name: str) -> None:
    assert characters.stray(name) == ""


@pytest.mark.parametrize("name", ["a\0", "a\nb", "a\u202eb", "\u2066a", "\x7f", "\x85", "\ud800"])
def test_what_hides_or_turns_text_is_not(name: str) -> None:
    assert characters.stray(name) == name.strip("ab")
    assert characters.plain(name) == "".join(letter for letter in name if letter in "ab")


def test_slots_are_those_of_working_days() -> None:
    found = slots(MONDAY, 30)
    assert (found[0], found[-1]) == (Times(at(8), at(8, 30)), Times(at(16, 30), at(17)))
    assert len(found) == 18
    assert len(slots(MONDAY, 45)) == 12
    assert all(each.ends_at <= at(17) for each in slots(MONDAY, 50))
    assert slots(MONDAY + timedelta(days=5), 30) == []
    assert slots(MONDAY + timedelta(days=6), 30) == []


def test_free_is_what_meets_nothing_and_is_still_to_come() -> None:
    offered = slots(MONDAY, 30)
    taken = [Times(at(9), at(9, 30)), Times(at(10, 15), at(10, 20)), Times(at(12), at(13))]
    starts = {each.starts_at for each in free(offered, taken, at(8, 30))}
    assert not starts & {at(8), at(8, 30), at(9), at(10), at(12), at(12, 30)}
    assert {at(9, 30), at(10, 30), at(11, 30), at(13)} <= starts
    assert free(offered, [], at(17)) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 second"), (1, "1 second"), (59, "59 seconds"), (61, "2 minutes"), (900, "15 minutes")],
)
def test_a_wait_is_never_said_too_short(seconds: float, text: str) -> None:
    assert texts.span(seconds) == text


def test_times_are_written_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=45))
    moment = datetime(2026, 12, 1, 1, 0, tzinfo=east)
    assert texts.moment(moment) == "Mon 30 Nov 2026, 19:15"
    assert texts.iso(moment) == "2026-11-30T19:15:00Z"


CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/138.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        (None, "unknown browser"),
        (CHROME, "Chrome on Linux"),
        (f"{CHROME} Edg/138.0", "Edge on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 ?", "A browser"),
        ("curl/8.0 " + "x" * 100, ("curl/8.0 " + "x" * 100)[:70]),
    ],
)
def test_a_browser_is_named_for_people(agent: str | None, text: str) -> None:
    assert texts.browser(agent) == text
