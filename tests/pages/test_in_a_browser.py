"""Every kind of page in Chromium: says and asks nothing, fits, passes axe, obeys the keyboard, needs no script."""

from __future__ import annotations

import pytest

from tests.helpers.browser import AXE, browser, opened, why_not
from tests.pages.test_files import hostile_page

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")
KINDS = ("result", "rival", "loihi", "stored", "compare", "sweep", "reproduce")


@pytest.fixture(scope="module")
def chromium():
    with browser() as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_says_nothing_asks_for_nothing_and_fits(chromium, pages, kind, width, scheme):
    with opened(chromium, pages[kind], width, scheme) as found:
        assert found.messages == []
        assert [url for url in found.requests if not url.startswith("data:")] == [pages[kind].resolve().as_uri()]
        assert found.overflow() <= 0


@pytest.mark.skipif(not AXE, reason="H2SIM_AXE names no axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing(chromium, pages, kind, width, scheme):
    with opened(chromium, pages[kind], width, scheme, axe=True) as found:
        link = found.page.query_selector("tr[data-key] a")
        if link:
            link.evaluate("node => node.click()")
        for summary in found.page.query_selector_all("details:not([open]) > summary")[:6]:
            summary.evaluate("node => node.click()")
        assert found.violations() == []


def test_a_row_is_chosen_by_the_keyboard_and_marked_wherever_it_stands(chromium, pages):
    with opened(chromium, pages["result"]) as found:
        page = found.page
        page.focus("#layers tbody tr:first-child a")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.closest('tr').dataset.key") == "row-2"
        assert page.evaluate("location.hash") == "#row-2"
        assert page.inner_text("aside h2") == "conv2 forward"
        assert page.evaluate("document.querySelectorAll('.on').length") >= 3  # the table's row, a point, a span
        page.keyboard.press("Escape")
        assert page.evaluate("document.querySelectorAll('.on').length") == 0


def test_an_address_names_a_row(chromium, pages):
    with opened(chromium, pages["result"], key="row-13") as found:
        assert found.page.inner_text("aside h2") == "conv2 backward"


def test_the_first_tabs_lead_to_the_result_and_through_the_sections(chromium, pages):
    with opened(chromium, pages["result"]) as found:
        found.page.keyboard.press("Tab")
        assert found.page.evaluate("document.activeElement.textContent") == "Skip to the result"
        found.page.keyboard.press("Tab")
        assert found.page.evaluate("document.activeElement.getAttribute('href')") == "#bound"


def test_columns_sort_both_ways_by_number(chromium, pages):
    with opened(chromium, pages["result"]) as found:
        header = found.page.locator("#layers thead th", has_text="cycles").first
        number = "Number(row.cells[4].textContent.replaceAll(',', ''))"
        cells = f"[...document.querySelectorAll('#layers tbody tr')].map(row => {number})"
        header.locator("button").click()
        down = found.page.evaluate(cells)
        assert down == sorted(down, reverse=True)
        assert header.get_attribute("aria-sort") == "descending"
        header.locator("button").click()
        assert found.page.evaluate(cells) == sorted(down)


def test_the_timeline_zooms_by_keys_and_to_the_chosen_row(chromium, pages):
    with opened(chromium, pages["result"], key="row-13") as found:
        page, told = found.page, "#timeline-zoom [role=status]"
        assert page.inner_text(told).startswith("cycles 0 to 88,472 of 88,472")
        page.focus("#timeline-zoom canvas")
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        assert "cycles 0 to" not in page.inner_text(told)
        page.click("text=to the chosen row")
        first, last = (
            int(n.replace(",", ""))
            for n in page.inner_text(told).split(" of ")[0].removeprefix("cycles ").split(" to ")
        )
        assert first < 34_662 < 55_662 < last
        page.keyboard.press("0")


def test_a_slice_under_the_pointer_says_what_it_is_and_chooses_its_row(chromium, pages):
    with opened(chromium, pages["result"]) as found:
        canvas = found.page.locator("#timeline-zoom canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        at = box["x"] + 96 + 0.05 * (box["width"] - 100), box["y"] + 22 + 20
        found.page.mouse.move(*at)
        assert found.page.inner_text("#tip").startswith("conv1 forward: compute")
        found.page.mouse.click(*at)
        assert found.page.inner_text("aside h2") == "conv1 forward"


def test_every_interval_is_in_the_timeline(chromium, pages):
    """Lengths by row and meaning, unpacked by the page's own script, are the row's cycles in the result."""
    import json

    rows = json.loads((pages["result"].parent / "ours.json").read_text())["layers"]
    with opened(chromium, pages["result"]) as found:
        sums = found.page.evaluate("""async () => {
            const T = DATA.timeline, numbers = await unpacked(T.packed), sums = T.rows.map(() => ({}));
            let at = 0;
            for (const track of T.tracks) for (let i = 0; i < track.count; i++) {
                const [row, what, , length] = numbers.slice(at, at += 4);
                if (track.kind === "memory") { at++; continue; }
                const name = T.causes[what];
                sums[row][name] = (sums[row][name] || 0) + length;
            }
            return sums;
        }""")
    names = {"read": "memory_read", "write": "memory_write", "wait": "dependency"}
    for row, mine in zip(rows, sums, strict=True):
        wanted = {"compute": row["compute_cycles"], "fill": row["fill_cycles"]}
        wanted |= {short: row["stall_cycles"][long] for short, long in names.items()}
        assert {name: n for name, n in wanted.items() if n} == mine


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_without_scripts_has_all_its_tables_and_pictures(chromium, pages, kind):
    with opened(chromium, pages[kind], scripts=False) as found:
        text = found.page.inner_text("main")
        assert "Where this comes from" in text or kind == "reproduce"
        assert found.page.evaluate("1") == 1
        for table in found.page.query_selector_all("section > .table"):
            assert table.is_visible()
        for picture in found.page.query_selector_all("section > .picture.wide-only"):
            assert picture.is_visible()
        assert not any(button.is_visible() for button in found.page.query_selector_all("button"))


def test_the_theme_is_the_readers_until_the_button_turns_it(chromium, pages):
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(chromium, pages["result"], scheme="dark") as found:
        dark = found.page.evaluate(paper)
        found.page.click("#theme")
        light = found.page.evaluate(paper)
        assert dark != light == "rgb(255, 255, 255)"


def test_print_shows_the_still_timeline(chromium, pages):
    with opened(chromium, pages["result"]) as found:
        still = found.page.locator("#timeline .static.wide-only")
        assert not still.is_visible()
        found.page.emulate_media(media="print")
        assert still.is_visible()
        assert not found.page.locator("nav").is_visible()


def test_machines_of_a_sweep_are_kept_by_what_they_are(chromium, pages):
    with opened(chromium, pages["sweep"]) as found:
        page = found.page
        assert "40 of 40 machines kept" in page.inner_text("#sweep-keep")
        page.click("#sweep-keep summary")
        page.uncheck("fieldset:has(legend[title='engines.backward.rows']) label:has-text('32') input")
        kept = int(page.inner_text("#sweep-keep p").split(" of ")[0])
        assert 0 < kept < 40
        page.click("text=keep all")
        assert "40 of 40 machines kept" in page.inner_text("#sweep-keep")


def test_a_machine_of_the_front_is_a_file_that_runs(chromium, pages, tmp_path):
    from tests.pages.conftest import run

    with opened(chromium, pages["sweep"]) as found:
        found.page.click("#front tbody tr:first-child a")
        with found.page.expect_download() as saved:
            found.page.click("aside button:has-text('save')")
        target = tmp_path / "better.yaml"
        saved.value.save_as(target)
        name = found.page.inner_text("#front tbody tr:first-child td:first-child")
    assert name in run("run", str(target), "mnist-digits").splitlines()[0]


def test_rows_of_the_reproduction_are_chosen_by_their_verdict(chromium, pages):
    with opened(chromium, pages["reproduce"]) as found:
        page = found.page
        page.select_option("#numbers select", "not explained")
        rows = "[...document.querySelectorAll('#numbers tbody tr')]"
        visible = page.evaluate(f"{rows}.filter(row => !row.hidden).map(row => row.cells[5].textContent)")
        assert set(visible) == {"not explained"}


def test_names_that_would_act_stay_names(chromium, pages, tmp_path):
    target = tmp_path / "hostile.html"
    target.write_text(hostile_page(pages["result"].parent / "ours.json"), encoding="utf-8")
    with opened(chromium, target, 400) as found:
        for link in found.page.query_selector_all("#layers tbody tr a"):
            link.evaluate("node => node.click()")
        assert "owned" not in found.page.title().split(" on h2learn")[-1]
        assert "<img src=x" in found.page.inner_text("h1")
        assert found.messages == []
        assert found.overflow() <= 0
