"""The `security` block of an environment: how an application handles logins and sessions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace

from pgtasks.errors import BadConfiguration
from pgtasks.report import text as report
from pgtasks.settings.fields import flag, number, text, time
from pgtasks.settings.secret import Secret

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


@dataclass(frozen=True)
class Security:
    """The security of an application; times are in seconds.

    The defaults of `cookie_secure` and `hsts` are those of a protected environment, see
    `completed`.
    """

    session_idle: int = time(
        "time without a request after which a session ends",
        default=30 * _MINUTE,
        range=(1, _YEAR),
    )
    session_lifetime: int = time("longest time of a session", default=12 * _HOUR, range=(1, _YEAR))
    remember_lifetime: int = time(
        "longest time of a session that is to be remembered", default=14 * _DAY, range=(1, _YEAR)
    )
    access_token: int = time(
        "time that an access token counts", default=10 * _MINUTE, range=(1, _YEAR)
    )
    refresh_token: int = time(
        "time that a refresh token counts", default=14 * _DAY, range=(1, _YEAR)
    )
    login_attempts: int = number("wrong passwords that cost no wait", default=5, range=(1, 1000))
    login_delay: int = time(
        "longest wait after further wrong passwords", default=15 * _MINUTE, range=(0, _DAY)
    )
    login_rate: int = number("logins a minute, from one address", default=20, range=(1, 100_000))
    api_rate: int = number(
        "requests a minute of one user, to the API and to pages each",
        default=600,
        range=(1, 1_000_000),
    )
    registration_rate: int = number(
        "registrations an hour, from one address", default=10, range=(1, 100_000)
    )
    keep_history: int = time(
        "time that logins, sessions that are over and events of security are kept",
        default=_YEAR,
        range=(30 * _DAY, 100 * _YEAR),
    )
    cookie_secure: bool = flag("whether cookies are sent over HTTPS alone", default=True)
    cookie_samesite: str = text("SameSite of cookies", default="Lax", choices=("Lax", "Strict"))
    hsts: int = time(
        "time that browsers are told to use HTTPS alone (Strict-Transport-Security); 0: not told",
        default=_YEAR,
        range=(0, 10 * _YEAR),
    )
    password_min: int = number("least characters of a password", default=12, range=(1, 1024))
    password_max: int = number("most characters of a password", default=1024, range=(64, 4096))
    password_common: bool = flag("whether the most common passwords are refused", default=True)
    argon2_memory: int = number(
        "KiB that hashing a password takes", default=19456, range=(8, 2**22)
    )
    argon2_time: int = number("passes of hashing a password", default=2, range=(1, 1000))
    argon2_parallelism: int = number("lanes of hashing a password", default=1, range=(1, 255))
    proxies: int = number(
        "proxies before the application, whose X-Forwarded-For counts", default=0, range=(0, 10)
    )
    keys_command: str = text("program that prints the signing keys, separated by spaces")

    def completed(self, given: Container[str], *, protected: bool) -> Security:
        """Return it with the defaults of the environment for those that no layer gives."""
        if protected:
            return self
        return replace(
            self,
            cookie_secure=self.cookie_secure and "security.cookie_secure" in given,
            hsts=self.hsts if "security.hsts" in given else 0,
        )


_AT_MOST = {
    "session_idle": _DAY,
    "session_lifetime": 30 * _DAY,
    "remember_lifetime": 90 * _DAY,
    "access_token": _HOUR,
    "refresh_token": 90 * _DAY,
}
_WORK = 7168 * 5  # KiB times passes: the least of OWASP's choices for argon2id
# what a protected environment asks for: the setting, whether it holds, what is expected
_RULES: tuple[tuple[str, Callable[[Security], bool], str], ...] = (
    ("cookie_secure", lambda security: security.cookie_secure, "true"),
    ("password_min", lambda security: security.password_min >= 8, "8 or more"),
    ("password_common", lambda security: security.password_common, "true"),
    ("login_attempts", lambda security: security.login_attempts <= 20, "20 at most"),
    ("login_delay", lambda security: security.login_delay >= _MINUTE, "1min or more"),
    ("login_rate", lambda security: security.login_rate <= 600, "600 at most"),
    ("argon2_memory", lambda security: security.argon2_memory >= 7168, "7168 or more"),
    (
        "argon2_time",
        lambda security: security.argon2_time * security.argon2_memory >= _WORK,
        f"argon2_time * argon2_memory of {_WORK} or more",
    ),
)


def check(security: Security, *, name: str, protected: bool, layer: Callable[[str], str]) -> None:
    """Raise BadConfiguration for the first of the faults."""
    for fault in faults(security, name=name, protected=protected, layer=layer):
        raise fault


def faults(
    security: Security, *, name: str, protected: bool, layer: Callable[[str], str]
) -> Iterator[BadConfiguration]:
    """Yield an error for each value that contradicts another one, or is not secure.

    The latter only in a protected environment. `name` is the environment's, `layer` returns where
    a setting comes from.
    """
    if security.password_min > security.password_max:
        most = f"{security.password_max} at most (password_max)"
        yield _fault("password_min", security, layer, most)
    if security.argon2_memory < 8 * security.argon2_parallelism:
        yield _fault("argon2_memory", security, layer, "8 KiB or more for each lane")
    if not protected:
        return
    why = f"in {name!r}, which is protected"
    for setting, most_seconds in _AT_MOST.items():
        if getattr(security, setting) > most_seconds:
            yield _fault(setting, security, layer, f"{report.time(most_seconds)} at most {why}")
    for setting, holds, expected in _RULES:
        if not holds(security):
            yield _fault(setting, security, layer, f"{expected} {why}")


_SHORTEST = 32  # bytes of a key: those of a digest of HMAC-SHA256
_DIFFERENT = 8  # characters in a key


def way_to_keys(place: str) -> str:
    """Return what gives an environment a signing key; `place` is its dotenv file."""
    return (
        f"put SECURITY_KEYS=... into {place}, or set security.keys_command; "
        "`openssl rand -hex 32` prints one"
    )


def keys(joined: Secret, name: str) -> tuple[Secret, ...]:
    """Return signing keys that are separated by spaces, raising BadConfiguration for weak ones."""
    found = tuple(dict.fromkeys(joined.reveal().split()))
    for key in found:
        if len(key.encode()) < _SHORTEST or len(set(key)) < _DIFFERENT:
            raise BadConfiguration(
                f"environment {name!r}: a signing key has fewer than {_SHORTEST} bytes, or can be "
                "guessed: `openssl rand -hex 32` prints a good one"
            )
    return tuple(map(Secret, found))


def _fault(
    setting: str, security: Security, layer: Callable[[str], str], expected: str
) -> BadConfiguration:
    value = getattr(security, setting)
    shown = str(value).lower() if isinstance(value, bool) else value
    where = layer(f"security.{setting}")
    return BadConfiguration(f"{where}: security.{setting}: {shown}, expected {expected}")
