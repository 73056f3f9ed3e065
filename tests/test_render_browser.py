"""The page in a real browser: it loads nothing, and its script sorts, folds, finds and draws what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import counted
import pytest
from hand_made import CHECK, DIFF, FULL, HOSTILE, NASTY, OWN, SWEEP

from convstat.render.base import Options
from convstat.render.formats.registry import RENDERERS

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

LIGHT, DARK = "1", "0"

WATCH = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
document.addEventListener("securitypolicyviolation", (event) => problems.push("blocked " + event.blockedURI));
</script>"""

ANSWER = """<script>
const answer = (() => {{ {script} }})();
const place = document.createElement("pre");
place.id = "answer";
place.textContent = JSON.stringify({{
  answer, problems, ready: document.documentElement.dataset.ready,
  resources: performance.getEntriesByType("resource").length,
  scripts: document.scripts.length,
}});
document.body.append(place);
</script>"""

HELPERS = """
const table = document.querySelector("table.layers");
const rows = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const texts = (column) => rows().map((row) => row.cells[column].textContent.replace(/[\\u25b8\\u25be]/g, "").trim());
const numbers = (column) => texts(column).map((text) => parseInt(text.replace(/,/g, ""), 10));
const column = (title) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === title);
const press = (text) => [...document.querySelectorAll("button")].find((b) => b.textContent.trim() === text).click();
const sortBy = (title) => table.tHead.rows[0].cells[column(title)].querySelector("button").click();
const total = (title) => parseInt(table.tFoot.rows[0].cells[column(title)].textContent.replace(/,/g, ""), 10);
const sum = (list) => list.reduce((one, other) => one + other, 0);
"""


def page(*results: Any) -> str:
    """Write a page."""
    return RENDERERS.named("html").render(results, Options())


@cache
def resnet50() -> str:
    """The page of a real network."""
    spec = Path(__file__).resolve().parent.parent / "configs" / "resnet50.yaml"
    return page(counted.analyze(str(spec), counters="none"))


def browse(
    text: str, script: str, folder: Path, *, scheme: str = LIGHT, width: int = 1200, network: bool = False
) -> Any:
    """Open a page, run a script in it that returns something, and give that with what the page did meanwhile."""
    text = text.replace("<head>", f"<head>{WATCH}", 1)
    at = text.rindex("</body>")
    text = text[:at] + ANSWER.format(script=HELPERS + script) + text[at:]
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    answer = subprocess.run(
        [
            str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1000",
            f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=5000", "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    found = re.search(r'<pre id="answer">(.*?)</pre>', answer.stdout, re.DOTALL)
    assert found, f"the browser gave no answer: {answer.stderr[-2000:]}"
    said = json.loads(unescape(found[1]))
    assert [] == said["problems"]
    assert "true" == said["ready"]
    assert 0 == said["resources"], "the page loaded something"
    return said["answer"]


def test_the_page_of_a_real_network_is_small() -> None:
    """Under 2 MB, in one file that names no address at all."""
    text = resnet50()
    assert len(text.encode()) < 2_000_000
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?\w""", text)
    assert "http" not in text.replace("http-equiv", "")


def test_layers_are_folded_at_first_and_unfold(tmp_path: Path) -> None:
    """Blocks of a second level are folded; all can be unfolded, folded, or one of them opened."""
    at_first, unfolded, folded, opened = browse(
        resnet50(),
        """
        const at_first = rows().length;
        press("unfold all"); const unfolded = rows().length;
        press("fold all"); const folded = texts(0);
        document.querySelector("button.fold").click();
        return [at_first, unfolded, folded, texts(0).slice(4, 8)];
        """,
        tmp_path,
    )
    # 7 layers and 4 stages at the top, 3 + 4 + 6 + 3 blocks in the stages.
    assert 7 + 4 + 16 == at_first
    assert ["conv1", "bn1", "relu", "maxpool2d", "layer1", "layer2", "layer3", "layer4"] == folded[:8]
    assert 7 + 4 == len(folded)
    assert ["layer1", "0", "1", "2"] == opened
    assert unfolded > 150


def test_sorting_orders_what_is_shown_and_loses_nothing(tmp_path: Path) -> None:
    """Layers alone from large to small, then from small to large, then as they run; they add up to the total."""
    first, second, third, order, macs, params = browse(
        resnet50(),
        """
        document.querySelector(".tools input[type=checkbox]").click();
        const order = texts(0);
        sortBy("MACs"); const first = numbers(column("MACs"));
        sortBy("MACs"); const second = numbers(column("MACs"));
        sortBy("MACs"); const third = texts(0);
        return [first, second, third, order, [sum(first), total("MACs")],
                [sum(numbers(column("params"))), total("params")]];
        """,
        tmp_path,
    )
    assert sorted(first, reverse=True) == first
    assert sorted(second) == second
    assert order == third
    assert [4_089_184_256] * 2 == macs
    assert [25_557_032] * 2 == params


def test_sorting_in_a_tree_keeps_layers_in_their_blocks(tmp_path: Path) -> None:
    """Siblings change places, and each block is followed by what is in it."""
    names, levels = browse(
        page(OWN),
        """
        sortBy("MACs");
        return [texts(0), rows().map((row) => +row.dataset.l)];
        """,
        tmp_path,
    )
    assert ["stage1", "1", "conv1", "relu", "0", "conv1", "norm", "stem", "head"] == names
    assert [0, 1, 2, 2, 1, 2, 2, 0, 0] == levels


def test_a_layer_is_found_by_its_name_and_from_the_drawing(tmp_path: Path) -> None:
    """Typing shows the rows that have the words; a part of the drawing opens its blocks and marks its row."""
    found, marked, visible = browse(
        resnet50(),
        """
        const search = document.querySelector("input[type=search]");
        search.value = "Linear"; search.dispatchEvent(new Event("input"));
        const found = texts(0);
        search.value = ""; search.dispatchEvent(new Event("input"));
        press("fold all");
        const part = [...document.querySelectorAll(".icicle g")].find(
          (item) => item.textContent.includes("layer3.2.conv2"));
        part.dispatchEvent(new MouseEvent("click", {bubbles: true}));
        const row = document.querySelector("tr.found");
        return [found, row.cells[0].title, !row.hidden && row.getBoundingClientRect().height > 0];
        """,
        tmp_path,
    )
    assert ["fc"] == found
    assert "layer3.2.conv2" == marked
    assert visible


def test_the_drawing_is_of_macs_or_of_params_and_fills_its_width(tmp_path: Path) -> None:
    """One of the two is seen at a time; the parts of the first level are as wide as the whole together."""
    before, after, macs, params, parts = browse(
        resnet50(),
        """
        const [first, second] = document.querySelectorAll(".icicle figure");
        const seen = () => [first, second].map((figure) => getComputedStyle(figure).display);
        const before = seen();
        document.querySelectorAll(".icicle > input")[1].click();
        const parts = (figure) => [...figure.querySelectorAll('rect[y="24"]')];
        const widths = (figure) => sum(parts(figure).map((part) => +part.getAttribute("width")));
        return [before, seen(), widths(first), widths(second), first.querySelectorAll("g").length];
        """,
        tmp_path,
    )
    assert (["block", "none"], ["none", "block"]) == (before, after)
    assert macs == pytest.approx(1000, abs=2)
    assert params == pytest.approx(1000, abs=2)
    assert parts > 70


CONTRAST = """
const light = (text) => {
  const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const ratio = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const ground = getComputedStyle(document.body).backgroundColor;
const words = [...document.querySelectorAll("h2, h3, p, dt, dd, th, td, label, footer")]
  .filter((item) => item.textContent.trim());
const drawn = [...document.querySelectorAll(".icicle text")].map(
  (item) => ratio(getComputedStyle(item).fill, getComputedStyle(item.parentElement.querySelector("rect")).fill));
return [light(ground), Math.min(...words.map((item) => ratio(getComputedStyle(item).color, ground))),
        Math.min(21, ...drawn)];
"""


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_read_in_light_and_in_dark(scheme: str, tmp_path: Path) -> None:
    """The ground follows the reader's choice, and every word has a contrast of 4.5 or more."""
    ground, words, drawn = browse(page(FULL, CHECK, DIFF), CONTRAST, tmp_path, scheme=scheme)
    assert (ground > 0.9) if scheme == LIGHT else (ground < 0.05)
    assert words >= 4.5
    assert drawn >= 4.5


def test_a_narrow_window_scrolls_tables_and_not_the_page(tmp_path: Path) -> None:
    """Nothing sticks out at 500 pixels."""
    inside, width = browse(
        page(FULL, CHECK, SWEEP, DIFF),
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth];",
        tmp_path,
        width=500,
    )
    assert inside <= width


def test_a_hostile_name_stands_in_the_page_as_it_is(tmp_path: Path) -> None:
    """As text in a cell and in a title, and not as an element; there are our script and those of this test only."""
    name, title, tags = browse(
        page(NASTY),
        """
        return [texts(0)[0], document.querySelector("h2").textContent,
                [...document.querySelectorAll("section script, section b:not(td b)")].length];
        """,
        tmp_path,
    )
    assert HOSTILE == name
    assert HOSTILE in title
    assert 0 == tags


def test_other_tables_are_sorted_too(tmp_path: Path) -> None:
    """Those of a comparison, by a click on a heading."""
    groups = browse(
        page(SWEEP),
        """
        const plain = document.querySelector("table.sortable");
        plain.tHead.rows[0].cells[0].querySelector("button").click();
        plain.tHead.rows[0].cells[0].querySelector("button").click();
        return [...plain.tBodies[0].rows].map((row) => row.cells[0].textContent);
        """,
        tmp_path,
    )
    assert ["4", "3", "2", "1"] == groups


def test_the_watch_sees_what_a_page_does_wrong(tmp_path: Path) -> None:
    """An image from elsewhere, and an error in a script, are found; so the checks above can fail."""
    with pytest.raises(AssertionError, match=r"blocked|loaded something"):
        browse(
            page(OWN).replace("<footer>", '<img src="https://example.invalid/x.png"><footer>'), "return 1;", tmp_path
        )
    (tmp_path / "second").mkdir()
    with pytest.raises(AssertionError, match="nothing"):
        browse(page(OWN).replace("<footer>", "<script>nothing();</script><footer>"), "return 1;", tmp_path / "second")
