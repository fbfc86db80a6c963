"""What the names on the command line mean, and the comparison of what they mean."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pgtasks.backup.find import Finder
from pgtasks.backup.format import manifest
from pgtasks.backup.store.choice import holds_backup
from pgtasks.cli.run import Run
from pgtasks.cli.source import beside
from pgtasks.errors import Refused
from pgtasks.schema.inspect.diff import models, schema_file
from pgtasks.schema.inspect.diff.outcome import Diff
from pgtasks.schema.inspect.diff.perform import Options, Place, databases, with_backup
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project, normalize

Kind = Literal["environment", "backup", "file", "models"]
MODELS, _SQL = "models", ".sql"


@dataclass(frozen=True)
class Named:
    """A name of the command line, and what it is the name of."""

    kind: Kind
    name: str


def named(project: Project, word: str) -> Named:
    """Return what a word means, raising Refused if it means nothing.

    An environment goes before all else. `models` are those of the project; a schema file is a path
    of a file. A backup is a path, ENVIRONMENT/DATABASE/ID in the folder of backups, an ID, or
    `latest`.
    """
    if normalize(word) in project.environments():
        return Named("environment", normalize(word))
    if word == MODELS:
        return Named("models", word)
    if Path(word).suffix == _SQL and Path(word).is_file():
        return Named("file", word)
    inside = project.folder("backups") / word
    if os.sep in word and not Path(word).exists() and holds_backup(inside):
        return Named("backup", str(inside))
    if word == "latest" or manifest.is_id(word) or holds_backup(Path(word)):
        return Named("backup", word)
    return Named("environment", project.known(word))


def environment(project: Project, left: str, right: str) -> str:
    """Return the environment of a comparison, the left one of two; raises Refused without one."""
    for word in (left, right):
        if (meant := named(project, word)).kind == "environment":
            return meant.name
    raise Refused(f"{left!r} and {right!r} are no environments, name one to compare with")


def compare(run: Run, reached: Reached, words: tuple[str, str], options: Options) -> Diff:
    """Compare what two words mean; the run is that of the first one which is an environment."""
    left, right = (named(run.project, word) for word in words)
    place = Place(run.environment.name, reached, run.target.jobs)
    if left == right:
        raise Refused(f"{words[0]!r} is compared with itself, name two")
    if left.kind == right.kind == "environment":
        with beside(run, right.name) as (other, there):
            return databases(place, Place(right.name, there, other.target.jobs), options)
    first = left.kind != "environment"
    meant, word = (left, words[0]) if first else (right, words[1])
    if meant.kind == "backup":
        finder = Finder(run.project.folder("backups"), run.target, run.landed)
        return with_backup(place, word, finder.find(meant.name), options, first=first)
    if options.sql or options.rows:
        raise Refused("--sql and --rows are for environments and backups")
    if meant.kind == "file":
        found = schema_file.with_file(word, Path(word), place.name, reached, first=first)
    else:
        found = models.with_models(run.project, place.name, reached, first=first)
    return replace(found, with_text=options.text)
