"""Find the variables in an environment's dotenv file whose names are nearly those of settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pgtasks.errors import PgtasksError
from pgtasks.settings.project import Project, stem

_NAMES = ("DATABASE_URL", "DATABASE_PASSWORD", "READER_PASSWORD", "MASK_KEY", "SECURITY_KEYS")
_ALIKE = 0.9  # DATABASE_PASWORD; others are the application's


def variables(project: Project, environment: str) -> Iterator[str]:
    """Yield a line for each variable that is not used, with the name that is."""
    known = [*_NAMES, *(f"{stem(environment)}_{name}" for name in _NAMES)]
    try:
        dotenv = project.variables(environment).dotenv
    except PgtasksError:
        return  # it has its own finding
    own = next(iter(dotenv.values()))  # the more specific file first
    for name, variable in own.items():
        near = difflib.get_close_matches(name.upper(), known, 1, _ALIKE)
        if near and name not in known:
            yield f"{variable.where} is not used, did you mean {near[0]}"
