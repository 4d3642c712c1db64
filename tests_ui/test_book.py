"""The built book in a browser: every page in light, dark and at 360 pixels, its links, its search,
and without a server.
"""

import functools
import html.parser
import http.server
import importlib.util
import json
import os
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "build" / "book" / "html"
FOUND = sorted(path.relative_to(BOOK).as_posix() for path in BOOK.rglob("*.html"))
PAGES = [page for page in FOUND if not page.startswith("_static/")] or [
    "index.html"
]  # there lie the theme's templates
LESSONS = [page for page in PAGES if page.startswith("notebooks/")]
# A word of one page, and that page: in a lesson's text, in a docstring, in the glossary, in a
# generated list.
PLANTED = {
    "RePaint": "notebooks/11_pipeline.html",
    "Mann-Whitney": "notebooks/07_measuring_samples.html",
    "rescale_zero_terminal_snr": "api/process.html",
    "Bińkowski": "references.html",
    "memorisation": "glossary.html",
}
# axe-core sees a page without what repeats thousands of times: the paths in formulas, and in code
# the second and later words of one kind (class) on one ground.
ONE_OF_EACH = """() => {
    document.querySelectorAll('mjx-container').forEach(one => { one.textContent = 'formula'; });
    const seen = new Set();
    document.querySelectorAll('pre, dt.sig').forEach(pre => {
        const ground = getComputedStyle(pre).backgroundColor + pre.parentElement.className;
        pre.querySelectorAll('span').forEach(word => {
            const kind = `${word.className} in ${word.parentElement.className} on ${ground}`;
            if (word.children.length || word.id || word.querySelector('a')) return;
            seen.has(kind) ? word.replaceWith(word.textContent) : seen.add(kind);
        });
    });
}"""
SERIOUS = ("serious", "critical")
FORMULAS_ARE_SET = "() => document.documentElement.dataset.formulas === 'set'"
FORMULAS = """() => {
    const all = [...document.querySelectorAll('.bd-article .math')];
    const article = document.querySelector('.bd-article') || document.body;
    const prose = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    const raw = [];
    while (prose.nextNode()) {
        const node = prose.currentNode;
        if (node.parentElement.closest('pre, code, script, style, mjx-container')) continue;
        const left = /\\$\\$|\\\\\\(|\\\\\\[|\\\\tag|\\\\frac/;
        if (left.test(node.data)) raw.push(node.data.trim().slice(0, 80));
    }
    return {
        count: all.length,
        unset: all.filter(one => !one.querySelector('mjx-container svg'))
            .map(one => one.textContent.slice(0, 80)),
        errors: [...document.querySelectorAll('[data-mml-node="merror"]')]
            .map(one => one.closest('.math').textContent.slice(0, 80)),
        raw,
    };
}"""
# What sticks out to the right and lies in no box that scrolls; boxes that scroll and cannot be
# reached by keyboard; formulas whose beginning is not in view.
OVERFLOW = """() => {
    const scrolls = (node) => {
        for (let box = node; box && box !== document.body; box = box.parentElement)
            if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(box).overflowX))
                return true;
        return false;
    };
    const wide = [...document.querySelectorAll('main *')].filter(node => {
        const box = node.getBoundingClientRect();
        return box.width > 0 && box.right > innerWidth + 1 && !scrolls(node);
    });
    const boxes = [...document.querySelectorAll('.bd-article *')].filter(node =>
        node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1
        && ['auto', 'scroll'].includes(getComputedStyle(node).overflowX) && node.tabIndex < 0
        && !node.querySelector('a, button, input'));
    const cut = [...document.querySelectorAll('.bd-article div.math')].filter(box =>
        box.scrollLeft === 0 && box.querySelector('svg')?.getBoundingClientRect().left
            < box.getBoundingClientRect().left - 1);
    const said = node =>
        `${node.tagName}.${node.className} ${node.textContent.trim().slice(0, 50)}`;
    return {
        cut: cut.map(box => box.textContent.slice(0, 50)),
        page: document.documentElement.scrollWidth,
        unreachable: boxes.slice(0, 5).map(said),
        nodes: wide.slice(0, 5).map(said),
    };
}"""
# Every code block, printed text and display formula, folded ones too: by how many pixels it is
# wider than its box, whether that box scrolls, and whether the box itself lies in the article.
# A formula's number is a part of it.
BLOCKS = """() => {
    const shut = [...document.querySelectorAll('.bd-article details:not([open])')];
    shut.forEach(one => { one.open = true; });
    const page = document.querySelector('.bd-article')?.getBoundingClientRect();
    const all = [...document.querySelectorAll('.bd-article pre, .bd-article div.math')];
    const found = all.map(box => {
        const frame = box.getBoundingClientRect();
        const parts = [...box.querySelectorAll('mjx-container > svg')]
            .map(part => part.getBoundingClientRect());
        return {
            kind: box.matches('.math') ? 'formula'
                : box.closest('.cell_output .output') ? 'printed' : 'code',
            name: (box.matches('.math') && box.id) || box.textContent.trim().slice(0, 60),
            wide: Math.max(box.scrollWidth - box.clientWidth,
                           ...parts.map(part =>
                               Math.max(frame.left - part.left, part.right - frame.right))),
            scrolls: ['auto', 'scroll'].includes(getComputedStyle(box).overflowX),
            inside: box.clientWidth > 0
                && frame.left > page.left - 1 && frame.right < page.right + 1,
        };
    });
    shut.forEach(one => { one.open = false; });
    return found;
}"""
# Between the margins of A4, in CSS pixels: 210 - 2 * 16 mm. Letter is wider.
PAPER = 672
PRINTED = """() => {
    const formulas = [...document.querySelectorAll('.bd-article div.math')]
        .filter(box => box.getBoundingClientRect().width > 0);
    const parts = box => [...box.querySelectorAll('mjx-container > svg, mjx-container > svg svg')]
        .map(part => part.getBoundingClientRect());
    const meets = box => { // a formula and its number
        const inner = [...box.querySelectorAll('mjx-container[width=full] > svg svg')]
            .map(part => part.getBoundingClientRect());
        return inner.length > 1 && inner.at(-1).left < inner[0].right;
    };
    return {
        wide: formulas.filter(box => meets(box)
            || parts(box).some(part => part.left < -1 || part.right > innerWidth + 1))
            .map(box => box.textContent.slice(0, 60)),
        small: formulas.filter(box =>
            parseFloat(getComputedStyle(box.querySelector('mjx-container')).fontSize) < 9)
            .map(box => box.textContent.slice(0, 60)),
    };
}"""
PICTURES = """() => [...document.querySelectorAll('.bd-article img')].map(one => ({
    alt: one.getAttribute('alt') || '', drawn: one.complete && one.naturalWidth > 0,
    name: one.src.slice(0, 90),
    ground: getComputedStyle(one).backgroundColor,
    themed: one.matches('.only-light, .only-dark'),
}))"""


@pytest.fixture(scope="module")
def address():
    """The book behind a local server."""
    if not (BOOK / "index.html").is_file():
        pytest.fail("the book is not built; run make book, or make test-ui, which builds it")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(BOOK))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core, from the package that carries it."""
    package = Path(importlib.util.find_spec("axe_playwright_python").origin).parent
    return (package / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def findings(artefacts):
    """What axe-core found, by impact and rule; written when the pages are done."""
    found = {}
    yield found
    worker = os.environ.get("PYTEST_XDIST_WORKER", "all")
    (artefacts / f"axe-{worker}.json").write_text(
        json.dumps(found, indent=1, sort_keys=True) + "\n"
    )


def opened(page, url):
    """Open a page and wait until its formulas are set."""
    page.goto(url)
    page.wait_for_function(FORMULAS_ARE_SET, timeout=60_000)


def serious(page, axe, findings, name, scheme):
    """Run axe-core; returns its serious and critical findings in short and counts all."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe)
        page.evaluate(ONE_OF_EACH)
    grave = []
    # What is not a colour is the same in the dark.
    rules = (
        {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
        if scheme == "dark"
        else {}
    )
    # Without preload, in which axe-core asks the page's folder for what a style sheet imports from
    # its own.
    options = {"resultTypes": ["violations"], "preload": False, **rules}
    for rule in page.evaluate("(options) => axe.run(document, options)", options)["violations"]:
        seen = findings.setdefault(f"{rule['impact']}: {rule['id']}", {})
        seen[f"{name} {scheme}"] = len(rule["nodes"])
        if rule["impact"] in SERIOUS:
            grave += [
                f"{scheme} {rule['id']}: {node['html'][:160]} {node['any'][:1]}"
                for node in rule["nodes"][:3]
            ]
    return grave


@pytest.mark.parametrize("name", PAGES)
def test_a_page(address, open_page, axe, findings, artefacts, name):
    page, watch = open_page(color_scheme="light")
    opened(page, f"{address}/{name}")
    formulas = page.evaluate(FORMULAS)
    assert (formulas["unset"], formulas["errors"], formulas["raw"]) == ([], [], [])
    assert formulas["count"] or not name.startswith("notebooks/0"), "a lesson without formulas"
    for picture in page.evaluate(PICTURES):
        assert picture["drawn"], picture
        assert len(picture["alt"]) > 14, f"no alt text: {picture}"
    if name in LESSONS or name == "index.html":
        page.screenshot(path=artefacts / f"book-{Path(name).stem}.png")
    if not name.startswith("_modules/"):
        assert cut_or_scrolling(page, 1400, ("code", "formula")) == []
        assert cut_or_scrolling(page, 700, ("formula",)) == []
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(200)
    wide = page.evaluate(OVERFLOW)
    assert wide == {"page": 360, "nodes": [], "unreachable": [], "cut": []}
    blocks = page.evaluate(BLOCKS)
    cut = [b for b in blocks if not b["inside"] or b["wide"] > 1 and not b["scrolls"]]
    assert cut == [], "cannot be read to its end on a telephone"
    if name in LESSONS:
        assert on_paper(page) == {"wide": [], "small": []}
    page.set_viewport_size({"width": 1200, "height": 900})
    # The theme looks for boxes that scroll 300 ms after the last change of size.
    page.wait_for_timeout(450)
    grave = serious(page, axe, findings, name, "light")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    page.wait_for_timeout(350)  # colours fade over
    grave += serious(page, axe, findings, name, "dark")
    plain = [picture for picture in page.evaluate(PICTURES) if not picture["themed"]]
    grounds = {picture["ground"] for picture in plain}  # a themed picture has one for the dark
    assert grounds <= {"rgb(255, 255, 255)"}, "a figure without its white ground in the dark"
    assert grave == []
    assert (watch.refused, watch.errors, watch.outside) == ([], [], [])


def cut_or_scrolling(page, width, kinds):
    """Blocks of these kinds that do not fit into their box on a page of this width, and by how
    many pixels.
    """
    page.set_viewport_size({"width": width, "height": 900})
    boxes = [box for box in page.evaluate(BLOCKS) if box["kind"] in kinds]
    boxes = [box for box in boxes if box["wide"] > 1 or not box["inside"]]
    return [f"{box['kind']} {box['name']!r}: {box['wide']:.0f} pixels too wide" for box in boxes]


def on_paper(page):
    """Formulas that are wider than a printed page or are set too small to be read there."""
    page.set_viewport_size({"width": PAPER, "height": 900})
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    found = page.evaluate(PRINTED)
    page.emulate_media(media="screen")
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    return found


class Page(html.parser.HTMLParser):
    """The anchors of a page and what it points to."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key == "id" or (tag == "a" and key == "name"):
                self.anchors.add(value)
            elif key in ("href", "src") and value:
                self.targets.append(value)


def test_every_link_and_anchor_resolves():
    pages = {name: Page((BOOK / name).read_text(encoding="utf-8")) for name in PAGES}
    broken = []
    for name, page in pages.items():
        for target in page.targets:
            if urlsplit(target).scheme or target.startswith("//"):
                continue
            place, anchor = urldefrag(target)
            path = (
                (BOOK / name).parent / unquote(urlsplit(place).path)
                if urlsplit(place).path
                else BOOK / name
            )
            if path.is_dir():
                path = path / "index.html"
            if not path.is_file():
                broken.append(f"{name}: {target}: no such file")
            elif anchor and path.suffix == ".html":
                there = pages[path.resolve().relative_to(BOOK.resolve()).as_posix()].anchors
                broken += [] if unquote(anchor) in there else [f"{name}: {target}: no such anchor"]
    assert broken == []


def test_nothing_is_fetched_from_elsewhere():
    fetched = []
    for name in PAGES:
        text = (BOOK / name).read_text(encoding="utf-8")
        fetched += [f"{name}: {tag}" for tag in Loads(text).outside]
    assert fetched == []


class Loads(html.parser.HTMLParser):
    """Addresses from which a page would load something by itself: scripts, styles, pictures,
    frames.
    """

    def __init__(self, text):
        super().__init__()
        self.outside = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        loaded = (
            values.get("href")
            if tag == "link" and values.get("rel") != "canonical"
            else values.get("src")
        )
        if loaded and loaded.startswith(("http:", "https:", "//")):
            self.outside.append(loaded)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_a_planted_word(address, open_page, scheme):
    page, watch = open_page()
    base = address if scheme == "http" else BOOK.as_uri()
    for word, expected in PLANTED.items():
        page.goto(f"{base}/search.html?q={word}")
        page.wait_for_selector("#search-results li a", timeout=20_000)
        page.wait_for_timeout(300)
        found = page.locator("#search-results li a").evaluate_all(
            "links => links.map(one => one.getAttribute('href'))"
        )
        assert any(link.split("#")[0].split("?")[0].endswith(expected) for link in found), (
            f"{word}: {found}"
        )
    assert watch.errors == [] and watch.outside == []


def test_search_from_any_page_by_keyboard(address, open_page):
    page, watch = open_page()
    opened(page, f"{address}/notebooks/04_ddpm_posterior.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("RePaint")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    assert watch.errors == [] and watch.refused == []


@pytest.mark.parametrize("name", ["index.html", "notebooks/04_ddpm_posterior.html"])
def test_a_page_without_a_server(open_page, name):
    page, watch = open_page()
    opened(page, (BOOK / name).as_uri())
    formulas = page.evaluate(FORMULAS)
    assert formulas["count"] and (formulas["unset"], formulas["errors"], formulas["raw"]) == (
        [],
        [],
        [],
    )
    assert all(picture["drawn"] for picture in page.evaluate(PICTURES))
    assert watch.errors == [] and watch.outside == []


def test_a_mention_leads_to_its_equation(address, open_page):
    page, _ = open_page()
    opened(page, f"{address}/notebooks/06_fast_samplers.html")
    page.evaluate(
        "() => document.querySelectorAll('details').forEach(one => { one.open = true; })"
    )  # it stands in an answer
    page.locator("a", has_text="04.8").first.click()
    page.wait_for_url("**/notebooks/04_ddpm_posterior.html#eq-04-8")
    page.wait_for_function(FORMULAS_ARE_SET, timeout=60_000)
    assert page.evaluate("() => document.querySelector(':target').matches('div.math')")


def test_hints_and_solutions_are_folded(address, open_page):
    page, _ = open_page()
    opened(page, f"{address}/notebooks/04_ddpm_posterior.html")
    solution = page.locator("details", has_text="04.1, solution")
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "def " in solution.locator("pre").inner_text()
    assert page.locator("details summary", has_text="04.1, hint").count() == 3


def test_a_loop_can_be_paused_and_keeps_still_for_those_who_ask(address, open_page):
    page, _ = open_page()
    opened(page, f"{address}/notebooks/04_ddpm_posterior.html")
    loop = page.locator(".course-animation")
    moving = loop.locator("img").get_attribute("src")
    loop.get_by_role("button", name="Pause").click()
    assert (
        loop.locator("img").get_attribute("src")
        == loop.locator("source").get_attribute("srcset")
        != moving
    )
    loop.get_by_role("button", name="Play").click()
    assert loop.locator("img").get_attribute("src") == moving
    quiet, _ = open_page(reduced_motion="reduce")
    opened(quiet, f"{address}/notebooks/04_ddpm_posterior.html")
    shown = quiet.locator(".course-animation img")
    assert shown.evaluate("image => image.currentSrc") == quiet.locator(
        ".course-animation source"
    ).get_attribute("srcset")
    assert quiet.locator(".course-animation button").count() == 0


def test_print_shows_what_is_folded_and_no_navigation(address, open_page, artefacts):
    page, _ = open_page()
    opened(page, f"{address}/notebooks/04_ddpm_posterior.html")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    for part in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".copybtn"):
        assert not any(node.is_visible() for node in page.locator(part).all()), part
    loop = page.locator(".course-animation")
    assert loop.locator("img").get_attribute("src") == loop.locator("source").get_attribute(
        "srcset"
    )
    page.pdf(path=artefacts / "book-04.pdf")
