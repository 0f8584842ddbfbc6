"""The studio in a real Chromium: drop, slide, save, undo, keys, a phone's width. Skipped where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from studio_parts import BAD_FILES, picture_bytes, with_style, workbench

from facelatent.errors import NoFaceFound
from facelatent.studio import Studio
from facelatent.studio.serving import Serving, prepare
from facelatent.stylegan_ops import MobileStyleGAN

pytest_plugins = ("studio_parts",)

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[browser]'")
pytestmark = pytest.mark.browser

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 120_000  # milliseconds: machines that run tests are busy


def chromium() -> str | None:
    """Path of a Chromium: ``FACELATENT_CHROMIUM``, or one on the PATH."""
    return os.environ.get("FACELATENT_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    if (path := chromium()) is None:
        pytest.skip("no Chromium: install one (apt-get install chromium-headless-shell), or set FACELATENT_CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        # Containers have no user namespaces for its sandbox; the page is our own.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def studio(tiny_generator: MobileStyleGAN, tmp_path: Path, easy_inversion: None) -> Iterator[Studio]:
    with contextlib.closing(Studio(with_style(workbench(tiny_generator, tmp_path), tmp_path))) as opened:
        yield opened


@pytest.fixture
def serving(studio: Studio) -> Iterator[Serving]:
    made = prepare(studio)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    while not made.server.started:
        time.sleep(0.01)
    yield made
    made.server.should_exit = True
    thread.join(10)


class Page:
    """A page of the studio, and everything that it asked for and complained about."""

    def __init__(self, context: sync_api.BrowserContext, url: str) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(_PATIENCE)
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))
        self.page.goto(url)

    def wait_shown(self, kind: str = "full", after: int = 0) -> int:
        """Wait for a picture newer than ``after``; returns its serial."""
        self.page.wait_for_function(
            "([kind, after]) => { const c = document.getElementById('after').dataset;"
            " return c.shown === kind && Number(c.serial) > after }",
            arg=[kind, after],
        )
        return self.serial()

    def wait_drawn(self, words: str) -> None:
        """Wait for the full picture of the look whose command has these words in it."""
        self.page.wait_for_function(
            "words => document.getElementById('after').dataset.command.includes(`${words} `)", arg=words
        )

    def serial(self) -> int:
        return int(self.page.eval_on_selector("#after", "canvas => canvas.dataset.serial || 0"))

    def pixels(self) -> list[int]:
        """The shown picture, as numbers that two pictures can be compared by."""
        pixels: list[int] = self.page.eval_on_selector(
            "#after",
            "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)",
        )
        return pixels

    def open(self, path: Path) -> int:
        self.page.set_input_files("#file", path)
        return self.wait_shown()

    def slider(self, number: int = 0) -> sync_api.Locator:
        return self.page.locator("#sliders input[type=range]").nth(number)


@pytest.fixture
def page(browser: sync_api.Browser, serving: Serving) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    yield (opened := Page(context, serving.url))
    context.close()
    # Whatever a test does: nothing but the studio was asked for anything, and no script failed.
    strangers = [url for url in opened.requested if not url.startswith((serving.url, "blob:"))]
    assert not strangers
    assert not opened.complaints


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "me.jpg"
    path.write_bytes(picture_bytes())
    return path


def test_upload_slide_download(page: Page, photo: Path, tmp_path: Path) -> None:
    first = page.open(photo)
    plain = page.pixels()
    # A drag with the mouse: a preview while it goes on, the full picture after it.
    box = page.slider().bounding_box()
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(middle, y)
    page.page.mouse.down()
    page.page.mouse.move(middle + box["width"] / 8, y)
    page.page.mouse.move(middle + box["width"] / 5, y)
    dragged = page.wait_shown("preview", first)
    page.page.mouse.up()
    page.wait_shown("full", dragged)
    assert page.pixels() != plain
    alpha = float(page.slider().input_value())
    assert 1.5 < alpha < 2.5
    assert f"--alpha {alpha:g}" in page.page.inner_text("#command")
    with page.page.expect_download() as download:
        page.page.click("[data-save=picture]")
    assert download.value.suggested_filename == "me-edited.png"
    download.value.save_as(tmp_path / "saved.png")
    saved = Image.open(tmp_path / "saved.png")
    assert (saved.format, saved.size) == ("PNG", (64, 64))
    with page.page.expect_download() as download:
        page.page.click("[data-save=clip]")
    assert download.value.suggested_filename == "me.gif"
    with page.page.expect_download() as download:
        page.page.click("[data-save=latent]")
    download.value.save_as(tmp_path / "me.latent.safetensors")
    # And the latent opens again.
    page.page.click("#add")
    page.page.set_input_files("#file", tmp_path / "me.latent.safetensors")
    page.page.wait_for_selector("text=me.latent.safetensors")
    page.wait_shown("full", page.serial() - 1)


# Keys pressed so fast that the machine's speed does not matter.
_BURST = """slider => { for (let press = 0; press < 12; press++) {
  slider.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  slider.stepUp();
  slider.dispatchEvent(new Event("input"));
  slider.dispatchEvent(new Event("change"));
} }"""


def test_keys(page: Page, photo: Path) -> None:
    page.open(photo)
    plain = page.pixels()
    page.slider().focus()
    page.page.keyboard.press("ArrowRight")
    page.wait_drawn("--alpha 0.1")
    page.slider().evaluate(_BURST)
    page.wait_drawn("--alpha 1.3")
    moved = page.pixels()
    page.page.keyboard.press("Control+z")  # a burst is one step
    page.wait_drawn("--alpha 0.1")
    assert float(page.slider().input_value()) == pytest.approx(0.1)
    page.page.keyboard.press("Control+Shift+z")
    page.wait_drawn("--alpha 1.3")
    assert page.pixels() == moved
    undone = "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'z', ctrlKey: true, bubbles: true }))"
    page.slider().evaluate(f"slider => {{ ({_BURST})(slider); {undone}; }}")  # before the burst is chosen
    assert float(page.slider().input_value()) == pytest.approx(1.3)
    page.slider().focus()
    page.page.keyboard.press("0")
    page.wait_drawn("render")
    assert page.pixels() == plain
    page.page.keyboard.down("b")
    assert page.page.is_visible("#tag-before")
    page.page.keyboard.up("b")
    assert not page.page.is_visible("#tag-before")


def test_switches_that_are_turned_on_in_a_row(colours: None, page: Page, photo: Path) -> None:
    shown = page.open(photo)
    switches = page.page.locator("#sliders [role=switch]")
    for number in (0, 1):  # the second while the first is still being measured
        switches.nth(number).click()
    page.wait_shown("full", shown)
    page.page.wait_for_function("() => document.getElementById('command').textContent.includes('red.boundary')")
    assert all(switches.nth(number).is_checked() for number in (0, 1))
    assert page.slider(0).is_disabled()
    switches.nth(0).click()
    page.page.wait_for_function("() => !document.querySelector('#sliders input[type=range]').disabled")


def test_a_style_has_a_strength(page: Page, photo: Path) -> None:
    shown = page.open(photo)
    plain = page.pixels()
    assert not page.page.is_visible("#strength")
    page.page.select_option("#style", "klimt")
    page.wait_shown("full", shown)
    styled = page.pixels()
    assert styled != plain
    page.page.wait_for_selector("#strength:enabled")
    page.page.focus("#strength")
    for _ in range(4):
        page.page.keyboard.press("ArrowLeft")
    page.wait_drawn("--style-strength 0.8")
    assert sum(plain) < sum(page.pixels()) < sum(styled)
    assert page.page.inner_text("#style-strength output") == "0.80"
    page.page.click("#reset")
    page.page.wait_for_selector("#strength", state="hidden")
    page.wait_drawn("render me.latent.safetensors -o")
    assert page.pixels() == plain


def test_a_photo_that_comes_before_the_page_is_ready(page: Page, photo: Path) -> None:
    held: list[sync_api.Route] = []
    page.page.route("**/studio.json", lambda route: held.append(route))
    page.page.reload()
    page.page.set_input_files("#file", photo)
    page.page.wait_for_timeout(300)
    held[0].continue_()
    page.wait_shown()
    assert page.page.is_hidden("#toast")


def test_every_control_has_a_name_and_a_ring(page: Page, photo: Path) -> None:
    page.open(photo)
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, a, summary')].filter(element => {
          const labels = [...(element.labels || [])].map(label => label.textContent).join('');
          return !(element.getAttribute('aria-label') || labels || element.textContent
            || element.getAttribute('aria-labelledby')).trim();
        }).map(element => element.outerHTML)"""
    )
    assert nameless == []
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # Everything can be reached: Tab goes through the sliders to the save buttons.
    reached = set()
    for _ in range(40):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id || document.activeElement.dataset.save"))
    assert {"wipe", "slider-0", "slider-1", "picture", "latent", "copy"} <= reached


def test_the_wipe_shows_the_photo(page: Page, photo: Path) -> None:
    page.open(photo)
    page.page.wait_for_selector("#before:not([hidden])", state="attached")
    page.page.focus("#wipe")
    for _ in range(40):
        page.page.keyboard.press("ArrowRight")
    assert page.page.eval_on_selector("#stage", "stage => stage.style.getPropertyValue('--wipe')") == "40%"
    assert page.page.is_visible("#tag-before")


def test_bad_uploads_get_a_message_and_the_page_goes_on(page: Page, photo: Path, tmp_path: Path) -> None:
    assert len(BAD_FILES) >= 20
    toast = "document.getElementById('toast')"
    for number, (data, name, message) in enumerate(BAD_FILES.values()):
        bad = tmp_path / f"{number}-{name}"  # its own message, not that of the one before
        bad.write_bytes(data)
        page.page.set_input_files("#file", bad)
        page.page.wait_for_function(f"name => !{toast}.hidden && {toast}.textContent.includes(name)", arg=bad.name)
        assert message in page.page.inner_text("#toast")
    # The browser itself reports refused requests on its console.
    page.complaints = [line for line in page.complaints if "422" not in line]
    page.open(photo)


def test_a_photo_without_a_face(page: Page, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(image: Image.Image, source: str) -> None:
        raise NoFaceFound(f"no face found in {source}")

    monkeypatch.setattr("facelatent.studio.session.sure_faces", nobody)
    page.page.set_input_files("#file", photo)
    page.page.wait_for_selector("#message:has-text('no face found in me.jpg')")
    assert page.page.is_hidden("#toast")
    assert page.page.is_disabled("[data-save=picture]")


def test_another_face_of_the_photo(page: Page, tmp_path: Path) -> None:
    (tmp_path / "two.png").write_bytes(picture_bytes("PNG", (160, 80)))
    page.open(tmp_path / "two.png")
    people = page.page.locator("#people .person")
    people.nth(1).wait_for()
    assert [people.nth(number).get_attribute("aria-pressed") for number in (0, 1)] == ["true", "false"]
    shown = page.serial()
    people.nth(1).focus()
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector(".tab >> nth=1")  # the first stays, as it was inverted already
    page.wait_shown("full", shown)
    page.page.wait_for_selector(".person[aria-pressed=true][aria-label='Face 2 of 2']")
    assert "two-face2.latent.safetensors" in page.page.inner_text("#command")
    assert page.page.locator(".tab [aria-pressed=true]").inner_text() == "two.png · face 2"
    page.page.reload()  # and the page still shows it
    page.page.wait_for_selector(".person[aria-pressed=true][aria-label='Face 2 of 2']")


def test_two_photos_at_once(page: Page, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "other.jpg").write_bytes(picture_bytes(size=(90, 70)))
    page.page.set_input_files("#file", [photo, tmp_path / "other.jpg"])
    page.page.wait_for_selector(".tab >> nth=1")
    page.wait_shown()
    assert page.page.locator(".tab [aria-pressed]").all_inner_texts() == ["me.jpg", "other.jpg"]


def test_sliders_fold_and_are_found(browser: sync_api.Browser, studio: Studio, serving: Serving) -> None:
    names = ["smile", "yaw", "mouth_open", "surprise", "anger", "sadness", "pitch", "lighting"]
    one = next(iter(studio.bench.boundaries.values()))
    studio.bench = replace(studio.bench, boundaries={name: replace(one, attribute=name) for name in names})
    page = Page(browser.new_context(), serving.url)
    page.page.click("#random")
    page.wait_shown()
    groups = page.page.locator(".group")
    assert [groups.nth(number).get_attribute("open") for number in range(3)] == ["", None, None]
    page.page.fill("#find", "UR")
    assert page.page.locator(".slider:visible label:first-child").all_inner_texts() == ["Surprise"]
    page.page.locator(".slider:visible input[type=range]").press("ArrowRight")
    page.wait_drawn("--alpha 0.1")
    page.page.fill("#find", "")
    assert [groups.nth(number).get_attribute("open") for number in range(3)] == ["", None, None]
    assert groups.nth(1).locator("summary").inner_text().split("\n")[-1].endswith("1 set")
    page.page.context.close()


def test_a_face_that_nobody_has_and_several_at_once(page: Page, photo: Path) -> None:
    page.page.click("#random")
    shown = page.wait_shown()
    assert page.page.is_hidden("[data-save=photo]")
    page.page.click("#add")
    page.page.set_input_files("#file", photo)
    page.page.wait_for_selector(".tab >> nth=1")
    page.wait_shown("full", shown)
    assert page.page.locator(".tab").count() == 2
    page.page.locator(".tab .close").nth(1).click()
    page.page.wait_for_function("() => document.querySelectorAll('.tab').length === 1")
    assert page.page.is_visible("#stage")
    page.page.reload()  # faces outlive the page
    page.wait_shown()


def test_a_phone(browser: sync_api.Browser, serving: Serving, photo: Path) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    phone = Page(context, serving.url)
    phone.open(photo)
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    small = phone.page.evaluate(
        """() => [...document.querySelectorAll('#work button')].filter(button => button.offsetParent
          && (button.offsetHeight < 30 || button.offsetWidth < 30)).map(button => button.outerHTML)"""
    )
    assert small == []
    # The picture stays in sight while the last slider is moved.
    phone.slider(1).scroll_into_view_if_needed()
    stage, slider = phone.page.locator("#stage").bounding_box(), phone.slider(1).bounding_box()
    assert stage["y"] >= -1
    assert stage["y"] + stage["height"] <= slider["y"] + 1
    context.close()


def test_a_dark_page(browser: sync_api.Browser, serving: Serving) -> None:
    context = browser.new_context(color_scheme="dark")
    dark = Page(context, serving.url)
    colour = "getComputedStyle(document.body).backgroundColor"
    before = dark.page.evaluate(colour)
    dark.page.click("#theme")
    after = dark.page.evaluate(colour)
    assert sum(map(int, before[4:-1].split(","))) < 120
    assert sum(map(int, after[4:-1].split(","))) > 600
    context.close()
