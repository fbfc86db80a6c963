"""Passwords, in a type that cannot be printed by accident."""

from __future__ import annotations

import re

_NAME = re.compile(r"pass(word|wd|phrase)|secret|token|credential|(api|private|access)_?key", re.I)


class Secret:
    """A password: printed as `***`, returned by `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the password itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")


def is_secret(name: str) -> bool:
    """Return whether the name of a setting says that its value is a secret."""
    return bool(_NAME.search(name))


# up to the last @, because one in a password may be unescaped
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):(\S*)@", re.IGNORECASE)
_KEYWORD_PASSWORD = re.compile(r"(\bpassword\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
# pg_restore repeats a statement that failed, with the options of a foreign server or a subscription
_STATEMENT = re.compile(
    r"(\b(?:CREATE|ALTER) (?:USER MAPPING|SERVER|FOREIGN DATA WRAPPER|FOREIGN TABLE|SUBSCRIPTION)\b"
    r".*?\b(?:OPTIONS|CONNECTION)\b).*?(?=\n\s*pg_restore: |\s*\Z)",
    re.IGNORECASE | re.DOTALL,
)


def redact(text: str, *secrets: Secret | None) -> str:
    """Replace passwords in `text`: the given ones, those in URLs and those after `password=`.

    Of a statement that has options of a foreign server or a subscription, the rest is replaced.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), "***")
    text = _STATEMENT.sub(r"\1 ***", text)
    return _KEYWORD_PASSWORD.sub(r"\1***", _URL_PASSWORD.sub(r"\1:***@", text))
