"""Build the docs site. Usage: site.py KATEX OUT

nbdev processes the notebooks into _proc, smalldocs renders them, and what reading needs is put in beside them."""
import json
import re
import shutil
import sys
from base64 import b64decode
from hashlib import sha256
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from fastcore.docments import DocmentTbl
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from smalldocs.config import BuildError, ConfigError
from smalldocs.site import build

CDN = re.compile(r"https://cdn\.jsdelivr\.net/npm/katex@[^/]+/dist")
WEB_FONT = re.compile(r"@import url\([^)]*\);?")


def source(cell): return "".join(cell["source"])


def defaults_as_code(table):
    "A table of parameters whose defaults are code: their quotes stay straight, and long ones may be broken."
    if "Default" not in table: return table
    def row(line):
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) == 6 and cells[3].strip(" -") and "**" not in cells[3]: cells[3] = f" `{cells[3].strip()}` "
        return "|".join(cells)
    return "\n".join(map(row, table.splitlines()))


def parameter_table(entry):
    """nbdev's entry of a function, with a table of its parameters instead of a signature.

    The whole source stands right below."""
    found = re.search(r"/blob/main/colorization/([\w/]+)\.py#L.*?^### ([\w.]+)$", entry, flags=re.S | re.M)
    if not found: return entry
    module = import_module(f"colorization.{found[1].replace('/', '.')}")
    function = attrgetter(found[2])(module)
    table = defaults_as_code(str(DocmentTbl(function)))
    return re.sub(r"```python\n.*?```", lambda _: table, entry, count=1, flags=re.S)


def entries_first(cells):
    "The entries of what a cell defines in front of it, in its order; nbdev scatters them around it."
    entries = {found[1]: cell for cell in cells if (found := re.search(r"(?m)^show_doc\((\w+)\)", source(cell)))}
    def entries_of(cell):
        if "Exported source" not in source(cell): return []
        names = re.findall(r"(?m)^(?:def|class) (\w+)", source(cell))
        return [entries[name] for name in names if name in entries]
    moved = [entry for cell in cells for entry in entries_of(cell)]
    for cell in cells:
        yield from entries_of(cell)
        if not any(cell is entry for entry in moved): yield cell


FOLD = re.compile(r"#\| code-fold: show\n(?P<summary>#\| code-summary: .*\n)")


def prepare_cell(cell, study):
    """Exported source lies open in the study, which is about it; elsewhere it is folded.

    smalldocs names a page after its notebook, and would warn of another name."""
    text = source(cell)
    if cell["cell_type"] == "raw": cell["source"] = re.sub(r"(?m)^output-file: .*\n", "", text)
    folded = "" if study else r"#| code-fold: true\n\g<summary>"
    if cell["cell_type"] == "code": cell["source"] = FOLD.sub(folded, text)
    if not re.search(r"(?m)^show_doc\(", text): return
    for output in cell["outputs"]:
        entry = "".join(output["data"]["text/markdown"])
        output["data"]["text/markdown"] = parameter_table(entry)


def prepare(notebook):
    "What nbdev leaves to Quarto."
    nb = json.loads(notebook.read_text(encoding="utf-8"))
    nb["cells"] = list(entries_first(nb["cells"]))
    study = bool(re.match(r"\d\d_", notebook.name))
    for cell in nb["cells"]: prepare_cell(cell, study)
    notebook.write_text(json.dumps(nb, ensure_ascii=False, indent=1), encoding="utf-8")


def pictures_beside(page, text):
    "The pictures of a page become files in a folder beside it: text takes a third more room."
    folder = page.with_suffix("")
    def moved(found):
        content = b64decode(found[2])
        name = f"{sha256(content).hexdigest()[:16]}.{found[1]}"
        folder.mkdir(exist_ok=True)
        (folder/name).write_bytes(content)
        return f'src="{folder.name}/{name}"'
    return re.sub(r'src="data:image/(png|jpeg);base64,([^"]+)"', moved, text)


def localize(page, site, host, pages):
    "Links to the published site and to KaTeX's network address become links inside this site."
    up = "../"*len(page.relative_to(site).parts[:-1])
    text = page.read_text(encoding="utf-8")
    text = CDN.sub(f"{up}site_libs/katex", text)
    text = re.sub(rf'href="{re.escape(host)}([^"#]*)', lambda m: f'href="{up}{pages.get(m[1], m[1])}', text)
    page.write_text(pictures_beside(page, text), encoding="utf-8")


def without_network(site, katex):
    "KaTeX's files inside the site, themes without web fonts, and icons without a second format of their font."
    ignore = shutil.ignore_patterns(
        "*.mjs", "katex.js", "katex.css", "katex-swap*", "*.ttf", "*.woff", "README.md",
        "auto-render.js", "copy-tex*", "mathtex*", "mhchem*", "render-a11y*")
    shutil.copytree(katex, site/"site_libs/katex", ignore=ignore)
    for theme in site.glob("site_libs/themes/*.css"):
        style = theme.read_text(encoding="utf-8")
        theme.write_text(WEB_FONT.sub("", style), encoding="utf-8")
    for font in site.rglob("bootstrap-icons.woff"): font.unlink()
    icons = site/"site_libs/bootstrap-icons/bootstrap-icons.min.css"
    icons.write_text(re.sub(r',url\("[^"]*\.woff\?[^)]*\) format\("woff"\)', "", icons.read_text()))


def main(katex, out):
    config, out = get_config(), Path(out)
    processed = proc_nbs(force=True, skip_file_re=r"^([_.]|out)", skip_folder_re=r"^([_.]|runs$)")
    for notebook in processed.rglob("*.ipynb"): prepare(notebook)
    site = build(processed, quiet=True)
    if site.warnings: sys.exit("\n".join(f"warning: {w}" for w in site.warnings))
    without_network(site.out, katex)
    numbered = [p.relative_to(site.out).as_posix() for p in site.out.rglob("*.html")]
    pages = {re.sub(r"(^|/)\d\d_", r"\1", p): p for p in numbered}
    host = f"{config.doc_host}{config.doc_baseurl}/"
    for page in site.out.rglob("*.html"): localize(page, site.out, host, pages)
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(site.out, out)
    print(f"site: {out}/index.html")


if __name__ == "__main__":
    try: main(Path(sys.argv[1]), sys.argv[2])
    except (BuildError, ConfigError) as e: sys.exit(f"site: {e}")
