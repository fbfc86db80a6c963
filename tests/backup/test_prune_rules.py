"""The rules of backup.prune: what stays and why, of any backups at any time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests import PLAIN

from pgtasks.backup.prune import loss
from pgtasks.backup.prune.rules import Fact, decide
from pgtasks.settings.blocks import Keep

NOW = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)


def series(number: int, hours: float = 24, **more: object) -> list[Fact]:
    """Return backups at even distances, the newest an hour old, their names in no order."""
    names = random.Random(number).sample(range(10_000), number)
    return [
        Fact(f"b{name:04}", NOW - timedelta(hours=1 + hours * each), **more)  # type: ignore[arg-type]
        for each, name in enumerate(names)
    ]


def kept(facts: Sequence[Fact], keep: Keep, now: datetime = NOW) -> list[int]:
    """Return which of some backups stay, by their numbers."""
    order = [fact.id for fact in facts]
    return sorted(order.index(each.fact.id) for each in decide(facts, keep, now) if each.stays)


def why(facts: Sequence[Fact], keep: Keep, number: int) -> str:
    verdicts = decide(facts, keep, NOW)
    return next(each.why for each in verdicts if each.fact.id == facts[number].id)


class TestRules:
    def test_the_last_ones(self) -> None:
        facts = series(10)
        assert kept(facts, Keep(last=3)) == [0, 1, 2]
        assert why(facts, Keep(last=3), 1) == "last 2 of 3"
        assert why(facts, Keep(last=3), 3) == "no rule keeps it"

    def test_the_last_of_each_day_of_utc(self) -> None:
        facts = series(12, hours=6)  # 11:00, 05:00, 23:00 of the day before ...
        assert kept(facts, Keep(daily=3)) == [0, 2, 6]
        assert why(facts, Keep(daily=3), 2) == "daily 2026-11-28 (2 of 3)"

    def test_weeks_months_and_years(self) -> None:
        facts = series(800)
        assert kept(facts, Keep(weekly=3)) == [0, 7, 14]
        assert why(facts, Keep(weekly=3), 7) == "weekly 2026-W47 (2 of 3)"
        assert kept(facts, Keep(monthly=3)) == [0, 29, 60]
        assert kept(facts, Keep(yearly=9)) == [0, 333, 698]
        assert why(facts, Keep(yearly=9), 333) == "yearly 2025 (2 of 9)"

    def test_the_first_days_of_a_year_belong_to_a_week_of_the_last(self) -> None:
        facts = [Fact("a", datetime(2027, 1, 1, tzinfo=timezone.utc))]
        [verdict] = decide(facts, Keep(weekly=1), datetime(2027, 1, 2, tzinfo=timezone.utc))
        assert verdict.why.startswith("weekly 2026-W53 (1 of 1)")

    def test_a_day_without_a_backup_is_no_day_of_a_rule(self) -> None:
        facts = series(5, hours=24 * 10)
        assert kept(facts, Keep(daily=3)) == [0, 1, 2]

    def test_within_a_span_of_the_newest_one(self) -> None:
        facts = series(10)
        assert kept(facts, Keep(within="2d")) == [0, 1, 2]
        later = NOW + timedelta(days=400)  # nothing was backed up meanwhile
        assert kept(facts, Keep(within="2d"), later) == [0, 1, 2]

    def test_a_backup_stays_if_one_rule_keeps_it(self) -> None:
        facts = series(100)
        assert kept(facts, Keep(last=2, weekly=2, monthly=2)) == [0, 1, 7, 29]
        assert why(facts, Keep(last=1, daily=1), 0) == (
            "last 1 of 1, daily 2026-11-29 (1 of 1), the newest whole one"
        )

    def test_the_order_is_that_of_time_and_never_that_of_names(self) -> None:
        facts = [
            Fact("20990101T000000Z-ffff", NOW - timedelta(days=9)),
            Fact("20200101T000000Z-0000", NOW - timedelta(days=1)),
        ]
        assert kept(facts, Keep(last=1)) == [1]


class TestFloor:
    def test_the_newest_proven_one_stays(self) -> None:
        facts = series(10)
        facts[5] = replace(facts[5], proven=True)
        facts[8] = replace(facts[8], proven=True)
        assert kept(facts, Keep(last=2)) == [0, 1, 5]
        assert why(facts, Keep(last=2), 5) == "the newest proven one"
        assert kept(facts, Keep(last=2, proven=2)) == [0, 1, 5, 8]
        assert kept(facts, Keep(last=2, proven=0)) == [0, 1]

    def test_a_damaged_one_is_not_proven(self) -> None:
        facts = series(10)
        facts[3] = replace(facts[3], proven=True, aside="damaged")
        facts[5] = replace(facts[5], proven=True)
        assert kept(facts, Keep(last=1)) == [0, 3, 5]

    def test_one_that_is_kept_by_hand_is_the_proven_one(self) -> None:
        facts = series(10)
        facts[4] = replace(facts[4], proven=True, kept="audit")
        facts[5] = replace(facts[5], proven=True)
        assert kept(facts, Keep(last=1)) == [0, 4]


class TestAside:
    """What cannot take the place of a whole backup takes the place of none, and stays."""

    @pytest.mark.parametrize("what", ["damaged", "schema only", "without rows of a", "a link"])
    def test_counts_as_none(self, what: str) -> None:
        facts = series(6)
        facts[0], facts[2] = replace(facts[0], aside=what), replace(facts[2], aside=what)
        assert kept(facts, Keep(last=2)) == [0, 1, 2, 3]
        assert why(facts, Keep(last=2), 0) == what
        assert why(facts, Keep(last=2), 1) == "last 1 of 2, the newest whole one"

    def test_so_does_one_that_is_kept_by_hand(self) -> None:
        facts = series(6)
        facts[0], facts[4] = replace(facts[0], kept="x (ann)"), replace(facts[4], kept="y (bob)")
        assert kept(facts, Keep(last=2)) == [0, 1, 2, 4]
        assert why(facts, Keep(last=2), 4) == "kept by hand: y (bob)"
        facts[4] = replace(facts[4], aside="damaged")
        assert why(facts, Keep(last=2), 4) == "kept by hand: y (bob); damaged"

    def test_one_of_the_future_stays_and_takes_no_place(self) -> None:
        facts = series(4)
        stepped_back = NOW - timedelta(days=2, hours=6)
        assert kept(facts, Keep(last=1), stepped_back) == [0, 1, 2, 3]
        assert kept(facts, Keep(last=1), stepped_back + timedelta(days=1)) == [0, 1, 2]
        verdicts = decide(facts, Keep(last=1), stepped_back)
        assert [each.why for each in verdicts][:2] == ["dated in the future"] * 2

    def test_two_clocks_that_differ_a_little_are_no_future(self) -> None:
        facts = [Fact("a", NOW + timedelta(minutes=1)), Fact("b", NOW - timedelta(days=1))]
        assert kept(facts, Keep(last=1)) == [0]


numbers = st.integers(0, 5)
keeps = st.builds(
    Keep,
    last=numbers,
    daily=numbers,
    weekly=numbers,
    monthly=numbers,
    yearly=numbers,
    within=st.sampled_from(["", "1h", "3d", "99999w"]),
    proven=numbers,
)
some = st.lists(
    st.builds(
        Fact,
        id=st.uuids().map(str),
        taken=st.datetimes(
            datetime(1, 1, 1), datetime(9998, 12, 31), timezones=st.just(timezone.utc)
        ),
        proven=st.booleans(),
        kept=st.sampled_from(["", "", "why"]),
        aside=st.sampled_from(["", "", "damaged"]),
    ),
    max_size=30,
    unique_by=lambda fact: fact.id,
)


# the same examples in each run, however slow the machine is
made_up = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@made_up
@given(some, keeps, st.randoms())
def test_of_any_backups(facts: list[Fact], keep: Keep, shuffle: random.Random) -> None:
    verdicts = decide(facts, keep, NOW)
    stay = {each.fact.id for each in verdicts if each.stays}
    assert {each.fact.id for each in verdicts} == {fact.id for fact in facts}
    assert all(each.why for each in verdicts)
    whole = [fact for fact in facts if not fact.aside and fact.taken <= NOW]
    assert {fact.id for fact in facts if fact.kept or fact.aside or fact.taken > NOW} <= stay
    proven = sorted((fact.taken, fact.id) for fact in whole if fact.proven)[::-1][: keep.proven]
    assert {id for _, id in proven} <= stay
    if whole:
        assert max(whole, key=lambda fact: (fact.taken, fact.id)).id in stay
    # what is dropped can be dropped in one run or in two, and in any order
    shuffle.shuffle(facts)
    assert {each.fact.id for each in decide(facts, keep, NOW) if each.stays} == stay
    again = decide([fact for fact in facts if fact.id in stay], keep, NOW)
    assert all(each.stays for each in again)


@made_up
@given(some, keeps)
def test_one_more_rule_drops_no_more(facts: list[Fact], keep: Keep) -> None:
    stay = {each.fact.id for each in decide(facts, keep, NOW) if each.stays}
    more = replace(keep, last=keep.last + 1, monthly=keep.monthly + 2, proven=keep.proven + 1)
    assert stay <= {each.fact.id for each in decide(facts, more, NOW) if each.stays}


class TestLoss:
    def test_of_rows(self) -> None:
        before = replace(PLAIN, rows=1000, id="20250101T000000Z-aaaa")
        assert loss.between(before, replace(PLAIN, rows=501), 0.5) == ""
        assert loss.between(before, replace(PLAIN, rows=500), 0.5) == (
            "50 % of its rows (1,000 to 500) since 20250101T000000Z-aaaa"
        )
        assert "100 % of its rows (1,000 to 0)" in loss.between(before, replace(PLAIN, rows=0), 0.5)
        assert "99 % of its rows" in loss.between(before, replace(PLAIN, rows=1), 0.5)
        assert loss.between(before, replace(PLAIN, rows=2000), 0.5) == ""

    def test_not_of_rows_that_were_not_counted(self) -> None:
        before = replace(PLAIN, rows=1000)
        assert loss.between(before, replace(PLAIN, rows=0, uncounted=1), 0.5) == ""
        again = replace(PLAIN, rows=1000, uncounted=1)
        assert "100 % of its rows" in loss.between(again, replace(PLAIN, rows=0, uncounted=1), 0.5)
        assert "100 % of its rows" in loss.between(again, replace(PLAIN, rows=0), 0.5)

    def test_of_size_in_the_same_compression_alone(self) -> None:
        large = {"dump/1": replace(next(iter(PLAIN.files.values())), size=3_000_000)}
        before = replace(PLAIN, rows=None, files=large)
        assert "99 % of its size (3.0 MB to 3 B)" in loss.between(before, PLAIN, 0.5)
        assert loss.between(before, replace(PLAIN, compression="none"), 0.5) == ""
        assert loss.between(before, PLAIN, 0) == ""

    def test_not_of_what_was_left_out(self) -> None:
        before = replace(PLAIN, rows=1000)
        for lacks in ({"schema_only": True}, {"excluded_data": ("a",)}):
            lacking = replace(PLAIN, rows=0, **lacks)  # type: ignore[arg-type]
            assert loss.between(before, lacking, 0.5) == ""
            assert loss.between(lacking, replace(PLAIN, rows=0), 0.5) == ""

    def test_of_an_empty_database(self) -> None:
        before = replace(PLAIN, rows=0, files={})
        assert loss.between(before, replace(PLAIN, rows=0, files={}), 0.5) == ""
        assert loss.between(replace(PLAIN, rows=None), replace(PLAIN, rows=0), 0.5) == ""
