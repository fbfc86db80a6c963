"""The executor for `tasks.executor_class` in invoke.yaml: one-line errors before a task begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from invoke.exceptions import AmbiguousEnvVar, UncastableEnvVar
from invoke.executor import Executor

from pgtasks.cli.edge import exit_of
from pgtasks.errors import BadConfiguration, PgtasksError, Refused

_LEVELS = ("_system", "_user", "_project", "_runtime")


class TaskExecutor(Executor):  # type: ignore[misc]
    """Refuse a -f file that does not exist, and a variable that Invoke cannot use."""

    def execute(self, *tasks: Any) -> Any:
        """Run the tasks, with errors of Invoke's own configuration in one line."""
        try:
            self._check_runtime_file()
            self._check_variables()
        except PgtasksError as exc:
            raise exit_of(exc, json=any(map(_wants_json, tasks))) from None
        return super().execute(*tasks)

    def _check_runtime_file(self) -> None:
        chosen = self.core[0].args["config"].value if self.core else None
        chosen = chosen or os.environ.get("INVOKE_RUNTIME_CONFIG")
        if chosen and not Path(chosen).expanduser().is_file():
            raise Refused(f"config file {chosen!r} does not exist")

    def _check_variables(self) -> None:
        # pgtasks reads INVOKE_PGTASKS_... itself, with the types of its settings. Invoke would
        # convert them to the types of the values in files: `false` to true, a list to an error.
        for level in _LEVELS:
            getattr(self.config, level, {}).pop("pgtasks", None)
        self.config.merge()
        try:
            self.config.load_shell_env()
        except (AmbiguousEnvVar, UncastableEnvVar, ValueError, TypeError) as exc:
            raise BadConfiguration(f"a variable INVOKE_...: {exc}") from None


def _wants_json(task: Any) -> bool:
    flag = getattr(task, "args", {}).get("json")
    return bool(flag and flag.value)
