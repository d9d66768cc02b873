"Colouring by an exported model, in processes that find no package but the few it needs."
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from skimage import data

from colorization.colorize import Colorizer
from colorization.onnx import export_onnx

BARE = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions
NEEDED = "numpy PIL tqdm psutil onnxruntime flatbuffers packaging google colorization".split()
LARGE = "torch torchvision skimage scipy matplotlib datasets accelerate safetensors huggingface_hub onnx".split()
without = sys.argv.pop(1).split()
MISSING = set(packages_distributions()) - (set(NEEDED) - set(without))
assert set(LARGE) <= MISSING

class Bare(MetaPathFinder):
    def find_spec(self, name, *more):
        if name.partition(".")[0] in MISSING: raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Bare())
from colorization.cli import main
sys.exit(main())
"""
ALL = """
import sys
from colorization.cli import main
code = main()
print([m for m in ("torch", "scipy", "matplotlib") if m in sys.modules], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")/"model.onnx"
    export_onnx("compact", path)
    return path


@pytest.fixture
def photo(tmp_path):
    exif = Image.Exif()
    exif[0x010f] = "Maker"
    Image.fromarray(data.chelsea()).convert("L").save(tmp_path/"photo.jpg", exif=exif)
    return tmp_path/"photo.jpg"


def python(folder, *arguments, **kw):
    "Run Python in a folder; gives the finished process."
    command, env = [sys.executable, *map(str, arguments)], os.environ | dict(PYTHONPATH=str(ROOT))
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=300, **kw)


def run(folder, *arguments, without="", **kw):
    "The command line where few packages are there."
    return python(folder, "-c", BARE, without, *arguments, **kw)


def lines(done): return done.stderr.decode().splitlines()


def off(picture, expected): return np.abs(np.asarray(picture).astype(int) - np.asarray(expected)).max()


@pytest.mark.parametrize("options", [{}, dict(saturation=1.5), dict(size=97)], ids=str)
def test_the_picture_is_that_of_pytorch(tmp_path, model, photo, options):
    arguments = [f"--{dict(size='run-size').get(name, name)}={value}" for name, value in options.items()]
    done = run(tmp_path, "colorize", photo, "-o", "coloured.png", "--model", model, *arguments)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert lines(done)[0].startswith("1 coloured, 0 already there, 0 failed")
    coloured = Image.open(tmp_path/"coloured.png")
    assert off(coloured, Colorizer("compact", device="cpu", precision="fp32", **options)(photo)) <= 1
    assert np.ptp(np.asarray(coloured).astype(int), axis=2).max() > 20 and coloured.getexif()[0x010f] == "Maker"


def test_folder_record_and_damaged_file(tmp_path, model, photo):
    (tmp_path/"in").mkdir()
    for name in ("a.jpg", "b.bmp"): Image.open(photo).save(tmp_path/"in"/name)
    (tmp_path/"in/c.png").write_bytes(b"not a photo")
    for expected in ("2 coloured, 0 already there, 1 failed", "0 coloured, 2 already there, 1 failed"):
        done = run(tmp_path, "colorize", "in", "-o", "out", "--model", model)
        assert done.returncode == 1 and lines(done)[-1].startswith(expected)
        assert lines(done)[-2] == "colorization: in/c.png: not an image, or of a kind that Pillow can't read"
    assert {p.name for p in (tmp_path/"out").iterdir()} == {"a.jpg", "b.png", ".colorization.jsonl"}
    record = (tmp_path/"out/.colorization.jsonl").read_text().split("\n")
    made = [json.loads(line)["options"]["model"] for line in record if line]
    assert len(made) == 2 and made[0].startswith(f"{model} (")
    done = run(tmp_path, "colorize", "in", "-o", "out", "--model", model, "--saturation", 2)
    assert done.returncode == 2 and "saturation was 1.0, is 2.0" in lines(done)[0]


def test_pipes(tmp_path, model, photo):
    done = run(tmp_path, "colorize", "-", "-o", "-", "--model", model, "--format", "png", input=photo.read_bytes())
    (tmp_path/"piped.png").write_bytes(done.stdout)
    assert off(Image.open(tmp_path/"piped.png"), Colorizer("compact", device="cpu", precision="fp32")(photo)) <= 1


@pytest.mark.parametrize("arguments, without, says", [
    ("", "", "the package torch is missing"),
    ("--model cut.onnx", "", "model cut.onnx: is no whole ONNX file"),
    ("--model nowhere.onnx", "", "model nowhere.onnx: no such file"),
    ("--model m.onnx", "onnxruntime", "model m.onnx: needs the package onnxruntime; pip install onnxruntime"),
    ("--model m.onnx --temperature 0.5", "", "temperature: is part of an ONNX file, got 0.5; leave it out"),
    ("--model m.onnx --device cuda", "", "device: an ONNX file runs on the CPU, got 'cuda'; leave it out"),
    ("--model m.onnx --precision bf16", "", "precision: an ONNX file computes in fp32, got 'bf16'; leave it out"),
    ("--model m.onnx --run-size 5", "", "--run-size: must be a whole number, 32 or more"),
])
def test_refusals(tmp_path, model, photo, arguments, without, says):
    (tmp_path/"m.onnx").symlink_to(model)
    (tmp_path/"cut.onnx").write_bytes(model.read_bytes()[:1000])
    done = run(tmp_path, "colorize", "photo.jpg", "-o", "coloured.png", *arguments.split(), without=without)
    assert (done.returncode, done.stdout, len(lines(done))) == (2, b"", 1), done.stderr.decode()[-1000:]
    assert says in lines(done)[0]
    assert not (tmp_path/"coloured.png").exists()


@pytest.mark.parametrize("command", [
    "evaluate", "finetune", "refine", "export x.onnx", "models", "info", "demo", "report run"])
def test_commands_that_need_more_say_what(tmp_path, command):
    done = run(tmp_path, *command.split())
    assert done.returncode == 2 and len(lines(done)) == 1
    assert " is missing; in a clone of this project: pip install " in lines(done)[0]
    assert not os.listdir(tmp_path)


def test_pytorch_stays_unloaded_where_it_is_installed(tmp_path, model, photo):
    def modules(*more):
        done = python(tmp_path, "-c", ALL, "colorize", photo, "-o", "coloured.png", *more, check=True)
        return lines(done)[-1]
    assert modules("--model", model) == "[]"
    assert modules("--overwrite") == "['torch']"


def test_other_commands_refuse_an_exported_model(tmp_path, model):
    done = python(tmp_path, "-m", "colorization", "evaluate", "--model", model)
    assert done.returncode == 2 and len(lines(done)) == 1
    assert "is an ONNX file, which can only colour photos" in lines(done)[0]
