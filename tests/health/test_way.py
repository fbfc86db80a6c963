"""verify.connection: the way to the database step by step, each failed step with its way out."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PASSWORD, Inv
from projects import make_project, put_stamp
from psycopg2 import sql
from servers import Cluster

from pgtasks.server.embedded.port import free_port

Fresh = Callable[..., str]


def walked(inv: Inv, root: Path, *words: str, code: int = 4) -> dict[str, Any]:
    """Return the document of a run that ends with that code."""
    done = inv("verify.connection", "--json", *words, cwd=root)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout))


def failed(document: dict[str, Any]) -> tuple[str, str]:
    """Return the name of the failed step, and its way out."""
    *before, last = document["steps"]
    assert all(step["ok"] and step["way_out"] is None for step in before)
    assert not last["ok"]
    assert document["error"] == f"{last['name']}: {last['text']}"
    return last["name"], last["way_out"]


def use(root: Path, url: str, **more: str) -> None:
    """Let the environment lead elsewhere."""
    lines = [f"url: '{url}'", *(f"{key}: {value}" for key, value in more.items())]
    (root / "env" / "dev.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_all_is_well(project: Path, inv: Inv, database: str) -> None:
    document = walked(inv, project, code=0)
    assert [step["name"] for step in document["steps"]] == [
        *("settings", "socket", "connect", "answer", "password", "login", "database"),
    ]
    text = document["steps"][0]["text"]
    assert text.startswith("dev (")
    assert text.endswith(f"/{database}, from env/dev.yaml:1")
    states = {each["subject"]: each["state"] for each in document["findings"]}
    assert states["stamp"] == "ok"
    assert {"server", "database", "role", "tools"} <= states.keys()
    done = inv("verify.connection", cwd=project)
    assert done.returncode == 0
    assert "\nok      stamp        dev\n" in done.stdout
    assert "no backup" not in done.stdout, "it is about the connection alone"


@pytest.mark.parametrize(
    ("url", "step", "way"),
    [
        (
            "postgresql://ann@no-such-host.invalid/shop",
            "name",
            "correct `host`, from env/dev.yaml",
        ),
        ("postgresql://ann@127.0.0.1:{free}/shop", "connect", "start the server, let it listen"),
        ("postgresql://ann@/shop?host={tmp}/nope", "socket", "start the server, or correct `host`"),
        (
            "{socket}/shop?user=nobody_there",
            "login",
            "correct `user`, from env/dev.yaml:1, or",
        ),
        ("{socket}/no_such_database", "database", "or correct `database`"),
        ("{tcp}/shop?sslmode=require", "answer", "switch `ssl` on in postgresql.conf, or change"),
        ("{tcp}/shop", "login", "give it one: DATABASE_PASSWORD in env/dev.env, passfile, or"),
        ("{wrong}/shop", "login", "correct the password, from env/dev.yaml:1, or `user`, from"),
    ],
)
def test_each_failed_step_has_its_way_out(
    project: Path,
    inv: Inv,
    cluster: Cluster,
    password_cluster: Cluster,
    tmp_path: Path,
    url: str,
    step: str,
    way: str,
) -> None:
    port = password_cluster.tcp_port
    places = {
        "free": free_port(),
        "tmp": tmp_path,
        "socket": cluster.url("x").partition("/x?")[0],
        "tcp": f"postgresql://postgres@127.0.0.1:{port}",
        "wrong": f"postgresql://postgres:wr0ng-one@127.0.0.1:{port}",
    }
    filled = url.format(**places)
    if "{socket}" in url:
        name = filled.rpartition("/")[2]
        filled = cluster.url(name.partition("?")[0])
        if "user=" in url:
            filled = filled.replace(f"//{cluster.superuser}@", "//nobody_there@")
    use(project, filled)
    document = walked(inv, project)
    found, said = failed(document)
    assert (found, said[: len(way)]) == (step, way)
    done = inv("verify.connection", "-v", cwd=project)
    assert done.returncode == 4
    assert said.split(",")[0] in " ".join(done.stdout.split())
    assert "wr0ng-one" not in done.stdout + done.stderr + json.dumps(document)


def test_a_service_that_is_not_postgresql(project: Path, inv: Inv) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        use(project, f"postgresql://ann@127.0.0.1:{port}/shop?connect_timeout=1")
        found, way = failed(walked(inv, project))
    assert (found, way) == (
        *("answer", "correct `port`, from env/dev.yaml:1: something else is there"),
    )


def test_what_encrypts_the_connection(
    project: Path, inv: Inv, password_cluster: Cluster, fresh_database: Fresh
) -> None:
    name = fresh_database(password_cluster)
    put_stamp(password_cluster.target(name))
    (project / "secret").write_text(PASSWORD)
    url = f"postgresql://postgres@127.0.0.1:{password_cluster.tcp_port}/{name}"
    use(project, url, password_command="cat secret")
    document = walked(inv, project, "-v", code=0)
    texts = {step["name"]: step["text"] for step in document["steps"]}
    assert texts["tls"] == "not encrypted, sslmode is prefer"
    assert texts["password"].startswith("from the password_command of env/dev.yaml:2")
    assert document["settings"]["values"]["password_command"]["value"] == "cat ..."
    assert PASSWORD not in json.dumps(document)


def test_a_database_of_another_environment(
    project: Path, inv: Inv, cluster: Cluster, database: str
) -> None:
    comment = cluster.value(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        parameters=(database,),
    )
    changed = comment.replace("environment=dev", "environment=prod")
    cluster.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(
            sql.Identifier(database), sql.Literal(changed)
        )
    )
    done = inv("verify.connection", cwd=project)
    assert done.returncode == 2, "as the guard of any other task"
    assert "FAILED  stamp " in done.stdout
    assert "is stamped 'prod', the chosen environment is 'dev'" in done.stderr


def test_several_environments(
    cluster: Cluster, fresh_database: Fresh, tmp_path: Path, inv: Inv
) -> None:
    name = fresh_database(cluster)
    put_stamp(cluster.target(name))
    root = make_project(tmp_path / "two", cluster.target(name).url())
    (root / "env" / "qa.yaml").write_text(f"url: 'postgresql://a@127.0.0.1:{free_port()}/x'\n")
    done = inv("verify.connection", "--env", "dev,qa", cwd=root)
    assert done.returncode == 4, done.stderr
    assert "connect: 127.0.0.1 port" in done.stdout + done.stderr
