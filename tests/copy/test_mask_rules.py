"""Which columns a rule of a mask is for."""

from __future__ import annotations

import pytest

from pgtasks.copy.mask.rules import rule
from pgtasks.errors import BadConfiguration


@pytest.mark.parametrize(
    ("where", "name", "matches"),
    [
        ("public.people.name", ("public", "people", "name"), True),
        ("Public.People.NAME", ("public", "people", "name"), True),
        ('public."People".name', ("public", "People", "name"), True),
        ('public."People".name', ("public", "people", "name"), False),
        ("public.people.name", ("public", "people", "names"), False),
        ("*.*.name", ("a.b", "c", "name"), True),
        ("*.name", ("a", "b", "name"), None),
        ("public.p?ople.*", ("public", "people", "x"), True),
        ("public.p?ople.*", ("public", "peeople", "x"), False),
        ('public."p*".x', ("public", "people", "x"), False),
        ('public."p*".x', ("public", "p*", "x"), True),
        ('public."a.b"."c""d"', ("public", "a.b", 'c"d'), True),
        ("public.people.na.me", ("public", "people", "na.me"), None),
        ('public."peo|ple".x', ("public", "peo", "x"), False),
        ('public."peo|ple".x', ("public", "peo|ple", "x"), True),
    ],
)
def test_names_are_matched_as_in_sql(
    where: str, name: tuple[str, str, str], matches: bool | None
) -> None:
    if matches is None:
        with pytest.raises(BadConfiguration, match=r"expected schema\.table\.column"):
            rule(where, "plain", "env/x.yaml:1")
    else:
        assert rule(where, "plain", "env/x.yaml:1").matches(name) is matches


def test_null_and_partly() -> None:
    assert rule("a.b.c", None, "x").text == "null"
    partly = rule("a.b.c", "partly  upper(c)", "x")
    assert (partly.text, partly.partly) == ("upper(c)", True)
    with pytest.raises(BadConfiguration, match="expected an expression"):
        rule("a.b.c", ["x"], "x")
    with pytest.raises(BadConfiguration, match="expected plain, or null"):
        rule("large objects", "hash", "x")
    with pytest.raises(BadConfiguration, match="belongs in double quotes"):
        rule("a.b|c.d", "plain", "x")
