"""The URL of an application's database, as SQLAlchemy reads it, with its secrets hidden."""

from __future__ import annotations

import re
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from pgtasks.errors import BadConfiguration
from pgtasks.settings import fields

DRIVERS = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]"}  # and their packages
_SECRET = re.compile(r"([?&]sslpassword=)[^&]*")
_DECODES = make_url("postgresql:///a%20b").database == "a b"  # SQLAlchemy 2.0 does not


class Address(URL):
    """A URL whose repr hides the password of the client's key too."""

    def render_as_string(self, hide_password: bool = True) -> str:
        """Return the text of the URL, by default without its passwords."""
        rendered = super().render_as_string(hide_password)
        return _SECRET.sub(r"\1***", rendered) if hide_password else rendered


def named(url: str, driver: str) -> Address:
    """Return a URL with the driver named: SQLAlchemy 2.1 takes psycopg 3 where none is.

    Raises BadConfiguration for a URL of something else than PostgreSQL, without its text, which
    may have a password, and for a driver that is not known.
    """
    try:
        read = make_url(url)
    except (ArgumentError, ValueError):
        raise BadConfiguration(
            "the URL cannot be read, expected postgresql://user@host:port/database"
        ) from None
    if read.get_backend_name() not in ("postgresql", "postgres"):
        raise BadConfiguration(f"a URL of {read.get_backend_name()!r}, expected postgresql://")
    driver = read.drivername.partition("+")[2] or driver
    if driver not in DRIVERS:
        raise BadConfiguration(f"a URL with the driver {driver!r}, {fields.meant(driver, DRIVERS)}")
    read = read.set(drivername=f"postgresql+{driver}")
    if read.database and not _DECODES:
        read = read.set(database=unquote(read.database))
    if isinstance(secret := read.query.get("password"), str):  # where no repr hides it
        read = read.difference_update_query(["password"]).set(password=secret)
    return Address(*read)
