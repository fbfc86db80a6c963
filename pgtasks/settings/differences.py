"""What differs between two states of the settings of an environment: names, never values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pgtasks.settings.environment import Environment
from pgtasks.settings.secret import Secret, is_secret

_FILE = re.compile(r"(?:^|\()([^()]+):\d+\)?$")  # of env/dev.yaml:3, of DEV_PORT (.env:1)


def flat(environment: Environment) -> dict[str, Any]:
    """Return the values that layers set, by dotted name; secrets as such."""
    values: dict[str, Any] = {name: value.value for name, value in environment.values.items()}
    values |= environment.parameters
    values |= {
        ".".join(("settings", *keys)): value.value
        for keys, value in environment.application.items()
    }
    hidden = {
        name: Secret(repr(value))
        for name, value in values.items()
        if is_secret(name.rpartition(".")[2]) and not name.startswith(_NO_SECRETS)
    }
    known = {
        "password": environment.password,
        "reader_password": environment.reader_password,
        "mask_key": environment.mask_key,
        "security.keys": environment.signing_keys,
    }
    return {**values, **hidden, **{name: value for name, value in known.items() if value}}


def files(environment: Environment) -> frozenset[str]:
    """Return the files that the values are from, as messages name them."""
    found = map(_FILE.search, origins(environment).values())
    return frozenset(each[1] for each in found if each)


def origins(environment: Environment) -> dict[str, str]:
    """Return the layers of the values, by the same names."""
    layers = {name: value.layer for name, value in environment.values.items()}
    layers |= {
        ".".join(("settings", *keys)): value.layer
        for keys, value in environment.application.items()
    }
    return {**layers, "password": environment.password_layer}


# settings of ours about secrets, which are none; those of masks have the names of columns
_NO_SECRETS = ("security.", "mask.", "password_command", "passfile")


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names whose values differ, sorted."""
    names = before.keys() | after.keys()
    return tuple(sorted(name for name in names if before.get(name) != after.get(name)))
