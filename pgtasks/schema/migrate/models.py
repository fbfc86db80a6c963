"""Compare the models of a project with a database, as `alembic check` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alembic.autogenerate import RevisionContext
from alembic.runtime.migration import MigrationContext

from pgtasks.schema.migrate import differing, state
from pgtasks.schema.migrate.envpy import EnvPy
from pgtasks.schema.migrate.files import arguments
from pgtasks.schema.migrate.state import State

BLIND = differing.BLIND

_NO_MODELS = (
    "env.py has no target_metadata: `models: MODULE:METADATA` in invoke.yaml below pgtasks names it"
)


@dataclass(frozen=True)
class Compared:
    """The state of the database, and what a revision would have to do, in words.

    `differences` is None if the models were not compared, `why` is then the reason.
    """

    state: State
    differences: tuple[str, ...] | None
    why: str = ""


def compare(envpy: EnvPy) -> Compared:
    """Compare models and database, which must be at the head for that."""
    with envpy.opened() as (config, directory):
        context = RevisionContext(config, directory, arguments("", autogenerate=True))
        positions: list[State] = []

        def look(heads: Any, running: MigrationContext) -> list[Any]:
            positions.append(state.compare(tuple(heads), directory, envpy.scripts))
            if (
                positions[0].word == "up-to-date"
                and running.opts.get("target_metadata") is not None
            ):
                context.run_autogenerate(heads, running)
            return []

        options = {"template_args": context.template_args, "revision_context": context}
        with envpy.run(config, directory, look, dont_mutate=True, **options) as run:
            has_models = run.context_opts.get("target_metadata") is not None
        position = positions[0]
        if not has_models:
            return Compared(position, None, _NO_MODELS)
        if position.word != "up-to-date":
            return Compared(position, None, "the database is not at the head of the files")
        return Compared(position, tuple(differing.words(context)))
