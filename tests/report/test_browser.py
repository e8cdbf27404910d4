"""The report in a real browser: it must work there, not only look like HTML."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torchmotif as tm

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import Chrome, ChromeOptions, ChromeService  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
    "--force-prefers-reduced-motion",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in [*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    return _opened(browser, page)


def _opened(browser: Any, page: Path) -> Any:
    browser.get(page.as_uri())
    browser.execute_script("try { localStorage.clear(); } catch {}")
    browser.refresh()
    _until(browser, "return torchmotif.views[0].waiting === 0")
    return browser


def _until(browser: Any, script: str) -> None:
    WebDriverWait(browser, 10).until(lambda chrome: chrome.execute_script(script))


def _settled(browser: Any) -> None:
    _until(browser, "return torchmotif.views.every((view) => !view.waiting)")


def _hovered(browser: Any, column: int) -> str:
    """Move the pointer to a column of the image, and what is said of it."""
    canvas = browser.find_element(By.ID, "image")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y, w, h = browser.execute_script(
        "const v = torchmotif.views[0]; return [...v.toScreen(arguments[0]), v.width, v.height]", column
    )
    ActionChains(browser).move_to_element_with_offset(canvas, round(x - w / 2), round(y - h / 2)).perform()
    return str(
        browser.execute_script("const t = torchmotif.views[0].tip; return t.hidden ? '' : t.textContent")
    )


def _painted(browser: Any, colour: tuple[int, int, int]) -> int:
    """Pixels of the image's canvas that are close to a colour."""
    _settled(browser)
    return int(
        browser.execute_script(
            "const c = document.getElementById('image'); const [r, g, b] = arguments[0];"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
            "for (let i = 0; i < d.length; i += 4)"
            " if (Math.abs(d[i] - r) + Math.abs(d[i + 1] - g) + Math.abs(d[i + 2] - b) < 12) n++;"
            "return n",
            colour,
        )
    )


def test_it_loads_without_a_complaint(opened: Any) -> None:
    assert opened.get_log("browser") == []
    assert opened.execute_script("return torchmotif.views.length") == 2
    assert _painted(opened, (230, 159, 0)) > 100


def test_hovering_a_column_says_what_it_is(opened: Any, result: tm.MotifResult) -> None:
    column = int((result.labels == 0).argmax())
    said = _hovered(opened, column)
    row, col = result.columns.positions[column]
    assert said.startswith("motif 0, probability ")
    assert f"row {row:.1f}, column {col:.1f} px" in said
    assert f"y {row * 0.02:.3f}, x {col * 0.02:.3f} nm" in said


def test_switches_hide_a_motif_and_show_it_again(opened: Any, result: tm.MotifResult) -> None:
    before = _painted(opened, (230, 159, 0))
    switch = opened.find_element(By.CSS_SELECTOR, "input[data-group='0']")
    switch.click()
    assert _painted(opened, (230, 159, 0)) < before / 20
    assert not _hovered(opened, int((result.labels == 0).argmax())).startswith("motif 0")
    switch.send_keys(Keys.SPACE)
    assert _painted(opened, (230, 159, 0)) > before / 2
    opened.find_element(By.CSS_SELECTOR, "[data-all='off']").click()
    assert not opened.execute_script("return [...torchmotif.groups.values()].some((g) => g.shown)")


def test_marks_that_would_hide_the_image_start_switched_off(
    browser: Any, result: tm.MotifResult, page: Path
) -> None:
    shown = "return [...torchmotif.groups.values()].filter((g) => g.shown).map((g) => g.number)"
    assert set(range(result.n_motifs)) <= set(_opened(browser, page).execute_script(shown))
    browser.set_window_size(360, 300)
    try:
        opened = _opened(browser, page)
        assert not {0, 1} & set(opened.execute_script(shown))
        assert "Only what is rare is marked" in opened.find_element(By.ID, "said").text
        opened.find_element(By.CSS_SELECTOR, "[data-all='on']").click()
        assert {0, 1} <= set(opened.execute_script(shown))
    finally:
        browser.set_window_size(1280, 1000)


def test_a_column_that_is_odd_for_its_motif_is_said_to_be(
    browser: Any, result: tm.MotifResult, tmp_path: Path
) -> None:
    here = np.flatnonzero(result.labels == 0)
    dark = here[np.argsort(np.abs(result.columns.positions[here] - 140).max(axis=1))[0]]
    intensities = result.columns.intensities.copy()
    intensities[dark] *= 0.1
    columns = dataclasses.replace(result.columns, intensities=intensities)
    dataclasses.replace(result, columns=columns).report(tmp_path / "odd.html")
    opened = _opened(browser, tmp_path / "odd.html")
    assert "far darker than usual" in opened.execute_script(
        "return torchmotif.describe(arguments[0])", int(dark)
    )
    said = opened.execute_script("return torchmotif.describe(arguments[0])", int(here[here != dark][0]))
    assert "usual" not in said
    assert "on a site of its own motif" in said


def test_the_wheel_and_dragging_move_the_image(opened: Any) -> None:
    canvas = opened.find_element(By.ID, "image")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    whole, centre = opened.execute_script("const v = torchmotif.views[0]; return [v.scale, [...v.centre]]")
    opened.execute_script(
        "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -300, clientX: 400, clientY: 400, cancelable: true}))",
        canvas,
    )
    ActionChains(opened).drag_and_drop_by_offset(canvas, 90, 40).perform()
    scale, moved = opened.execute_script("const v = torchmotif.views[0]; return [v.scale, [...v.centre]]")
    assert scale > 1.2 * whole
    assert moved != centre


def test_the_keyboard_is_enough(opened: Any, result: tm.MotifResult) -> None:
    canvas = opened.find_element(By.ID, "image")
    scale = lambda: opened.execute_script("return torchmotif.views[0].scale")  # noqa: E731
    whole = scale()
    canvas.send_keys("+++")
    assert scale() > 2 * whole
    canvas.send_keys(Keys.ARROW_LEFT)
    assert "row " in opened.find_element(By.ID, "said").text
    assert opened.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    canvas.send_keys("-0")
    assert scale() == pytest.approx(whole)
    opened.find_element(By.CSS_SELECTOR, "[data-find='1']").send_keys(Keys.ENTER)
    assert opened.find_element(By.ID, "said").text.startswith(f"1 of {result.counts[1]}: motif 1")


@pytest.mark.parametrize(("order", "sign"), [("bright", -1), ("dark", 1)])
def test_next_goes_by_brightness(opened: Any, result: tm.MotifResult, order: str, sign: int) -> None:
    Select(opened.find_element(By.ID, "order")).select_by_value(order)
    here = np.flatnonzero(result.labels == 0)
    wanted = here[np.argsort(sign * result.columns.intensities[here])][1]
    button = opened.find_element(By.CSS_SELECTOR, "[data-find='0']")
    button.click()
    button.click()
    row, col = result.columns.positions[wanted]
    assert f"row {row:.1f}, column {col:.1f} px" in opened.find_element(By.ID, "said").text


def test_next_begins_with_a_typical_column(opened: Any, result: tm.MotifResult) -> None:
    here = np.flatnonzero(result.labels == 0)
    brightness = result.columns.intensities[here]
    order = np.argsort(np.abs(brightness - np.sort(brightness)[len(here) // 2]), kind="stable")
    opened.find_element(By.CSS_SELECTOR, "[data-find='0']").click()
    row, col = result.columns.positions[here[order[0]]]
    assert f"row {row:.1f}, column {col:.1f} px" in opened.find_element(By.ID, "said").text


def test_dark_is_dark_and_stays_so(opened: Any) -> None:
    background = lambda: opened.execute_script(  # noqa: E731
        "return getComputedStyle(document.body).backgroundColor"
    )
    assert background() == "rgb(255, 255, 255)"
    opened.find_element(By.ID, "theme").click()
    assert background() == "rgb(20, 23, 27)"
    opened.refresh()
    assert background() == "rgb(20, 23, 27)"


def test_a_narrow_screen_needs_no_scrolling_sideways(opened: Any) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints(opened: Any) -> None:
    opened.get_log("browser")
    opened.find_element(By.ID, "theme").click()
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(printed["data"]) > 50_000
    assert opened.get_log("browser") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Any, theme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    script = (Path(axe.__path__[0]) / "axe.min.js").read_text(encoding="utf-8")
    opened.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
    opened.execute_script(script)
    found = opened.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    faults = [
        (one["id"], one["nodes"][0]["html"])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert not faults
    assert len(found["passes"]) > 20


def test_metadata_that_mean_harm_do_none(
    browser: Any, harmful: tm.MotifResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Callable[..., dict[str, Any]] = lambda _: {  # noqa: E731  # slow, and the same for all results
        "note": "", "levels": [], "rows": [], "inclusions": [], "atlas": None, "growth": None,
    }  # fmt: skip
    monkeypatch.setattr("torchmotif.report.page.hierarchy_section", nothing)
    harmful.report(tmp_path / "harm.html")
    opened = _opened(browser, tmp_path / "harm.html")
    assert opened.execute_script("return window.harmed") is None
    assert "window.harmed" in opened.find_element(By.TAG_NAME, "h1").text
    assert opened.get_log("browser") == []


def test_examples_are_clicked_or_chosen_by_keyboard_and_their_call_is_right(
    opened: Any, result: tm.MotifResult
) -> None:
    opened.execute_script("document.getElementById('examples').open = true")
    name = opened.find_element(By.ID, "example-name")
    canvas = opened.find_element(By.ID, "image")
    inner = [
        int(np.flatnonzero((result.labels == motif) & result.whole)[k]) for motif in (0, 1) for k in (0, 3)
    ]
    for motif in (0, 1):
        name.clear()
        name.send_keys(f"kind {motif}")
        for column in inner[2 * motif : 2 * motif + 2]:
            _hovered(opened, column)
            ActionChains(opened).click().perform()
    _settled(opened)
    call = opened.find_element(By.ID, "example-call").get_property("value")
    places: dict[str, list[tuple[float, float]]] = {}
    exec(call.replace("result = result.like", "places.update"), {"places": places})  # noqa: S102  # what a user pastes
    assert {kind: len(some) for kind, some in places.items()} == {"kind 0": 2, "kind 1": 2}
    expected = result.columns.positions[inner]
    np.testing.assert_allclose([*places["kind 0"], *places["kind 1"]], expected, atol=0.06)
    before = len(opened.find_elements(By.CSS_SELECTOR, "#example-list li"))
    name.clear()
    name.send_keys("by keyboard")
    canvas.send_keys("++")
    canvas.send_keys(Keys.ENTER)
    assert len(opened.find_elements(By.CSS_SELECTOR, "#example-list li")) == before + 1
    assert "by keyboard" in opened.find_element(By.ID, "example-said").text
    opened.find_element(By.ID, "example-undo").send_keys(Keys.ENTER)
    assert len(opened.find_elements(By.CSS_SELECTOR, "#example-list li")) == before
    opened.find_element(By.ID, "example-copy").send_keys(Keys.ENTER)
    _until(opened, "return document.getElementById('example-said').textContent === 'Copied.'")
    assert opened.get_log("browser") == []


def test_names_are_said_and_axe_finds_no_serious_fault(
    browser: Any, result: tm.MotifResult, tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    named = result.identify("MoSe2")
    named.report(tmp_path / "report.html")
    opened = _opened(browser, tmp_path / "report.html")
    opened.execute_script("document.getElementById('examples').open = true")
    assert named.names is not None
    column = int(np.flatnonzero((named.names.words == "V_Se") & named.whole)[0])
    assert _hovered(opened, column).startswith("V_Se, probability ")
    assert "Z^1." in opened.find_element(By.CSS_SELECTOR, "#names .lead").text
    opened.execute_script((Path(axe.__path__[0]) / "axe.min.js").read_text(encoding="utf-8"))
    found = opened.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert [one["id"] for one in found["violations"] if one["impact"] in {"serious", "critical"}] == []


def test_the_map_of_a_cell_grows_and_says_what_is_pointed_at(
    browser: Any, result: tm.MotifResult, tmp_path: Path
) -> None:
    page = tmp_path / "cell.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{result._repr_html_()}', encoding="utf-8")
    browser.get(page.as_uri())
    box = browser.find_element(By.CSS_SELECTOR, "div[style*=resize]")
    wide, high = box.size["width"], box.size["height"]
    ask = (
        "const box = arguments[0].getBoundingClientRect();"
        "return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).title"
    )
    for _ in range(2):
        browser.execute_script("arguments[0].scrollIntoView({block: 'end'})", box)
        spots = browser.find_elements(By.CSS_SELECTOR, "span[title]")
        assert len(spots) == len(result.columns)
        for spot in spots[len(spots) // 2 :: 50]:
            assert browser.execute_script(ask, spot) == spot.get_attribute("title")
        corner = ActionChains(browser).move_to_element_with_offset(box, wide // 2 - 3, high // 2 - 3)
        corner.click_and_hold().move_by_offset(60, 0).release().perform()
        assert box.size["width"] >= wide + 50
        assert box.size["height"] == pytest.approx(high * box.size["width"] / wide, abs=3)
        wide, high = box.size["width"], box.size["height"]
