"""Write the parts of the documentation that the code already says: tasks, flags, settings.

`python -m docs.generate` rewrites what stands between `<!-- generated: NAME -->` and
`<!-- end of NAME -->` in README.md and docs/; tests/whole/test_docs.py fails where they differ.
NAME is `tasks`, `settings BLOCK`, or `task TASK`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pgtasks import namespace
from pgtasks.report.text import time
from pgtasks.schema.trigger.rules import Rule
from pgtasks.settings import fields
from pgtasks.settings.blocks import Backup, Keep, Pool, Settings
from pgtasks.settings.project import FOLDERS, PROJECT
from pgtasks.settings.security import Security
from pgtasks.settings.ssh import Login

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
_SETTINGS = {
    "environment": fields.of(Settings),
    "backup": fields.of(Backup),
    "keep": fields.of(Keep),
    "pool": fields.of(Pool),
    "security": fields.of(Security),
    "ssh": fields.of(Login),
    "project": PROJECT,
    "folders": FOLDERS,
    "rule": fields.of(Rule),
}
# the main job first; a collection that is not named here goes to the end
_COLLECTIONS = (
    *("help", "setup", "db", "backup", "clone", "remote", "env", "server"),
    *("migrate", "schema", "trigger", "seed", "inspect", "verify", "mask", "journal"),
)
_KINDS = {"flag": "true or false", "block": "block of keys", "list": "list of names"}


def documents() -> list[Path]:
    """Return the files that may hold generated parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rewritten(text: str) -> str:
    """Return a document with its generated parts as they should be."""
    return _BLOCK.sub(lambda found: found[1] + part(found[2]) + found[3], text)


def part(name: str) -> str:
    """Return one generated part, raising LookupError where nothing of that name is there."""
    kind, _, about = name.partition(" ")
    makers: Mapping[str, Callable[[str], str]] = {
        "tasks": task_table,
        "task": reference,
        "settings": settings_table,
    }
    return makers[kind](about)


def tasks() -> dict[str, Any]:
    """Return Invoke's parser context of every built-in task, by name, in the order of the list."""
    return {context.name: context for context in tree().to_contexts()}


def tree() -> Any:
    """Return the task tree of this repository."""
    return namespace(ROOT / "tasks.py")


def task_table(about: str = "") -> str:
    """Return the table of all tasks, each linked to its reference."""
    rows = [(f"[`{name}`](#{anchor(name)})", said(name)[0]) for name in sorted(tasks(), key=_place)]
    return table(("task", "what it does"), rows)


def _place(task: str) -> tuple[int, str]:
    """Return the place of a task's collection; within it tasks stay as their file has them."""
    collection = task.partition(".")[0]
    known = collection in _COLLECTIONS
    return (_COLLECTIONS.index(collection) if known else len(_COLLECTIONS), collection)


def reference(name: str) -> str:
    """Return what docs/tasks.md says of one task: its heading, its text, its flags."""
    context = tasks()[name]
    first, *rest = said(name)
    positionals = "".join(f" {arg.name.upper()}" for arg in context.positional_args)
    flags = [(f"`{_spelled(flag, context)}`", help) for flag, help in context.help_tuples()]
    lines = [f"### {name}", "", first, "", *rest, *([""] if rest else [])]
    lines += [f"`inv {name}{positionals}`", ""] if positionals else []
    return "\n".join(lines) + "\n" + (table(("flag", "what it does"), flags) if flags else "")


def _spelled(flag: str, context: Any) -> str:
    """Return a flag as the reference spells it, a positional in capitals."""
    argument = context.flags[re.findall(r"--(?:\[no-\])?[\w-]+", flag)[-1].replace("[no-]", "")]
    return str(argument.name).upper() if argument.positional else flag


def said(name: str) -> list[str]:
    """Return the lines of a task's help: the first is what `inv --list` shows."""
    text = tree()[name].__doc__ or ""
    first, _, rest = text.strip().partition("\n")
    body = "\n".join(line.strip() for line in rest.strip().splitlines())
    return [_code(first), *(_code(line) for line in body.splitlines())]


def _code(line: str) -> str:
    """Return a line of help with its commands set as code."""
    text, example, command = line.partition("Example: ")
    text = re.sub(r"^inv .*|\binv [a-z.-]+(?: --[\w-]+)*", r"`\g<0>`", text)
    return text + (f"{example}`{command}`" if example else "")


def settings_table(block: str) -> str:
    """Return the table of one block of settings."""
    rows = [
        (f"`{name}`", _kind(field), _default(field), field.help)
        for name, field in _SETTINGS[block].items()
    ]
    return table(("setting", "type", "default", "what it says"), rows)


def _kind(field: fields.Field) -> str:
    if field.listing:
        return field.listing
    if field.choices:
        return " ".join(f"`{choice}`" for choice in field.choices)
    if field.kind == "time":
        return f"time, {' to '.join(map(time, field.range))}"
    if field.kind == "number" and field.range != fields.Field.range:
        return f"number, {field.range[0]} to {field.range[1]}"
    kind = _KINDS.get(field.kind, field.kind)
    return f"text, or {kind}" if field.short else kind


def _default(field: fields.Field) -> str:
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    if field.kind == "time":
        return f"`{time(field.default)}`"
    return "" if field.default in (None, "", ()) else f"`{field.default}`"


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def anchor(heading: str) -> str:
    """Return the anchor that a heading gets."""
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.replace(" ", "-")


def changed() -> Iterator[tuple[Path, str]]:
    """Yield the documents that are not as they should be, with what they should be."""
    for path in documents():
        text = path.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            yield path, new


if __name__ == "__main__":
    for path, new in changed():
        path.write_text(new, encoding="utf-8")
        print(path.relative_to(ROOT))
