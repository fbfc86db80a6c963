"""Backup, restore, undo and copy of a database with row-level security, by its owner."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clinics import OWNER, Clinic, Templates, cloned, content
from offices import APP_ROLE, PASSWORD, grant, here
from paths import ROOT
from projects import put_stamp
from servers import Cluster
from sqlalchemy import text

if TYPE_CHECKING:
    from clinic.web.identity import Identity

Inv = Callable[..., Any]
POLICIES = """
SELECT polrelid::regclass::text, pg_get_expr(polqual, polrelid), relrowsecurity,
    coalesce(relacl, acldefault('r', relowner))::text
FROM pg_policy JOIN pg_class c ON c.oid = polrelid ORDER BY 1, polname
"""


@pytest.fixture
def clinic(
    cluster: Cluster, templates: Templates, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clinic]:
    """Return a clinic that is the project's dev; its owner is no superuser."""
    with cloned(cluster, templates.seeded(cluster)) as made:
        grant(made)
        superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
        assert not cluster.value(superuser, parameters=(OWNER,))
        write(project, "dev", made)
        put_stamp(cluster.target(made.name))
        monkeypatch.chdir(project)
        yield made


def write(project: Path, environment: str, clinic: Clinic) -> None:
    """Write the settings of an environment, whose application acts as its role."""
    url = replace(clinic.cluster.target(clinic.name), user=OWNER).url(reveal=True)
    (project / "env" / f"{environment}.yaml").write_text(
        f"url: '{url}'\npool:\n  role: {APP_ROLE}\n", encoding="utf-8"
    )


def typed(inv: Inv, *words: str) -> Any:
    done = inv(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_backup_has_all_hospitals_and_its_restore_the_walls(
    clinic: Clinic, cluster: Cluster, project: Path, inv: Inv
) -> None:
    before, walls = content(cluster, clinic.name), clinic.run(POLICIES)
    assert len(walls) == 16
    typed(inv, "db.backup")
    clinic.run("DELETE FROM prescriptions")
    clinic.run("ALTER TABLE prescriptions DISABLE ROW LEVEL SECURITY")
    with closing(Application(a_doctor(clinic))) as app:
        assert app.prescriptions() == 0
        typed(inv, "db.restore")
        assert content(cluster, clinic.name) == before
        assert clinic.run(POLICIES) == walls
        # the application goes on, and sees one hospital
        assert 0 < app.prescriptions() < before["prescriptions"][0]
        typed(inv, "db.undo")
        assert app.prescriptions() == 0
    verified = json.loads(typed(inv, "backup.verify", "--json").stdout)
    assert verified


def a_doctor(clinic: Clinic) -> str:
    return str(
        clinic.value(
            "SELECT username FROM users JOIN staff USING (staff_id) WHERE job = 'doctor'"
            " AND is_active AND left_on IS NULL ORDER BY username LIMIT 1"
        )
    )


class Application:
    """An application on the environment dev, in which somebody logs in."""

    def __init__(self, username: str) -> None:
        from flask import Flask

        from clinic.web.factory import Clinic as Shared
        from pgtasks.service import DatabaseService, get_security_settings, get_signing_keys

        self.username = username
        self.service, self.aside = DatabaseService("dev"), DatabaseService("dev")
        self.app = Flask("life")
        self.app.extensions["clinic"] = Shared(
            self.service,
            replace(get_security_settings("dev"), argon2_memory=64, argon2_time=1),
            get_signing_keys("dev"),
            aside=self.aside,
        )

    def token(self) -> str:
        """Log in and return the token of the session."""
        from clinic.web.security import logins, sessions

        with self.app.app_context():
            account = logins.attempt(self.username, PASSWORD, here())
            return sessions.start(account, here()).token

    def as_user(self, token: str, work: Callable[[Any, Identity | None], Any]) -> Any:
        """Call `work` with a session and who the token is of."""
        from clinic.web.security import sessions

        def named(session: Any) -> Any:
            return work(session, sessions.identity(session, token))

        with self.app.app_context():
            return self.service.run(named)

    def knows(self, token: str) -> bool:
        return bool(self.as_user(token, lambda session, identity: identity is not None))

    def end(self, token: str) -> None:
        from clinic.web.security import sessions

        self.as_user(token, lambda session, identity: sessions.end(identity, here()))

    def prescriptions(self) -> int:
        """Log in and return how many prescriptions the user sees."""

        def count(session: Any, identity: Identity | None) -> int:
            assert identity is not None
            return int(session.scalar(text("SELECT count(*) FROM prescriptions")))

        return int(self.as_user(self.token(), count))

    def close(self) -> None:
        self.service.dispose()
        self.aside.dispose()


def test_a_restore_brings_ended_sessions_back_until_all_are_ended(clinic: Clinic, inv: Inv) -> None:
    guide = (ROOT / "docs" / "web.md").read_text("utf-8")
    (statement,) = re.findall(r"--sql '(UPDATE user_sessions [^']+)'", guide)
    with closing(Application(a_doctor(clinic))) as app:
        token = app.token()
        typed(inv, "db.backup")
        app.end(token)
        assert not app.knows(token)
        typed(inv, "db.restore")
        assert app.knows(token)
        typed(inv, "db.run", "--sql", statement)
        assert not app.knows(token)
        assert app.prescriptions() > 0  # one logs in again


def test_a_copy_brings_the_rows_and_the_walls(
    clinic: Clinic, cluster: Cluster, project: Path, inv: Inv
) -> None:
    other = Clinic(cluster, cluster.create(owner=OWNER))
    try:
        write(project, "qa", other)
        put_stamp(cluster.target(other.name, environment="qa"))
        typed(inv, "db.copy", "dev", "qa")
        assert content(cluster, other.name) == content(cluster, clinic.name)
        assert other.run(POLICIES) == clinic.run(POLICIES)
    finally:
        cluster.drop(other.name)
