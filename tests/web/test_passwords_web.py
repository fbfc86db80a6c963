"""Passwords: argon2id, as many at once as there are processors, and which are refused."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
import pytest
from argon2 import PasswordHasher
from clinics import Clinic
from offices import NEW, Office, opened

from clinic.web.security import passwords

LONGEST = 1024


def test_a_hash_is_that_of_its_password_alone(office: Office) -> None:
    made = passwords.hashed(NEW)
    assert made.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert passwords.hashed(NEW) != made
    assert passwords.verified(made, NEW)
    for other in (NEW.upper(), f"{NEW} ", f" {NEW}", NEW[:-1], "", f"{NEW}\0"):
        assert not passwords.verified(made, other)
    for odd in ("", "\0", "\ud800", "ü🦀" * 100, "x" * LONGEST):
        assert passwords.verified(passwords.hashed(odd), odd)


def test_the_default_parameters_are_what_owasp_asks_for(office_clinic: Clinic) -> None:
    with opened(office_clinic, argon2_memory=19456, argon2_time=2):
        assert passwords.hashed(NEW).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_no_hash_and_a_hash_of_another_kind_fit_nothing(office: Office) -> None:
    other = bcrypt.hashpw(NEW.encode(), bcrypt.gensalt(4)).decode()
    for stored in (None, "", "x", other, "$argon2id$v=19$m=1$broken"):
        assert not passwords.verified(stored, NEW)
        assert not passwords.verified(stored, "")
    assert passwords.outdated(other)
    assert not passwords.outdated(passwords.hashed(NEW))
    assert passwords.outdated(PasswordHasher(1, 128, 1).hash(NEW))


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count the hashes that are made at the same time, and all of them."""
    counts = {"now": 0, "most": 0, "all": 0}
    lock = threading.Lock()

    def around(name: str) -> None:
        original = getattr(PasswordHasher, name)

        def wrapped(self: PasswordHasher, *args: Any, **options: Any) -> Any:
            with lock:
                counts["all"] += 1
                counts["now"] += 1
                counts["most"] = max(counts["most"], counts["now"])
            try:
                return original(self, *args, **options)
            finally:
                with lock:
                    counts["now"] -= 1

        monkeypatch.setattr(PasswordHasher, name, wrapped)

    around("hash")
    around("verify")
    return counts


def test_no_more_hashes_at_once_than_there_are_slots(
    office_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(office_clinic, argon2_memory=4096, argon2_time=2) as office:
        made = passwords.hashed(NEW)
        for slots in (1, 2):
            with ThreadPoolExecutor(slots) as workers, monkeypatch.context() as within:
                within.setattr(passwords, "_workers", lambda them=workers: them)
                counts = counted(within)
                results = office.racing(
                    12, lambda n: passwords.verified(made if n % 2 else None, NEW)
                )
            assert results.count(True) == 6
            assert (counts["all"], counts["most"]) == (12, slots)


def test_a_password_over_the_limit_is_refused_before_it_is_hashed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = passwords.hashed("x" * LONGEST)
    counts = counted(monkeypatch)
    long = "x" * (LONGEST + 1)
    began = time.process_time()
    assert not passwords.verified(made, long)
    assert not passwords.verified(None, "x" * 10_000_000)
    with pytest.raises(ValueError, match="too long"):
        passwords.hashed(long)
    assert counts["all"] == 0
    assert time.process_time() - began < 1
    assert passwords.weakness(long, username="ada") == "at most 1024 characters"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "at least 12 characters"),
        ("x7!kQ2#pLz9", "at least 12 characters"),
        ("a.schmidt@example.org", "not your user name"),
        ("A.Schmidt@Example.org1", "not your user name"),
        ("passwordpassword", "not the same few characters again and again"),
        ("aaaaaaaaaaaaaaaa", "not the same few characters again and again"),
        ("123456789012", "not the same few characters again and again"),
        ("210987654321", "not the same few characters again and again"),
        ("QWERTYuiopasdf", "not the same few characters again and again"),
        ("qwerty123456", "not one of the most common passwords"),
        ("Password1234", "not one of the most common passwords"),
        ("Dragon-2024!!", "not one of the most common passwords"),
        ("!!!sunshine!!!", "not one of the most common passwords"),
        ("correct\0horse\0battery", "no character that cannot be typed"),
    ],
)
def test_a_weak_password_is_refused_with_its_reason(
    office: Office, password: str, why: str
) -> None:
    assert passwords.weakness(password, username="a.schmidt@example.org") == why


@pytest.mark.parametrize(
    "password",
    [
        NEW,
        "correct horse battery staple",
        "       spaces around       ",
        "ÄÖÜ äöü ßßß éè",
        "🦀🐘🐍🐢🦋🐙🦊🐝🦉🐳🦒🐨",
        "8391 4412 9932 1177",
        "kq7!Zx2#pLw9",
        "x" + "abcdefghijkl mnopqrs"[::-2] + "7!",
        "Wortgewandte Bibliothekarin",
    ],
)
def test_no_composition_is_asked_for(office: Office, password: str) -> None:
    assert passwords.weakness(password, username="ada") == ""


def test_the_list_holds_the_three_thousand_most_common() -> None:
    common = passwords._common()
    assert len(common) >= 3000
    assert {"password", "123456", "qwerty", "letmein"} <= common
    assert not any(word.startswith("# ") or word != word.lower() for word in common)


def test_the_rules_are_settings(office_clinic: Clinic) -> None:
    with opened(office_clinic, password_min=8, password_max=64, password_common=False):
        assert passwords.weakness("password", username="ada") == ""
        assert passwords.weakness("x7!kQ2#", username="ada") == "at least 8 characters"
        assert passwords.weakness("x7!" * 40, username="ada") == "at most 64 characters"
