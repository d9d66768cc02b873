"""Build the docs site. Usage: site.py KATEX OUT

nbdev processes the notebooks into _proc, smalldocs renders them, and what reading needs is put in beside them."""
import ast
import json
import re
import shutil
import sys
from base64 import b64decode
from hashlib import sha256
from importlib import import_module
from itertools import groupby
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


def shorten(text, most): return text if len(text) <= most else f"{text[:most - 1]}…"


def defaults_as_code(table):
    "A table of parameters whose defaults are code: their quotes stay straight. Long ones are cut; the source has them."
    if "Default" not in table: return table
    def row(line):
        cells = re.split(r"(?<!\\)\|", line)
        default = cells[3].strip() if len(cells) == 6 else ""
        if default.strip(" -") and "**" not in default: cells[3] = f" `{shorten(default, 30)}` "
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


def imports_alone(code):
    "Whether a cell does nothing but import."
    code = re.sub(r"(?m)^%.*$", "", code)
    try: statements = ast.parse(code).body
    except SyntaxError: return False
    return bool(statements) and all(isinstance(s, ast.Import | ast.ImportFrom) for s in statements)


def folded(code, study):
    "Exported source lies open in the study, which is about it; elsewhere it is folded, and so are imports everywhere."
    if imports_alone(code): return f'#| code-fold: true\n#| code-summary: "Imports"\n{code}'
    return FOLD.sub("" if study else r"#| code-fold: true\n\g<summary>", code)


def told(text):
    "What a run printed: a dict for each line of its table of epochs, the text of all others."
    names = []
    for line in text.splitlines():
        first, *cells = line.split() or [""]
        if first == "epoch" and cells[-1:] == ["seconds"]: names = cells
        elif re.fullmatch(r"\d+/\d+", first) and names and len(cells) == len(names):
            yield dict(epoch=first) | dict(zip(names, cells))
        else: yield line


def table_of(rows):
    "Epochs as a Markdown table."
    head = [name.replace("_", " ") for name in rows[0]]
    cells = [list(row.values()) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---:"]*len(head), *cells])


def printed(text):
    "Outputs that show what was printed, with the epochs of each run as a table, and warnings below it."
    lines = sorted(told(text), key=lambda line: ": warning: " in line)
    for names, group in groupby(lines, lambda line: isinstance(line, dict) and list(line)):
        if names: yield dict(output_type="display_data", metadata={}, data={"text/markdown": table_of(list(group))})
        else: yield dict(output_type="stream", name="stdout", text="\n".join(group))


def logs_as_tables(outputs):
    "Outputs of a cell, with tables in place of the logs of runs."
    for is_printed, group in groupby(outputs, lambda output: output.get("name") == "stdout"):
        if is_printed: yield from printed("".join(line for output in group for line in output["text"]))
        else: yield from group


def uncaptioned(prose):
    "Pictures in prose keep their alternative text, which smalldocs would print as a caption, for those who can't see."
    def picture(found):
        alt = found[1].replace('"', "&quot;")
        return f'![]({found[2]}){{fig-alt="{alt}"}}'
    return re.sub(r"!\[([^\]]+)\]\(([^)]+)\)", picture, prose)


def glossary_of(folder):
    "Each word of the glossary, and the anchor of its entry."
    cells = json.loads((folder/"glossary.ipynb").read_text(encoding="utf-8"))["cells"]
    headings = re.findall(r"(?m)^## (.+)$", "\n".join(map(source, cells)))
    return {word.lower(): slug(heading) for heading in headings for word in heading.split(", ")}


def slug(heading): return re.sub(r"[^\w-]+", "-", heading.lower()).strip("-")


# What of a page's prose holds no plain words: code, formulas, links, tags, headings, tables, the line below the title.
NO_WORDS = r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|^[#|>].*?$"


# The pages whose words are those of the glossary; elsewhere a standard error is where a program complains.
READ = re.compile(r"(?!glossary|api)\w+\.ipynb|reports/\w+\.ipynb|tools/metrics\.ipynb")


def link_words(cells, glossary, page):
    "The first use of a word on a page leads to its entry in the glossary."
    unused = dict(glossary)
    words = "|".join(sorted(map(re.escape, glossary), key=len, reverse=True))
    def linked(found):
        anchor = unused.get((found["word"] or "").lower())
        if not anchor: return found[0]
        for word in [word for word in unused if unused[word] == anchor]: del unused[word]
        return f"[{found[0]}]({page}#{anchor})"
    def link(prose): return re.sub(rf"{NO_WORDS}|\b(?P<word>{words})s?\b", linked, prose, flags=re.S | re.M | re.I)
    for cell in cells:
        if cell["cell_type"] == "markdown": cell["source"] = link(source(cell))
        if "show_doc(" in source(cell): continue
        for output in cell.get("outputs", []):
            told = output.get("data", {}).get("text/markdown")
            if told: output["data"]["text/markdown"] = link("".join(told))


def prepare_cell(cell, study):
    "smalldocs names a page after its notebook, and would warn of another name."
    text = source(cell)
    if cell["cell_type"] == "raw": cell["source"] = re.sub(r"(?m)^output-file: .*\n", "", text)
    if cell["cell_type"] == "markdown": cell["source"] = uncaptioned(text)
    if cell["cell_type"] != "code": return
    cell["source"] = folded(text, study)
    cell["outputs"] = list(logs_as_tables(cell["outputs"]))
    if not re.search(r"(?m)^show_doc\(", text): return
    for output in cell["outputs"]:
        entry = "".join(output["data"]["text/markdown"])
        output["data"]["text/markdown"] = parameter_table(entry)


def prepare(notebook, folder):
    "What nbdev leaves to Quarto."
    nb = json.loads(notebook.read_text(encoding="utf-8"))
    nb["cells"] = list(entries_first(nb["cells"]))
    study = bool(re.match(r"\d\d_", notebook.name))
    for cell in nb["cells"]: prepare_cell(cell, study)
    if READ.fullmatch(notebook.relative_to(folder).as_posix()):
        up = "" if notebook.parent == folder else "../"
        link_words(nb["cells"], glossary_of(folder), f"{up}glossary.ipynb")
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
    page.write_text(joined_spans(pictures_beside(page, text)), encoding="utf-8")


def joined_spans(text):
    "Neighbouring pieces of code of one colour in one element; operators have the colour of the text."
    def joined(found): return f'<span class="{found[1]}">' + re.sub("</?span[^>]*>", "", found[0]) + "</span>"
    text = re.sub(r'<span class="op">([^<]*)</span>', r"\1", text)
    return re.sub(r'<span class="(\w\w)">[^<]*</span>(?:<span class="\1">[^<]*</span>)+', joined, text)


def used_icons(site):
    "The style of the icons, of those alone that a page, a style or a script of the site names."
    path = site/"site_libs/bootstrap-icons/bootstrap-icons.min.css"
    style = re.sub(r',url\("[^"]*\.woff\?[^)]*\) format\("woff"\)', "", path.read_text())
    naming = [*site.rglob("*.html"), *site.glob("site_libs/smalldocs.*")]
    used = set(re.findall(r"\bbi-([\w-]+)", "".join(p.read_text(encoding="utf-8") for p in naming)))
    def kept(found): return found[0] if found[1] in used else ""
    path.write_text(re.sub(r"\.bi-([\w-]+)::before\{content:[^}]*\}", kept, style))


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
    used_icons(site)


def main(katex, out):
    config, out = get_config(), Path(out)
    processed = proc_nbs(force=True, skip_file_re=r"^([_.]|out)", skip_folder_re=r"^([_.]|runs$)")
    for notebook in processed.rglob("*.ipynb"): prepare(notebook, processed)
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
