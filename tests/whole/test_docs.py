"""The documentation: complete, its examples real, its links whole, its words our own."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefork
import pytest
import yaml
from invoke.exceptions import ParseError
from invoke.parser import Parser, ParserContext
from invoke.program import Program
from paths import ROOT
from plugins import WITHOUT

import pgtasks
from docs import generate
from pgtasks import errors, service
from pgtasks.server import embedded
from pgtasks.server.embedded import datadir
from pgtasks.server.embedded.port import free_port
from pgtasks.settings import fields
from pgtasks.settings.blocks import Backup, Pool, Settings
from pgtasks.settings.project import FOLDERS, PROJECT
from pgtasks.settings.security import Security
from pgtasks.settings.ssh import Login

DOCUMENTS = generate.documents()
_OTHERS = ("CHANGELOG.md", "backups/README.md", "bench/README.md")
PROSE = [*DOCUMENTS, *(ROOT / name for name in _OTHERS)]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tracked() -> list[Path]:
    """Return the files that belong to the project: those git knows, and new ones it would take."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so nothing says which files belong to it")
    names = filter(None, listed.stdout.decode().split("\0"))
    return [path for name in names if (path := ROOT / name).is_file()]


# ---- complete


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    text = read(path)
    assert text == generate.rewritten(text), "run: python -m docs.generate"


def test_rewrites_what_stands_between_the_marks() -> None:
    text = "a\n<!-- generated: settings folders -->\nstale\n<!-- end of settings folders -->\nb\n"
    new = generate.rewritten(text)
    assert "stale" not in new
    assert "`backups`" in new
    assert (new[:2], new[-3:]) == ("a\n", "\nb\n")
    with pytest.raises(LookupError):
        generate.part("nonesuch")


def test_every_task_is_documented() -> None:
    reference = read(ROOT / "docs" / "tasks.md")
    for name in generate.tasks():
        assert f"<!-- generated: task {name} -->" in reference, f"docs/tasks.md lacks {name}"
        assert f"| [`{name}`]" in reference


def test_every_flag_is_documented() -> None:
    sections = re.split(r"^### ", read(ROOT / "docs" / "tasks.md"), flags=re.MULTILINE)
    by_task = {section.partition("\n")[0]: section for section in sections}
    for name, context in generate.tasks().items():
        section = by_task[name].replace("[no-]", "")
        for flag, argument in context.flags.items():
            assert argument.help, f"{name} {flag} has no help"
            assert argument.help.replace("|", "\\|") in section
            spelled = argument.name.upper() if argument.positional else flag
            assert re.search(rf"^\| `[^`]*{spelled}\b", section, re.MULTILINE), f"{name} {flag}"


def test_every_setting_is_documented() -> None:
    text = read(ROOT / "docs" / "configuration.md")
    blocks = (PROJECT, FOLDERS, *map(fields.of, (Settings, Backup, Pool, Security, Login)))
    for name, field in [pair for block in blocks for pair in block.items()]:
        assert f"| `{name}` |" in text
        assert field.help in text


def test_every_exit_code_is_documented() -> None:
    kinds = [errors.PgtasksError, *errors.PgtasksError.__subclasses__()]
    for path in (ROOT / "README.md", ROOT / "docs" / "errors.md"):
        text = read(path)
        for code in {0, *(kind.exit_code for kind in kinds)}:
            assert f"| {code} |" in text, f"{named(path)} lacks exit code {code}"


# ---- examples name what is there


def code_lines(text: str) -> Iterator[str]:
    """Yield the lines of fenced blocks that are typed, and the spans of code in the prose."""
    prose, language = [], ""
    for number, part in enumerate(re.split(r"^```(.*)$", text, flags=re.MULTILINE)):
        if number % 4 == 0:
            prose.append(part)
        elif number % 4 == 1:
            language = part
        elif number % 4 == 2:
            lines = part.replace("\\\n", " ").splitlines()
            typed = language != "console"
            yield from (line for line in lines if typed or line.startswith("$ "))
    yield from re.findall(r"`([^`\n]+)`", "\n".join(prose))


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of a program in a document's code."""
    for line in code_lines(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # output, with an apostrophe in it
            continue
        yield from _calls(words, program)


def _calls(words: list[str], program: str) -> Iterator[list[str]]:
    starts = [number for number, word in enumerate(words) if Path(word).name == program]
    for start in starts:
        rest = words[start + 1 :]
        end = next(
            (n for n, word in enumerate(rest) if re.fullmatch(r"[|&;<>()]+|\d>", word)), None
        )
        yield rest[:end]


# what stands for any task, in prose
_PLACEHOLDER = re.compile(r"TASK|[a-z]+\.\*|\.\.\.")


@functools.cache
def program() -> tuple[Program, list[ParserContext]]:
    """Return Invoke's program and what it knows of all tasks."""
    return Program(version=pgtasks.__version__), generate.tree().to_contexts()


def parse(words: list[str]) -> None:
    """Read a command line as Invoke does, whose parser keeps, and copies, what it has read."""
    inv, contexts = program()
    named = [each for each in contexts if {each.name, *each.aliases} & {*words}]
    Parser(contexts=deepcopy(named), initial=inv.initial_context).parse_argv(words)


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_example_names_a_task_and_flags_that_are_there(path: Path) -> None:
    faults = []
    for words in commands(read(path), "inv"):
        try:
            parse([word for word in words if not _PLACEHOLDER.fullmatch(word)])
        except ParseError as exc:
            faults.append(f"inv {' '.join(words)}: {exc}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_make_example_names_a_target(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for words in commands(read(path), "make"):
        assert {word for word in words if "=" not in word} <= targets, words


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_example_of_settings_is_accepted(path: Path) -> None:
    for block in blocks(read(path), "yaml"):
        whole = yaml.safe_load(block)
        if "pgtasks" in whole:
            fields.checked(PROJECT, whole["pgtasks"], named(path))
            for settings in whole["pgtasks"].get("environments", {}).values():
                fields.checked(fields.of(Settings), settings, named(path))
        else:
            fields.checked(fields.of(Settings), whole, named(path))


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_name_of_the_library_is_there(path: Path) -> None:
    for block in blocks(read(path), "python"):
        compile(block, named(path), "exec")
        for name in re.findall(r"\bpgtasks\.(\w+)", block):
            assert name in (*pgtasks.__all__, "service"), f"{named(path)}: pgtasks.{name}"
        for names in re.findall(r"from pgtasks\.service import ([\w, ]+)", block):
            assert set(names.split(", ")) <= set(service.__all__), f"{named(path)}: {names}"


def test_finds_commands_wherever_they_stand() -> None:
    text = "do `inv a.b --c 'd e'`:\n```sh\ncd x && .venv/bin/inv f.g >h 2>&1 || inv i\n```\n"
    text += "```console\n$ inv j\nerror: use inv k\n```\n"
    found = list(commands(text, "inv"))
    assert found == [["f.g"], ["i"], ["j"], ["a.b", "--c", "d e"]]


_HINT = re.compile(r"\binv ([a-z]+\.[a-z-]+|setup\b)((?: --[a-z-]+)*)")


def test_every_hint_in_the_code_names_a_task_that_is_there() -> None:
    """Error messages, docstrings and comments say `inv x.y` too (bench/ runs what it names)."""
    known = {
        name: {*context.flags, *context.inverse_flags} for name, context in generate.tasks().items()
    }
    faults = []
    for path in tracked():
        if path.suffix not in (".py", ".sql", ".yaml", ".md", ".ini") or {"tests", "bench"} & {
            *path.parts
        }:
            continue
        for name, flags in _HINT.findall(read(path)):
            if name not in known:
                faults.append(f"{named(path)}: inv {name} is no task")
            elif missing := set(flags.split()) - known[name]:
                faults.append(f"{named(path)}: inv {name} has no {' '.join(missing)}")
    assert not faults, "\n".join(faults)


# ---- examples run

_RUN = re.compile(r"<!-- run in: (\w+) -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_STEP = re.compile(
    r"<!-- (run in|file): ([\w./-]+) -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
# of this editable install alone, see pyproject.toml
_QUIET = (
    "-W 'ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning'"
)
_PORT = "5000"  # of servers that examples start: a free one in its place
_MARK = "=== command done ==="


@dataclass(frozen=True)
class Example:
    """A command as the document shows it, with the output that it shows."""

    command: str
    output: list[str]


def examples(block: str) -> list[Example]:
    """Return the commands of a block; a line of output that is `...` stands for any lines."""
    found: list[Example] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(Example(line[2:], []))
        elif found[-1].command.endswith("\\") and not found[-1].output:
            found[-1] = Example(f"{found[-1].command}\n{line}", [])
        else:
            found[-1].output.append(line)
    return found


def normal(line: str) -> str:
    """Return a line without what differs from run to run and from machine to machine."""
    line = re.sub(
        r"\(Debian [^)]*\)|\([^()]*pgdg[^()]*\)|\([^()]*ubuntu[^()]*\)", "", line, flags=re.I
    )
    line = re.sub(r"only (\d+ \((system|wheel)\)(, )?)+", "only SERVERS", line)
    line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]+", "ID", line)
    line = re.sub(r"(?<![0-9a-z])(?=[a-f]*\d)[0-9a-f]{12}(?![0-9a-z])", "REVISION", line)
    line = re.sub(r"__(new|old)_\w+", r"__\1_ID", line)
    line = re.sub(r"/\S*pgtasks-\S*|/var/run/postgresql\S*|\S*/\.pgtasks/\S*", "PATH", line)
    line = re.sub(r"\b[\w.-]+@[\w.-]+(?=\s)", "WHO", line)
    line = re.sub(r"\d[\d,.:T]*(Z\b)?", "0", line)
    line = re.sub(r"\b0 (ms|s|min|h|d|B|kB|MB|GB)\b", "0 unit", line)
    line = re.sub(r"\b(zstd|gzip)\b", "COMPRESSION", line)
    line = re.sub(r"-{3,}", "---", line)
    return " ".join(line.split())


def agrees(shown: list[str], actual: list[str]) -> bool:
    """Return whether the output is what a document shows; `...` stands for any lines."""
    pattern = "".join(
        "(?:.*\n)*?" if line.strip() == "..." else re.escape(normal(line)) + "\n" for line in shown
    )
    return bool(re.fullmatch(pattern, "".join(f"{normal(line)}\n" for line in actual)))


def typed(
    block: list[Example], folder: Path, shell: dict[str, Any]
) -> Iterator[tuple[Example, list[str]]]:
    """Type a block's commands into one shell; yield each with its output."""
    script = "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + "".join(
        f"{example.command}\ncode=$?; echo; echo '{_MARK}'; (exit $code)\n" for example in block
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        **{
            **shell,
            "env": {**shell["env"], "COLUMNS": "100", "PYTEST_ADDOPTS": f"{_QUIET} {WITHOUT}"},
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    outputs = done.stdout.split(f"\n{_MARK}\n")
    for example, output in zip(block, outputs, strict=False):
        yield example, output.rstrip("\n").splitlines()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what makes the folders that examples run in: `pgtasks` is a copy of this repository.

    It lacks the library and its tasks, which the forks have loaded. Any other is empty. The
    embedded servers that the examples start are removed at the end.
    """
    made: dict[str, Path] = {}
    loaded = (ROOT / "pgtasks", ROOT / "tasks")

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path / name
            made[name].mkdir()
            for path in tracked() if name == "pgtasks" else ():
                if any(map(path.is_relative_to, loaded)):
                    continue
                copy = made[name] / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
        return made[name]

    yield folder
    for path in made.values():
        embedded.remove(path)


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if _RUN.search(read(path))], ids=named)
def test_every_example_runs_as_shown(
    path: Path, sandbox: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shell = prefork.shell(tmp_path_factory.mktemp("bin"))
    port = free_port()
    for kind, name, block in _STEP.findall(read(path)):
        if kind == "file":
            folder, _, file = name.partition("/")
            (sandbox(folder) / file).write_text(block, encoding="utf-8")
            continue
        commands = examples(re.sub(rf"(--port |:){_PORT}\b", rf"\g<1>{port}", block))
        for example, actual in typed(commands, sandbox(name), shell):
            exact = example.command == "echo $?"
            if not (example.output == actual if exact else agrees(example.output, actual)):
                shown = "\n".join(example.output)
                found = "\n".join(actual)
                pytest.fail(f"$ {example.command}\nshown:\n{shown}\n\nactual:\n{found}")


_FROM = re.compile(r"<!-- from: (\S+) -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if _FROM.search(read(path))], ids=named
)
def test_code_that_is_shown_is_that_of_its_file(path: Path) -> None:
    for file, block in _FROM.findall(read(path)):
        assert block in read(ROOT / file), f"{named(path)} shows what is not in {file}:\n{block}"


def test_the_readme_has_examples_that_run() -> None:
    assert len(_RUN.findall(read(ROOT / "README.md"))) >= 2


@pytest.mark.parametrize(
    ("shown", "actual", "agree"),
    [
        ("took 1.2 s", "took 340 ms", True),
        ("17 of 17 tables identical", "41 of 41 tables identical", True),
        ("17 of 17 tables identical", "17 of 17 tables differ", False),
        ("a\n...\nc", "a\nb\nb\nc", True),
        ("a\nc", "a\nb\nc", False),
        ("...\nc", "a\nc", True),
        ("a", "a\nb", False),
        ("a\n...", "a\nb", True),
        ("x__old_20250131T235959Z1a", "x__old_ffee", True),
    ],
)
def test_compares_output_loosely_but_not_more(shown: str, actual: str, agree: bool) -> None:
    assert agrees(shown.splitlines(), actual.splitlines()) is agree


def test_the_readme_shows_a_published_benchmark() -> None:
    """That the table is the one of the document is checked in test_bench.py."""
    published = [named(path) for path in sorted((ROOT / "bench" / "results").glob("*.json"))]
    if not published:
        pytest.skip("no run of the benchmark is published in bench/results")
    text = read(ROOT / "README.md")
    assert any(f"<!-- {name}: in short" in text for name in published)


# ---- links, words, changelog


@pytest.mark.parametrize("path", PROSE, ids=named)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{named(path)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(found), re.MULTILINE)
            assert anchor in map(generate.anchor, headings), f"{named(path)} links to {target}"


def test_each_promise_of_security_names_tests_that_are_there() -> None:
    text = read(ROOT / "docs" / "security.md")
    promises = text.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [row for row in promises.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 10
    for row in rows:
        files = re.findall(r"`(tests/\w+/\w+\.py)`", row)
        assert files, row
        assert all((ROOT / file).is_file() for file in files), row


# How the project came to be, and the machine that it was written on, are no part of it.
_FOREIGN = re.compile(
    r"/work/|/home/\w|/Users/\w|/tmp/(?:scratch|bash)|\bTODO\b|\bFIXME\b"
    r"|\b(?:issue|session|helper) #?\d|\bDESIGN\.md\b|\bGUIDE\.md\b|feasibility\.md"
)


def test_the_project_speaks_of_itself_alone() -> None:
    own_path = re.escape(str(ROOT))
    faults = []
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.search(rf"{_FOREIGN.pattern}|{own_path}", line):
                faults.append(f"{named(path)}:{number}: {found[0]}")
    assert not faults, "\n".join(faults)


def test_the_changelog_is_one() -> None:
    """In the form of Keep a Changelog, with the version that the package has."""
    text = read(ROOT / "CHANGELOG.md")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]" or pgtasks.__version__ in releases[0]
    for release in releases:
        form = r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d"
        assert re.fullmatch(form, release), release
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
    assert re.findall(r"^- ", text, re.MULTILINE)


def test_examples_name_the_role_that_the_embedded_server_lets_in() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        roles = re.findall(r"(\w+)@embedded server", path.read_text())
        assert set(roles) <= {datadir.OWNER}, path
