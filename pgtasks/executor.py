"""What `tasks.executor_class` in invoke.yaml names: errors before a task begins, in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from invoke.exceptions import AmbiguousEnvVar, UncastableEnvVar
from invoke.executor import Executor

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.task import exit_of


class TaskExecutor(Executor):  # type: ignore[misc]
    """Refuse a -f file that does not exist, and a variable that Invoke cannot use."""

    def execute(self, *tasks: Any) -> Any:
        """Run the tasks, errors of Invoke's own configuration in one line."""
        chosen = self.core[0].args["config"].value if self.core else None
        chosen = chosen or os.environ.get("INVOKE_RUNTIME_CONFIG")
        if chosen and not Path(chosen).expanduser().is_file():
            raise exit_of(Refused(f"config file {chosen!r} does not exist"))
        try:
            self.config.load_shell_env()
        except (AmbiguousEnvVar, UncastableEnvVar, ValueError, TypeError) as exc:
            raise exit_of(BadConfiguration(f"a variable INVOKE_...: {exc}")) from None
        return super().execute(*tasks)
