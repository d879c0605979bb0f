"""Reports in a real browser: chromium of the system, driven by playwright; skips where either is absent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KINDS = ["whole", "many", "<i>hostile", "bare", "audit-only", "together", "compared", "<u>several"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, reports):
    """A function that opens a report at a width; gives the page, what it asked the network for, and what it complained of."""
    pages = []

    def open_page(kind: str, width: int = 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        requests, complaints = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(Path(reports[kind].file).as_uri())
        return page, requests, complaints

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_for_nothing_and_complains_of_nothing(opened, reports, kind):
    _, requests, complaints = opened(kind)
    assert requests == [reports[kind].file.as_uri()]
    assert complaints == []


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_no_page_is_wider_than_its_window(opened, kind, width):
    page, _, _ = opened(kind, width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_browser_gives_every_figure_and_drawing_a_name(opened):
    page, _, _ = opened("whole")
    images = page.get_by_role("img").all()
    assert len(images) == page.locator("figure").count() > 10
    assert all(len(image.get_attribute("aria-label")) > 30 for image in images)
    assert page.get_by_role("figure").count() == len(images)


def test_drawings_are_seen_and_stay_in_their_place(opened):
    for width in (400, 1280):
        page, _, _ = opened("whole", width)
        for box in page.evaluate("[...document.querySelectorAll('svg.plot')].map(drawing => drawing.getBoundingClientRect().toJSON())"):
            assert 200 < box["width"] <= width
            assert box["right"] <= width
            assert box["height"] > 60


@pytest.mark.parametrize("kind", ["whole", "compared", "<u>several"])
def test_text_of_drawings_does_not_leave_them(opened, kind):
    page, _, _ = opened(kind)
    beyond = page.evaluate(
        """[...document.querySelectorAll('svg.plot')].flatMap(drawing => {
            const frame = drawing.getBoundingClientRect();
            return [...drawing.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left - 3 || box.right > frame.right + 3 || box.top < frame.top - 3 || box.bottom > frame.bottom + 3;
            }).map(text => text.textContent);
        })"""
    )
    assert beyond == []


def test_a_page_can_be_used_by_keyboard(opened):
    page, _, _ = opened("whole")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    page.keyboard.press("Enter")
    assert page.url.endswith("#results")


def test_text_is_dark_on_white_whatever_the_reader_prefers(opened):
    page, _, _ = opened("bare")
    page.emulate_media(color_scheme="dark")
    style = page.evaluate("(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]; })()")
    assert style == ["rgb(31, 35, 40)", "rgb(255, 255, 255)"]


def test_a_page_prints(opened):
    page, _, _ = opened("whole")
    assert page.pdf().startswith(b"%PDF")
