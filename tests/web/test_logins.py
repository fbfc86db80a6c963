"""Logins: one answer for all that is wrong, waits that shut nobody out, a history that stays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from clinics import Clinic
from offices import NEW, PASSWORD, Office, here, long_waits, opened
from waiting import until

from clinic.web.security import logins, passwords
from clinic.web.security.errors import LoginDelayed, LoginFailed, RateLimited, TooMany

TRIES = 30
WAIT = "SELECT round(extract(epoch FROM blocked_until - last_at))::int FROM login_throttle"
HOUR = 3600  # by which waits are longer here
HISTORY = """
SELECT failure, user_id IS NOT NULL, host(ip_address), user_agent FROM login_history
WHERE username = %s AND attempted_at > now() - interval '1 hour' ORDER BY attempted_at
"""


def failed(username: str, password: str = "wrong", address: str = "192.0.2.1", device: str = ""):  # type: ignore[no-untyped-def]
    """Try to log in and return the error."""
    with pytest.raises((LoginFailed, LoginDelayed)) as caught:
        logins.attempt(username, password, here(address, device))
    return caught.value


@pytest.fixture
def strict(office_clinic: Clinic) -> Iterator[Office]:
    with opened(office_clinic, login_attempts=3, login_delay=900) as office:
        office.clinic.run("DELETE FROM login_throttle")
        with long_waits(office.clinic):
            yield office


def test_the_right_password_gives_the_account(office: Office) -> None:
    username = office.username("doctor")
    account = logins.attempt(f"  {username.upper()} ", PASSWORD, here())
    assert account.username == username
    assert account.staff_id is not None
    assert account.patient_id is None
    assert account.device
    name = office.clinic.value(
        "SELECT first_name || ' ' || last_name FROM staff WHERE staff_id = %s",
        str(account.staff_id),
    )
    assert account.name == name
    assert office.clinic.run(HISTORY, username)[-1] == (
        *(None, True),
        *("192.0.2.1", "Firefox 140 on Linux"),
    )
    assert office.clinic.value(
        "SELECT last_login_at > now() - interval '1 minute' FROM users WHERE username = %s",
        username,
    )


def test_all_that_is_wrong_says_the_same(office: Office) -> None:
    clinic = office.clinic
    usernames = [office.username("nurse", number=n) for n in range(5)]
    changes = (
        "UPDATE users SET is_active = false WHERE username = %s",
        "UPDATE users SET locked_until = now() + interval '1 hour' WHERE username = %s",
        "UPDATE staff SET left_on = current_date - 1 FROM users u"
        " WHERE u.staff_id = staff.staff_id AND username = %s",
    )
    for change, username in zip(changes, usernames, strict=False):
        clinic.run(change, username)
    errors = {
        str(failed("nobody.at.all")),
        str(failed("x" * 5000)),
        str(failed("nul\0byte")),
        str(failed("half \ud800 a character", "\ud800")),
        str(failed("' OR 1=1 --")),
        str(failed(usernames[3])),
        str(failed(usernames[3], "")),
        str(failed(usernames[3], PASSWORD.upper())),
        str(failed(usernames[3], f"{PASSWORD} ")),
        *(str(failed(username, PASSWORD)) for username in usernames[:3]),
    }
    assert errors == {"wrong user name or password"}
    assert [clinic.run(HISTORY, username)[-1][0] for username in usernames[:4]] == [
        *("inactive", "inactive", "inactive", "wrong_password")
    ]
    assert clinic.run(HISTORY, "nobody.at.all")[-1][:2] == ("unknown_user", False)


def test_an_unknown_user_takes_as_long_as_a_wrong_password(office_clinic: Clinic) -> None:
    # real parameters; CPU time of this process, which other work on the machine does not move
    with opened(office_clinic, argon2_memory=19456, argon2_time=2, login_attempts=1000) as office:
        known = [office.username("patient", number=n) for n in range(TRIES)]
        unknown = [f"nobody.{n}" for n in range(TRIES)]
        failed(known[0])  # connections, and the hash that stands for nobody
        seconds: dict[str, list[float]] = {"known": [], "unknown": []}
        for names in zip(known, unknown, strict=True):
            for kind, name in zip(seconds, names, strict=True):
                began = time.process_time()
                failed(name)
                seconds[kind].append(time.process_time() - began)
        ratio = statistics.median(seconds["unknown"]) / statistics.median(seconds["known"])
        assert 0.85 < ratio < 1.15
        # it is the hash that takes the time
        assert statistics.median(seconds["unknown"]) > 0.005


def test_what_an_account_does_not_have_is_not_asked_of_the_database(office: Office) -> None:
    """The same statements are sent for an unknown user and a wrong password."""
    sent: dict[str, list[str]] = {}
    for name in (office.username("patient", number=7), "nobody.here"):
        with recorded(office) as statements:
            failed(name)
        sent[name] = statements
    first, second = sent.values()
    assert first == second
    assert len(first) >= 4


class recorded:
    """Records the statements that the services of an office send."""

    def __init__(self, office: Office) -> None:
        self.engines = [office.shared.service.engine, office.shared.aside.engine]
        self.statements: list[str] = []

    def _note(self, _connection, _cursor, statement, parameters, *_):  # type: ignore[no-untyped-def]
        self.statements.append(statement)
        self.parameters = [*getattr(self, "parameters", []), repr(parameters)]

    def __enter__(self) -> list[str]:
        from sqlalchemy import event

        for engine in self.engines:
            event.listen(engine, "before_cursor_execute", self._note)
        return self.statements

    def __exit__(self, *_: object) -> None:
        from sqlalchemy import event

        for engine in self.engines:
            event.remove(engine, "before_cursor_execute", self._note)


def test_further_wrong_passwords_cost_a_wait_that_doubles(strict: Office) -> None:
    username = strict.username("doctor", number=1)
    for _ in range(4):  # three are free, and the next one begins the wait
        assert isinstance(failed(username), LoginFailed)
    waits = []
    for _ in range(12):
        delayed = failed(username)
        assert isinstance(delayed, LoginDelayed)
        waits.append(strict.clinic.value(WAIT) - HOUR)
        assert 0 < delayed.seconds <= HOUR + waits[-1]
        assert failed(username, PASSWORD).__class__ is LoginDelayed  # the right one waits as well
        strict.clinic.run("UPDATE login_throttle SET blocked_until = now()")
        assert isinstance(failed(username), LoginFailed)
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    assert str(LoginDelayed(900)) == "too many attempts, try again in 15 minutes"
    assert strict.clinic.run(HISTORY, username)[-2][0] == "locked"


def test_a_wait_passes_by_itself_and_the_right_password_ends_it(strict: Office) -> None:
    username = strict.username("doctor", number=2)
    for _ in range(4):
        failed(username)
    assert isinstance(failed(username), LoginDelayed)
    strict.clinic.run("UPDATE login_throttle SET blocked_until = now() + interval '0.5 seconds'")

    def gets_in() -> bool:
        with suppress(LoginDelayed):
            return bool(logins.attempt(username, PASSWORD, here()))
        return False

    until(gets_in)
    for _ in range(3):  # free again
        assert isinstance(failed(username), LoginFailed)


def test_who_guesses_elsewhere_shuts_nobody_out(strict: Office) -> None:
    username = strict.username("doctor", number=3)
    for _ in range(5):
        failed(username, address="203.0.113.9")
    assert isinstance(failed(username, PASSWORD, "203.0.113.9"), LoginDelayed)
    assert logins.attempt(username, PASSWORD, here("192.0.2.7")).username == username
    # nor another account from the same place
    assert logins.attempt(strict.username("nurse", 2), PASSWORD, here("203.0.113.9"))


def test_a_browser_that_the_user_knows_gets_in_from_the_address_of_an_attack(
    strict: Office,
) -> None:
    username, other = strict.username("doctor", number=4), strict.username("nurse", number=4)
    device = logins.attempt(username, PASSWORD, here("198.51.100.1")).device
    for _ in range(6):
        failed(username, address="198.51.100.1")
    assert isinstance(failed(username, PASSWORD, "198.51.100.1"), LoginDelayed)
    for _ in range(2):  # the first of these forgets no failure of the address
        account = logins.attempt(username, PASSWORD, here("198.51.100.1", device))
        assert account.device == device
    assert isinstance(failed(username, PASSWORD, "198.51.100.1"), LoginDelayed)
    # it is known to this account alone, and has a count of its own
    for _ in range(4):
        failed(other, address="198.51.100.1", device=device)
    assert isinstance(failed(other, PASSWORD, "198.51.100.1", device="made up"), LoginDelayed)
    for _ in range(4):
        failed(username, address="198.51.100.77", device=device)
    assert isinstance(failed(username, PASSWORD, "198.51.100.77", device=device), LoginDelayed)


def test_a_network_of_one_subscriber_is_one_origin(strict: Office) -> None:
    username = strict.username("doctor", number=5)
    for n in range(5):
        failed(username, address=f"2001:db8:0:1::{n + 1}")
    assert isinstance(failed(username, address="2001:db8:0:1:ffff::1"), LoginDelayed)
    assert isinstance(failed(username, address="2001:db8:0:2::1"), LoginFailed)
    for address in ("::ffff:192.0.2.200", "fe80::1%eth0", "", "not an address"):
        assert isinstance(failed(username, address=address), LoginFailed)


def test_of_guesses_that_race_no_more_count_than_one_after_the_other(strict: Office) -> None:
    username = strict.username("doctor", number=6)

    def guess(n: int) -> str:
        return type(failed(username, f"guess {n}")).__name__

    results = strict.racing(12, guess)
    assert results.count("LoginFailed") == 4
    assert results.count("LoginDelayed") == 8


def test_too_many_attempts_from_one_address_are_refused(office_clinic: Clinic) -> None:
    with opened(office_clinic, login_rate=5) as office:
        for n in range(5):
            failed(f"somebody.{n}", address="203.0.113.50")
        with pytest.raises(RateLimited) as refused:
            logins.attempt(office.username("doctor"), PASSWORD, here("203.0.113.50"))
        assert 0 < refused.value.seconds <= 60
        assert isinstance(refused.value, TooMany)
        assert logins.attempt(office.username("doctor"), PASSWORD, here("203.0.113.51"))


def test_the_history_survives_the_rollback_of_the_request(office: Office) -> None:
    username = office.username("receptionist")
    before = len(office.clinic.run(HISTORY, username))
    with suppress(LookupError), office.shared.service.session():
        failed(username)
        logins.attempt(username, PASSWORD, here())
        raise LookupError
    after = [row[0] for row in office.clinic.run(HISTORY, username)][before:]
    assert after == ["wrong_password", None]


def test_a_hash_of_other_parameters_is_renewed_at_login(office_clinic: Clinic) -> None:
    query = "SELECT password_hash, updated_by FROM users WHERE username = %s"
    with opened(office_clinic, argon2_memory=128) as office:
        username = office.username("therapist")
        old = office.clinic.run(query, username)[0][0]
        failed(username)
        assert office.clinic.run(query, username)[0][0] == old
        logins.attempt(username, PASSWORD, here())
        new, by = office.clinic.run(query, username)[0]
        assert (new.split("$")[3], by) == ("m=128,t=1,p=1", username)
        logins.attempt(username, PASSWORD, here())
        assert office.clinic.run(query, username)[0][0] == new


def test_no_password_is_in_a_statement_or_its_parameters(office: Office) -> None:
    secret = f"{NEW} that nobody logs"
    recorder = recorded(office)
    with recorder as statements:
        failed(office.username("doctor"), secret)
        failed("nobody.else", secret)
        logins.attempt(office.username("doctor"), PASSWORD, here("192.0.2.99"))
    everything = repr(statements) + repr(recorder.parameters)
    assert "account_for_login" in everything
    assert secret not in everything
    assert PASSWORD not in everything
    assert passwords.hashed(secret).startswith("$argon2id$")
