"""The clinic under gunicorn goes on while the real tasks restore its database and undo that."""

from __future__ import annotations

import datetime
import html
import http.client
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from apis import monday
from clinics import OWNER, Clinic, Templates, cloned
from gunicorns import THREADS, WORKERS, served
from offices import APP_ROLE, PASSWORD, grant
from paths import ROOT
from projects import put_stamp
from servers import Cluster
from waiting import PATIENCE, until

Inv = Callable[..., Any]
SWAPS = 3
SETTINGS = """
url: '{url}'
pool: {{role: {role}, patience: 60}}
security: {{argon2_memory: 64, argon2_time: 1, api_rate: {rate}, login_rate: 100000}}
"""
RATE = 100_000
_CSRF = re.compile(r'name="csrf_token" value="([^"]+)"')
_TIMES = re.compile(r'name="time"[^>]*value="([^"]+)"')
_CANCEL = re.compile(r'action="(/appointments/[^"]+/cancel)"')
LOST = ("look whether it is done before you repeat it", "Look before you send it again.")
_PATIENTS = """
SELECT u.username FROM users u JOIN hospitals h USING (hospital_id)
JOIN user_role_mapping m USING (user_id) JOIN role_master r USING (role_id)
WHERE h.code = 'H0002' AND r.code = 'patient' AND u.is_active ORDER BY u.user_id
"""
_BOOKED = "SELECT reason FROM appointments WHERE reason ~ '^(api|page) [0-9] [0-9]+$'"
_DOCTORS = """
SELECT staff_id FROM staff JOIN hospitals h USING (hospital_id)
WHERE h.code = 'H0002' AND job IN ('doctor', 'therapist') AND left_on IS NULL ORDER BY staff_id
"""


@pytest.fixture
def clinic(
    cluster: Cluster, templates: Templates, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Clinic]:
    """Return a clinic that is the project's dev, and stamped."""
    with cloned(cluster, templates.seeded(cluster)) as made:
        grant(made)
        url = f"postgresql://{OWNER}@/{made.name}?host={cluster.host}&port={cluster.port}"
        settings = SETTINGS.format(url=url, role=APP_ROLE, rate=RATE)
        (project / "env" / "dev.yaml").write_text(settings, encoding="utf-8")
        put_stamp(cluster.target(made.name))
        monkeypatch.chdir(project)
        monkeypatch.setenv("PGTASKS_ENV", "dev")
        yield made


@pytest.fixture
def port(clinic: Clinic, project: Path) -> Iterator[int]:
    """Serve the clinic by two processes with four threads each, forked from one that loaded it."""
    with served(project, "clinic.web:create_app()", "--pythonpath", str(ROOT)) as port:
        yield port


class Client:
    """Somebody who sends one request after the other, on a connection that is kept."""

    def __init__(self, port: int, name: str) -> None:
        self.name = name
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}
        self.answers: Counter[str] = Counter()
        self.unknown = 0  # changes of which nobody knows whether they were made
        self.failed: list[str] = []
        self.body = ""
        self.location = ""

    def send(self, method: str, path: str, body: Any = None, *, form: bool = False) -> int:
        headers = dict(self.headers)
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        content = None
        if body is not None:
            headers["Content-Type"] = kind
            content = urlencode(body) if form else json.dumps(body)
        self.connection.request(method, path, content, headers)
        answer = self.connection.getresponse()
        self.body = answer.read().decode()
        self.location = answer.getheader("Location") or ""
        for cookie in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        self._judge(method, path, answer)
        return answer.status

    def _judge(self, method: str, path: str, answer: http.client.HTTPResponse) -> None:
        self.answers[f"{method} {answer.status}"] += 1
        if answer.status < 500:
            return
        is_said = any(text in self.body for text in LOST) and not answer.getheader("Retry-After")
        if method == "POST" and answer.status == 503 and is_said:
            self.unknown += 1
        else:
            self.failed.append(f"{self.name}: {method} {path}: {answer.status} {self.body[-300:]}")

    # with a token

    def get_token(self, username: str) -> None:
        assert self.send("POST", "/api/auth/login", credentials(username)) == 200, self.body
        self.headers["Authorization"] = f"Bearer {json.loads(self.body)['access_token']}"
        self.token = json.loads(self.body)["refresh_token"]

    def refreshed(self) -> int:
        status = self.send("POST", "/api/auth/refresh", {"refresh_token": self.token})
        if status == 200:
            self.token = json.loads(self.body)["refresh_token"]
        return status

    # with a browser

    def form(self, path: str, **fields: str) -> int:
        found = _CSRF.search(self.body)
        assert found, self.body
        return self.send("POST", path, {"csrf_token": found[1], **fields}, form=True)

    def log_in(self, username: str) -> None:
        self.send("GET", "/login")
        assert self.form("/login", **credentials(username)) == 302, self.body


def credentials(username: str) -> dict[str, str]:
    return {"username": username, "password": PASSWORD}


class Crowd:
    """Clients that work in threads of their own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[Client] = []
        self._works: list[Callable[[int], None]] = []
        self._stop = threading.Event()

    def add(self, name: str, work: Callable[..., Callable[[int], None]], *what: Any) -> Client:
        """Add somebody who works as soon as the crowd does; return who that is."""
        client = Client(self.port, name)
        self.clients.append(client)
        self._works.append(work(client, *what))
        return client

    @contextmanager
    def running(self) -> Iterator[None]:
        self._working = list(zip(self.clients, self._works, strict=True))
        threads = [threading.Thread(target=self._loop, args=pair) for pair in self._working]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _loop(self, client: Client, work: Callable[[int], None]) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                work(number)
            except Exception as exc:
                client.failed.append(f"{client.name}: {exc!r}")
                client.connection.close()

    @property
    def failed(self) -> list[str]:
        return [fault for client in self.clients for fault in client.failed]

    def await_answers(self, number: int) -> None:
        """Wait until everybody who works has got so many more."""
        before = [(client, client.answers.total()) for client, _ in self._working]
        until(lambda: all(each.answers.total() >= so_far + number for each, so_far in before))


def reads_the_api(client: Client) -> Callable[[int], None]:
    def work(_: int) -> None:
        assert client.send("GET", "/api/appointments?limit=20") == 200, client.body

    return work


def books_by_the_api(client: Client, doctor: str, day: datetime.datetime) -> Callable[[int], None]:
    def work(number: int) -> None:
        starts_at = day + datetime.timedelta(minutes=30 * (number % 18))
        body = {
            "staff_id": doctor,
            "starts_at": starts_at.isoformat(),
            "reason": f"{client.name} {number}",
        }
        status = client.send("POST", "/api/appointments", body)
        assert status in (201, 409, 503), (status, client.body)
        if status == 201:
            path = f"/api/appointments/{json.loads(client.body)['appointment_id']}/cancel"
            # it is gone where the database of before came back meanwhile
            assert client.send("POST", path) in (200, 404, 409, 503), client.body

    return work


def reads_pages(client: Client) -> Callable[[int], None]:
    def work(number: int) -> None:
        path = ("/", "/appointments?period=all", "/account")[number % 3]
        assert client.send("GET", path) == 200, (client.location, client.body)

    return work


def books_by_pages(client: Client, doctor: str, day: datetime.datetime) -> Callable[[int], None]:
    path = f"/appointments/new?doctor={doctor}&day={day.date()}"

    def work(number: int) -> None:
        assert client.send("GET", path) == 200, (client.location, client.body)
        times = _TIMES.findall(client.body)
        chosen = {"time": times[number % len(times)], "reason": f"{client.name} {number}"}
        assert client.form(path, **chosen) in (302, 409, 422, 503), client.body
        assert client.send("GET", "/appointments") == 200, client.location
        for cancel in _CANCEL.findall(client.body):
            assert client.form(html.unescape(cancel)) in (302, 404, 503), client.body
            assert client.send("GET", "/appointments") == 200, client.location

    return work


def logs_in_and_out(client: Client, username: str) -> Callable[[int], None]:
    def work(_: int) -> None:
        client.headers = {}
        status = client.send("POST", "/api/auth/login", credentials(username))
        assert status in (200, 503), client.body
        if status == 200:
            client.headers = {"Authorization": f"Bearer {json.loads(client.body)['access_token']}"}
            # a database of before, or of after it, knows nothing of this session
            assert client.send("POST", "/api/auth/logout") in (204, 401, 503), client.body

    return work


@pytest.fixture
def crowd(port: int, clinic: Clinic) -> Iterator[Crowd]:
    made = Crowd(port)
    patients = [row[0] for row in clinic.run(_PATIENTS)]
    doctor, other = (str(row[0]) for row in clinic.run(_DOCTORS)[:2])
    day = [monday() + datetime.timedelta(days=number) for number in range(5)]
    made.add("reads the API", reads_the_api).get_token(patients[0])
    made.add("reads pages", reads_pages).log_in(patients[1])
    for number in (2, 3):
        made.add(f"api {number}", books_by_the_api, doctor, day[number]).get_token(patients[number])
    for number in (0, 1):
        made.add(f"page {number}", books_by_pages, other, day[number]).log_in(patients[number + 4])
    made.add("comes and goes", logs_in_and_out, patients[6])
    yield made
    for client in made.clients:
        client.connection.close()


def test_no_request_fails_while_the_tasks_swap_the_database(
    crowd: Crowd, clinic: Clinic, inv: Inv
) -> None:
    def swapped(task: str) -> None:
        crowd.await_answers(4)
        done = inv(task)
        assert done.returncode == 0, done.stdout + done.stderr

    with crowd.running():
        program = crowd.add("refreshes", reads_the_api)
        program.get_token(clinic.run(_PATIENTS)[8][0])
        swapped("db.backup")
        assert program.refreshed() == 200
        late = crowd.add("late", reads_the_api)
        late.get_token(clinic.run(_PATIENTS)[7][0])
        asked = "GET", "/api/me"
        swapped("db.restore")
        # who has logged in since the backup is logged out, whose token is of since then too
        assert late.send(*asked) == 401
        assert program.refreshed() == 401
        swapped("db.undo")
        assert late.send(*asked) == 200
        assert program.refreshed() == 200
        swapped("db.restore")
        crowd.await_answers(4)
    assert crowd.failed == []
    # a COMMIT that was under way is said, and never repeated
    assert sum(client.unknown for client in crowd.clients) <= SWAPS * WORKERS * THREADS
    reasons = [reason for (reason,) in clinic.run(_BOOKED)]
    assert reasons
    assert [reason for reason, times in Counter(reasons).items() if times > 1] == []
    # and requests are counted as before
    reader = crowd.clients[0]
    clinic.run("UPDATE rate_limits SET hits = %s, expires_at = now() + interval '1 h'", RATE - 1)
    path = "/api/appointments?limit=20"
    assert [reader.send("GET", path) for _ in range(3)] == [200, 429, 429]
