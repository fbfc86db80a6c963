"""Assign the PostgreSQL URLs of a project to environments, by the names of their variables.

A URL whose variable names no environment belongs to `dev`, unless it leads to another
environment's database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pgtasks.errors import BadConfiguration
from pgtasks.settings import libpq
from pgtasks.settings.libpq import ConnInfo
from pgtasks.settings.project import LIBRARIES, NAME, URL, normalize, stem
from pgtasks.settings.variables import Variable

# names that applications use, the clearest first
_URLS = ("DATABASE_URL", "SQLALCHEMY_DATABASE_URI", "SQLALCHEMY_DATABASE_URL", "POSTGRES_URL")
_WORDS = ("prod", "prd", "preprod", "staging", "qa", "uat", "test", "demo", "dev")  # in this order
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True)
class Named:
    """A variable of .env that holds the URL of one environment's database."""

    environment: str
    variable: str
    place: ConnInfo

    @property
    def by_itself(self) -> bool:
        """Return whether the variable defines the environment without a file."""
        return self.variable == stem(self.environment) + URL

    @property
    def production(self) -> bool:
        """Return whether the name means production."""
        return _named_in(self.environment) == "prod"


def environment_of(variable: str) -> str:
    """Return the environment that a variable's name contains, or an empty text."""
    prefix = variable.removesuffix(URL)
    name = normalize(prefix)
    if prefix != variable and name not in LIBRARIES and NAME.fullmatch(name):
        return name
    return _named_in(variable)


def _named_in(name: str) -> str:
    words = {normalize(word) for word in _WORD.findall(name)}
    word = next((word for word in _WORDS if word in words), "")
    return "prod" if word == "prd" else word


def read(variables: Mapping[str, Variable], notes: list[str]) -> tuple[Named, ...]:
    """Return the variables with a URL, one for each environment, `dev` first.

    It adds a note for each unused URL to `notes`.
    """
    named_urls = list(_all(variables, notes))
    chosen: dict[str, Named] = {}
    # DEV_DATABASE_URL goes before DATABASE_URL, PROD_DATABASE_URL before PRODUCTION_DATABASE_URL
    for named in sorted(named_urls, key=lambda named: not named.by_itself):
        other = chosen.setdefault(named.environment, named)
        # several without an environment are common: a replica's, another application's
        if other is not named and environment_of(named.variable):
            notes.append(f"{named.variable} in .env: {other.variable} is {other.environment}")
    dev = chosen.pop("dev", None)
    others = tuple(chosen.values())
    if dev and (same := leading_to(dev.place, others)):
        notes.append(
            f"{dev.variable} in .env leads to the same database as {same.variable}: "
            f"it is {same.environment}'s, not dev's"
        )
        dev = None
    return (dev, *others) if dev else others


def leading_to(place: ConnInfo, others: tuple[Named, ...]) -> Named | None:
    """Return the environment other than dev that has this database, if there is one."""
    return next((named for named in others if _where(named.place) == _where(place)), None)


def _where(place: ConnInfo) -> tuple[str, int, str]:
    host = "localhost" if place.host in ("127.0.0.1", "::1") else place.host.lower()
    return host, place.port or 5432, place.database


def _all(variables: Mapping[str, Variable], notes: list[str]) -> Iterator[Named]:
    known = [name for name in _URLS if name in variables]
    for name in [*known, *(name for name in variables if name not in known)]:
        named = environment_of(name)
        if place := place_of(variables[name], notes if name in known else []):
            yield Named(named or "dev", name, place)


def place_of(variable: Variable, notes: list[str]) -> ConnInfo | None:
    """Return the parts of a URL, None if it is not a PostgreSQL URL, with the reason in `notes`."""
    try:
        return libpq.parse_url(variable.value, variable.where)
    except BadConfiguration as exc:
        if variable.value:
            notes.append(f"{exc.message}: not used")
        return None
