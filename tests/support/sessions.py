"""Processes and sessions of runs on a database host."""

from __future__ import annotations

from hosts import DatabaseHost

SILENCE = 5


def sessions(place: DatabaseHost) -> str:
    """Return what the sessions of runs do that the server has."""
    return place.cluster.value(
        "SELECT coalesce(string_agg(application_name || ': ' || query, chr(10)), '')"
        " FROM pg_stat_activity WHERE starts_with(application_name, 'pgtasks ')"
    )


def alive_of_ours(place: DatabaseHost) -> list[str]:
    """Return what still runs there, but for what the kernel keeps of a connection that is cut."""
    return [each.command for each in place.processes() if not each.command.startswith("sshd")]
