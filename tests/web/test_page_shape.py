"""Each page is valid HTML with a title, labels and a way on; errors look like the rest."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import html5lib
import pytest
from visitors import Site, Visitor, opened_site
from werkzeug.test import TestResponse

from clinic.web.pages.guards import navigation
from pgtasks.settings.secret import Secret

PATHS = {
    "anyone": ["/login", "/login?next=/users", "/register"],
    "patient": ["/", "/appointments", "/appointments?period=all", "/appointments/new", "/account"],
    "doctor": ["/", "/appointments?period=all", "/account"],
    "accountant": ["/", "/account"],
    "receptionist": ["/", "/appointments?period=past&status=completed", "/appointments?name=%FF"],
    "hospital_admin": [
        "/",
        "/users",
        "/users?state=disabled",
        "/users?name=%22%3E",
        "/admin/database",
    ],
}
DOCTOR = "SELECT staff_id FROM staff JOIN hospitals USING (hospital_id) WHERE code = 'H0002'"


def checked(answer: TestResponse) -> str:
    """Return a page after a look at what each has to have."""
    page = answer.text
    html5lib.HTMLParser(strict=True).parse(page)
    assert answer.content_type == "text/html; charset=utf-8"
    assert re.search(r"<title>[^<]+ · Clinic</title>", page)
    assert page.count("<h1") == 1
    assert '<html lang="en">' in page
    assert page.count("<main ") == 1
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), ids
    for name in re.findall(r'aria-(?:describedby|labelledby)="([^"]+)"', page):
        assert set(name.split()) <= set(ids), name
    labels = re.findall(r'<label for="([^"]+)"', page)
    assert set(labels) <= set(ids)
    for link in re.findall(r'href="#([^"]+)"', page):
        assert link in ids
    return page


def who(site: Site, role: str) -> Visitor:
    return site.anyone() if role == "anyone" else site.visitor(role, 2)


@pytest.mark.parametrize(("role", "path"), [(role, path) for role in PATHS for path in PATHS[role]])
def test_a_page_is_valid(site: Site, role: str, path: str) -> None:
    answer = who(site, role).get(path)
    assert answer.status_code == 200
    page = checked(answer)
    assert ("Log out" in page) is (role != "anyone")


def test_pages_with_ids_and_with_mistakes_are_valid(site: Site) -> None:
    admin, patient = site.visitor("hospital_admin", 2), site.visitor("patient", 2)
    for role in ("doctor", "patient", "hospital_admin"):
        user_id = site.user_id(site.username(role, 2, number=0))
        assert 'aria-current="true">Users' in checked(admin.get(f"/users/{user_id}"))
    doctor = site.clinic.value(DOCTOR)
    for query in (f"doctor={doctor}&day=2099-01-01", "doctor=&day=", "day=x", f"doctor={doctor}"):
        checked(patient.get(f"/appointments/new?{query}"))
    checked(patient.post("/account", {"current": "x"}))
    checked(site.anyone().post("/register", {"place": "x", "first_name": '"><script>'}))
    checked(site.anyone().log_in("nobody", "x"))
    checked(admin.get("/users?state=x&name=%00"))


def test_each_place_of_the_navigation_is_open(site: Site) -> None:
    from clinic.web.security import sessions

    for role in PATHS.keys() - {"anyone"}:
        visitor = who(site, role)
        page = visitor.get("/").text
        places = re.findall(r'<li><a href="([^"]+)"', page)
        assert places[0] == "/"
        for place in places:
            here = visitor.get(place)
            assert here.status_code == 200
            assert here.text.count('aria-current="page"') == 1
    assert navigation(None) == []
    assert sessions  # the module that guards look sessions up in


@pytest.fixture
def broken(site: Site) -> Iterator[Site]:
    """The application with a page that fails."""
    with opened_site(site.clinic) as made:

        @made.app.get("/broken")
        def _broken() -> str:
            raise RuntimeError("inside: secret")

        yield made


def error(answer: TestResponse, status: int, heading: str) -> str:
    assert answer.status_code == status
    page = checked(answer)
    assert f"<h1>{heading}</h1>" in page
    assert 'href="/static/clinic.css"' in page
    assert "Go to the start page" in page
    assert "Traceback" not in page
    return page


@pytest.mark.parametrize("role", ["anyone", "doctor"])
def test_errors_are_pages_too(broken: Site, role: str, caplog: pytest.LogCaptureFixture) -> None:
    visitor = broken.anyone() if role == "anyone" else broken.another(broken.username(role, 2))
    error(visitor.get("/nothing"), 404, "There is nothing here")
    error(visitor.get("/logout"), 405, "This page takes no such request")
    error(visitor.client.post("/logout"), 400, "This request could not be read")
    if role == "doctor":
        error(visitor.get("/users"), 403, "You may not do this")
        assert "Log out" in visitor.page.text  # type: ignore[union-attr]
    with caplog.at_level(logging.CRITICAL, logger="clinic.web"):
        page = error(visitor.get("/broken"), 500, "Something went wrong")
    assert "secret" not in page
    for path in ("/api/nothing", "/api/nothing/here"):
        assert visitor.get(path).content_type == "application/problem+json"


def test_a_database_that_is_away_is_a_page_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOKE_PGTASKS_ENVIRONMENTS_TEST_POOL_PATIENCE", "0")
    cookie = site.another(site.username("doctor", 2)).cookie()
    with opened_site(site.clinic, url="postgresql://nobody@/nothing?host=/nowhere") as away:
        stranger = away.anyone()
        assert stranger.get("/login").status_code == 200
        for visitor, path in (
            (stranger, "/register"),
            (stranger.with_cookie(cookie), "/"),
            (stranger.with_cookie(cookie), "/login"),
        ):
            page = error(visitor.get(path), 503, "The database does not answer")
            assert "nowhere" not in page
            assert visitor.page is not None
            assert visitor.page.headers["Retry-After"] == "1"
        lost = stranger.with_cookie(cookie).get("/nothing")  # who asks is not known now
        assert "Log out" not in error(lost, 404, "There is nothing here")


def test_the_icon_is_found_by_every_browser(site: Site) -> None:
    for path in ("/favicon.ico", "/static/icon.svg"):
        answer = site.anyone().get(path)
        assert (answer.status_code, answer.content_type) == (200, "image/svg+xml; charset=utf-8")


def test_the_life_of_the_data_has_no_way_into_it(site: Site) -> None:
    page = site.visitor("hospital_admin", 2).get("/admin/database").text
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]*)", page))
    assert facts["Environment"].strip() == "test"
    assert facts["Revision"] == site.clinic.value("SELECT version_num FROM alembic_version")
    for secret in secrets(site):
        assert secret not in page


def secrets(site: Site) -> list[str]:
    shared = site.app.extensions["clinic"]
    keys: list[Secret] = list(shared.keys)
    found: list[Any] = [str(shared.service.url), site.clinic.cluster.host]
    return ["postgresql://", *map(str, found), *(key.reveal() for key in keys)]


def test_the_last_backup_and_the_last_proven_one_are_shown(site: Site) -> None:
    from manifests import whole

    from pgtasks.backup.format.checks import Checks

    service = site.app.extensions["clinic"].service
    mine = {"environment": service.name, "database": service.target.database, "rows": 12_345}
    folder = Path(os.environ["PGTASKS_ROOT"]) / "backups"
    admin = site.visitor("hospital_admin", 2)
    page = checked(admin.get("/admin/database"))
    assert "There is no complete backup." in page
    assert "None is proven: nobody has restored one" in page
    assert "<code>inv backup.drill --env test</code> does" in page
    old = whole(folder, **mine)
    Checks(proven="2025-01-02T00:00:00Z", drilled="2025-01-02T00:00:00Z", recovery=61.0).write(
        old.path
    )
    times = {"id": "20260102T030405Z-bbbb", "snapshot_time": "2026-01-02T03:04:05.000000Z"}
    new = whole(folder, **mine, **times)
    whole(folder, **{**mine, "database": "another", "id": "20260202T030405Z-cccc"})
    page = checked(admin.get("/admin/database"))
    last, _, proven = page.partition('<h2 id="proven">')
    assert new.id in last
    assert "Fri 2 Jan 2026, 03:04" in last
    assert "12,345 rows" in last
    assert old.id in proven
    assert "A restore takes 2 minutes" in proven
    assert "20260202T030405Z-cccc" not in page
    Checks(proven="2026-01-03T00:00:00Z").write(new.path)
    page = checked(admin.get("/admin/database"))
    assert "The last backup is proven" in page
    assert ">Sat 3 Jan 2026, 00:00</time>" in page
    # a drill that failed takes the proof of its backup away, and not that there was one
    Checks(drilled="2026-01-03T00:00:00Z", failed="2026-01-04T00:00:00Z").write(new.path)
    Checks().write(old.path)
    text = re.sub(r"<[^>]+>", "", checked(admin.get("/admin/database")))
    assert f"The last drill failed, Sun 4 Jan 2026, 00:00: that of the backup {new.id}." in text
    assert (
        f"The last successful drill was that of the backup {new.id}, Sat 3 Jan 2026, 00:00." in text
    )
    assert "nobody has restored" not in text
    Checks(failed="2026-13-04T00:00:00Z").write(new.path)  # whoever can write it
    text = re.sub(r"<[^>]+>", "", checked(admin.get("/admin/database")))
    assert "The last drill failed, 2026-13-04T00:00:00Z" in text
    assert "None is proven: no drill" in text
    Checks(proven="2026-01-03T00:00:00Z").write(new.path)
    page = checked(admin.get("/admin/database"))
    assert str(folder) not in page
