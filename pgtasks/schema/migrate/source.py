"""Find what a function of a revision drops, from its source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from pgtasks.schema.migrate.losses import Loss, losses
from pgtasks.server.quoting import qualified, quoted

_RUN_SQL = ("execute", "exec_driver_sql")
_BATCH = "batch_alter_table"
# what Alembic's operations drop, and the positions of the arguments: name, table
_DROPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "drop_table": ("table", ("table_name",)),
    "drop_column": ("column", ("table_name", "column_name")),
    "drop_index": ("index", ("index_name",)),
    "drop_constraint": ("constraint", ("constraint_name", "table_name")),
}
_UNKNOWN = "whose name its source computes"

Names = Mapping[str, str]


def read(path: Path, function: str) -> tuple[Loss, ...]:
    """Return what `upgrade` or `downgrade` of a revision file drops."""
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
        return (Loss("what it drops cannot be read from its file"),)
    return _Reader(module).losses(function)


class _Reader:
    """One revision file, with its functions and its text constants."""

    def __init__(self, module: ast.Module) -> None:
        self.functions = {
            node.name: node for node in module.body if isinstance(node, ast.FunctionDef)
        }
        self.texts: dict[str, str] = {}
        self.lists: dict[str, ast.expr] = {}
        for node in module.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                self.lists[name] = node.value
                if (text := _text(node.value, self.texts)) is not None:
                    self.texts[name] = text
        self._read: set[str] = set()

    def losses(self, function: str) -> tuple[Loss, ...]:
        """Return what a function drops, including the functions of the file that it calls."""
        node = self.functions.get(function)
        if node is None:
            return (Loss(f"its file has no function {function}"),)
        if all(_does_nothing(statement) for statement in node.body):
            return (Loss("its downgrade does nothing"),) if function == "downgrade" else ()
        lost = list(self._function(function))
        return tuple(dict.fromkeys(lost))

    def _function(self, name: str) -> Iterator[Loss]:
        if name in self._read:
            return
        self._read.add(name)
        yield from self._block(self.functions[name].body, self.texts, {})

    def _block(self, body: list[ast.stmt], names: Names, batches: Names) -> Iterator[Loss]:
        for statement in body:
            yield from self._statement(statement, names, batches)

    def _statement(self, statement: ast.stmt, names: Names, batches: Names) -> Iterator[Loss]:
        if isinstance(statement, ast.Raise):
            yield Loss("it raises an error" if statement.exc is None else _raised(statement.exc))
        elif isinstance(statement, ast.For):
            for each in self._bound(statement, names):
                yield from self._block(statement.body, each, batches)
        elif isinstance(statement, ast.With):
            inner = {**batches, **_batches(statement, names)}
            yield from self._block(statement.body, names, inner)
        elif isinstance(statement, (ast.If, ast.Try)):
            yield from self._branches(statement, names, batches)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    yield from self._call(node, names, batches)

    def _branches(self, node: ast.If | ast.Try, names: Names, batches: Names) -> Iterator[Loss]:
        handlers = [each.body for each in getattr(node, "handlers", [])]
        for body in (node.body, *handlers, node.orelse, getattr(node, "finalbody", [])):
            yield from self._block(body, names, batches)

    def _bound(self, loop: ast.For, names: Names) -> list[Names]:
        """Return the loop variables of each iteration over constant texts."""
        sequence: ast.expr | None = loop.iter
        if isinstance(sequence, ast.Name):
            sequence = self.lists.get(sequence.id)
        if not isinstance(loop.target, ast.Name) or not isinstance(sequence, (ast.Tuple, ast.List)):
            return [names]
        texts = [_text(item, names) for item in sequence.elts]
        return [{**names, loop.target.id: text} for text in texts if text is not None] or [names]

    def _call(self, call: ast.Call, names: Names, batches: Names) -> Iterator[Loss]:
        if isinstance(call.func, ast.Name):
            if call.func.id in self.functions:
                yield from self._function(call.func.id)
            return
        if not isinstance(call.func, ast.Attribute):
            return
        kind = call.func.attr
        if kind in _RUN_SQL and call.args:
            yield from _sql(call.args[0], names)
        elif kind in _DROPS:
            on = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
            yield _dropped(kind, call, names, batches.get(on))


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _raised(exc: ast.expr) -> str:
    name = exc.func if isinstance(exc, ast.Call) else exc
    return f"it raises {ast.unparse(name)}"


def _text(node: ast.expr, names: Names) -> str | None:
    """Return the value of a constant text expression, None if it must be computed."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left, names), _text(node.right, names)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.JoinedStr):
        parts = [_text(_part(value), names) for value in node.values]
        return None if None in parts else "".join(filter(None, parts))
    if isinstance(node, ast.Call) and node.args:  # sa.text("..."), op.f("...")
        callee = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        callee = node.func.id if isinstance(node.func, ast.Name) else callee
        return _text(node.args[0], names) if callee in ("text", "f") else None
    return None


def _part(value: ast.expr) -> ast.expr:
    return value.value if isinstance(value, ast.FormattedValue) else value


def _batches(statement: ast.With, names: Names) -> dict[str, str]:
    """Return the tables of `with op.batch_alter_table("t") as batch`, by the name `batch`."""
    return {
        item.optional_vars.id: _table(item.context_expr, names)
        for item in statement.items
        if isinstance(item.optional_vars, ast.Name)
        and isinstance(item.context_expr, ast.Call)
        and isinstance(item.context_expr.func, ast.Attribute)
        and item.context_expr.func.attr == _BATCH
    }


def _table(call: ast.Call, names: Names) -> str:
    name = _text(call.args[0], names) if call.args else None
    return _name(name, _keyword(call, "schema", names)) if name else ""


def _keyword(call: ast.Call, name: str, names: Names) -> str | None:
    value = next((each.value for each in call.keywords if each.arg == name), None)
    return None if value is None else _text(value, names)


def _name(name: str, schema: str | None) -> str:
    return qualified(schema, name) if schema else quoted(name)


def _sql(node: ast.expr, names: Names) -> Iterator[Loss]:
    text = _text(node, names)
    if text is None:
        yield Loss("runs SQL that its source computes")
    else:
        yield from losses(text)


def _dropped(kind: str, call: ast.Call, names: Names, batch: str | None) -> Loss:
    """Return what a call of an Alembic operation drops; `batch` is the table of a batch."""
    noun, parameters = _DROPS[kind]
    if batch is not None:
        parameters = tuple(each for each in parameters if each != "table_name")
    given = {
        parameter: _text(argument, names)
        for parameter, argument in zip(parameters, call.args, strict=False)
    }
    for parameter in parameters:
        if parameter not in given:
            given[parameter] = _keyword(call, parameter, names)
    schema = _keyword(call, "schema", names)
    table, own = given.get("table_name"), given.get(f"{noun}_name")
    if own is None:
        return Loss(f"drops {'an' if noun == 'index' else 'a'} {noun} {_UNKNOWN}")
    if noun == "table":
        return Loss(f"drops table {_name(own, schema)}", _name(own, schema))
    if noun == "index":
        return Loss(f"drops index {_name(own, schema)}")
    of = batch if batch is not None else _name(table, schema) if table else ""
    text = f"drops {noun} {of}.{quoted(own)}" if of else f"drops {noun} {quoted(own)}"
    return Loss(text, of if noun == "column" else "")
