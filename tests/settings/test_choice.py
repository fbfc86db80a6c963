"""Which environment a task works on, what said so, and what may never say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout import lay_out

from pgtasks.errors import BadConfiguration, Failed, Refused
from pgtasks.host import checkout
from pgtasks.settings import project, selection
from pgtasks.settings.project import Project, find_root, normalize

NAMES = [f"e{number}" for number in range(9)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lay_out(tmp_path, {f"env/{name}.yaml": "host: h\n" for name in NAMES})


def loaded(root: Path, runtime: str = "") -> Project:
    return project.load(root, runtime=root / runtime if runtime else None)


def test_the_first_source_that_says_something_wins(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert selection.choose(loaded(root)) == selection.Choice(
        "dev", "default, nothing chooses another"
    )
    lay_out(Path.home(), {".invoke.yaml": "pgtasks: {environment: e1}\n"})
    assert selection.choose(loaded(root)).environment == "e1"
    lay_out(root, {"invoke.yaml": "pgtasks: {environment: e2}\n"})
    assert selection.choose(loaded(root)).reason == "pgtasks.environment in invoke.yaml"
    lay_out(root, {".env": "PGTASKS_ENV=e3\n"})
    assert selection.choose(loaded(root)) == selection.Choice("e3", "PGTASKS_ENV (.env:1)")
    checkout.remember(loaded(root), "e4")
    assert selection.choose(loaded(root)) == selection.Choice("e4", "inv env.use in this checkout")
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENT", "e5")
    assert selection.choose(loaded(root)) == selection.Choice("e5", "INVOKE_PGTASKS_ENVIRONMENT")
    monkeypatch.setenv("PGTASKS_ENV", "e6")
    assert selection.choose(loaded(root)) == selection.Choice("e6", "PGTASKS_ENV")
    lay_out(root, {"ci.yaml": "pgtasks: {environment: e7}\n"})
    assert selection.choose(loaded(root, "ci.yaml")).reason == "pgtasks.environment in ci.yaml"
    assert selection.choose(loaded(root, "ci.yaml"), "e8") == selection.Choice("e8", "--env")
    said = [(one.source, one.name) for one in selection.candidates(loaded(root, "ci.yaml"), "e8")]
    assert [name for _, name in said] == ["e8", "e7", "e6", "e5", "e4", "e3", "e2", "e1"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("dev", "dev"),
        ("Dev", "dev"),
        (" DEV ", "dev"),
        ("development", "dev"),
        ("Production", "prod"),
        ("testing", "test"),
        ("stage", "staging"),
        ("eu-west", "eu-west"),
        ("EU-West", "eu-west"),
    ],
)
def test_names_have_one_spelling(spelling: str, name: str) -> None:
    assert normalize(spelling) == name


@pytest.mark.parametrize("file", ["env/Production.yaml", "env/prod.yml", "env/prod.env"])
@pytest.mark.parametrize("asked", ["prod", "PROD", "production"])
def test_a_file_is_found_in_whatever_spelling(tmp_path: Path, file: str, asked: str) -> None:
    lay_out(tmp_path, {file: ""})
    assert selection.choose(loaded(tmp_path), asked).environment == "prod"


@pytest.mark.parametrize(
    ("variable", "asked"), [("QA_DATABASE_URL", "qa"), ("EU_WEST_DATABASE_URL", "EU-west")]
)
def test_a_variable_of_the_process_defines_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, asked: str
) -> None:
    monkeypatch.setenv(variable, "postgresql://h/d")
    assert selection.choose(loaded(tmp_path), asked).environment == asked.lower()
    assert asked.lower() not in loaded(tmp_path).environments()
    monkeypatch.setenv(variable, "")
    with pytest.raises(Refused, match="unknown environment"):
        selection.choose(loaded(tmp_path), asked)


def test_all_environments_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://h/d"
    monkeypatch.setenv("STAGING_DATABASE_URL", url)
    lay_out(
        tmp_path,
        {
            "env/eu-west.yaml": "",
            "env/local.env": f"DATABASE_URL={url}\n",
            "env/prod.example.yaml": "",
            "env/.hidden.yaml": "",
            "env/two words.yaml": "",
            ".env": f"EU_WEST_DATABASE_URL={url}\nQA_DATABASE_URL={url}\n"
            f"SQLALCHEMY_DATABASE_URL={url}\nDATABASE_URL={url}\n",
            "invoke.yaml": "pgtasks: {environments: {Demo: {}}}\n",
        },
    )
    expected = ["demo", "dev", "eu-west", "local", "qa", "staging", "test"]
    assert loaded(tmp_path).environments() == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("prdo", "unknown environment 'prdo', did you mean 'prod', known: dev, prod, test"),
        ("xyz", "unknown environment 'xyz', known: dev, prod, test"),
        (
            "eu",
            "unknown environment 'eu', known: dev, prod, test: env/eu.example.yaml is its "
            "example, copy it to eu.yaml and fill it in",
        ),
        ("", "unknown environment '', known: dev, prod, test"),
        ("../prod", "unknown environment '../prod', did you mean 'prod', known: dev, prod, test"),
    ],
)
def test_an_unknown_environment_is_refused(tmp_path: Path, asked: str, message: str) -> None:
    lay_out(tmp_path, {"env/prod.yaml": "", "env/eu.example.yaml": ""})
    with pytest.raises(Refused) as caught:
        selection.choose(loaded(tmp_path), asked)
    assert (caught.value.message, caught.value.exit_code) == (message, 2)


def test_an_unknown_choice_names_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTASKS_ENV", "nowhere")
    with pytest.raises(Refused, match=r"'nowhere'.* \(from PGTASKS_ENV\)$"):
        selection.choose(loaded(tmp_path))


@pytest.mark.parametrize(
    ("files", "pair"),
    [
        ({"env/prod.yaml": "", "env/Production.yaml": ""}, "Production.yaml and env/prod.yaml"),
        ({"env/prod.yaml": "", "env/prod.yml": ""}, "env/prod.yaml and env/prod.yml"),
    ],
)
def test_two_files_of_one_environment_are_refused(
    tmp_path: Path, files: dict[str, str], pair: str
) -> None:
    lay_out(tmp_path, files)
    with pytest.raises(BadConfiguration, match=f"{pair} are both environment 'prod', keep one"):
        loaded(tmp_path).environment_file("prod")


def test_two_names_with_the_same_variables_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/eu-west.yaml": "", "env/eu_west.yaml": ""})
    with pytest.raises(BadConfiguration, match="share the variables EU_WEST_"):
        loaded(tmp_path).environments()


# --- what is remembered ---

PROTECTED = {"env/eu.yaml": "protected: true\n", "env/prod.yaml": ""}


@pytest.mark.parametrize("name", ["eu", "prod"])
def test_a_protected_environment_cannot_be_remembered(tmp_path: Path, name: str) -> None:
    lay_out(tmp_path, PROTECTED)
    with pytest.raises(Refused, match=f"'{name}' is protected, it cannot be a remembered choice"):
        checkout.remember(loaded(tmp_path), name)
    assert not (tmp_path / ".pgtasks").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".env", "PGTASKS_ENV=eu\n"),
        ("invoke.yaml", "pgtasks: {environment: eu}\n"),
        (".pgtasks/environment", "eu\n"),  # chosen before it became protected
    ],
)
def test_a_remembered_choice_that_is_protected_is_refused(
    tmp_path: Path, file: str, text: str
) -> None:
    lay_out(tmp_path, {**PROTECTED, file: text})
    with pytest.raises(Refused, match="is protected: a remembered choice cannot be"):
        selection.choose(loaded(tmp_path))
    assert selection.choose(loaded(tmp_path), "eu").environment == "eu"
    # an application must know where it is, and is asked nothing by the guard
    assert selection.choose(loaded(tmp_path), guarded=False).environment == "eu"


def test_what_is_said_for_one_command_may_be_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {**PROTECTED, "ci.yaml": "pgtasks: {environment: eu}\n"})
    assert selection.choose(loaded(tmp_path, "ci.yaml")).environment == "eu"
    monkeypatch.setenv("PGTASKS_ENV", "prod")
    assert selection.choose(loaded(tmp_path)).environment == "prod"


def test_a_choice_belongs_to_one_checkout(root: Path, tmp_path: Path) -> None:
    other = lay_out(tmp_path / "other", {"env/e1.yaml": ""})
    checkout.remember(loaded(root), "E1")
    assert selection.recall(loaded(root)) == "e1"
    assert selection.recall(loaded(other)) == ""
    assert (root / ".pgtasks" / ".gitignore").read_text() == "*\n"
    assert [path.name for path in sorted((root / ".pgtasks").iterdir())] == [
        ".gitignore",
        "environment",
    ]


def test_a_choice_that_cannot_be_read_is_said(root: Path) -> None:
    (root / ".pgtasks" / "environment").mkdir(parents=True)
    with pytest.raises(Failed, match=r"^\.pgtasks/environment cannot be read: Is a directory$"):
        selection.choose(loaded(root))


def test_a_choice_that_cannot_be_written_is_said(root: Path) -> None:
    (root / ".pgtasks").write_text("in the way")
    with pytest.raises(Failed, match=r"^\.pgtasks cannot be written: Not a directory$"):
        checkout.remember(loaded(root), "e1")


# --- the project's root and folders ---


@pytest.mark.parametrize(
    "mark", ["invoke.yaml", "invoke.json", "env/dev.yaml", ".pgtasks/.gitignore", "dbtasks.py"]
)
def test_the_root_is_found_from_below(tmp_path: Path, mark: str) -> None:
    text = "import pgtasks\n" if mark.endswith(".py") else ""
    root = lay_out(tmp_path / "shop", {mark: text, "app/deep/tasks.py": "import celery\n"})
    assert find_root(root / "app" / "deep") == root


def test_folders_have_names_that_settings_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "pgtasks:\n  folders: {env: settings, backups: /srv/backups, sql: a/b}\n"
    lay_out(Path.home(), {".invoke.yaml": "pgtasks: {folders: {sql: x, migrations: alembic}}\n"})
    lay_out(tmp_path, {"invoke.yaml": text, "settings/qa.yaml": "host: h\n", "env/no.yaml": ""})
    found = loaded(tmp_path)
    assert found.folder("env") == tmp_path / "settings"
    assert found.folder("backups") == Path("/srv/backups")
    assert found.folder("sql") == tmp_path / "a" / "b"
    assert found.folder("migrations") == tmp_path / "alembic"
    assert found.folder("tasks") == tmp_path / "tasks"
    assert found.environments() == ["dev", "qa", "test"]
    monkeypatch.setenv("INVOKE_PGTASKS_FOLDERS_SQL", "c")
    assert loaded(tmp_path).folder("sql") == tmp_path / "c"
    lay_out(tmp_path, {"ci.yaml": "pgtasks: {folders: {sql: d}}\n"})
    assert loaded(tmp_path, "ci.yaml").folder("sql") == tmp_path / "d"
