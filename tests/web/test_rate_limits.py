"""Rate limits: exact over threads and processes, and no longer than their window."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest
from clinics import Clinic
from offices import Office, opened
from waiting import until

from clinic.web.security import limits
from clinic.web.security.errors import RateLimited

THREADS, EACH, ALLOWED = 8, 50, 100


def now() -> datetime:
    return datetime.now(timezone.utc)


def hit(key: str, name: str = "api") -> bool:
    try:
        limits.hit(name, key)
    except RateLimited:
        return False
    return True


def test_eight_racing_threads_get_exactly_what_is_allowed(
    office_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.LIMITS, "api", limits.Limit("api_rate", 3600))
    with opened(office_clinic, api_rate=ALLOWED) as office:
        counted = office.racing(THREADS, lambda n: Counter(hit("race") for _ in range(EACH)))
        assert sum(counted, Counter()) == {True: ALLOWED, False: THREADS * EACH - ALLOWED}
        # another process has another application, and the same counts
        with opened(office_clinic, api_rate=ALLOWED):
            assert not hit("race")
            assert hit("other")


def test_a_window_ends(office_clinic: Clinic) -> None:
    stored = f"api:{hashlib.sha256(b'window').hexdigest()}"
    with opened(office_clinic, api_rate=2) as office:
        begun = now()
        assert [hit("window") for _ in range(3)] == [True, True, False]
        with pytest.raises(RateLimited) as refused:
            limits.hit("api", "window")
        assert 0 < refused.value.seconds <= 60
        assert str(refused.value).startswith("too many requests, try again in ")
        over = office.clinic.value(f"SELECT expires_at FROM rate_limits WHERE key = '{stored}'")
        assert begun <= over - timedelta(seconds=60) <= now()
        office.clinic.run("UPDATE rate_limits SET expires_at = now() + interval '0.5 seconds'")
        until(lambda: hit("window"))
        assert [hit("window") for _ in range(2)] == [True, False]


def test_kinds_and_origins_are_counted_apart(office_clinic: Clinic) -> None:
    with opened(office_clinic, api_rate=1, login_rate=1, registration_rate=1):
        key = "' \0 \" " + "x" * 10_000
        for name in ("api", "login", "registration"):
            assert [hit(key, name), hit(key, name), hit(key + "y", name)] == [True, False, True]


def test_a_count_survives_the_rollback_of_the_request(office_clinic: Clinic) -> None:
    with opened(office_clinic, api_rate=1) as office:
        with suppress(LookupError), office.shared.service.session():
            assert hit("rolled back")
            raise LookupError
        assert not hit("rolled back")


def test_what_is_over_is_removed_now_and_then(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.clinic.run("UPDATE rate_limits SET expires_at = now() - interval '1 hour'")
    monkeypatch.setattr(limits, "_SWEEP", 1)
    assert hit("sweep")
    assert office.clinic.value("SELECT count(*) FROM rate_limits") == 1


def test_without_its_table_nobody_gets_past(office: Office) -> None:
    office.clinic.run("ALTER TABLE rate_limits RENAME TO gone")
    try:
        with pytest.raises(Exception, match="rate_limits"):
            limits.hit("login", "x")
    finally:
        office.clinic.run("ALTER TABLE gone RENAME TO rate_limits")
