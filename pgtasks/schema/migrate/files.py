"""Write revision files: of the difference between models and database, empty, or a merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alembic.autogenerate import RevisionContext
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import rev_id

from pgtasks.errors import Failed, Refused
from pgtasks.report import typed
from pgtasks.report.interruption import telling, telling_files
from pgtasks.schema.migrate import differing, state
from pgtasks.schema.migrate.envpy import EnvPy, bare
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.schema.migrate.state import Revision
from pgtasks.server.identity import Identity
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Written:
    """A new revision file.

    `joined` are the heads that a merge joins. `remarks` say what a comparison of models and
    database may have missed.
    """

    revision: Revision
    joined: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person reads."""
        written = f"wrote {self.revision.file}: revision {self.revision.id}"
        if self.joined:
            return [f"{written}, which joins {', '.join(self.joined)}"]
        return [f"{written}, read it before you use it", *(f"  {each}" for each in self.remarks)]

    def as_json(self) -> dict[str, Any]:
        """Return plain data with stable keys."""
        revision = self.revision
        facts = {"revision": revision.id, "message": revision.message, "file": revision.file}
        return {**facts, "joins": list(self.joined), "remarks": list(self.remarks)}


def new(scripts: Scripts, target: Target, identity: Identity, message: str) -> Written:
    """Write a revision file from the difference between the models and the database.

    Raises Refused if they agree, or if the database is not at the head of the files.
    """
    _check_message(message)
    envpy = EnvPy(scripts, target, identity, read_only=True)
    with envpy.opened() as (config, directory), _telling(directory, scripts):
        _check_single_head(directory)
        context = RevisionContext(config, directory, arguments(message, autogenerate=True))

        def compare(heads: Any, running: MigrationContext) -> list[Any]:
            current = state.compare(tuple(heads), directory, scripts)
            if current.word != "up-to-date":
                raise Refused(
                    f"the database is not at the head of the files: {current.sentence()}: "
                    f"{typed.task('migrate.up')} first"
                )
            context.run_autogenerate(heads, running)
            return []

        template = context.template_args
        options = {"template_args": template, "revision_context": context, "dont_mutate": True}
        with envpy.run(config, directory, compare, **options):
            if all(_is_empty(each) for each in context.generated_revisions):
                raise Refused(
                    "models and database agree, there is nothing to write: --empty writes a file "
                    "to fill by hand"
                )
        differences = tuple(differing.words(context))
        return replace(_written(context, scripts), remarks=tuple(_remarks(differences)))


@contextmanager
def _telling(directory: ScriptDirectory, scripts: Scripts) -> Iterator[None]:
    """Say which revision files a block has written, if a signal ends it."""
    with telling(lambda: "no file was written"):  # to read the files runs their code
        folders = {Path(each.path).parent for each in directory.walk_revisions()}
    folders.add(Path(directory.dir))
    with telling_files(
        lambda: {path for folder in folders for path in folder.rglob("*.py")}, scripts.shown
    ):
        yield


def _remarks(differences: Sequence[str]) -> Iterator[str]:
    """Yield what a person must look for, because Alembic cannot see it."""
    for kind in ("table", "column"):
        added, removed = (
            [each.partition(": ")[2] for each in differences if each.startswith(f"{verb} {kind}:")]
            for verb in ("add", "remove")
        )
        if added and removed:
            yield f"if a {kind} is renamed, say so by hand: drops {', '.join(removed)}, adds " + (
                ", ".join(added)
            )
    yield (
        "autogenerate sees no renames, CHECKs, exclusion constraints, triggers, functions, views, "
        "policies and grants"
    )


def _is_empty(script: MigrationScript) -> bool:
    return script.upgrade_ops is None or script.upgrade_ops.is_empty()


def new_empty(scripts: Scripts, message: str) -> Written:
    """Write a revision file with empty functions, without a connection."""
    _check_message(message)
    with bare(scripts) as (config, directory), _telling(directory, scripts):
        _check_single_head(directory)
        context = RevisionContext(config, directory, arguments(message, autogenerate=False))
        return _written(context, scripts)


def merge(scripts: Scripts, message: str) -> Written:
    """Write a revision file that joins all heads, with empty functions, without a connection.

    Raises Refused if there are less than two heads.
    """
    with bare(scripts) as (config, directory), _telling(directory, scripts):
        heads = tuple(sorted(directory.get_heads()))
        if len(heads) < 2:
            head = f"one head, {heads[0]}" if heads else "no head"
            raise Refused(f"the files have {head}: there is nothing to join")
        message = message or f"merge {' and '.join(heads)}"
        _check_message(message)
        script = directory.generate_revision(rev_id(), message, head=heads, config=config)
        if script is None:
            raise Failed("Alembic wrote no file")
        return Written(state.revision(script, scripts), heads)


def new_with(
    scripts: Scripts,
    message: str,
    *,
    upgrade: Callable[[Sequence[str]], str],
    downgrade: Callable[[Sequence[str]], str],
) -> Written:
    """Write a revision file with these bodies, made from the sources of all before, oldest first.

    No connection is opened.
    """
    _check_message(message)
    with bare(scripts) as (config, directory), _telling(directory, scripts):
        _check_single_head(directory)
        earlier = [Path(script.path) for script in directory.walk_revisions()][::-1]
        sources = [path.read_text(encoding="utf-8") for path in earlier]
        script = directory.generate_revision(
            rev_id(),
            message,
            head="head",
            config=config,
            upgrades=upgrade(sources),
            downgrades=downgrade(sources),
            imports="",
        )
        if script is None:
            raise Failed("Alembic wrote no file")
        return Written(state.revision(script, scripts))


def arguments(message: str, *, autogenerate: bool) -> dict[str, Any]:
    """Return the arguments of `alembic revision`."""
    rest = dict.fromkeys(("branch_label", "version_path", "rev_id", "depends_on"))
    return {
        "message": message,
        "autogenerate": autogenerate,
        "sql": False,
        "head": "head",
        "splice": False,
        **rest,
    }


def _check_single_head(directory: ScriptDirectory) -> None:
    heads = sorted(directory.get_heads())
    if len(heads) > 1:
        raise Refused(
            f"the files have {len(heads)} heads, {', '.join(heads)}: "
            f"{typed.task('migrate.merge')} joins them"
        )


def _check_message(message: str) -> None:
    if not message.strip():
        raise Refused("the message is empty, say what the revision does with -m TEXT")
    if '"""' in message or "\\" in message or not message.isprintable():
        raise Refused(
            f"message {message!r} would break the docstring that it becomes: "
            'leave out backslashes, line ends and """'
        )


def _written(context: RevisionContext, scripts: Scripts) -> Written:
    scripts_made = [script for script in context.generate_scripts() if script is not None]
    if not scripts_made:
        raise Failed("Alembic wrote no file")
    return Written(state.revision(scripts_made[0], scripts))
