"The built site: links, pictures, size, and what a browser makes of it. `make test-site` builds it first."
import ast
import json
import re
import threading
from functools import partial
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urljoin, urlsplit

import nbformat
import pytest
from conftest import ROOT
from nbdev.config import get_config
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SITE = ROOT/"_docs"
STUDY = ["index", "00_lab_preprocessing", "01_dataset", "02_quantization", "03_eccv16", "04_finetune", "05_gan_refine"]
PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))
pytestmark = pytest.mark.browser


class Page(HTMLParser):
    "Addresses, anchors and pictures of a page."

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.pictures = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img": self.pictures.append(attributes)
        if "id" in attributes: self.ids.add(attributes["id"])
        self.links += [(tag, attributes[name]) for name in ("href", "src") if attributes.get(name)]


@pytest.fixture(scope="module")
def pages():
    assert PAGES, "no site in _docs; run make docs"
    return {name: Page(SITE/name) for name in PAGES}


def test_links_lead_somewhere(pages):
    broken = []
    for name, page in pages.items():
        for _, link in page.links:
            if urlsplit(link).scheme: continue
            target = urlsplit(urljoin(f"/{name}", link))
            path, anchor = unquote(target.path).lstrip("/"), unquote(target.fragment)
            no_anchor = anchor and path in pages and anchor not in pages[path].ids
            if no_anchor or not (SITE/path).is_file(): broken.append(f"{name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(pages):
    outside = []
    for name, page in pages.items():
        fetched = [link for tag, link in page.links if tag != "a"]
        outside += [f"{name}: {link}" for link in fetched if urlsplit(link).scheme not in ("", "data")]
    for css in SITE.rglob("*.css"):
        style = css.read_text()
        if "@import" in style or "url(http" in style: outside.append(str(css))
    assert not outside


CODE = re.compile(r"<(pre|code|script|style)\b.*?</\1>", re.S)
FOLDED = re.compile(r"<details\b.*?</details>", re.S)


def html_of(name): return (SITE/name).read_text(encoding="utf-8")


def text_of(html): return unescape(re.sub(r"<[^>]+>", "", html))


def raw_links(html):
    "Links of Markdown that never became any, as those whose text holds code."
    return re.findall(r"\[[^\]]*\]\([^)\s]+\)", text_of(CODE.sub("", html)))


def repeated_captions(html):
    "Captions that say what the alternative text says, which is for those who can't see the picture."
    alternatives = {unescape(alt) for alt in re.findall(r'<img [^>]*alt="([^"]*)"', html)}
    captions = map(text_of, re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S))
    return [caption for caption in captions if caption in alternatives]


def raw_logs(html): return re.findall(r"epoch \d+/\d+: \w+ [\d.]+|(?m:^ +\d+/\d+  +[\d.]+)", html)


def open_imports(html):
    "Cells that begin with an import and lie open."
    cells = re.findall(r'<pre class="sourceCode python[^"]*cell-code">(.*?)</pre>', FOLDED.sub("", html), re.S)
    return [code for code in map(text_of, cells) if re.match("import |from ", code)]


def functions_of(notebook):
    "The sources of the functions and classes that a notebook exports."
    cells = [cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    exported = [code for code in cells if re.match(r"#\|\s*export", code)]
    for code in exported:
        defined = [s for s in ast.parse(code).body if isinstance(s, ast.FunctionDef | ast.ClassDef)]
        yield from (ast.get_source_segment(code, definition) for definition in defined)


def folded_functions(notebook, html):
    "The first lines of what a notebook exports and a reader of its page doesn't see without a click."
    shown = text_of(FOLDED.sub("", html))
    return [code.splitlines()[0] for code in functions_of(notebook) if code not in shown]


@pytest.mark.parametrize("found_by", [raw_links, repeated_captions, raw_logs, open_imports])
def test_pages_read_well(pages, found_by):
    assert {name: found for name in pages if (found := found_by(html_of(name)))} == {}


@pytest.mark.parametrize("found_by, put_back", [
    (raw_links, "<p>see [<code>Colorizer</code>](tools/colorize.ipynb)</p>"),
    (repeated_captions, '<img alt="A cat." src="cat.jpg"><figcaption>A cat.</figcaption>'),
    (open_imports, '<pre class="sourceCode python cell-code"><code><span class="im">import</span> torch</code></pre>'),
    (raw_logs, "<pre><code>epoch 1/10: train_loss 3.31, valid_loss 3.458</code></pre>"),
    (raw_logs, "<pre><code>  epoch  train_loss  seconds\n   1/10        3.31     15.8</code></pre>")])
def test_what_reads_badly_is_found(found_by, put_back): assert found_by(put_back)


@pytest.mark.parametrize("name", STUDY[1:])
def test_the_study_is_open(pages, name):
    notebook, html = ROOT/f"nbs/{name}.ipynb", html_of(f"{name}.html")
    assert len(list(functions_of(notebook))) > 4
    assert folded_functions(notebook, html) == []
    start = html.rindex('<div class="sourceCode"', 0, html.index(">def</span>"))
    end = html.index("</div>", start) + len("</div>")
    put_back = f'{html[:start]}<details class="code-fold">{html[start:end]}</details>{html[end:]}'
    assert folded_functions(notebook, put_back)


def test_figures_have_alternative_text(pages):
    pictures = [(name, picture) for name, page in pages.items() for picture in page.pictures]
    assert [f"{name}: {picture['src'][:80]}" for name, picture in pictures if not picture.get("alt")] == []


def test_functions_have_parameters_and_source(pages):
    page = (SITE/"00_lab_preprocessing.html").read_text(encoding="utf-8")
    entry = page[page.index('id="rgb_to_lab"') - 300:][:4000]
    row = "<td>rgb</td>", "<td>Tensor</td>", "<code>(B,3,H,W)</code> in [0, 1]"
    for part in ("blob/main/colorization/lab.py#L", *row, "<strong>Returns</strong>", "_matmul"):
        assert part in entry, part


def test_api_lists_public_names(pages):
    page = (SITE/"api.html").read_text(encoding="utf-8")
    study = "00_lab_preprocessing.html#rgb_to_lab", "02_quantization.html#decode", "04_finetune.html#finetune"
    for link in (*study, "tools/colorize.html#colorizer"): assert f'href="{link}"' in page, link


def test_every_page_links_to_the_repository_and_its_notebook(pages):
    repository = get_config().git_url
    for name, page in pages.items():
        notebook = f"nbs/{name.removesuffix('.html')}.ipynb"
        assert (ROOT/notebook).exists()
        assert {("a", repository), ("a", f"{repository}/blob/main/{notebook}")} <= set(page.links), name


def test_what_the_wings_export_is_folded(pages):
    wings = [html_of(name) for name in pages if re.match("(tools|training|jobs|core)/", name)]
    folds = [fold for html in wings for fold in re.findall(r'<details([^>]*) class="code-fold">', html)]
    assert len(folds) > 80 and not any(folds)


ORDER = [
    "index", "which_notebook", "0._.+", "reports/index", "reports/.+", "how_to", "symptoms", "glossary", "at_scale",
    "model_card", "package", "tools/.+", "training/.+", "jobs/.+", "core/.+", "api"]


def group_of(name):
    "Where in the order a page's group is."
    return next(i for i, kind in enumerate(ORDER) if re.fullmatch(kind, name.removesuffix(".html")))


def next_pages(name="index.html"):
    "The pages that the links to the next one lead through."
    while name:
        yield name
        found = re.search(r'<div class="nav-page nav-page-next"><a href="([^"]+)"', html_of(name))
        name = urlsplit(urljoin(f"/{name}", found[1])).path.lstrip("/") if found else None


def test_next_leads_from_the_study_to_the_wings(pages):
    "Each group after the one before it, its first page first, and no page left out."
    order = list(next_pages())
    assert sorted(order) == PAGES
    groups = list(map(group_of, order))
    assert groups == sorted(groups) and set(groups) == set(range(len(ORDER)))


def test_words_lead_to_the_glossary(pages):
    for name, word in [
        ("02_quantization.html", "bin"), ("04_finetune.html", "auc"), ("reports/index.html", "rebalanced-auc"),
        ("reports/study.html", "rebalancing"), ("reports/priors.html", "rebalanced-auc")]:
        links = [link for _, link in pages[name].links if link.endswith(f"glossary.html#{word}")]
        assert len(links) == 1, (name, word)


REPORTS = "results gamut temperature epochs baseline priors legacy pretrain refine ship benchmark".split()
ASKING = [*STUDY[1:6], *(f"reports/{name}" for name in REPORTS)]


@pytest.mark.parametrize("name", ASKING)
def test_pages_end_with_three_questions(pages, name):
    html = html_of(f"{name}.html")
    end = html[html.index('id="questions-to-try"'):]
    assert end.count("<summary>Answer</summary>") == end.count("<details>") == 3
    assert all("<pre" in answer for answer in FOLDED.findall(end))


@pytest.mark.parametrize("name, shown", [
    ("04_finetune", ["rebalanced_cross_entropy", "epoch.batches", "zero_grad"]),
    ("05_gan_refine", ["PatchDiscriminator", "frozen", "epoch.batches"])])
def test_the_study_shows_its_loops(pages, name, shown):
    text = re.sub(r"<[^>]+>", "", (SITE/f"{name}.html").read_text(encoding="utf-8"))
    for word in shown: assert word in text, word


def test_size(pages):
    assert sum(p.stat().st_size for p in SITE.rglob("*") if p.is_file()) <= 12.5e6


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="module")
def address(pages):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


READY = """
    const pictures = [...document.images].every(i => i.complete);
    return document.readyState == 'complete' && pictures && document.fonts.status == 'loaded'"""


def show(browser, address, width=1280, dark=False):
    "Open a page, wait until its pictures and equations are there."
    screen = dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    scheme = dict(name="prefers-color-scheme", value="dark" if dark else "light")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[scheme]))
    browser.get(address)
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(READY))


def requests(browser):
    "Addresses that the browser asked for since the last call."
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize("name", STUDY)
def test_study_opens(browser, address, name):
    browser.get_log("browser"), requests(browser)
    show(browser, f"{address}{name}.html")
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    asked = requests(browser)
    assert f"{address}{name}.html" in asked
    assert [url for url in asked if not url.startswith((address, "data:", "chrome:"))] == []
    assert browser.execute_script("return [...document.images].filter(i => !i.naturalWidth).length") == 0
    assert browser.execute_script("return document.images.length") > 0


@pytest.mark.parametrize("name", ["00_lab_preprocessing", "02_quantization", "04_finetune", "05_gan_refine"])
def test_equations_are_typeset(browser, address, name):
    show(browser, f"{address}{name}.html")
    def found(selector): return browser.execute_script(f"return document.querySelectorAll('{selector}').length")
    assert found(".katex-html") > 0
    assert found(".katex-error") == 0
    assert found(".math:not(:has(.katex))") == 0
    loaded = "return [...document.fonts].some(f => f.family == 'KaTeX_Math' && f.status == 'loaded')"
    assert browser.execute_script(loaded)


def test_search_finds_and_opens(browser, address):
    show(browser, f"{address}index.html")
    browser.find_element(By.CSS_SELECTOR, ".smalldocs-search input").send_keys("annealed mean")
    first = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".search-result"))[0]
    assert "annealed mean" in first.text
    first.click()
    WebDriverWait(browser, 30).until(lambda b: "/glossary.html#" in b.current_url)
    anchor = urlsplit(browser.current_url).fragment
    assert "annealed mean" in browser.find_element(By.ID, anchor).text


# What is cut off, or scrolls inside itself: anything but code and equations.
# A printed table may not be broken either, unless it is a program's help.
CUT = r"""
    const wide = e => e.scrollWidth > e.clientWidth + 1;
    const columns = e => e.textContent.split('\n').filter(line => /\S {2,}\S/.test(line));
    const isTable = e => !e.textContent.startsWith('usage:') && columns(e).length > 1;
    const name = e => `${e.tagName} ${e.className}: ${e.textContent.trim().slice(0, 60)}`;
    const elements = [...document.querySelectorAll('main *')].filter(e => !e.closest('div.sourceCode, .katex, .math'));
    const printed = elements.filter(e => e.matches('.cell-output pre') && isTable(e));
    printed.forEach(e => e.firstElementChild.style.whiteSpace = 'pre');
    const scrolling = elements.filter(e => wide(e) && getComputedStyle(e).overflowX != 'visible');
    const spilling = elements.filter(e => e.getBoundingClientRect().right > innerWidth + 1);
    const cut = [...new Set([...scrolling, ...spilling])];
    return cut.filter(e => !cut.some(outer => outer != e && outer.contains(e))).map(name)"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off(browser, address, name, width):
    show(browser, f"{address}{name}", width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    cut = browser.execute_script(CUT)
    assert not cut, "\n".join(cut)


# Code whose lines are longer than its box is wide
CUT_LINES = r"""
    const boxes = [...document.querySelectorAll('main pre')].filter(e => e.offsetParent);
    return boxes.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"""


def opened(browser):
    "All that is folded on a page is opened."
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")


@pytest.mark.parametrize("name", PAGES)
def test_lines_of_code_are_seen_whole(browser, address, name):
    show(browser, f"{address}{name}")
    opened(browser)
    assert browser.execute_script(CUT_LINES) == []


def test_a_cut_line_is_found(browser, address):
    "One of 121 columns, where 120 fit."
    show(browser, f"{address}00_lab_preprocessing.html")
    line = "const line = document.querySelector('pre.cell-code code'); line.textContent = 'x'.repeat(arguments[0])"
    for columns in (120, 140):
        browser.execute_script(line, columns)
        assert len(browser.execute_script(CUT_LINES)) == (columns > 120)


# The mean of red, green and blue
SHADE = r"""
    const colour = getComputedStyle(document.querySelector(arguments[0]))[arguments[1]];
    return [...colour.matchAll(/\d+/g)].slice(0, 3).reduce((sum, c) => sum + +c, 0)/3"""


def test_dark_mode_is_dark(browser, address):
    show(browser, f"{address}02_quantization.html", dark=True)
    background = browser.execute_script(SHADE, "body", "backgroundColor")
    assert background < 64
    for text in ("main p", "main pre code", "main p code", "main h2", ".sidebar-link"):
        assert browser.execute_script(SHADE, text, "color") > background + 80, text


# What a reader who knows nothing of the project looks for: two clicks from the front page, and what is then to be seen.
TWO_CLICKS = {
    "train on own photos": ("Recipes", "Fine-tune on your own photos", "papermill 04_finetune.ipynb"),
    "what AuC means": ("Glossary", "AuC", "Area under the curve"),
    "how good it is": ("Model card", "How it scores", "beside the rows gray"),
    "how to cite": ("Recipes", "Cite", "@software")}
SEEN = r"""
    const holds = e => e.textContent.includes(arguments[0]);
    const at = [...document.querySelectorAll('main p, main pre')].filter(holds).map(e => e.getBoundingClientRect().top);
    return at.some(top => top >= 0 && top < innerHeight)"""


@pytest.mark.parametrize("what", TWO_CLICKS)
def test_two_clicks_from_the_front_page(browser, address, what):
    show(browser, f"{address}index.html")
    *clicks, text = TWO_CLICKS[what]
    for click in clicks:
        link = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.LINK_TEXT, click))[0]
        link.click()
        WebDriverWait(browser, 30).until(lambda b: b.execute_script(READY))
    WebDriverWait(browser, 30).until(lambda b: b.execute_script(SEEN, text))
