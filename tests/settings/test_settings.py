"""The layers of an environment: which there are, which wins, and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout import lay_out, said, settings

from pgtasks.errors import BadConfiguration, Refused
from pgtasks.settings import project
from pgtasks.settings.environment import resolve
from pgtasks.settings.target import from_environment

INVOKE = "pgtasks:\n  environments:\n    dev: {{{}}}\n"
VARIABLE = "INVOKE_PGTASKS_ENVIRONMENTS_DEV_"

LADDER = [
    ("jobs", 2, "default", {}, {}),
    ("jobs", 3, "env/base.yaml:1", {"env/base.yaml": "jobs: 3\n"}, {}),
    ("jobs", 4, "env/dev.yaml:2", {"env/dev.yaml": "inherits: base\njobs: 4\n"}, {}),
    ("jobs", 5, "~/.invoke.yaml", {}, {}),
    ("jobs", 6, "invoke.yaml:3", {"invoke.yaml": INVOKE.format("jobs: 6")}, {}),
    ("jobs", 7, f"{VARIABLE}JOBS (.env:1)", {".env": f"{VARIABLE}JOBS=7\n"}, {}),
    ("jobs", 8, f"{VARIABLE}JOBS (env/dev.env:1)", {"env/dev.env": f"{VARIABLE}JOBS=8\n"}, {}),
    ("jobs", 9, f"{VARIABLE}JOBS", {}, {f"{VARIABLE}JOBS": "9"}),
    ("jobs", 10, "ci.yaml:3", {"ci.yaml": INVOKE.format("jobs: 10")}, {}),
]


@pytest.mark.parametrize("height", range(1, len(LADDER) + 1))
def test_each_layer_wins_over_those_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int
) -> None:
    lay_out(tmp_path, {"env/base.yaml": "", "env/dev.yaml": "inherits: base\n"})
    for _, value, _, files, variables in LADDER[:height]:
        lay_out(tmp_path, files)
        if value == 5:
            lay_out(Path.home(), {".invoke.yaml": INVOKE.format("jobs: 5")})
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
    found = settings(tmp_path, runtime="ci.yaml" if height == len(LADDER) else "")
    _, value, layer, _, _ = LADDER[height - 1]
    layer = layer.replace("~/.invoke.yaml", f"{Path.home()}/.invoke.yaml:3")
    assert (found.settings.jobs, found.layer("jobs")) == (value, layer)


def test_each_key_comes_from_its_own_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_DEV_BACKUP_KEEP", "9")
    lay_out(
        tmp_path,
        {
            "env/base.yaml": "backup: {keep: 3, compression: lz4}\nseeds: [a]\nuser: base\n",
            "env/dev.yaml": "inherits: base\nserver: embedded\nseeds: [b, c]\n",
            "invoke.yaml": INVOKE.format("backup: {globals_passwords: true}"),
        },
    )
    found = settings(tmp_path)
    assert found.block("backup") == {
        "keep": {"last": 9},
        "compression": "lz4",
        "globals_passwords": True,
    }
    assert found.layer("backup.keep.last") == "INVOKE_PGTASKS_ENVIRONMENTS_DEV_BACKUP_KEEP"
    assert found.layer("backup.compression") == "env/base.yaml:1"
    assert found.layer("backup.globals_passwords") == "invoke.yaml:3"
    assert found.settings.seeds == ("b", "c")  # a list is replaced
    assert found.layer("port") == "default"


# --- which database ---


@pytest.mark.parametrize(
    ("folder", "name", "database"),
    [
        ("shop", "dev", "shop_dev"),
        ("My Shop!", "dev", "my_shop_dev"),
        ("shop", "eu-west", "shop_eu_west"),
        ("лавка", "dev", "dev"),
        ("s" * 80, "dev", "s" * 44 + "_dev"),
    ],
)
def test_the_database_is_named_after_project_and_environment(
    tmp_path: Path, folder: str, name: str, database: str
) -> None:
    root = lay_out(tmp_path / folder, {f"env/{name}.yaml": "server: embedded\n"})
    found = settings(root, name)
    assert (found.settings.database, found.layer("database")) == (database, "default")


def test_long_names_of_projects_do_not_make_one_database_of_two(tmp_path: Path) -> None:
    root = lay_out(tmp_path / ("x" * 90), {})
    names = {settings(root, name).settings.database for name in ("dev", "test")}
    assert len(names) == 2


def test_dev_and_test_are_embedded_and_no_other(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "jobs: 1\n", "env/heir.yaml": "inherits: dev\n"})
    kinds = [settings(tmp_path, name).settings.server for name in ("dev", "test", "qa", "heir")]
    assert kinds == ["embedded", "embedded", "", "embedded"]


PLACES = {
    "url": "url: postgresql://u:p@url-host:1/url_db\n",
    "host": "host: plain-host\n",
    "server": "server: embedded\n",
}


@pytest.mark.parametrize("lower", PLACES)
@pytest.mark.parametrize("upper", PLACES)
def test_a_place_replaces_the_place_below(tmp_path: Path, lower: str, upper: str) -> None:
    heir = f"inherits: base\n{PLACES[upper]}"
    lay_out(tmp_path, {"env/base.yaml": PLACES[lower], "env/qa.yaml": heir})
    found = settings(tmp_path, "qa")
    hosts = {"url": "url-host", "host": "plain-host", "server": ""}
    assert found.settings.host == hosts[upper]
    assert found.settings.server == ("embedded" if upper == "server" else "")
    assert bool(found.password) == (upper == "url")


def test_a_url_that_is_silent_on_tls_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"env/prod.yaml": "host: a\nsslmode: verify-full\nsslrootcert: ca.pem\n"})
    monkeypatch.setenv("PROD_DATABASE_URL", "postgresql://u@b/d")
    found = settings(tmp_path, "prod")
    assert said(found, "host", "sslmode") == ("b", "verify-full")
    assert from_environment(found).parameters["sslrootcert"] == str(tmp_path / "ca.pem")
    monkeypatch.setenv("PROD_DATABASE_URL", "postgresql://u@b/d?sslmode=require")
    assert settings(tmp_path, "prod").settings.sslmode == "require"


def test_a_password_goes_with_its_place_and_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "url: postgresql://u:p@h/d\n"})
    assert settings(tmp_path, "qa").password
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_QA_DATABASE", "other")
    assert settings(tmp_path, "qa").password
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_QA_USER", "other")
    assert settings(tmp_path, "qa").password is None
    monkeypatch.delenv("INVOKE_PGTASKS_ENVIRONMENTS_QA_USER")
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_QA_PORT", "7000")
    assert settings(tmp_path, "qa").password is None


def test_an_address_goes_with_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "url: postgresql://h/d?hostaddr=10.0.0.1&sslcert=/c\n"})
    assert settings(tmp_path, "qa").parameters == {"hostaddr": "10.0.0.1", "sslcert": "/c"}
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_QA_HOST", "other")
    assert settings(tmp_path, "qa").parameters == {"sslcert": "/c"}


def test_a_database_host_is_a_place(tmp_path: Path) -> None:
    inherited = {"PGHOST": "elsewhere", "PGPORT": "7", "PGUSER": "nobody"}
    texts = {"env/dev.yaml": "ssh: ann@db1\n", "env/qa.yaml": "ssh: db1\nuser: bob\n"}
    lay_out(tmp_path, {**texts, "env/test.yaml": "ssh: db1\nserver: embedded\n"})
    found = [settings(tmp_path, name, libpq=inherited) for name in ("dev", "qa")]
    assert [said(one, "host", "port", "user", "server") for one in found] == [
        ("", 5432, "", ""),
        ("", 5432, "bob", ""),
    ]
    targets = [from_environment(one) for one in found]
    assert [(one.host, one.user, one.embedded) for one in targets] == [
        ("", "ann", False),  # the socket there, wherever it is
        ("", "bob", False),
    ]
    with pytest.raises(BadConfiguration, match="this machine only: keep one"):
        from_environment(settings(tmp_path, "test"))


def test_the_database_host_itself_needs_no_ssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = "{host: db1, user: ops, identity: key, backups: /srv}"
    lay_out(
        tmp_path, {"env/prod.yaml": f"host: /run/x\nssh: {block}\n", "env/dev.yaml": "ssh: db1"}
    )
    assert from_environment(settings(tmp_path, "prod")).ssh is not None
    for name in ("DEV", "PROD"):
        monkeypatch.setenv(f"INVOKE_PGTASKS_ENVIRONMENTS_{name}_SSH", "none")
    target = from_environment(settings(tmp_path, "prod"))
    assert (target.ssh, target.host) == (None, "/run/x")
    assert settings(tmp_path, "prod").layer("ssh.host").endswith("PROD_SSH")
    assert from_environment(settings(tmp_path, "dev")).ssh is None


def test_an_ancestors_ssh_host_does_not_serve_another_place(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": "host: db1\nssh: ops@db1\n",
            "env/prod.env": "DATABASE_URL=postgresql://u@localhost/d\n",
            "env/copy.yaml": "inherits: prod\njobs: 3\n",
            "env/local.yaml": "inherits: prod\nhost: localhost\n",
        },
    )
    hosts = [settings(tmp_path, name).block("ssh") for name in ("prod", "copy", "local")]
    assert hosts == [{"host": "db1", "user": "ops"}, {"host": "db1", "user": "ops"}, {}]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("url: postgresql://h/d\nservice: s\n", "url and service"),
        ("url: postgresql://h/d\nserver: embedded\n", "url and server"),
        ("server: embedded\nhost: h\n", "server and host"),
    ],
)
def test_two_places_in_one_file_are_refused(tmp_path: Path, text: str, keys: str) -> None:
    lay_out(tmp_path, {"env/dev.yaml": text})
    with pytest.raises(BadConfiguration) as caught:
        settings(tmp_path)
    assert caught.value.message == f"env/dev.yaml:2: {keys} both name a server, keep one"


def test_paths_are_led_from_the_project(tmp_path: Path) -> None:
    text = "host: h\npassfile: ~/p\ntools: bin\nsslrootcert: /abs/ca.pem\n"
    lay_out(tmp_path, {"env/dev.yaml": text})
    paths = said(settings(tmp_path), "passfile", "tools", "sslrootcert")
    assert paths == (f"{Path.home()}/p", f"{tmp_path}/bin", "/abs/ca.pem")
    lay_out(tmp_path, {"env/dev.yaml": "host: h\nsslrootcert: system\n"})
    assert settings(tmp_path).settings.sslrootcert == "system"


def test_a_service_names_the_place(tmp_path: Path) -> None:
    lay_out(Path.home(), {".pg_service.conf": "[shop]\nhost=db1\nport=6\ndbname=x\npassword=p\n"})
    lay_out(tmp_path, {"env/qa.yaml": "service: shop\n"})
    found = settings(tmp_path, "qa")
    assert said(found, "host", "port", "database") == ("db1", 6, "x")
    assert found.layer("host") == "env/qa.yaml:1, service shop"
    assert (found.password_layer, repr(found.password)) == ("env/qa.yaml:1, service shop", "***")


# --- variables ---

A, B, C = (f"postgresql://u@{name}/d" for name in "abc")


@pytest.mark.parametrize(
    ("files", "variables", "host"),
    [
        # the more specific place of a variable wins, and never a dotenv file over the process
        ({".env": f"QA_DATABASE_URL={A}\n"}, {}, "a"),
        ({".env": f"QA_DATABASE_URL={A}\n", "env/qa.env": f"QA_DATABASE_URL={B}\n"}, {}, "b"),
        ({".env": f"QA_DATABASE_URL={A}\n", "env/qa.env": f"DATABASE_URL={B}\n"}, {}, "b"),
        ({"env/qa.env": f"DATABASE_URL={B}\nQA_DATABASE_URL={C}\n"}, {}, "c"),
        ({"env/qa.env": f"DATABASE_URL={B}\n"}, {"QA_DATABASE_URL": C}, "c"),
        ({"env/qa.env": f"DATABASE_URL={B}\n"}, {"QA_DATABASE_URL": ""}, "b"),
        # a bare one in the process or in .env is nobody's
        ({"env/qa.yaml": "host: x\n"}, {"DATABASE_URL": A}, "x"),
        ({"env/qa.yaml": "host: x\n", ".env": f"DATABASE_URL={A}\n"}, {}, "x"),
        # unless the environment says so
        ({"env/qa.yaml": "url: $DATABASE_URL\n"}, {"DATABASE_URL": A}, "a"),
        ({"env/qa.yaml": "url: ${DATABASE_URL}\n", ".env": f"DATABASE_URL={A}\n"}, {}, "a"),
        ({"env/qa.yaml": "url: $X\n", ".env": f"X={A}\n", "env/qa.env": f"X={B}\n"}, {}, "b"),
        ({"env/qa.yaml": "url: $X\n", ".env": f"X={A}\n"}, {"X": C}, "c"),
        # Invoke's own spelling lies over it in the same place
        (
            {"env/qa.env": f"DATABASE_URL={A}\nINVOKE_PGTASKS_ENVIRONMENTS_QA_HOST=z\n"},
            {},
            "z",
        ),
    ],
)
def test_variables_say_where(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    variables: dict[str, str],
    host: str,
) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "", **files})
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert settings(tmp_path, "qa").settings.host == host


@pytest.mark.parametrize(
    ("files", "host"),
    [
        ({}, "a"),
        ({"env/dev.yaml": "seeds: [x]\n"}, ""),
        ({"invoke.yaml": INVOKE.format("jobs: 3")}, ""),
        ({"invoke.yaml": "pgtasks:\n  environments:\n    Development: {jobs: 3}\n"}, ""),
        ({"env/dev.env": f"DATABASE_URL={B}\n"}, "b"),
        ({"env/test.yaml": "seeds: [x]\n"}, "a"),
    ],
)
def test_a_bare_url_in_dotenv_is_devs_where_nothing_else_defines_dev(
    tmp_path: Path, files: dict[str, str], host: str
) -> None:
    lay_out(tmp_path, {".env": f"DATABASE_URL={A}\n", **files})
    assert settings(tmp_path).settings.host == host
    assert settings(tmp_path, "test").settings.host == ""


def test_a_bare_url_of_the_shell_is_never_devs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", A)
    assert settings(tmp_path).settings.server == "embedded"


def test_a_runtime_file_about_something_else_leaves_the_url_of_dotenv(tmp_path: Path) -> None:
    lay_out(tmp_path, {".env": f"DATABASE_URL={A}\n", "ci.yaml": INVOKE.format("jobs: 3")})
    found = settings(tmp_path, runtime="ci.yaml")
    assert said(found, "host", "jobs") == ("a", 3)


@pytest.mark.parametrize("where", ["env/prod.env", ".env"])
def test_a_password_alone_may_stand_in_dotenv(tmp_path: Path, where: str) -> None:
    name = "DATABASE_PASSWORD" if where == "env/prod.env" else "PROD_DATABASE_PASSWORD"
    lay_out(tmp_path, {"env/prod.yaml": "host: h\nuser: u\n", where: f"{name}='p w#1'\n"})
    found = settings(tmp_path, "prod")
    assert found.password is not None
    assert found.password.reveal() == "p w#1"
    assert found.password_layer == f"{name} ({where}:1)"


def test_a_bare_password_elsewhere_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "x")
    lay_out(tmp_path, {"env/prod.yaml": "host: h\n", ".env": "DATABASE_PASSWORD=y\n"})
    assert settings(tmp_path, "prod").password is None


def test_dotenv_is_read_as_applications_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_HOST", "of-the-process")
    text = (
        "# comment\n\nDB_USER='al ice'\nDB_HOST=of-the-file\n"
        'export DATABASE_URL="postgresql://${DB_USER}:p$w@${DB_HOST}:${DB_PORT:-6000}/d" # end\n'
    )
    lay_out(tmp_path, {".env": text})
    found = settings(tmp_path)
    assert said(found, "user", "host", "port") == ("al ice", "of-the-process", 6000)
    assert found.password is not None
    assert found.password.reveal() == "p$w"
    assert found.layer("host") == "DATABASE_URL (.env:5)"


def test_a_virtual_environment_called_dotenv_is_no_file_of_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert settings(tmp_path).settings.server == "embedded"


@pytest.mark.parametrize(
    ("variable", "name", "value"),
    [
        ("EU_WEST_DATABASE_URL", "eu-west", "a"),
        ("INVOKE_PGTASKS_ENVIRONMENTS_EU_WEST_HOST", "eu-west", "postgresql://u@a/d"),
    ],
)
def test_a_name_with_a_hyphen_has_variables_with_an_underscore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, name: str, value: str
) -> None:
    lay_out(tmp_path, {"env/eu-west.yaml": "", "env/eu.yaml": "host: x\n"})
    monkeypatch.setenv(variable, A)
    assert settings(tmp_path, name).settings.host == value
    assert settings(tmp_path, "eu").settings.host == "x"


def test_values_of_variables_have_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, text in {"SEEDS": "a, b c", "PROTECTED": "yes", "JOBS": "4", "HOST": "5432"}.items():
        monkeypatch.setenv(f"{VARIABLE}{key}", text)
    found = settings(tmp_path)
    assert said(found, "seeds", "protected", "jobs", "host") == (("a", "b", "c"), True, 4, "5432")


# --- protection ---

LATE = "protected cannot be turned off by a variable or a -f file"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"env/prod.yaml": "protected: true\n"},
        {"env/prod.yaml": "inherits: safe\n", "env/safe.yaml": "protected: true\n"},
        {"invoke.yaml": "pgtasks: {environments: {prod: {protected: true}}}\n"},
    ],
)
@pytest.mark.parametrize("where", ["process", ".env", "env/prod.env", "-f"])
def test_nothing_late_turns_protection_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], where: str
) -> None:
    lay_out(tmp_path, {".env": "PROD_DATABASE_URL=postgresql://h/d\n", **files})
    assert settings(tmp_path, "prod").protected
    variable, runtime = "INVOKE_PGTASKS_ENVIRONMENTS_PROD_PROTECTED", ""
    if where == "process":
        monkeypatch.setenv(variable, "0")
    elif where == "-f":
        runtime = "ci.yaml"
        lay_out(tmp_path, {runtime: "pgtasks: {environments: {prod: {protected: false}}}\n"})
    else:
        path = tmp_path / where
        lay_out(tmp_path, {where: f"{variable}=off\n"})
        assert path.exists()
    if where == ".env":
        lay_out(tmp_path, {"env/prod.env": "DATABASE_URL=postgresql://h/d\n"})
    with pytest.raises(BadConfiguration, match=LATE):
        settings(tmp_path, "prod", runtime=runtime)


@pytest.mark.parametrize(
    "files",
    [
        {"env/prod.yaml": "protected: false\n"},
        {"env/prod.yaml": "", "invoke.yaml": "pgtasks: {environments: {prod: {protected: no}}}\n"},
    ],
)
def test_the_environments_own_files_may_turn_it_off(tmp_path: Path, files: dict[str, str]) -> None:
    assert not settings(lay_out(tmp_path, files), "prod").protected


def test_a_variable_may_turn_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{VARIABLE}PROTECTED", "true")
    assert settings(tmp_path).protected


def test_off_where_it_is_off_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{VARIABLE}PROTECTED", "false")
    assert not settings(tmp_path).protected


def test_an_heir_of_prod_is_protected_unless_it_says_otherwise(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": "host: h\n",
            "env/eu.yaml": "inherits: production\nhost: eu\n",
            "env/staging.yaml": "inherits: prod\nhost: s\nprotected: false\n",
        },
    )
    assert settings(tmp_path, "eu").protected
    assert not settings(tmp_path, "staging").protected


def test_no_variable_and_no_runtime_file_leads_to_another_env_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(
        tmp_path,
        {
            "env/eu.yaml": "host: h\nprotected: true\n",
            "open/eu.yaml": "host: h\n",
            "ci.yaml": "pgtasks: {folders: {env: open}}\n",
        },
    )
    with pytest.raises(BadConfiguration, match=r"^ci\.yaml: folders\.env: the env folder has"):
        settings(tmp_path, "eu", runtime="ci.yaml")
    monkeypatch.setenv("INVOKE_PGTASKS_FOLDERS_ENV", "open")
    with pytest.raises(BadConfiguration, match=r"^INVOKE_PGTASKS_FOLDERS_ENV: the env folder"):
        settings(tmp_path, "eu")


def test_no_variable_and_no_runtime_file_gives_other_ancestors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"env/eu.yaml": "inherits: prod\n", "env/prod.yaml": "host: h\n"})
    lay_out(tmp_path, {"ci.yaml": "pgtasks: {environments: {eu: {inherits: dev}}}\n"})
    with pytest.raises(BadConfiguration, match=r"^ci\.yaml:1: inherits: neither a variable"):
        settings(tmp_path, "eu", runtime="ci.yaml")
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_EU_INHERITS", "dev")
    with pytest.raises(BadConfiguration, match="INHERITS: inherits: neither a variable"):
        settings(tmp_path, "eu")


# --- libpq's own variables ---

PG = {
    "PGHOST": "pg-host",
    "PGPORT": "6001",
    "PGDATABASE": "pg_db",
    "PGUSER": "pg_user",
    "PGPASSWORD": "pg_pass",
    "PGSSLMODE": "require",
    "PGHOSTADDR": "10.0.0.1",
    "PGPASSFILE": "/pg/pass",
    "PGCONNECT_TIMEOUT": "3",
}


def test_libpqs_variables_fill_an_environment_that_names_no_place(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "user: own\n"})
    found = settings(tmp_path, "qa", libpq=PG)
    names = ("host", "port", "database", "user", "sslmode", "connect_timeout", "passfile")
    assert said(found, *names) == ("pg-host", 6001, "pg_db", "own", "require", 3, "/pg/pass")
    assert (found.layer("host"), found.password_layer) == ("PGHOST", "PGPASSWORD")
    assert from_environment(found).parameters["hostaddr"] == "10.0.0.1"


def test_pgservice_fills_first_and_the_others_what_is_left(tmp_path: Path) -> None:
    lay_out(Path.home(), {".pg_service.conf": "[shop]\nhost=db1\ndbname=x\n"})
    lay_out(tmp_path, {"env/qa.yaml": ""})
    found = settings(tmp_path, "qa", libpq={**PG, "PGSERVICE": "shop"})
    assert said(found, "host", "database", "user") == ("db1", "x", "pg_user")


@pytest.mark.parametrize(
    "text",
    [
        "host: h\n",
        "url: postgresql:///d\n",
        "port: 5433\n",
        "server: embedded\n",
        "protected: true\n",
    ],
)
def test_libpqs_variables_fill_nothing_else(tmp_path: Path, text: str) -> None:
    lay_out(tmp_path, {"env/qa.yaml": text})
    with_variables, without = (
        settings(tmp_path, "qa", libpq=variables) for variables in ({**PG, "PGSERVICE": "x"}, {})
    )
    assert with_variables == without


def test_a_bad_libpq_variable_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/qa.yaml": ""})
    with pytest.raises(BadConfiguration, match=r"^PGPORT: 'abc', expected a number$"):
        settings(tmp_path, "qa", libpq={"PGPORT": "abc"})


# --- the application's own settings ---


def test_settings_of_the_application_are_merged_key_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(
        tmp_path,
        {
            "env/base.yaml": "settings: {sec: {minutes: 30, hard: false}, hosts: [a], r: 0.5}\n",
            "env/qa.yaml": "inherits: base\nsettings: {sec: {minutes: 5}, name: x, list: []}\n",
            "invoke.yaml": "pgtasks: {environments: {qa: {settings: {name: null}}}}\n",
        },
    )
    prefix = "INVOKE_PGTASKS_ENVIRONMENTS_QA_SETTINGS_"
    for key, text in {"SEC_HARD": "on", "HOSTS": "b,c", "R": "0.25", "UNKNOWN": "z"}.items():
        monkeypatch.setenv(prefix + key, text)
    found = settings(tmp_path, "qa")
    assert found.settings.settings == {
        "sec": {"minutes": 5, "hard": True},
        "hosts": ["b", "c"],
        "r": 0.25,
        "name": None,
        "list": [],
    }
    assert found.application["sec", "minutes"].layer == "env/qa.yaml:2"
    assert found.application["sec", "hard"].layer == f"{prefix}SEC_HARD"


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ("{a: {b: 1}}", "{a: 2}", {"a": 2}),
        ("{a: 2}", "{a: {b: 1}}", {"a": {"b": 1}}),
        ("{a: {b: 1}}", "{a: {}}", {"a": {}}),
        ("{a: {b: {c: 1}}}", "{a: {d: 2}}", {"a": {"b": {"c": 1}, "d": 2}}),
    ],
)
def test_a_value_replaces_a_block_and_a_block_a_value(
    tmp_path: Path, lower: str, upper: str, expected: object
) -> None:
    heir = f"inherits: base\nsettings: {upper}\n"
    lay_out(tmp_path, {"env/base.yaml": f"settings: {lower}\n", "env/qa.yaml": heir})
    assert settings(tmp_path, "qa").settings.settings == expected


# --- faults ---

FAULTS = [
    ("prt: 5\n", "env/dev.yaml:1: unknown key 'prt', did you mean 'port'"),
    ("host: h\nqqq: 5\n", "env/dev.yaml:2: unknown key 'qqq', known: backup, connect_timeout, "),
    ("port: abc\n", "env/dev.yaml:1: port: 'abc', expected a number"),
    ("port: 5432.0\n", "env/dev.yaml:1: port: 5432.0, expected a number"),
    ("port: 70000\n", "env/dev.yaml:1: port: 70000, expected 1 to 65535"),
    ("jobs: 0\n", "env/dev.yaml:1: jobs: 0, expected 1 to 1000"),
    ("jobs: '-1'\n", "env/dev.yaml:1: jobs: -1, expected 1 to 1000"),
    ("jobs: '10000000000'\n", "env/dev.yaml:1: jobs: 10000000000, expected 1 to 1000"),
    ("jobs: true\n", "env/dev.yaml:1: jobs: True, expected a number"),
    ("protected: maybe\n", "env/dev.yaml:1: protected: 'maybe', expected true or false"),
    ("host: [a]\n", "env/dev.yaml:1: host: a list, expected text"),
    ("host: ''\n", "env/dev.yaml:1: host: '', expected text"),
    ("seeds: {a: b}\n", "env/dev.yaml:1: seeds: a block of keys, expected a list of names"),
    ("seeds: [1]\n", "env/dev.yaml:1: seeds: a list, expected a list of names"),
    ("server: rds\n", "env/dev.yaml:1: server: 'rds', known: embedded"),
    ("server: embeded\n", "env/dev.yaml:1: server: 'embeded', did you mean 'embedded'"),
    ("sslmode: on\n", "env/dev.yaml:1: sslmode: 'on', known: disable, allow, prefer, "),
    (
        "sslmode: verify_full\n",
        "env/dev.yaml:1: sslmode: 'verify_full', did you mean 'verify-full', known: disable, ",
    ),
    (
        "url: postgresql://h/d?sslmode=requir\n",
        "env/dev.yaml:1: sslmode 'requir', did you mean 'require', known: disable, ",
    ),
    (
        "pool:\n  driver: psycopg3\n",
        "env/dev.yaml:2: pool.driver: 'psycopg3', did you mean 'psycopg', known: psycopg2, psycopg",
    ),
    (
        "backup: {compression: zst}\n",
        "env/dev.yaml:1: backup.compression: 'zst', did you mean 'zstd', known: auto, none, ",
    ),
    ("backup: {compression: 'gzip:10'}\n", "env/dev.yaml:1: backup.compression: 'gzip:10', did "),
    ("backup: 5\n", "env/dev.yaml:1: backup: 5, expected a block of keys"),
    ("\nbackup:\n  kep: 5\n", "env/dev.yaml:3: unknown key 'backup.kep', did you mean 'keep'"),
    (
        "backup:\n  keep: x\n",
        "env/dev.yaml:2: backup.keep: 'x', expected a number of newest backups",
    ),
    ("settings: 5\n", "env/dev.yaml:1: settings: 5, expected a block of keys"),
    ("password: s3cret\n", "env/dev.yaml:1: password: a password does not belong in this file, "),
    ("inherits: dve\n", "env/dev.yaml:1: inherits: unknown environment 'dve', did you mean 'dev'"),
    ("inherits: dev\n", "env/dev.yaml:1: inherits: a cycle, dev inherits dev"),
    ("url: $NOWHERE\n", "env/dev.yaml:1: url is $NOWHERE, which is not set"),
    ("url: sqlite:///s3cret\n", "env/dev.yaml:1: a sqlite:// URL, expected postgresql://"),
    ("a: [\n", "env/dev.yaml:2: did not find expected node content"),
    ("- dev\n", "env/dev.yaml: expected keys with values, found list"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_fault_of_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    lay_out(tmp_path, {"env/dev.yaml": text})
    with pytest.raises(BadConfiguration) as caught:
        settings(tmp_path)
    assert caught.value.message.startswith(message)
    assert "s3cret" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pgtasks: {keep: 14}\n",
            "invoke.yaml:1: 'keep' is a setting of an environment: backup.keep ",
        ),
        ("pgtasks: {enviroments: {}}\n", "invoke.yaml:1: unknown key 'pgtasks.enviroments', did "),
        (
            "pgtasks:\n  folders:\n    evn: x\n",
            "invoke.yaml:3: unknown key 'pgtasks.folders.evn', ",
        ),
        ("pgtasks: 5\n", "invoke.yaml: pgtasks: expected a block of keys"),
        (
            "pgtasks:\n  environments:\n    dev: {prt: 1}\n",
            "invoke.yaml:3: unknown key 'pgtasks.environments.dev.prt', did you mean 'port'",
        ),
        (
            "pgtasks:\n  environments:\n    dev: 5\n",
            "invoke.yaml:3: environment 'dev': expected a block of keys",
        ),
        (
            "pgtasks:\n  environments:\n    dev: {}\n    Development: {}\n",
            "invoke.yaml:4: 'dev' and 'Development' are one environment",
        ),
        (
            "pgtasks:\n  environments:\n    ../etc: {}\n",
            "invoke.yaml:3: environment '../etc', expected letters, digits, - . and _",
        ),
    ],
)
def test_a_fault_of_invokes_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    lay_out(tmp_path, {"invoke.yaml": text})
    with pytest.raises(BadConfiguration) as caught:
        settings(tmp_path)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("JOBS", "abc", "{}: 'abc', expected a number"),
        ("PROTECTED", "maybe", "{}: 'maybe', expected true or false"),
        ("JBOS", "1", "{}: unknown setting 'JBOS', did you mean 'JOBS'"),
        ("URL", "mysql://u:s3cret@h/d", "{}: a mysql:// URL, expected postgresql://"),
    ],
)
def test_a_fault_of_a_variable_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, message: str
) -> None:
    name = f"{VARIABLE}{variable}"
    monkeypatch.setenv(name, text)
    with pytest.raises(BadConfiguration) as caught:
        settings(tmp_path)
    assert caught.value.message == message.format(name)


def test_a_setting_of_the_application_keeps_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, {"env/dev.yaml": "settings: {minutes: 5}\n"})
    monkeypatch.setenv(f"{VARIABLE}SETTINGS_MINUTES", "soon")
    with pytest.raises(BadConfiguration, match="'soon', expected a number like 5"):
        settings(tmp_path)


def test_a_broken_dotenv_names_its_line(tmp_path: Path) -> None:
    lay_out(tmp_path, {".env": "A=1\n\nB 'x\n"})
    with pytest.raises(BadConfiguration, match=r"^\.env:3: expected NAME=value$"):
        settings(tmp_path)


def test_a_circle_is_shown_whole(tmp_path: Path) -> None:
    lay_out(tmp_path, {f"env/{a}.yaml": f"inherits: {b}\n" for a, b in ("ab", "bc", "ca")})
    with pytest.raises(BadConfiguration) as caught:
        settings(tmp_path, "a")
    assert caught.value.message == (
        "env/c.yaml:1: inherits: a cycle, a inherits b inherits c inherits a"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no.yaml", None, "config file '{}' does not exist"),
        ("ci.txt", "a: 1\n", "config file '{}', expected .yaml, .yml, .json, .py"),
        ("prod.yaml", "host: h\n", "prod.yaml is the file of an environment: choose it with"),
    ],
)
def test_a_runtime_file_that_is_none_is_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text:
        lay_out(tmp_path, {name: text})
    with pytest.raises(Refused) as caught:
        settings(tmp_path, runtime=name)
    assert caught.value.message.startswith(message.format(tmp_path / name))


def test_settings_in_code_are_refused(tmp_path: Path) -> None:
    lay_out(tmp_path, {"ci.py": "pgtasks = {'environment': 'prod'}\n", "other.py": "run = {}\n"})
    assert settings(tmp_path, runtime="other.py").name == "dev"
    with pytest.raises(BadConfiguration, match=r"^ci\.py: settings of pgtasks must be in YAML"):
        settings(tmp_path, runtime="ci.py")


@pytest.mark.parametrize(("name", "fits"), [("x" * 63, True), ("x" * 64, False), ("ü" * 32, False)])
def test_a_name_that_the_server_would_cut_is_refused(tmp_path: Path, name: str, fits: bool) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "qa.yaml").write_text(f"host: h\nuser: u\ndatabase: {name}\n")
    environment = resolve(project.load(tmp_path), "qa")
    if fits:
        assert from_environment(environment).database == name
    else:
        with pytest.raises(BadConfiguration, match=r"env/qa\.yaml.*longer than the 63 bytes"):
            from_environment(environment)
