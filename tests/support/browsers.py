"""Chromium on the clinic's pages: one for a module, a window of its own for each test."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from visitors import PASSWORD, Site
from waiting import PATIENCE, until

if TYPE_CHECKING:  # each run of any test imports this file
    from playwright.sync_api import Browser, ConsoleMessage, Page, Response

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# whether what has the focus shows it: itself, or the label that is drawn for it
_SHOWS_FOCUS = """() => {
  const element = document.activeElement;
  const drawn = element.closest('.times label') || element;
  const style = getComputedStyle(drawn);
  return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
}"""

_SUBMIT = """([path, fields]) => {
  const form = document.createElement('form');
  form.method = 'post';
  form.action = path;
  for (const name in fields) {
    const field = document.createElement('textarea');
    field.name = name;
    field.value = fields[name];
    form.append(field);
  }
  document.body.append(form);
  form.submit();
}"""


class Window:
    """A window of a browser of its own; what its console complains about fails the test."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280) -> None:
        self.address = address
        size = {"width": width, "height": 800}
        # the order in which days are typed hangs on the locale
        self.context = browser.new_context(viewport=size, locale="en-US")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.faults: list[str] = []
        self.expected: set[int] = set()  # statuses of answers that are mistakes on purpose
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        status = _STATUS.match(message.text)
        if not status or int(status[1]) not in self.expected:
            self.faults.append(message.text)

    def open(self, path: str) -> Response:
        """Go to a page."""
        answer = self.page.goto(f"{self.address}{path}")
        assert answer is not None
        return answer

    def submit(self, path: str, fields: dict[str, str]) -> None:
        """Send a form that no page has."""
        with self.page.expect_navigation():
            self.page.evaluate(_SUBMIT, [path, fields])

    def log_in(self, username: str, password: str = PASSWORD) -> None:
        """Log in by the form that is shown, or by the page of it."""
        if not self.page.url.startswith(f"{self.address}/login"):
            self.open("/login")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def await_focus(self, id: str) -> None:
        """Wait until an element has the focus, which a page gives away with its next frame."""
        until(lambda: self.page.evaluate("document.activeElement.id") == id)

    @property
    def path(self) -> str:
        """The path and the query of the page."""
        return self.page.url.removeprefix(self.address)

    @property
    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate(_OVERFLOW))

    def shows_focus(self) -> bool:
        """Return whether one sees where the focus is."""
        return bool(self.page.evaluate(_SHOWS_FOCUS))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, name: str) -> None:
        """Press Tab until what is called `name` has the focus, which must be seen on the way."""
        seen: list[Any] = []
        for _ in range(60):
            self.press("Tab")
            focused = self.page.evaluate(
                "() => { const e = document.activeElement; return (e.labels && e.labels[0] ?"
                " e.labels[0].innerText : e.innerText).trim() }"
            )
            assert self.shows_focus(), focused
            if name in focused:
                return
            seen.append(focused)
        raise AssertionError(f"{name!r} is not reached, only {seen}")

    def barriers(self) -> list[str]:
        """Return what axe finds that keeps people from using the page."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']} ({each['impact']}): {node['html']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium, with nothing of a user's own."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, args=list(_FLAGS), timeout=1000 * PATIENCE
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(open_site: tuple[Site, str]) -> Iterator[str]:
    """Serve the application on a port of this machine."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        """Write no line for each request."""

        def log(self, type: str, message: str, *args: Any) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", 0, open_site[0].app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def window(chromium: Browser, address: str, site: Site) -> Iterator[Window]:
    """Open a window that holds nothing yet."""
    made = Window(chromium, address)
    yield made
    made.context.close()
    assert made.faults == []
