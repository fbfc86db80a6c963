"""Records of settings: what is declared is what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

import pytest

from pgtasks.errors import BadConfiguration
from pgtasks.settings import fields
from pgtasks.settings.blocks import Backup, Keep, Pool, Settings
from pgtasks.settings.security import Security
from pgtasks.settings.ssh import Login

RECORDS = (Settings, Backup, Keep, Pool, Security, Login)
TYPES: Mapping[str, tuple[Any, ...]] = {
    "text": (str,),
    "path": (str,),
    "number": (int, int | None),
    "span": (str,),
    "time": (int,),
    "flag": (bool,),
    "list": (tuple[str, ...],),
    "share": (float,),
    "block": (Backup, Keep, Pool, Security, Login | None, Mapping[str, Any]),
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_setting_is_declared_in_the_type_of_its_attribute(record: type) -> None:
    hints = get_type_hints(record)
    for name, field in fields.of(record).items():
        assert hints[name] in TYPES[field.kind], name
        if field.kind == "number":
            assert (hints[name] is int) == (field.default is not None), name


@pytest.mark.parametrize("record", RECORDS)
def test_a_default_is_one_that_a_file_could_say(record: type) -> None:
    for name, field in fields.of(record).items():
        if field.kind != "block" and field.default not in (None, "", ()):
            assert fields.check(field, field.default, name) == getattr(record(), name)


def test_what_is_said_is_kept_and_what_is_not_has_its_default() -> None:
    settings = fields.build(Settings, {"jobs": 5, "backup.keep.last": 3, "ssh.host": "db1"})
    changed = {"jobs": 5, "backup": Backup(keep=Keep(last=3)), "ssh": Login("db1")}
    assert settings == dataclasses.replace(Settings(), **changed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30min", 1800), ("90s", 90), (90, 90), ("0", 0), ("12 h", 43200), ("2w", 1209600)],
)
def test_a_time(text: object, expected: int) -> None:
    assert fields.check(fields.of(Security)["hsts"], text, "x") == expected


@pytest.mark.parametrize("text", ["30m", "-5min", "min", True, 1.5, "1e3", "", [1], "12345678901"])
def test_no_time(text: object) -> None:
    with pytest.raises(BadConfiguration, match=r"^x: .*, expected a time"):
        fields.check(fields.of(Security)["hsts"], text, "x")


@pytest.mark.parametrize(
    ("text", "expected"), [(0.5, 0.5), ("50%", 0.5), (1, 1.0), (0, 0.0), ("12.5%", 0.125)]
)
def test_a_share(text: object, expected: float) -> None:
    assert fields.check(fields.of(Backup)["drop_warning"], text, "x") == expected


@pytest.mark.parametrize("text", [50, "101%", -0.1, "half", True, "nan", [0.5]])
def test_no_share(text: object) -> None:
    with pytest.raises(BadConfiguration, match=r"^x: .*, expected a share"):
        fields.check(fields.of(Backup)["drop_warning"], text, "x")
