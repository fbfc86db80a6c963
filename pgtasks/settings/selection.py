"""Choose the environment of a task, with the reason."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

from pgtasks.errors import Failed, PgtasksError, Refused
from pgtasks.settings import fields
from pgtasks.settings.environment import Environment, resolve
from pgtasks.settings.project import Project, normalize

VARIABLES = ("PGTASKS_ENV", "INVOKE_PGTASKS_ENVIRONMENT")
ENV_USE = "inv env.use in this checkout"
_SIGNS = ",*?["


@dataclass(frozen=True)
class Choice:
    """The chosen environment and what chose it: `--env`, `PGTASKS_ENV`, `inv env.use` ..."""

    environment: str
    reason: str


@dataclass(frozen=True)
class Candidate:
    """The name from one source, or an empty text. A `lasting` one is not only for this command."""

    source: str
    name: str
    lasting: bool = False


def candidates(project: Project, flag: str | None = None) -> Iterator[Candidate]:
    """Yield the candidates; the first one with a name is chosen."""
    files = list(reversed(project.files))
    yield Candidate("--env", flag or "")
    for file in (file for file in files if file.layer == "-f"):
        yield Candidate(f"pgtasks.environment in {file.name}", file.environment)
    for variable in VARIABLES:
        yield Candidate(variable, project.process.get(variable, ""))
    yield Candidate(ENV_USE, recall(project), lasting=True)
    for variable in VARIABLES:
        if variable_set := project.dotenv.get(variable):
            yield Candidate(variable_set.where, variable_set.value, lasting=True)
    for file in (file for file in files if file.layer != "-f"):
        source = f"pgtasks.environment in {file.name}"
        yield Candidate(source, file.environment, lasting=True)


def choose(project: Project, flag: str | None = None, *, guarded: bool = True) -> Choice:
    """Return the environment to work on: flag, -f file, PGTASKS_ENV, env.use, files, else dev.

    A stored choice cannot be a protected environment, so that nobody writes to one without naming
    it; `guarded=False` is for an application, for which a file may choose any.
    """
    if flag is not None:
        return Choice(project.known(flag), "--env")
    for candidate in candidates(project):
        if candidate.name:
            name = _known(project, candidate)
            if guarded and candidate.lasting:
                _refuse_protected(project, name, candidate.source)
            return Choice(name, candidate.source)
    return Choice("dev", "default, nothing chooses another")


def _known(project: Project, candidate: Candidate) -> str:
    try:
        return project.known(candidate.name)
    except Refused as exc:
        raise Refused(f"{exc.message} (from {candidate.source})") from None


def _refuse_protected(project: Project, name: str, source: str) -> None:
    if resolve(project, name).protected:
        raise Refused(
            f"environment {name!r}, chosen by {source}, is protected: a remembered choice "
            f"cannot be, name it each time with --env {name}"
        )


def must_be_named(project: Project, environment: Environment) -> bool:
    """Return whether a command needs --env to work on an environment, now and in the next shell.

    A protected one always does, because it is never a default.
    """
    if environment.protected:
        return True
    try:
        named_candidates = [candidate for candidate in candidates(project) if candidate.name]
    except PgtasksError:
        return True
    lasting = [candidate for candidate in named_candidates if candidate.lasting]
    names = {normalize(named[0].name) if named else "dev" for named in (named_candidates, lasting)}
    return names != {environment.name}


def expand(project: Project, flag: str) -> list[str]:
    """Return the environments in --env, each once: names in their order, matches sorted.

    Raises Refused for an unknown name, and for a pattern without a match.
    """
    parts = [part.strip() for part in flag.split(",")]
    if not all(parts):
        raise Refused(f"--env {flag!r}: a name is missing beside a comma")
    return list(dict.fromkeys(name for part in parts for name in _matching(project, part)))


def names_several(flag: str) -> bool:
    """Return whether --env names several environments: `a,b` or `prod-*`."""
    return any(sign in flag for sign in _SIGNS)


def _matching(project: Project, part: str) -> list[str]:
    if not names_several(part):
        return [project.known(part)]
    names = project.environments()
    matches = [name for name in names if fnmatch.fnmatchcase(name, part.lower())]
    if not matches:
        raise Refused(f"no environment matches {part!r}, {fields.meant(part, names)}")
    return matches


def recall(project: Project) -> str:
    """Return the choice of `inv env.use` for this checkout, or an empty text."""
    try:
        return (project.state / "environment").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        path = project.shown(project.state / "environment")
        raise Failed(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from None
