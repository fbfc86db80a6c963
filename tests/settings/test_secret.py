"""A password is not printed by accident, and is taken out of text."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from pgtasks.settings.secret import Secret, redact


def test_no_way_of_printing_shows_it() -> None:
    secret = Secret("s3cret")
    shown = [f"{secret} {secret!r} {[secret]}", "%s" % secret, str({"a": secret})]  # noqa: UP031
    assert not any("s3cret" in text for text in shown)
    assert secret.reveal() == "s3cret"


@pytest.mark.parametrize("leave", [pickle.dumps, json.dumps, copy.deepcopy, vars])
def test_it_does_not_leave_the_process(leave: object) -> None:
    with pytest.raises(TypeError):
        leave(Secret("s3cret"))  # type: ignore[operator]


def test_equal_passwords_are_equal() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:s3cret@h/d", "postgresql://u:***@h/d"),
        ("postgresql+psycopg2://u:s3cret@h/d", "postgresql+psycopg2://u:***@h/d"),
        ("postgresql://u:s3@cret@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s3/cret@h/d", "postgresql://u:***@h/d"),
        ("redis://:s3cret@h/0", "redis://:***@h/0"),
        ("see 'postgresql://u:s3cret@h/d' and a@b", "see 'postgresql://u:***@h/d' and a@b"),
        ("host=h password=s3cret user=u", "host=h password=*** user=u"),
        ("host=h PASSWORD = 's3 \\' cret' user=u", "host=h PASSWORD = *** user=u"),
        ("postgresql://h/d?user=u&password=s3cret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("nothing at all", "nothing at all"),
        (
            "pg_restore: error: ERROR:  role a is missing\nCommand was: CREATE USER MAPPING FOR a "
            "SERVER s OPTIONS (\n    password 's3cret',\n    \"key\" 's3cret'\n);\n"
            "\n\npg_restore: end",
            "pg_restore: error: ERROR:  role a is missing\nCommand was: CREATE USER MAPPING FOR a "
            "SERVER s OPTIONS ***\n\n\npg_restore: end",
        ),
        ("ALTER SUBSCRIPTION s CONNECTION 's3cret';\n", "ALTER SUBSCRIPTION s CONNECTION ***\n"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER w", "CREATE SERVER s FOREIGN DATA WRAPPER w"),
    ],
)
def test_passwords_are_taken_out_of_text(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_known_password_is_taken_out_wherever_it_stands() -> None:
    assert redact("FATAL: s3cret is wrong", Secret("s3cret"), None, Secret("")) == (
        "FATAL: *** is wrong"
    )
