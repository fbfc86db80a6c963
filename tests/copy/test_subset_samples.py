"""Subsets of two well-known sample databases, chinook and pagila."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from paths import SUPPORT
from servers import Cluster
from test_copy import KEEP, copied, pair
from test_subset import counts, hold

from pgtasks.copy import scope_of
from pgtasks.settings.target import Target


def fill(cluster: Cluster, database: str, name: str) -> None:
    """Load a sample database."""
    text = gzip.decompress((SUPPORT / "data" / f"{name}.sql.gz").read_bytes()).decode("utf-8-sig")
    lines = (line for line in text.splitlines() if "PROCEDURAL LANGUAGE" not in line)
    cluster.psql(database, "\n".join(lines))


@pytest.fixture
def sample(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> Callable[[str], tuple[Target, Target]]:
    """Return a function that returns a sample database and a target."""

    def filled(name: str) -> tuple[Target, Target]:
        source, target = pair(cluster, cluster, fresh_database)
        fill(cluster, source.database, name)
        return source, target

    return filled


def taken(cluster: Cluster, both: tuple[Target, Target], **flags: Any) -> dict[str, int]:
    source, target = both
    copied(source, target, KEEP, scope=scope_of(**flags))
    hold(cluster, target.database)
    return counts(cluster, target.database)


def test_customers_of_a_country_with_their_invoices(
    cluster: Cluster, sample: Callable[..., tuple[Target, Target]]
) -> None:
    both = sample("chinook")
    all_ = counts(cluster, both[0].database)
    where = ['"Customer"="Country" = \'Germany\'']
    got = taken(cluster, both, where=where, follow=['"Invoice"*'])
    source = both[0].database
    german = '(SELECT "CustomerId" FROM "Customer" WHERE "Country" = \'Germany\')'
    invoices = f'"Invoice" WHERE "CustomerId" IN {german}'
    lines = f'"InvoiceLine" WHERE "InvoiceId" IN (SELECT "InvoiceId" FROM {invoices})'
    assert got['"Customer"'] == 4
    assert got['"Invoice"'] == cluster.value(f"SELECT count(*) FROM {invoices}", source) > 20
    assert got['"InvoiceLine"'] == cluster.value(f"SELECT count(*) FROM {lines}", source) > 100
    others = set(all_) - {'"Customer"', '"Invoice"', '"InvoiceLine"'}
    assert {name: got[name] for name in others} == {name: all_[name] for name in others}


def test_what_lines_of_an_invoice_need(
    cluster: Cluster, sample: Callable[..., tuple[Target, Target]]
) -> None:
    both = sample("chinook")
    names = [name for name in counts(cluster, both[0].database) if name != '"InvoiceLine"']
    got = taken(
        cluster,
        both,
        where=['"InvoiceLine"="InvoiceId" = 5', *(f"{name}=false" for name in names)],
    )
    assert got['"InvoiceLine"'] == got['"Track"'] == 14
    assert got['"Invoice"'] == got['"Customer"'] == 1
    assert 1 <= got['"Employee"'] <= 3  # with those that they report to
    assert got['"Playlist"'] == got['"PlaylistTrack"'] == 0


@pytest.mark.parametrize("percent", ["2", "30"])
def test_a_sample_of_pagila(
    cluster: Cluster, sample: Callable[..., tuple[Target, Target]], percent: str
) -> None:
    both = sample("pagila")
    all_ = counts(cluster, both[0].database)
    got = taken(cluster, both, sample=percent)
    assert got["staff"] == got["store"] == 2  # they refer to each other
    share = got["rental"] / all_["rental"]
    assert float(percent) / 100 <= share < 1
    assert 0 < got["payment_p2007_01"] < all_["payment_p2007_01"]


def test_films_of_pagila_with_what_follows(
    cluster: Cluster, sample: Callable[..., tuple[Target, Target]]
) -> None:
    both = sample("pagila")
    follow = ["film_actor:film", "film_category:film,inventory:film,rental:inventory"]
    got = taken(cluster, both, where=["film=film_id < 20"], follow=follow)
    source = both[0].database
    assert got["film"] == 19
    assert got["inventory"] == cluster.value(
        "SELECT count(*) FROM inventory WHERE film_id < 20", source
    )
    assert got["rental"] == cluster.value(
        "SELECT count(*) FROM rental JOIN inventory USING (inventory_id) WHERE film_id < 20", source
    )
    assert got["customer"] == 599
    assert got["payment_p2007_01"] == 0
