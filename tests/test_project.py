"The project as a whole: the study's command, papermill's output among the sources, the package's contents."
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbdev.config import get_config
from PIL import Image
from skimage import data

import colorization
from colorization import ColorizationError
from colorization.cli import _parser, options_of

BIN = Path(sys.executable).parent
STUDY = ROOT/"nbs/04_finetune.ipynb"


def papermill(folder, *arguments):
    command = [BIN/"papermill", "--no-progress-bar", "-k", "python3", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.fixture
def clone(tmp_path):
    "A copy of the sources, without what the project's commands made."
    made = [line.rstrip("/").split("/")[-1] for line in (ROOT/".gitignore").read_text().splitlines()]
    ignore = shutil.ignore_patterns(".git", *made)
    shutil.copytree(ROOT, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=ignore)
    return tmp_path


def contents(folder):
    "The modules and the notebooks of the study."
    files = [*folder.rglob("*.py"), *folder.glob("nbs/*.ipynb")]
    return {p.relative_to(folder): p.read_bytes() for p in files}


def test_leftovers_of_papermill_are_no_sources(clone):
    "The notebook that it writes, with the parameters; `--prepare-only` doesn't run it."
    done = papermill(clone/"nbs", "04_finetune.ipynb", "out.ipynb", "--prepare-only", "-p", "epochs", "1")
    assert done.returncode == 0 and "epochs = 1" in (clone/"nbs/out.ipynb").read_text(), done.stderr[-2000:]
    before = contents(clone)
    (clone/".venv").mkdir()
    (clone/".venv/installed").touch()
    export = ["make", "-o", ".venv/installed", "export", f"BIN={BIN}"]
    subprocess.run(export, cwd=clone, check=True, capture_output=True)
    assert contents(clone) == before


def cells_from(notebook, tag):
    "The sources of a notebook's imports and exports, of the cell with a tag, and of the one after it."
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = next(i for i, cell in enumerate(cells) if tag in cell.metadata.get("tags", []))
    imports = [cell.source.replace("%config", "#") for cell in cells if "import" in cell.source][:2]
    module = cells[0].source.split()[-1]
    return [*imports, f"from colorization.{module} import *", *(cell.source for cell in cells[tagged:tagged + 2])]


@pytest.mark.parametrize("notebook", ["04_finetune", "05_gan_refine"])
@pytest.mark.parametrize("name, value, says", [
    ("epochs", 0, "epochs: must be a whole number, 1 or more, got 0"),
    ("epoch", 3, "epoch: is no parameter of this notebook; did you mean epochs?"),
    ("lr", -1, "lr: must be a number above 0, got -1"),
    ("model", "vgg", "model vgg: no such file"),
    ("dataset", "./nowhere", "dataset ./nowhere: no such folder"),
])
def test_bad_parameters_are_refused(notebook, name, value, says):
    "What papermill makes of a parameter is a cell after the tagged one: both are run here, and the cell after them."
    *imports, declared, check = cells_from(nbformat.read(ROOT/f"nbs/{notebook}.ipynb", 4), "parameters")
    injected = f"# Parameters\n{name} = {value!r}\n"
    names = dict(In=[declared, injected])
    for cell in (*imports, declared, injected): exec(cell, names)
    with pytest.raises(ColorizationError, match=f"^{re.escape(says)}"): exec(check, names)


def test_papermill_refuses_a_bad_parameter(tmp_path):
    "As it stands in the notebook of the study, without the lessons before it."
    *imports, declared, check = map(nbformat.v4.new_code_cell, cells_from(nbformat.read(STUDY, 4), "parameters"))
    declared.metadata.tags = ["parameters"]
    facts = dict(language_info=dict(name="python"))
    notebook = nbformat.v4.new_notebook(cells=[*imports, declared, check], metadata=facts)
    nbformat.write(notebook, tmp_path/"study.ipynb")
    done = papermill(tmp_path, "study.ipynb", "out.ipynb", "-p", "epoch", "3")
    says = "RunError: epoch: is no parameter of this notebook; did you mean epochs?"
    assert done.returncode == 1 and says in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path/"runs").exists()


@pytest.mark.parametrize("module", [
    f"colorization.core.{module.name}" for module in pkgutil.iter_modules([ROOT/"colorization/core"])])
def test_core_imports_without_torch(module, python):
    done = python(f"import sys, {module}; print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_the_face_of_the_package(python):
    done = python("import sys, colorization; print('torch' in sys.modules, *dir(colorization))")
    quick, *names = done.stdout.split()
    wanted = {"Colorizer", "OnnxColorizer", "load_model", "load_photos", "preprocess", "evaluate", "finetune", "refine"}
    errors = {name for name in names if name.endswith("Error")}
    assert quick == "False" and set(names) == wanted | errors | {"__version__"} and len(errors) == 11
    for name in wanted | errors: assert hasattr(colorization, name), name
    for name in wanted: assert "\nParameters:\n    " in getattr(colorization, name).__doc__, name
    assert not hasattr(colorization, "replacing")


PROSE = "\n".join(
    "".join(cell["source"]) for path in sorted((ROOT/"nbs").rglob("*.ipynb")) if not path.name.startswith(("_", "out"))
    for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("command", ["colorize photo.jpg", "evaluate", "export model.onnx", "demo", "report run"])
def test_every_option_stands_on_a_page(command):
    for name in options_of(_parser(command.split()).parse_args(command.split())):
        option = "--" + name.replace("_", "-")
        if name not in ("photos", "path", "names"): assert re.search(rf"{option}(?![\w-])", PROSE), option


def test_pages_leave_what_papermill_wrote_out_of_the_tests():
    assert "make benchmark BENCHMARK=" in PROSE
    commands = re.findall(r"^nbdev_test.*", (ROOT/"README.md").read_text(), re.M)
    assert commands and all("--skip_file_re '^([_.]|out)'" in command for command in commands)


def test_finetune_is_the_function_whatever_was_imported_before(python):
    module = "colorization.finetune"
    for first in ("import colorization", f"import {module}"):
        done = python(f"{first}; from colorization import finetune; print(finetune.__name__, callable(finetune))")
        assert done.stdout == "finetune True\n", done.stderr


HUB = """
import os, time
time.sleep = lambda seconds: None  # between the library's tries
os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:9'
from colorization.dataset import load_photos
load_photos('Elriggs/imagenet-50-subset')
"""


def test_hub_without_network(python):
    done = python(HUB)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "DatasetError: dataset Elriggs/imagenet-50-subset: " in last and "hub" in last


def test_wheel_and_sdist_hold_the_package(clone, tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, clone], check=True, capture_output=True)
    wheel, = out.glob("colorization_lab-*.whl")
    sdist, = out.glob("colorization_lab-*.tar.gz")
    def said(*command): return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = said(sys.executable, "-m", "zipfile", "-l", wheel)
    modules = [p.relative_to(ROOT).as_posix() for p in (ROOT/"colorization").rglob("*.py")]
    assert len(modules) > 25
    for module in modules: assert module in names
    carried = ["compact.safetensors", "compact.json", "imagenet_prior.txt", "py.typed"]
    for file in carried: assert f"colorization/{file}" in names
    for file in (*carried, "settings.ini"): assert file in said("tar", "tzf", sdist)


def test_citation_and_changelog_name_the_version():
    version = get_config().version
    assert f"\nversion: {version}\n" in (ROOT/"CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version} – " in (ROOT/"CHANGELOG.md").read_text(encoding="utf-8")


def test_python_in_the_readme(tmp_path, python):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT/"README.md").read_text(encoding="utf-8"), re.S)
    assert blocks
    Image.fromarray(data.coffee()).convert("L").save(tmp_path/"photo.jpg")
    for block in blocks:
        done = python(block)
        assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path/"coloured.png").size == (600, 400)
