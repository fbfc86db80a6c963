"""Write the SQL of trigger files into a revision, for projects that want them in their history.

The revision has the exact text, and imports nothing of this library. Its downgrade has the text of
the last revision that froze the same object, or drops it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from pgtasks.errors import Refused
from pgtasks.schema import migrate
from pgtasks.schema.migrate.files import new_with
from pgtasks.schema.trigger import rules
from pgtasks.schema.trigger.expected import Expected, Step
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.verify import prepare
from pgtasks.server import connection
from pgtasks.server.quoting import quoted
from pgtasks.settings.target import Target

Frozen = tuple[str, str]  # the name of an object, and its SQL
_BODY = """from sqlalchemy import text

    frozen = [
{pairs}    ]
    for _, sql in frozen:
        op.execute(text(sql.replace(":", r"\\:")))"""


def freeze(
    scripts: migrate.Scripts,
    files: Sequence[SqlFile],
    target: Target,
    message: str,
    names: Sequence[str] = (),
) -> migrate.Written:
    """Write a revision with the SQL of the files, or of the functions and triggers named.

    The database is only asked which tables the rules match. Raises Refused if no file has a name.
    """
    session = connection.session(target, read_only=True, purpose="freeze", own_path=True)
    with session as conn:
        prepare(conn)
        described = rules.described(conn, files)
    steps = _chosen(described, names)
    up = [(_name(step), step.statement.text.strip()) for step in steps]
    return new_with(
        scripts,
        message,
        upgrade=lambda earlier: _body(up),
        downgrade=lambda earlier: _body(_back(described, steps, _frozen(earlier))),
    )


def _chosen(described: Expected, names: Sequence[str]) -> list[Step]:
    chosen = [
        step
        for step in described.steps
        if not names or any(_is_named(name, names) for _, name in step.objects)
    ]
    for name in names:
        if not any(_is_named(each, [name]) for step in chosen for _, each in step.objects):
            raise Refused(f"no function or trigger {name!r} in the files")
    return chosen


def _is_named(name: str, names: Sequence[str]) -> bool:
    """Whether an object (`s.f(int)`, `t on s.t`) is named: whole, or without its schema or more."""
    head, bracket, arguments = name.partition("(")
    short = head.partition(" on ")[0].rpartition(".")[2]
    return not {name, f"{short}{bracket}{arguments}", short.strip('"')}.isdisjoint(names)


def _name(step: Step) -> str:
    if not step.objects:
        return step.statement.where
    return ", ".join(f"{kind} {name}" for kind, name in step.objects)


def _back(
    described: Expected, steps: Sequence[Step], earlier: Mapping[str, str]
) -> Iterator[Frozen]:
    """Yield what brings the objects back to their last frozen text, or drops them."""
    objects = {each for step in steps for each in step.objects}
    triggers = [each for each in described.triggers.values() if ("trigger", each.shown) in objects]
    functions = [
        each for each in described.functions.values() if (each.kind, each.signature) in objects
    ]
    for trigger in reversed(triggers):
        name = f"trigger {trigger.shown}"
        if name not in earlier or " OR REPLACE " not in earlier[name].upper():
            yield name, f"DROP TRIGGER IF EXISTS {quoted(trigger.name)} ON {trigger.table}"
    for function in functions:
        name = f"{function.kind} {function.signature}"
        if name in earlier:
            yield name, earlier[name]
    for trigger in triggers:
        name = f"trigger {trigger.shown}"
        if name in earlier:
            yield name, earlier[name]
    for function in reversed(functions):
        name = f"{function.kind} {function.signature}"
        if name not in earlier:
            yield name, f"DROP {function.kind.upper()} IF EXISTS {function.signature}"


def _frozen(sources: Sequence[str]) -> dict[str, str]:
    """Return the SQL of each object in the sources of revisions, the oldest first."""
    frozen: dict[str, str] = {}
    for source in sources:
        functions = (
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
        )
        for node in (each for function in functions for each in ast.walk(function)):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "frozen":
                frozen.update(_pairs(node.value))
    return frozen


def _pairs(node: ast.expr) -> list[Frozen]:
    try:
        return [(str(name), str(sql)) for name, sql in ast.literal_eval(node)]
    except (ValueError, TypeError):
        return []  # written by somebody else


def _body(pairs: Iterator[Frozen] | Sequence[Frozen]) -> str:
    """Return the body of a function that runs the statements."""
    lines = [f"        ({name!r}, {_constant(sql)}),\n" for name, sql in pairs]
    return _BODY.format(pairs="".join(lines)) if lines else ""


def _constant(sql: str) -> str:
    """Return a string constant, over several lines if the text can be written as it is."""
    if '"""' in sql or sql.endswith(('"', "\\")) or "\r" in sql:
        return repr(sql)
    return f'r"""{sql}"""'
