"""Settings files are read strictly, and every fault has its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgtasks.errors import BadConfiguration
from pgtasks.settings import yamlfile


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0123", "0123"),
        ("12:30", "12:30"),
        ("no", "no"),
        ("off", "off"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("1e5", "1e5"),
        ("5432", 5432),
        ("-3", -3),
        ("1.5", 1.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'5432'", "5432"),
        ("[a, 'b c']", ["a", "b c"]),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    found = yamlfile.parse(f"key: {text}\n", "x.yaml")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: key 'a' occurs twice"),
        ("a:\n  b: 1\n  b: 2\n", "x.yaml:3: key 'b' occurs twice"),
        ("ok: 1\n5432: x\n", "x.yaml:2: key '5432' is not text, quote it"),
        ("? [a]\n: b\n", "x.yaml:1: a key is not text, quote it"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: did not find expected ',' or ']'"),
        ("a:\n\t- b\n", "x.yaml:2: found character that cannot start any token"),
        ("a: *nowhere\n", "x.yaml:1: found undefined alias"),
        ("- a\n- b\n", "x.yaml: expected keys with values, found list"),
        ("just words\n", "x.yaml: expected keys with values, found str"),
    ],
)
def test_a_fault_is_one_line_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        yamlfile.parse(text, "x.yaml")
    assert caught.value.message == message


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: !!float abc",
        "a: \x01",
        "a: !!int x",
        "a: &a [*a",
    ],
)
def test_no_fault_is_a_traceback(text: str) -> None:
    with pytest.raises(BadConfiguration, match=r"^x\.yaml") as caught:
        yamlfile.parse(text, "x.yaml")
    assert "\n" not in caught.value.message


def test_merged_keys_may_be_overridden() -> None:
    found = yamlfile.parse("base: &b {jobs: 1, port: 5}\ndev:\n  <<: *b\n  jobs: 2\n", "x.yaml")
    assert found["dev"] == {"jobs": 2, "port": 5}


def test_keys_know_their_lines() -> None:
    found = yamlfile.parse("# note\na: 1\n\nb:\n  c: 2\n", "x.yaml")
    assert found.lines == {"a": 2, "b": 4}
    assert found["b"].lines == {"c": 5}


def test_an_empty_file_says_nothing() -> None:
    assert yamlfile.parse("# only a comment\n", "x.yaml") == {}


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfjobs: 3\n")
    assert yamlfile.read(path, "x.yaml") == {"jobs": 3}


def test_bytes_that_are_no_text_are_said(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(BadConfiguration, match=r"^x\.yaml: not UTF-8 text$"):
        yamlfile.read(path, "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n\t"a": 1,\n\t"a": 2\n}', "x.json: key 'a' occurs twice"),
        ('{\n"a": \n}', "x.json:3: Expecting value"),
        ("[1]", "x.json: expected keys with values, found list"),
    ],
)
def test_json_is_read_as_json(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('{\n\t"a": {"b": [1, null]}\n}')  # YAML takes no tabs
    assert yamlfile.read(path, "x.json") == {"a": {"b": [1, None]}}
    path.write_text(text)
    with pytest.raises(BadConfiguration) as caught:
        yamlfile.read(path, "x.json")
    assert caught.value.message == message
