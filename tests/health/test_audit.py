"""What `inv env.check` finds: settings that do not hold, and what is unsafe about them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from layout import lay_out
from paths import ROOT
from servers import Cluster

from pgtasks.health import settings
from pgtasks.health.finding import SettingsFinding
from pgtasks.server import connection, stamp
from pgtasks.server.identity import system_identifier
from pgtasks.settings import project, variables, yamlfile
from pgtasks.settings.target import Target
from pgtasks.settings.yamlfile import text_of

SAFE = (
    "host: db1.invalid\ndatabase: shop\nuser: owner\nsslmode: verify-full\n"
    "connect_timeout: 1\nbackup: {keep: 14}\n"
)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def found(root: Path, name: str | None = None) -> dict[tuple[str, str], SettingsFinding]:
    """Return the findings by check and environment."""
    loaded = project.load(root)
    return {(one.check, one.environment): one for one in settings.audit(loaded, name).findings}


def git(root: Path, *argv: str) -> None:
    subprocess.run(["git", *argv], cwd=root, check=True, capture_output=True)


def safe_place(server: Cluster, database: str) -> str:
    """Return the yaml of a protected environment on a server that answers."""
    return (
        f"host: {server.host}\nport: {server.port}\nuser: {server.superuser}\n"
        f"database: '{database}'\nprotected: true\nbackup: {{keep: 3}}\n"
    )


def test_a_project_as_it_should_be_has_no_findings(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/dev.yaml": "server: embedded\n"})
    checked = settings.audit(project.load(tmp_path))
    kinds = {(one.level, one.check) for one in checked.findings}
    assert kinds <= {("unchecked", "git")}  # tmp_path is no repository
    assert checked.environments == ("dev", "test")
    assert checked.lines()[-1] == "2 environments checked, 0 faults"


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def counted(path: Path, name: str) -> str:
        read[name] += 1
        return text_of(path, name)

    for module in (variables, yamlfile):
        monkeypatch.setattr(module, "text_of", counted)
    files = {f"env/e{number}.yaml": f"inherits: base\ndatabase: d{number}\n" for number in range(9)}
    files |= {"env/e1.env": "PGX=1\n", "env/base.yaml": SAFE, ".env": "A=1\n", "invoke.yaml": ""}
    files |= {f"env/p{number}.yaml": f"{SAFE}protected: true\n" for number in range(2)}
    lay_out(tmp_path, files)
    for path in tmp_path.rglob("*.env"):
        path.chmod(0o600)
    settings.audit(project.load(tmp_path))
    assert read == dict.fromkeys(files, 1)


def test_every_environment_is_validated(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {"env/a.yaml": "prt: 1\n", "env/b.yaml": "port: x\n", "env/c.yaml": "url: $NO\n"},
    )
    findings = found(tmp_path)
    assert findings["settings", "a"].message.startswith("env/a.yaml:1: unknown key 'prt'")
    assert findings["settings", "b"].level == "fault"
    assert findings["settings", "c"].message == "env/c.yaml:1: url is $NO, which is not set"
    assert ("settings", "dev") not in findings
    assert ("settings", "b") not in found(tmp_path, "a")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("", None),
        ("sslmode: require", "tls-unverified"),
        ("sslmode: verify-ca", None),
        ("sslmode: prefer", "tls"),
        ("sslmode: disable", "tls"),
        ("sslmode:", "tls"),
        ("sslmode: prefer\nhost: localhost", None),
        ("sslmode: prefer\nhost: 127.0.0.1", None),
        ("sslmode: prefer\nhost: localhost.invalid", "tls"),
        ("sslmode: prefer\nhost: /run/nowhere", None),
        ("sslmode: prefer\nssh: ops@db1", "tls-beyond-ssh"),
        ("sslmode: prefer\nssh: ops@db1.invalid", None),
        ("sslmode: prefer\nssh: ops@db1\nhost: localhost", None),
        ("sslmode: require\nssh: ops@db1", "tls-unverified"),
        ("sslmode: verify-full\nssh: ops@db1", None),
        ("sslmode: prefer\nprotected: false", None),
    ],
)
def test_another_machine_needs_tls(tmp_path: Path, change: str, fault: str | None) -> None:
    text = SAFE
    for line in change.splitlines():
        key = line.partition(":")[0]
        text = "".join(one for one in text.splitlines(True) if not one.startswith(f"{key}:"))
        text += line + "\n"
    lay_out(tmp_path, {"env/prod.yaml": text})
    checks = {check for check, name in found(tmp_path, "prod") if name == "prod"}
    tls = {check for check in checks if check.startswith("tls")}
    assert tls == ({fault} if fault else set())


@needs_git
@pytest.mark.parametrize(
    ("ssh", "check"),
    [
        ("root@127.0.0.1:1", "ssh-root"),
        ("{host: 127.0.0.1, port: 1, user: ops, sudo_user: root}", "ssh-root"),
        ("{host: 127.0.0.1, port: 1, user: ops, identity: gone}", "identity"),
        ("{host: 127.0.0.1, port: 1, user: ops, identity: open}", "identity"),
        ("{host: 127.0.0.1, port: 1, user: ops, identity: tracked}", "key-in-git"),
        ("{host: 127.0.0.1, port: 1, user: ops, identity: own}", None),
    ],
)
def test_how_the_database_host_is_logged_in_to(tmp_path: Path, ssh: str, check: str | None) -> None:
    lay_out(tmp_path, {"env/prod.yaml": f"{SAFE}ssh: {ssh}\n"})
    for name, mode in (("open", 0o640), ("tracked", 0o600), ("own", 0o600)):
        (tmp_path / name).touch(mode)
        (tmp_path / name).chmod(mode)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-f", "tracked")
    findings = found(tmp_path, "prod")
    faults = [one for one, finding in findings.items() if finding.level == "fault"]
    assert faults == ([(check, "prod")] if check else [])
    away = findings["server", "prod"]
    assert away.level == "unchecked"
    assert "ssh " in away.message


def test_what_could_not_be_asked_is_said(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/prod.yaml": SAFE.replace("db1.invalid", "127.0.0.1\nport: 1")})
    finding = found(tmp_path, "prod")["server", "prod"]
    assert finding.level == "unchecked"
    assert finding.message.startswith("role and stamp: owner@127.0.0.1:1/shop: ")
    assert "Connection refused" in finding.message


def test_a_superuser_is_a_fault_and_an_owner_is_none(
    tmp_path: Path, cluster: Cluster, target: Target
) -> None:
    text = safe_place(cluster, target.database)
    lay_out(tmp_path, {"env/prod.yaml": text})
    findings = found(tmp_path, "prod")
    assert findings["superuser", "prod"].message.startswith("role 'postgres' is a superuser")
    cluster.execute("DROP ROLE IF EXISTS plain_owner")
    cluster.execute("CREATE ROLE plain_owner LOGIN")
    lay_out(tmp_path, {"env/prod.yaml": text.replace("user: postgres", "user: plain_owner")})
    findings = found(tmp_path, "prod")
    cluster.execute("DROP ROLE plain_owner")
    assert ("superuser", "prod") not in findings
    assert ("server", "prod") not in findings


@pytest.mark.parametrize(
    ("environment", "note"),
    [("prod", None), ("dev", "is stamped 'dev'"), (None, "has content and no stamp")],
)
def test_the_stamp_is_compared(
    tmp_path: Path,
    cluster: Cluster,
    target: Target,
    environment: str | None,
    note: str | None,
) -> None:
    lay_out(tmp_path, {"env/prod.yaml": safe_place(cluster, target.database)})
    cluster.execute("CREATE TABLE t ()", target.database)
    if environment:
        with connection.session(target) as conn:
            made = stamp.Stamp(environment, target.database, system_identifier(conn))
            connection.execute(conn, stamp.comment_statement(target.database, "", made))
    finding = found(tmp_path, "prod").get(("stamp", "prod"))
    assert (finding is None) == (note is None)
    if finding and note:
        assert note in finding.message
        assert ("correct the settings, or" in finding.message) == (environment == "dev")


def test_nothing_is_asked_for_and_nothing_is_run_in_vain(
    tmp_path: Path, password_cluster: Cluster
) -> None:
    url = f"postgresql://postgres@127.0.0.1:{password_cluster.tcp_port}/postgres"
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": f"url: {url}\nmaintenance: template1\n",
            "env/qa.yaml": f"url: {url}\npassword_command: touch {tmp_path}/ran\n",
        },
    )
    findings = found(tmp_path)
    assert "no password supplied" in findings["server", "prod"].message
    assert findings["server", "prod"].level == "unchecked"
    assert not (tmp_path / "ran").exists()


def test_a_password_command_that_fails_is_a_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/prod.yaml": SAFE + "password_command: 'false'\n"})
    finding = found(tmp_path, "prod")["server", "prod"]
    assert finding.level == "fault"
    assert "password_command 'false': exit code 1" in finding.message


def test_an_open_passfile_is_a_fault_wherever_it_is(tmp_path: Path) -> None:
    for path in (tmp_path / "pass", Path.home() / ".pgpass"):
        path.write_text("*:*:*:*:x\n")
        path.chmod(0o644)
    lay_out(tmp_path, {"env/qa.yaml": "host: h\npassfile: pass\n"})
    findings = found(tmp_path, "qa")
    assert f"chmod 600 {tmp_path}/pass" in findings["passfile", "qa"].message
    assert f"chmod 600 {Path.home()}/.pgpass" in findings["passfile", ""].message
    (tmp_path / "pass").chmod(0o600)
    (Path.home() / ".pgpass").chmod(0o600)
    assert not {check for check, _ in found(tmp_path, "qa")} & {"passfile"}


def test_the_same_database_under_two_names_is_a_fault(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": SAFE,
            "env/qa.yaml": "inherits: prod\nprotected: false\n",
            "env/eu.yaml": "inherits: prod\ndatabase: eu\n",
        },
    )
    findings = found(tmp_path)
    assert findings["shared", "prod"].message == (
        "'qa' is the same database, owner@db1.invalid:5432/shop"
    )
    assert ("shared", "eu") not in findings


def test_one_host_logged_in_to_in_two_ways_is_one_place(tmp_path: Path) -> None:
    place = "database: shop\nuser: owner\n"
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": f"{place}ssh: ops@127.0.0.1:1\nbackup: {{keep: 3}}\n",
            "env/qa.yaml": f"{place}ssh: {{host: 127.0.0.1, port: 1, user: ann, silence: 60}}\n",
            "env/eu.yaml": f"{place}ssh: ops@127.0.0.2:1\n",
        },
    )
    said = [one.message for one in settings.audit(project.load(tmp_path)).findings]
    same = [text for text in said if "is the same database" in text]
    assert same == ["'qa' is the same database, owner@socket:5432/shop on ops@127.0.0.1:1"]


def test_the_maintenance_database_is_no_target(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/qa.yaml": "host: h\ndatabase: postgres\n"})
    assert found(tmp_path, "qa")["maintenance", "qa"].level == "fault"


# --- git and folders ---


@needs_git
def test_a_password_in_a_tracked_file_is_a_fault(tmp_path: Path) -> None:
    url = "url: postgresql://u:s3cret@h/d\n"
    lay_out(
        tmp_path,
        {
            "env/a.yaml": url,
            "env/b.yaml": url,
            "env/c.yaml": "url: $DATABASE_URL\n",
            "env/c.env": "DATABASE_URL=postgresql://u:s3cret@h/d\n",
            "invoke.yaml": "pgtasks: {environments: {d: {url: 'postgresql://u:s3cret@h/d'}}}\n",
        },
    )
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "env/a.yaml", "env/c.yaml", "invoke.yaml")
    findings = found(tmp_path)
    names = {name for check, name in findings if check == "password-in-file"}
    assert names == {"a", "d"}
    assert findings["password-in-file", "a"].message.startswith("env/a.yaml:1: a url with a pass")
    assert not any("s3cret" in finding.message for finding in findings.values())


@needs_git
def test_a_tracked_dotenv_file_is_a_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, {".env": "A=1\n", "env/prod.env": "B=1\n", "env/qa.env": "C=1\n"})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-f", ".env", "env/prod.env")
    messages = [
        one.message
        for one in settings.audit(project.load(tmp_path)).findings
        if one.check == "dotenv-in-git"
    ]
    assert [message.split(",")[0] for message in messages] == [
        "git tracks .env",
        "git tracks env/prod.env",
    ]


@needs_git
def test_an_env_folder_that_git_ignores_is_a_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, {".gitignore": "*.pyc\nenv/\n", "env/dev.yaml": ""})
    git(tmp_path, "init", "-q")
    message = found(tmp_path)["env-folder", ""].message
    assert message.startswith("git ignores env/ (.gitignore:2:env/): ")
    git(tmp_path, "add", "-f", "env/dev.yaml")  # the next file there would still be lost
    assert found(tmp_path)["env-folder", ""].message == message
    lay_out(tmp_path, {".gitignore": "env/*\n!env/*.yaml\n"})
    assert ("env-folder", "") not in found(tmp_path)


def test_a_virtual_environment_is_no_folder_of_settings(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/pyvenv.cfg": "home = /usr/bin\n"})
    message = found(tmp_path)["env-folder", ""].message
    assert message == (
        "env/ is a virtual environment: use another folder for the settings, "
        "folders: {env: NAME} in invoke.yaml"
    )
    lay_out(tmp_path, {"invoke.yaml": "pgtasks: {folders: {env: settings}}\n"})
    assert ("env-folder", "") not in found(tmp_path)


def test_without_git_what_it_knows_is_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    lay_out(tmp_path, {"env/qa.yaml": "url: postgresql://u:p@h/d\n"})
    findings = found(tmp_path)
    assert findings["git", ""].level == "unchecked"
    assert ("password-in-file", "qa") not in findings


# --- variables ---


def unused(root: Path) -> list[str]:
    findings = settings.audit(project.load(root)).findings
    return [one.message for one in findings if one.check == "unused-url"]


def test_a_url_that_nothing_uses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:s3cret@h/d"
    lay_out(tmp_path, {"env/dev.yaml": "server: embedded\n", ".env": f"\nDATABASE_URL={url}\n"})
    assert unused(tmp_path) == ["DATABASE_URL (.env:2) is set, and no environment uses it"]
    monkeypatch.setenv("DATABASE_URL", url)
    assert len(unused(tmp_path)) == 2
    lay_out(tmp_path, {"env/dev.yaml": "url: $DATABASE_URL\n"})  # the process wins
    assert unused(tmp_path) == ["DATABASE_URL (.env:2) is set, and no environment uses it"]
    monkeypatch.delenv("DATABASE_URL")
    assert unused(tmp_path) == []
    (tmp_path / "env" / "dev.yaml").unlink()  # .env's own is dev's now
    assert unused(tmp_path) == []
    monkeypatch.setenv("PRDO_DATABASE_URL", url)
    assert unused(tmp_path) == ["PRDO_DATABASE_URL is set, and there is no such environment"]


def test_notes_are_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    lay_out(tmp_path, {"env/dev.yaml": ""})
    assert settings.audit(project.load(tmp_path)).faults == 0


def test_a_choice_that_cannot_be_is_a_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, {"env/prod.yaml": SAFE, "invoke.yaml": "pgtasks: {environment: prod}\n"})
    assert "a remembered choice cannot be" in found(tmp_path, "dev")["choice", ""].message


# --- as it is typed ---

Inv = Callable[..., "subprocess.CompletedProcess[str]"]
TASKS = "import pgtasks\n\nns = pgtasks.namespace(__file__)\n"


def test_faults_come_first_and_end_with_exit_3(inv: Inv, tmp_path: Path) -> None:
    lay_out(tmp_path, {"tasks.py": TASKS, "env/a.yaml": "prt: 1\n", "env/qa.yaml": "host: h\n"})
    done = inv("env.check", cwd=tmp_path, env={"DATABASE_URL": "postgresql://h/d"})
    assert done.returncode == 3
    first, second, *_, last = done.stdout.splitlines()
    assert first.split()[:2] == ["fault", "a"]
    assert second.split()[:2] == ["note", "project"]
    assert last == "4 environments checked, 1 fault"
    assert done.stderr == ""
    done = inv("env.check", "--env", "qa", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "1 environment checked, 0 faults"


def test_a_check_with_faults_is_one_document(inv: Inv, tmp_path: Path) -> None:
    lay_out(tmp_path, {"tasks.py": TASKS, "env/a.yaml": "prt: 1\n"})
    done = inv("env.check", "--env", "a", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["faults"], document["environments"]) == (3, 1, ["a"])
    assert document["findings"][0] == {
        "level": "fault",
        "check": "settings",
        "environment": "a",
        "message": "env/a.yaml:1: unknown key 'prt', did you mean 'port'",
    }
    assert done.stderr == ""


def test_a_variable_that_is_nearly_a_setting_is_noted(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "env/prod.yaml": SAFE,
            "env/prod.env": "SHOP_PASSWORD=a\nDATABASE_PASWORD=b\nprod_mask_key=c\nMASK_KEY=d\n",
        },
    )
    findings = settings.audit(project.load(tmp_path), "prod").findings
    assert [each.message for each in findings if each.check == "misspelt"] == [
        "DATABASE_PASWORD (env/prod.env:2) is not used, did you mean DATABASE_PASSWORD",
        "prod_mask_key (env/prod.env:3) is not used, did you mean PROD_MASK_KEY",
    ]


def test_the_examples_of_this_repository_hold(tmp_path: Path) -> None:
    source = ROOT / "env"
    for name in ("dev.yaml", "test.yaml", "demo.yaml"):
        lay_out(tmp_path, {f"env/{name}": (source / name).read_text()})
    lay_out(
        tmp_path,
        {
            # .invalid never resolves: no server is asked
            "env/prod.yaml": (source / "prod.example.yaml").read_text().replace(".com", ".invalid"),
            "env/prod.env": (source / "prod.env.example").read_text()
            + f"SECURITY_KEYS={'0123456789abcdef' * 2}\n",
        },
    )
    (tmp_path / "env" / "prod.env").chmod(0o600)
    checked = settings.audit(project.load(tmp_path))
    assert checked.environments == ("demo", "dev", "prod", "test")
    assert {one.level for one in checked.findings} <= {"unchecked"}
    loaded = project.load(tmp_path)
    found = {name: settings.resolve(loaded, name) for name in checked.environments}
    assert found["prod"].protected
    assert found["prod"].password is not None
    assert found["demo"].settings.seeds == ("core", "clinic")
    assert {found[name].settings.server for name in ("dev", "test", "demo")} == {"embedded"}
