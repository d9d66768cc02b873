"Jobs on a Ray cluster of two nodes, one of which is lost; needs the extra `cluster`."
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from skimage import data

from colorization.eccv16 import ECCV16, save_model

pytestmark = pytest.mark.ray

PROGRAM = [sys.executable, "-c", "import sys; from colorization.cli import main; sys.exit(main())"]
ENV = os.environ | dict(PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0")
DAMAGE = [lambda b: b[:len(b)//2], lambda b: b"", lambda b: b"not a photo", lambda b: b[:100], lambda b: bytes(len(b))]
NODE = dict(num_cpus=1, object_store_memory=100*2**20)


def start(folder, *arguments, **env):
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], cwd=folder, env=ENV | env, **pipes)


def run(folder, *arguments, **env):
    "Exit code, standard output, and the lines of standard error that are the program's own."
    process = start(folder, *arguments, **env)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, [line for line in stderr.splitlines() if "RAY_BACKEND_LOG_LEVEL" not in line]


def results(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*.jpg") if not p.name.startswith(".")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A small model, 500 crops of 64 pixels, and 20 of them damaged."
    folder, rng = tmp_path_factory.mktemp("cluster"), np.random.default_rng(0)
    photos = [data.astronaut(), data.chelsea(), data.coffee()]
    save_model(ECCV16(0.05, size=32), folder/"model.safetensors")
    for i in range(500):
        path, photo = folder/f"photos/{i%3}/{i:03d}.jpg", photos[i%3]
        path.parent.mkdir(parents=True, exist_ok=True)
        y, x = (int(rng.integers(0, side - 64)) for side in photo.shape[:2])
        Image.fromarray(photo[y:y + 64, x:x + 64]).save(path)
        if i % 25 == 7: path.write_bytes(DAMAGE[i//25 % 5](path.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def cluster():
    "A cluster with one node."
    from ray.cluster_utils import Cluster
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENV.items(): patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        yield cluster
        cluster.shutdown()


def test_a_node_is_lost_and_nothing_with_it(folder, cluster):
    code, _, here = run(folder, "colorize", "photos", "-o", "here", "--model", "model.safetensors")
    assert code == 1 and here[-1].startswith("480 coloured, 0 already there, 20 failed; ")

    command = ("colorize", "photos", "-o", "out", "--model", "model.safetensors", "--engine", "ray")
    node = cluster.add_node(**NODE)
    job, deadline = start(folder, *command, RAY_ADDRESS=cluster.address), time.time() + 200
    while len(list((folder/"out").rglob("[0-9]*.jpg"))) < 240:
        assert job.poll() is None and time.time() < deadline, job.communicate()
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    assert job.poll() is None
    _, stderr = job.communicate(timeout=300)
    assert job.returncode == 1 and "\n480 coloured, 0 already there, 20 failed; " in stderr, stderr
    assert results(folder/"out") == results(folder/"here") and len(results(folder/"here")) == 480
    header, *failures = (folder/"out/failures.csv").read_text().splitlines()
    assert header == '"photo","problem"'
    problems = sorted(failure.split('","')[1].rstrip('"') for failure in failures)
    assert problems == sorted(line.removeprefix("colorization: ") for line in here[:-1])
    assert sorted(p.name for p in (folder/"out").rglob(".*")) == [".colorization.jsonl"]

    times = {p: p.stat().st_mtime_ns for p in (folder/"out").rglob("*.jpg")}
    for name in ("0/000.jpg", "1/001.jpg"): (folder/"out"/name).unlink()
    code, _, again = run(folder, *command, RAY_ADDRESS=cluster.address)
    assert code == 1 and again[-1].startswith("2 coloured, 478 already there, 20 failed; ")
    assert results(folder/"out") == results(folder/"here")
    assert sum(p.stat().st_mtime_ns != t for p, t in times.items()) == 2


def test_pages_and_truncated_photos(folder, cluster, tmp_path):
    "As on one machine: all pages, and what is there of a photo whose end is missing."
    photo = Image.fromarray(data.coffee())
    photo.save(tmp_path/"scan.tif", save_all=True, append_images=[photo.resize((80, 60)), photo.convert("L")])
    photo.save(tmp_path/"cut.jpg")
    (tmp_path/"cut.jpg").write_bytes((tmp_path/"cut.jpg").read_bytes()[:9000])
    command = ("colorize", "scan.tif", "cut.jpg", "--model", folder/"model.safetensors", "--pages", "all",
               "--tolerate-truncated")
    for more in (("-o", "here"), ("-o", "out", "--engine", "ray")):
        code, _, lines = run(tmp_path, *command, *more, RAY_ADDRESS=cluster.address)
        assert code == 0 and lines[-1].startswith("2 coloured, 0 already there, 0 failed"), lines
    for name in ("scan.tif", "cut.jpg"):
        assert (tmp_path/"out"/name).read_bytes() == (tmp_path/"here"/name).read_bytes()
    assert Image.open(tmp_path/"out/scan.tif").n_frames == 3
    code, _, lines = run(tmp_path, *command[:5], "-o", "out", "--engine", "ray", RAY_ADDRESS=cluster.address)
    assert code == 2 and "(pages was all, is largest)" in lines[0]


def test_scores_are_those_of_one_machine(folder, cluster):
    options = ("evaluate", "--score-size", 64, "--batch-size", 2)
    def scores(*engine): return json.loads(run(folder, *options, *engine, RAY_ADDRESS=cluster.address)[1])
    plain, ray = scores(), scores("--engine", "ray")
    for name, row in plain["rows"].items():
        for part in ("pooled", "image_mean"):
            assert ray["rows"][name][part] == pytest.approx(row[part], rel=0, abs=1e-9)
    assert ray["protocol"] == plain["protocol"] and ray["protocol"]["photos"] > 10


@pytest.mark.parametrize("output, address, says", [
    ("new", "127.0.0.1:9", "RAY_ADDRESS 127.0.0.1:9: no Ray cluster answers there ("),
    ("new", "nonsense", "RAY_ADDRESS nonsense: no Ray cluster answers there ("),
    ("nowhere://bucket", "127.0.0.1:9", "output nowhere://bucket: can't be reached ("),
    ("file:///proc/new", "127.0.0.1:9", "output /proc/new: can't be written ("),
    ("here", "127.0.0.1:9", "output here: is the folder of the photos"),
])
def test_what_cant_be_used_is_refused_in_one_line(tmp_path, output, address, says):
    (tmp_path/"here").mkdir()
    Image.fromarray(data.coffee()[:64, :64]).save(tmp_path/"here/a.png")
    begun = time.time()
    code, _, lines = run(tmp_path, "colorize", "here", "-o", output, "--engine", "ray", RAY_ADDRESS=address)
    assert code == 2 and len(lines) == 1 and says in lines[0], lines
    assert time.time() - begun < 60
