"""The explorer's page alone, in a real browser: what `make app` serves and the report holds. Nothing here is timed."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import geometric_mean, mean

import pytest
from helpers.axe import violations
from helpers.browser import CHROMIUM, TABS, gain
from helpers.looks import drawn, objections

from resteutils.explorer.shelf import Shelf
from resteutils.recipes import ITEMS, recipe

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first test starts the server, the browser and the kernel
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}: apt-get install chromium"),
]


def test_buttons_in_every_order_end_with_what_was_pressed(page) -> None:
    expected = {"STE (o = 1)": 1.0, "paper (o = 3)": 4.642, "o = 10": 7.943, "sign (o = 100)": 9.772}
    for first in expected:
        for second, wanted in expected.items():
            page.get_by_role("button", name=first, exact=True).click()
            page.get_by_role("button", name=second, exact=True).click()
            assert gain(page) == wanted
    page.get_by_label("estimator", exact=True).select_option("fda")
    page.get_by_label("estimator", exact=True).select_option("reste")
    assert gain(page) == 9.772
    assert page.evaluate("() => window.explorer.final().o") == 100


def test_the_slider_obeys_keyboard_and_mouse_and_the_link_brings_it_back(page, address: str) -> None:
    page.get_by_role("button", name="paper (o = 3)").click()
    slider = page.get_by_role("slider", name="power o")
    slider.focus()
    page.keyboard.press("ArrowRight")
    moved = page.evaluate("() => window.explorer.final().o")
    assert 3 < moved < 3.2
    assert slider.get_attribute("aria-valuetext") == f"o {moved:g}"
    box = slider.bounding_box()
    assert box["height"] >= 24
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    chosen = page.evaluate("() => window.explorer.final().o")
    assert 20 < chosen < 50
    page.get_by_role("tab", name="Trade-off").click()
    page.wait_for_function("() => location.hash.includes('tradeoff')")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    assert page.evaluate("() => window.explorer.final().o") == chosen
    assert page.get_by_role("tab", name="Trade-off").get_attribute("aria-selected") == "true"


def test_the_read_out_is_linked_and_zoom_and_pins_work(page) -> None:
    first = page.locator("svg.rx-chart").first
    first.hover()
    assert page.locator(".rx-cursor[visibility=visible]").count() == 2
    assert "ReSTE: f = " in page.locator(".rx-readout").first.inner_text()
    first.focus()
    page.keyboard.press("+")
    assert page.locator("svg.rx-chart").first.locator("text", has_text="0.5").count() >= 1
    page.keyboard.press("0")
    page.get_by_role("button", name="Pin this curve").click()
    assert page.locator(".rx-entry", has_text="pinned: ReSTE").count() == 1


def test_a_chart_is_saved_as_picture_and_numbers(page) -> None:
    page.locator(".rx-save summary").nth(1).click()
    saved = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=re.compile(f"^{kind}: Backward")).click()
        saved[kind] = Path(download.value.path()).read_bytes()
    assert saved["SVG"].startswith(b"<svg") and saved["PNG"].startswith(b"\x89PNG")
    assert b"ReSTE (o = 3" in saved["CSV"] and saved["CSV"].count(b"\n") > 400


def test_play_walks_the_path_and_stands_still_for_whoever_prefers_that(page) -> None:
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => window.explorer.state().progress === 100 && window.explorer.current().o === 3")
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Step 10 %").click()
    assert page.evaluate("() => window.explorer.state().progress") == 10


def powers_of(root: Path) -> dict[float, dict[str, float]]:
    """What the records say of Figure 4's rows by power: means over seeds, of s in logarithms."""
    rows = {recipe(f"figure4/{row}", "short").identity for row in ITEMS["figure4"].rows}
    powers: dict[float, list] = {}
    for run in Shelf(runs_dir=str(root / "nowhere"), results_dir=str(root / "results")).measured():
        if run.recipe.identity in rows:
            powers.setdefault(run.recipe.estimator.o, []).append(run)
    return {
        o: {
            "n": len(runs),
            "e": mean(run.history.error_definition.iloc[-1] for run in runs),
            "s": geometric_mean(run.history.instability_definition.iloc[-1] for run in runs),
            "top1": mean(run.result["top1"] for run in runs),
        }
        for o, runs in powers.items()
    }


def test_the_measured_runs_are_part_of_the_picture(page, root: Path) -> None:
    known = powers_of(root)
    assert {1.0, 3.0, 10.0} <= set(known)
    page.get_by_role("tab", name="Trade-off").click()
    points = page.locator("[role=tabpanel]:visible .rx-wide circle title").all_text_contents()
    said = page.locator("[role=tabpanel]:visible .rx-said")
    for button, o in (("STE (o = 1)", 1.0), ("o = 10", 10.0), ("paper (o = 3)", 3.0)):
        page.get_by_role("button", name=button, exact=True).click()
        shown = dict(re.findall(r"(o|e|s|top-1) =? ?(\d[\d.e-]*)", said.inner_text().split(". The")[0]))
        assert float(shown["o"]) == o
        assert float(shown["e"]) == pytest.approx(known[o]["e"], rel=1e-3)
        assert float(shown["s"]) == pytest.approx(known[o]["s"], rel=5e-3)
        assert float(shown["top-1"]) == pytest.approx(known[o]["top1"], abs=0.06)
        assert any(point.endswith(f": {known[o]['top1']:.1f} %, n = {known[o]['n']}") for point in points)
    assert "control ends at" in said.inner_text()
    page.get_by_role("tab", name="Training").click()
    assert "STE, seed 0" in page.locator(".rx-legend:visible").inner_text()
    page.get_by_role("tab", name="Inside").click()
    assert "The label is" in page.locator("[role=tabpanel]:visible .rx-said").inner_text()


def test_five_steps_go_where_they_say(page) -> None:
    page.locator(".rx-tour summary").click()
    buttons = page.locator(".rx-steps button")
    assert buttons.count() == 5
    seen = []
    for i in range(5):
        buttons.nth(i).click()
        seen.append(page.evaluate("() => [window.explorer.state().tab, window.explorer.final().o]"))
    assert seen == [["curve", 1], ["curve", 3], ["tradeoff", 5], ["training", 10], ["tradeoff", 3]]


def test_sliders_are_read_out_by_name_and_a_short_number(page) -> None:
    page.get_by_role("button", name="paper (o = 3)").click()
    end = page.get_by_role("slider", name="end of the chord m")
    assert end.get_attribute("aria-valuetext") == "m 0.1"
    end.focus()
    page.keyboard.press("ArrowRight")
    assert end.get_attribute("aria-valuetext") == "m 0.11"
    estimators = page.get_by_label("estimator", exact=True)
    for name in page.evaluate("() => [...document.querySelectorAll('.rx select')[0].options].map(each => each.value)"):
        estimators.select_option(name)
        for slider in page.locator(".rx-slider input[type=range]").all():
            for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
                slider.press(key)
            assert re.fullmatch(r"[a-z_]+ -?\d+(\.\d{1,5})?", slider.get_attribute("aria-valuetext"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_its_page_and_axe_finds_nothing(page, pictures: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.screenshot(path=pictures / f"page-{tab}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), tab
        assert objections(page, "outside", ".rx") == [], tab
        assert objections(page, "crossed") == [], tab
        page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true; })")
        assert objections(page, "small") == [], tab
        assert violations(page) == [], tab
        page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = false; })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_forced_colours_everything_is_seen(page, pictures: Path, scheme: str) -> None:
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    outline = "each => getComputedStyle(each).outlineStyle"
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        page.screenshot(path=pictures / f"forced-{tab}-{scheme}.png", full_page=True)
        assert objections(page, "unseen") == [], tab
        edges = [page.get_by_role("tab", selected=chosen).first.evaluate(outline) for chosen in (True, False)]
        assert edges == ["solid", "none"], tab
    for control in ("input[type=range]", "input[type=checkbox]", "select", "input[type=number]", "button", "summary"):
        assert drawn(page.locator(f".rx {control}:visible").first) > 0.02, control
