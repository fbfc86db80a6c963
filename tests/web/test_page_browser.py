"""The clinic's pages as a person sees them: in Chromium, with keys alone, on a phone."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsers import Window
from offices import NEW, long_waits
from visitors import PASSWORD, Site

SIZES = [360, 1280]
IDLE = "UPDATE user_sessions SET last_seen_at = now() - interval '1 hour' WHERE revoked_at IS NULL"
DOCTOR = (
    "SELECT staff_id FROM staff JOIN hospitals USING (hospital_id) WHERE code = 'H0002'"
    " AND job = 'doctor' AND left_on IS NULL LIMIT 1"
)
WAITED = "UPDATE login_throttle SET blocked_until = now() - interval '1 second'"


def monday(weeks: int) -> datetime.date:
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return today + datetime.timedelta(weeks=weeks, days=-today.weekday())


def test_register_book_cancel_log_out(window: Window, site: Site) -> None:
    page = window.page
    window.open("/login")
    page.get_by_role("link", name="Register as a patient").click()
    page.get_by_label("Hospital").select_option(index=1)
    page.get_by_label("First name").fill("Ada")
    page.get_by_label("Last name").fill("نور")
    page.get_by_label("Date of birth").fill("1985-12-10")
    page.get_by_label("Email").fill("ada@example.org")
    page.get_by_label("User name").fill("ada.of.the.browser")
    page.get_by_label("Password", exact=True).fill(NEW)
    page.get_by_label("Password again").fill(NEW + "x")
    window.expected.add(422)
    page.get_by_role("button", name="Register").click()
    alert = page.get_by_role("alert")
    assert "The two passwords differ." in alert.inner_text()
    alert.get_by_role("link").click()  # the fault leads to its field
    window.await_focus("again")
    assert page.get_by_label("First name").input_value() == "Ada"
    assert page.get_by_label("Hospital").input_value() != ""
    assert page.get_by_label("Password", exact=True).input_value() == ""
    page.get_by_label("Password", exact=True).fill(NEW)
    page.get_by_label("Password again").fill(NEW)
    page.get_by_role("button", name="Register").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Hello, Ada نور"
    assert "Welcome." in page.get_by_role("status").inner_text()

    page.get_by_role("link", name="Book an appointment").click()
    page.get_by_label("Doctor or therapist").select_option(index=1)
    page.get_by_label("Day").fill(str(monday(3)))
    page.get_by_role("button", name="Show free times").click()
    page.locator(".times label", has_text="10:30").click()
    page.get_by_label("Reason").fill("A knee that hurts")
    page.get_by_role("button", name="Book").click()
    assert window.path == "/appointments"
    assert "10:30 is booked" in page.get_by_role("status").inner_text()
    row = page.get_by_role("row").nth(1)
    assert "A knee that hurts" in row.inner_text()
    row.get_by_text("Cancel").first.click()
    row.get_by_role("button", name="Yes, cancel it").click()
    assert "10:30 is cancelled" in page.get_by_role("status").inner_text()
    assert "cancelled" in page.get_by_role("row").nth(1).inner_text()
    assert page.get_by_text("Yes, cancel it").count() == 0

    page.get_by_role("button", name="Log out").click()
    assert "You are logged out" in page.get_by_role("status").inner_text()
    page.go_back()
    page.reload()  # what a browser kept is not shown again
    assert window.path.startswith("/login")
    window.log_in("ada.of.the.browser", NEW)
    assert window.path == "/appointments"


def test_wrong_passwords_wait_and_then_the_right_one_counts(window: Window, site: Site) -> None:
    username = site.username("nurse", 2)
    window.expected |= {401, 429}
    for _ in range(5):
        window.log_in(username, "not this")
        assert "User name or password is wrong." in window.page.get_by_role("alert").inner_text()
        assert window.page.get_by_label("User name").input_value() == username
        assert window.page.get_by_label("Password").input_value() == ""
    with long_waits(site.clinic):
        for _ in range(3):
            window.log_in(username, "nor this")
        assert "Too many attempts. Try again in" in window.page.get_by_role("alert").inner_text()
        window.log_in(username)  # in vain, while the wait lasts
        assert "Too many attempts" in window.page.get_by_role("alert").inner_text()
    site.clinic.run(WAITED)
    window.log_in(username)
    assert window.path == "/"


def test_a_session_that_was_idle_is_over_and_the_login_leads_back(
    window: Window, site: Site
) -> None:
    window.log_in(site.username("receptionist", 2))
    window.open("/appointments?period=past")
    site.clinic.run(IDLE)
    window.page.get_by_role("link", name="Next").click()
    assert window.path.startswith("/login?next=")
    assert "Your session has ended" in window.page.get_by_role("status").inner_text()
    window.log_in(site.username("receptionist", 2))
    assert window.path == "/appointments?period=past&page=2"


def test_keys_alone_are_enough(window: Window, site: Site) -> None:
    page = window.page
    window.open("/login")
    window.await_focus("username")
    page.keyboard.type(site.username("patient", 2))
    window.press("Tab")
    page.keyboard.type(PASSWORD)
    window.press("Enter")
    page.wait_for_url(f"{window.address}/")

    window.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    box = page.get_by_text("Skip to the content").bounding_box()
    assert box is not None
    assert box["y"] >= 0  # it comes into sight with the focus
    window.press("Enter")
    window.await_focus("content")
    window.tab_to("Book an appointment")
    window.press("Enter")
    page.wait_for_url("**/appointments/new")

    window.tab_to("Doctor or therapist")
    window.press("ArrowDown", "ArrowDown")
    window.tab_to("Day")
    page.keyboard.type(f"{monday(4):%m%d%Y}")
    window.tab_to("Show free times")
    window.press("Enter")
    page.wait_for_url("**/appointments/new?*")

    window.tab_to("08:00")
    window.press("ArrowDown", "ArrowDown")
    assert window.shows_focus()
    window.tab_to("Reason")
    page.keyboard.type("By keys")
    window.tab_to("Book")
    window.press("Enter")
    page.wait_for_url("**/appointments")
    assert "09:00 is booked" in page.get_by_role("status").inner_text()

    window.tab_to("Cancel")
    window.press("Enter")
    window.tab_to("Yes, cancel it")
    with page.expect_navigation():  # to the same address
        window.press("Enter")
    assert "09:00 is cancelled" in page.get_by_role("status").inner_text()
    window.tab_to("Log out")
    window.press("Enter")
    page.wait_for_url("**/login")


def paths(site: Site, role: str) -> list[str]:
    user_id = site.user_id(site.username("doctor", 2))
    doctor = site.clinic.value("SELECT staff_id FROM users WHERE user_id = %s", user_id)
    book = f"/appointments/new?doctor={doctor}&day={monday(5)}"
    return {
        "anyone": ["/login", "/register", "/nothing"],
        "patient": ["/", "/appointments?period=all", book, "/account", "/users", "/nothing"],
        "receptionist": ["/", "/appointments?period=all", "/appointments?status=x", book],
        "hospital_admin": [
            *("/", "/users", f"/users/{user_id}", "/admin/database", "/account"),
            f"{book[:-10]}2020-01-01",
        ],
    }[role]


@pytest.mark.parametrize("role", ["anyone", "patient", "receptionist", "hospital_admin"])
def test_nobody_is_kept_out_on_any_screen(window: Window, site: Site, role: str) -> None:
    """Small and wide, light and dark: no sideways scrolling, and no fault that axe knows."""
    window.expected |= {403, 404, 422}
    if role != "anyone":
        window.log_in(site.username(role, 2))
        window.page.wait_for_url(f"{window.address}/")
    for path in paths(site, role):
        window.open(path)
        for width in SIZES:
            window.page.set_viewport_size({"width": width, "height": 800})
            assert window.overflow <= 0, (path, width)
        assert window.barriers() == [], path
        window.page.emulate_media(color_scheme="dark")
        window.page.set_viewport_size({"width": 360, "height": 800})
        assert window.barriers() == [], (path, "dark", 360)
        window.page.emulate_media(color_scheme="light")
        assert re.search(".+ · Clinic$", window.page.title())


def refusals(window: Window, site: Site) -> Iterator[tuple[int, str]]:
    """Lead a window to the pages of errors, one after the other: their codes and headings."""
    window.submit("/appointments/new", {"time": "x"})
    yield 400, "This request could not be read"
    window.submit("/appointments", {})
    yield 405, "This page takes no such request"
    window.submit("/account", {"current": "x" * 2_000_000})
    yield 413, "That was too much"
    site.clinic.run("UPDATE rate_limits SET hits = 1000000, expires_at = now() + interval '1 hour'")
    window.open("/appointments")
    yield 429, "Too many requests"
    site.clinic.run("DELETE FROM rate_limits")
    site.clinic.run("ALTER TABLE invoices RENAME TO bills")
    try:
        window.open("/")
    finally:
        site.clinic.run("ALTER TABLE bills RENAME TO invoices")
    yield 500, "Something went wrong"
    window.open(f"/appointments/new?doctor={site.clinic.value(DOCTOR)}&day={monday(6)}")
    window.page.locator(".times label", has_text="10:30").click()
    with site.ending("appointments"), window.page.expect_navigation():
        window.page.get_by_role("button", name="Book").click()
    yield 503, "The connection was lost"


def test_pages_of_errors_keep_nobody_out(window: Window, site: Site) -> None:
    window.expected |= {400, 405, 413, 429, 500, 503}
    window.log_in(site.username("patient", 2, number=21))
    window.page.wait_for_url(f"{window.address}/")
    schemes: Iterator[Any] = itertools.cycle(["light", "dark"])
    for code, heading in refusals(window, site):
        assert window.page.get_by_role("heading", level=1).inner_text() == heading
        assert window.page.locator(".code").inner_text() == str(code)
        window.page.emulate_media(color_scheme=next(schemes))  # it is one template
        for width in SIZES:
            window.page.set_viewport_size({"width": width, "height": 800})
            assert window.overflow <= 0, (code, width)
        assert window.barriers() == [], code
        assert window.page.title() == f"{heading} · Clinic"
        window.page.get_by_role("link", name="Go to the start page").click()  # the way on
        assert window.path == "/"


def test_mistakes_keep_nobody_out_either(window: Window) -> None:
    window.expected |= {401, 422}
    window.page.set_viewport_size({"width": 360, "height": 800})
    window.open("/register")
    window.page.get_by_role("button", name="Register").click()
    assert window.page.get_by_role("alert").get_by_role("link").count() == 8
    assert (window.overflow, window.barriers()) == (0, [])
    window.page.get_by_label("First name").fill("x" * 300)  # one long word
    window.page.get_by_role("button", name="Register").click()
    assert (window.overflow, window.barriers()) == (0, [])
    window.log_in("nobody", "x")
    assert (window.overflow, window.barriers()) == (0, [])


def test_a_name_of_one_long_word_makes_no_page_wider(window: Window, site: Site) -> None:
    username = site.username("patient", 2, number=20)
    site.clinic.run(
        "UPDATE patients p SET last_name = repeat('x', 200) FROM users u"
        " WHERE u.patient_id = p.patient_id AND u.username = %s",
        username,
    )
    window.page.set_viewport_size({"width": 360, "height": 800})
    window.log_in(username)
    window.page.wait_for_url(f"{window.address}/")
    for path in ("/", "/account", "/appointments/new"):
        window.open(path)
        assert window.overflow <= 0, path
    window.page.get_by_role("button", name="Log out").click()
    window.log_in(site.username("hospital_admin", 2))
    for path in ("/users?name=xxxxx", f"/users/{site.user_id(username)}"):
        window.open(path)
        assert "xxxxxx" in window.page.content()
        assert window.overflow <= 0, path


def test_what_a_page_may_not_do_would_be_seen(window: Window) -> None:
    window.open("/login")
    with window.page.expect_console_message():
        window.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p onclick=\"x()\">')")
    assert any("Content Security Policy" in fault for fault in window.faults)
    window.faults.clear()
