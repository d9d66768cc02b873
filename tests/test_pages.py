"The pages of the site: every block of Python on them runs as it stands, one after another, in a folder with photos."
import ast
import io
import re
import shutil
import warnings
from contextlib import chdir, redirect_stdout

import matplotlib.pyplot as plt
import nbformat
import pytest
from conftest import ROOT
from execnb.nbio import read_nb
from matplotlib.figure import Figure
from nbdev.process import extract_directives
from nbdev.processors import _do_eval
from papermill import execute_notebook, inspect_notebook
from PIL import Image
from skimage import data

from colorization import finetune

NBS = ROOT/"nbs"
PAGES = [page for page in sorted(NBS.rglob("*.ipynb"))
         if not page.name.startswith((".", "_", "out")) and "runs" not in page.parts]


def blocks(page, kind="python"):
    "The fenced blocks of one kind in a page's prose."
    lines, found = None, []
    prose = "\n".join(cell.source for cell in nbformat.read(page, 4).cells if cell.cell_type == "markdown")
    for line in prose.splitlines():
        if lines is None and line.startswith("```"): opened, lines = line, []
        elif lines is not None and line == "```":
            if opened == f"```{kind}": found.append("\n".join(lines))
            lines = None
        elif lines is not None: lines.append(line)
    return found


def name(page): return page.relative_to(NBS).with_suffix("").as_posix()


def fill(folder, photos):
    "Small photos, each another part of the same one."
    folder.mkdir()
    whole = Image.fromarray(data.coffee())
    for i in range(photos): whole.crop((20*i, 0, 20*i + 96, 64)).save(folder/f"{folder.name}-{i}.jpg")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    "What the pages speak of: photos, and a run that was begun."
    folder = tmp_path_factory.mktemp("prepared")
    for photo in ("photo.jpg", "scan.tif"): Image.fromarray(data.coffee()).save(folder/photo)
    for photos in ("photos", "my-photos"): fill(folder/photos, 20)
    fill(folder/"holiday", 2)
    with chdir(folder): finetune(dataset="photos", epochs=1, run_dir="runs/mine")
    return folder


NEEDS = re.compile("# needs (the network|a GPU|Ray|a port)")
WITH_PYTHON = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_blocks_run_as_they_stand(page, prepared, tmp_path, monkeypatch):
    "Those that need a network, a cluster or the like say so in their first line, and are only compiled."
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = dict(__name__="__main__")
    for i, block in enumerate(blocks(page)):
        program = compile(block, f"{name(page)}, block {i + 1}", "exec")
        if not NEEDS.match(block): exec(program, names)


def test_the_pages_are_found():
    assert len(WITH_PYTHON) > 15 and NBS/"training/run.ipynb" in WITH_PYTHON


def commands(page):
    "The calls of papermill on a page: the notebook, and its parameters."
    lines = "\n".join([*blocks(page, ""), *blocks(page, "sh")]).splitlines()
    for line in lines:
        words = line.split()
        if words[:1] == ["papermill"]: yield words[1], dict(zip(words[4::3], words[5::3]))


COMMANDS = [(page, *command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("page, notebook, given", COMMANDS, ids=lambda part: name(part) if part in PAGES else "")
def test_commands_name_what_is_there(page, notebook, given):
    "Notebooks and parameters; and the runs of the study, which its commands make in `nbs/runs`."
    folder = page.parent
    declared = inspect_notebook(str(folder/notebook))
    assert set(given) <= set(declared)
    for value in ",".join(given.values()).split(","):
        if re.search("runs/(study|refine)$", value): assert (folder/value).resolve().parent == NBS/"runs"


def test_the_commands_are_found(): assert len(COMMANDS) > 8


def test_ablation_of_fewer_photos_than_its_limits(prepared, tmp_path):
    "Then the photos are taken as they are, and nothing but the report makes its folder."
    small = dict(dataset=str(prepared/"photos"), size=32, lrs=[1e-4], epochs=[1, 1], folder=str(tmp_path/"new"))
    how = dict(kernel_name="python3", progress_bar=False)
    execute_notebook(NBS/"reports/ablation.ipynb", tmp_path/"out.ipynb", small, **how)
    assert (tmp_path/"new/ablation.json").stat().st_size


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_imports_stand_in_cells_of_their_own(page):
    "nbdev runs them for the site, and warns, where nobody looks, of what it doesn't run with them."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cell in read_nb(page).cells:
            if cell.cell_type != "code": continue
            cell.directives_ = extract_directives(cell, remove=True)
            _do_eval(cell)


def test_plain_commands_leave_out_what_papermill_wrote():
    plain = [line for page in PAGES for line in "\n".join(blocks(page, "sh")).splitlines() if "nbdev_test" in line]
    assert plain and all("--path" in line or "|out)" in line for line in plain)


ROUNDED = re.compile(r"\d(\.\d+)?e-\d+")  # errors of rounding, which differ between processors


def said_by(source, names):
    "What a cell prints, and the text of the value that it ends with."
    *body, last = ast.parse(source).body
    ends_with_value = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    if not ends_with_value: body.append(last)
    with redirect_stdout(io.StringIO()) as out:
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if ends_with_value else None
    return out.getvalue() + ("" if value is None or isinstance(value, Figure) else repr(value))


def kept(cell):
    "The text among a cell's committed outputs, without what stands for a picture."
    texts = [part.text if "text" in part else part.data["text/plain"] for part in cell.outputs
             if "text" in part or not part.data.keys() & {"image/png", "image/jpeg", "text/markdown"}]
    return "".join(texts)


@pytest.mark.parametrize("notebook", ["00_lab_preprocessing", "01_dataset", "02_quantization"])
def test_committed_outputs_are_what_the_cells_say(notebook):
    "Of the cells that are shown, in the notebooks whose cells are quick."
    names, differences = dict(__name__="__main__"), []
    for cell in nbformat.read(NBS/f"{notebook}.ipynb", 4).cells:
        source = re.sub("^%", "#", cell.source, flags=re.M)
        hidden = "#| hide" in source and not re.search("^(from|import) ", source, re.M)
        if cell.cell_type != "code" or hidden or "#| eval: false" in source or not ast.parse(source).body: continue
        found, committed = (ROUNDED.sub("…", text).strip() for text in (said_by(source, names), kept(cell)))
        if found != committed: differences.append((cell.id, found, committed))
        plt.close("all")
    assert not differences
