"""Run a task for the environments that --env names: one, or several (`a,b`, `prod-*`).

This is loaded with the task tree, so it imports nothing heavy.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pgtasks.errors import Refused

if TYPE_CHECKING:
    from pgtasks.cli.parallel import Call
    from pgtasks.settings.project import Project

HELP = {
    "env": "the environment to work on (default: see env.status); several: a,b or 'prod-*'",
    "hosts_at_once": "number of environments to process in parallel (default: 4)",
}
TOGETHER = {"env": "an environment, or several: a,b or 'prod-*' (default: all)"}

Body = Callable[..., Any]
_bodies: dict[str, Body] = {}  # of the tasks that run for each environment, by full name
_together: set[str] = set()  # names of the tasks that look at all of them in one run


def register(full_name: str, body: Body) -> None:
    """Store the name of a task, to call it for each environment."""
    if hasattr(body, "__several__"):
        _bodies[full_name] = inspect.unwrap(body)
    else:
        _bodies.pop(full_name, None)  # it replaces a task that takes several
    (_together.add if hasattr(body, "__together__") else _together.discard)(full_name)


def takes_several(full_name: str) -> bool:
    """Return whether a task takes several environments."""
    return full_name in _bodies or full_name in _together


def for_all_together(body: Body) -> Body:
    """Mark the body of a task that takes several environments in one run."""
    body.__together__ = True  # type: ignore[attr-defined]
    return body


def for_one_environment(body: Body) -> Body:
    """Wrap the body of a task for one environment, so that several are refused."""

    @functools.wraps(body)
    def wrapped(c: Any, *args: Any, **kwargs: Any) -> Any:
        from pgtasks.settings.selection import names_several

        flag = kwargs.get("env")
        if isinstance(flag, str) and names_several(flag):
            raise Refused(
                f"--env {flag!r} names several environments, which only these tasks take: "
                + ", ".join(sorted({*_bodies, *_together}))
            )
        return body(c, *args, **kwargs)

    return wrapped


def for_each_environment(body: Body) -> Body:
    """Wrap the body of a task, so that it runs once for each environment.

    The task gets an additional flag, --hosts-at-once.
    """
    signature = inspect.signature(body)
    if not {"env", "json"} <= signature.parameters.keys():
        raise TypeError(f"{body.__name__}: a task for several environments has env and json")

    @functools.wraps(body)
    def wrapped(c: Any, *args: Any, hosts_at_once: str | None = None, **kwargs: Any) -> Any:
        from pgtasks.cli import parallel
        from pgtasks.settings.selection import names_several

        values = signature.bind(c, *args, **kwargs).arguments
        number = parallel.at_once(hosts_at_once)
        if names_several(values.get("env") or ""):
            return _run_each(c, body, values, number)
        return body(c, *args, **kwargs)

    more = inspect.Parameter("hosts_at_once", inspect.Parameter.KEYWORD_ONLY, default=None)
    parameters = [*signature.parameters.values(), more]
    # what Task.argspec reads
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__several__ = True  # type: ignore[attr-defined]
    return wrapped


def _run_each(c: Any, body: Body, values: Mapping[str, Any], at_once: int) -> None:
    """Run a task for each environment that --env names, and print the results."""
    from pgtasks import report
    from pgtasks.cli import parallel
    from pgtasks.cli.context import project_of
    from pgtasks.settings import selection

    project, json = project_of(c), bool(values.get("json"))
    names = selection.expand(project, values["env"])
    results = parallel.run(names, _call(c, body, values, project), at_once=at_once)
    if not json or results.exit_code == 0:  # else the document of the failure contains it
        report.result(results, json=json)
    results.check()


def _call(c: Any, body: Body, values: Mapping[str, Any], project: Project) -> Call:
    from pgtasks import report
    from pgtasks.cli.context import tasks_file
    from pgtasks.cli.parallel import Call, flags

    name = next(name for name, known in _bodies.items() if known is body)
    defaults = {each.name: each.default for each in inspect.signature(body).parameters.values()}
    own = {key: values[key] for key in [*defaults][1:] if key in values}
    return Call(
        # in another tree that contains ours, the names are longer
        task=next((word for word in sys.argv[1:] if word.endswith(f".{name}")), name),
        tasks_file=tasks_file() or project.root / "tasks.py",
        words=flags({key: own[key] for key in own if key not in ("env", "json")}, defaults),
        json=bool(values.get("json")),
        runtime=getattr(c.config, "_runtime_path", None),
        dry=bool(c.config.run.dry),
        env={**project.inherited_libpq, report.SUMMARY: "1", **report.lent_width(indent=2)},
    )
