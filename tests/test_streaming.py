"Runs on photos that are streamed, and on photos that are damaged while it goes on."
import inspect
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT
from datasets import Dataset
from PIL import Image
from test_runs import in_processes, losses, timeless

from colorization.core.checks import DatasetError, RunError
from colorization.dataset import load_photos
from colorization.eccv16 import ECCV16
from colorization.finetune import finetune
from colorization.gan_refine import refine
from colorization.training.photos import first_photo, photo_pairs, validation_batches
from colorization.training.run import read_losses, run_state
from colorization.training.streaming import stream_photos

SETTINGS = dict(size=32, batch_size=5, lr=1e-3, epochs=3, streaming=True)


@pytest.fixture
def photos(tmp_path):
    "Forty-four photos in four files of parquet that hold different numbers of them, and seven to validate on."
    table = load_photos("samples", "train")
    folder = tmp_path/"photos"
    folder.mkdir()
    for i, rows in enumerate([range(0, 14), range(14, 25), range(25, 34), range(34, 44)]):
        table.select([9*row for row in rows]).to_parquet(folder/f"train-{i:05d}-of-00004.parquet")
    table.select(range(400, 407)).to_parquet(folder/"validation-00000-of-00001.parquet")
    return folder


@pytest.fixture
def at_step(monkeypatch):
    "Have something happen before a step."
    module = inspect.getmodule(finetune)
    def do(step, event):
        steps, usual = count(1), module.colour_loss
        def colour_loss(*args):
            if torch.is_grad_enabled() and next(steps) == step: event()
            return usual(*args)
        monkeypatch.setattr(module, "colour_loss", colour_loss)
    return do


def same(a, b):
    "Whether two runs have the same losses and ended in the same state."
    if timeless(a) != timeless(b): return False
    a, b = run_state(a), run_state(b)
    return a.keys() == b.keys() and all(tensor.equal(b[name]) for name, tensor in a.items())


def interrupt(): signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_stream_goes_on_exactly(photos, tmp_path, at_step, workers):
    finetune(dataset=str(photos), **SETTINGS, run_dir=str(tmp_path/"whole"))
    at_step(13, interrupt)
    settings = SETTINGS | dict(dataset=str(photos), workers=workers, run_dir=str(tmp_path/"broken"))
    with pytest.raises(KeyboardInterrupt): finetune(**settings)
    assert len(read_losses(tmp_path/"broken")) == 1
    counted = (tmp_path/"broken/bins.json").stat().st_mtime_ns
    finetune(**settings)
    assert (tmp_path/"broken/bins.json").stat().st_mtime_ns == counted
    assert same(tmp_path/"whole", tmp_path/"broken")


def test_refinement_streams(photos, tmp_path):
    settings = SETTINGS | dict(dataset=str(photos), run_dir=str(tmp_path/"run"))
    refine(**settings | dict(epochs=1))
    assert refine(**settings | dict(epochs=2)).epoch == 2


def test_validation_is_that_of_a_table(photos):
    network = ECCV16(width=0.1, size=32).eval()
    def loss(l_norm, ab_norm): return (network.colours(network(l_norm), (32, 32))/110 - ab_norm).abs().mean()
    @torch.no_grad()
    def measured(table):
        batches = validation_batches(Accelerator(cpu=True), photo_pairs(table, 32), batch_size=4)
        return [loss(l_norm, ab_norm).item() for l_norm, ab_norm in batches]


    streamed, loaded = stream_photos(str(photos), "validation"), load_photos(str(photos), "validation")
    assert measured(streamed) == measured(loaded)
    assert (first_photo(streamed) == first_photo(loaded)).all()


def test_other_files_are_another_stream(photos, tmp_path):
    settings = SETTINGS | dict(dataset=str(photos), run_dir=str(tmp_path/"run"))
    finetune(**settings | dict(epochs=1))
    with pytest.raises(RunError, match="streaming was True, is False"): finetune(**settings | dict(streaming=False))
    (photos/"train-00003-of-00004.parquet").unlink()
    with pytest.raises(RunError, match="photos of train was"): finetune(**settings)


TRAIN = """
from colorization.finetune import finetune
finetune(dataset=%r, size=32, lr=5e-6, epochs=2, batch_size=%d, streaming=True, run_dir=%r)
"""


@pytest.mark.parametrize("files", [4, 3])
def test_two_processes_stream_what_one_does(photos, tmp_path, files):
    """Two processes learn what one does.

    Three files can't be shared out, so their photos are in turn: then both see the same, batch by batch."""
    for i in range(files, 4): (photos/f"train-{i:05d}-of-00004.parquet").unlink()
    for processes, run in ((1, "one"), (2, "two")):
        in_processes(tmp_path, processes, TRAIN % (str(photos), 4//processes, run))
    one, two = (sum(losses(tmp_path/run), ()) for run in ("one", "two"))
    assert len(two) == 4
    assert two == pytest.approx(one, abs=1e-4 if files == 3 else 0.5)


def thumbnail(png):
    f = io.BytesIO()
    Image.open(io.BytesIO(png)).resize((32, 32)).save(f, "PNG")
    return f.getvalue()


def image_folder(folder, n):
    for i, row in enumerate(load_photos("samples", "train").select(range(n))):
        (folder/"train").mkdir(parents=True, exist_ok=True)
        row["image"].save(folder/f"train/{i:03d}.png")
    shutil.copytree(folder/"train", folder/"validation")


@pytest.mark.parametrize("streaming", [False, True])
def test_damage_in_mid_run(tmp_path, at_step, capsys, streaming):
    image_folder(tmp_path/"photos", 120)
    settings = dict(dataset=str(tmp_path/"photos"), size=32, batch_size=8, epochs=2, workers=2, streaming=streaming)
    train = tmp_path/"photos/train"
    def damage():
        (train/"003.png").unlink(missing_ok=True)
        (train/"060.png").write_bytes(b"broken")
    at_step(2, damage)
    finetune(**settings, run_dir=str(tmp_path/"run"))
    unreadable = set((tmp_path/"run/unreadable.txt").read_text().splitlines())
    assert {line.split(":")[0] for line in unreadable} == {"003.png", "060.png"}
    passed_over = "epoch 2/2: passed over 2 unreadable of 240 photos: "
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(passed_over)]
    assert len(said) == 1 and "003.png: no such file" in said[0]


def test_damaged_stream_goes_on_exactly(photos, tmp_path, at_step):
    "Damage is met at the same place again, whatever happens between."
    table = load_photos("samples", "train").select(range(200)).to_list()
    features = load_photos("samples", "train").features
    def write(): Dataset.from_list(table, features=features).to_parquet(photos/"train-00000-of-00004.parquet")
    for i in (7, 8, 120): table[i]["image"]["bytes"] = b"broken"
    write()
    settings = SETTINGS | dict(dataset=str(photos), epochs=2)
    too_many = "more than 1 % of the photos can't be read, so the run stops .passed over 3 unreadable of 237 photos: "
    with pytest.raises(RunError, match=too_many): finetune(**settings, run_dir=str(tmp_path/"refused"))
    table[120]["image"]["bytes"] = table[121]["image"]["bytes"]
    write()
    finetune(**settings, run_dir=str(tmp_path/"whole"))
    at_step(60, interrupt)
    with pytest.raises(KeyboardInterrupt): finetune(**settings, run_dir=str(tmp_path/"broken"))
    finetune(**settings, run_dir=str(tmp_path/"broken"))
    assert same(tmp_path/"whole", tmp_path/"broken")


def test_all_photos_vanish(tmp_path, at_step):
    photos, run = tmp_path/"photos", tmp_path/"run"
    image_folder(photos, 40)
    def vanish(): shutil.rmtree(photos/"train")
    at_step(6, vanish)
    settings = dict(dataset=str(photos), size=32, batch_size=10, epochs=3, workers=1, run_dir=str(run))
    kept = "no such file.*what was saved is kept"
    with pytest.raises((RunError, DatasetError), match=kept) as e: finetune(**settings)
    assert "\n" not in str(e.value)
    assert len(read_losses(run)) >= 1
    assert run_state(run)


MEASURE = """
import resource, sys
from colorization.training.photos import StreamOrder, StreamPairs
from colorization.training.streaming import stream_photos
pairs = StreamPairs(stream_photos(sys.argv[1]), 32)
order = StreamOrder(pairs)
pairs[next(iter(order))]
for _ in order: pass
print(len(pairs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024)
"""


def test_memory_is_bounded(tmp_path):
    "Three times as many photos, 240 MB more, need hardly more memory."
    samples = load_photos("samples").select(range(100))
    rows = samples.to_list()
    for row in rows:
        padding = bytes(50_000)  # what stands after the end of a PNG is no part of it
        row["image"]["bytes"] = thumbnail(row["image"]["bytes"]) + padding
    table = Dataset.from_list(rows, features=samples.features)
    env, peak = os.environ | dict(PYTHONPATH=str(ROOT)), {}
    for files in (24, 72):
        folder = tmp_path/str(files)
        folder.mkdir()
        table.select(range(1)).to_parquet(folder/"validation.parquet")
        for i in range(files): table.to_parquet(folder/f"train-{i:05d}.parquet")
        measure = [sys.executable, "-c", MEASURE, folder]
        done = subprocess.run(measure, env=env, capture_output=True, text=True, timeout=300)
        photos, peak[files] = map(int, done.stdout.split())
        assert photos == 100*files
    assert peak[72] < peak[24] + 200, peak


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"too many")
    do_HEAD = do_GET
    def log_message(self, *args): pass


STREAM = """
import os, time
time.sleep = lambda seconds: None
os.environ['HF_ENDPOINT'] = '%s'
from colorization.finetune import finetune
finetune(dataset='some/photos', streaming=True)
"""


@pytest.mark.parametrize("status", [429, 503, None])
def test_hub_that_refuses(tmp_path, python, status):
    "The library tries again and again; here without its pauses."
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.status = status
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}" if status else "http://127.0.0.1:9"
    done = python(STREAM % endpoint)
    server.shutdown()
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "DatasetError: dataset some/photos: " in last, done.stderr
    assert not (tmp_path/"runs").exists()
