"""Roles that are no superusers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from psycopg2 import sql
from servers import Cluster

from pgtasks.settings.target import Target


@pytest.fixture
def plain(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Return what makes a role that is no superuser, dropped with what it owns."""
    made: list[str] = []

    def make(options: str = "") -> str:
        name = f"role{os.getpid()}_{len(made)}"
        cluster.execute(
            sql.SQL("CREATE ROLE {} LOGIN ").format(sql.Identifier(name)) + sql.SQL(options)
        )
        made.append(name)
        return name

    yield make
    for name in made:
        owned = "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s"
        for (database,) in cluster.execute(owned, parameters=(name,)):
            cluster.drop(database)
        cluster.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def owned(
    cluster: Cluster, plain: Callable[..., str], fresh_database: Callable[..., str]
) -> Target:
    """Return an empty database as its owner reaches it, who may create databases."""
    owner = plain("CREATEDB")
    return replace(cluster.target(fresh_database(cluster, owner=owner)), user=owner)


def as_role(cluster: Cluster, role: str, database: str) -> str:
    return cluster.url(database).replace("//postgres@", f"//{role}@")
