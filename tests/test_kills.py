"A run and a folder job, killed at random moments again and again: twice; with `-m slow` KILLS times (25)."
import os
import random
import signal
import time

import pytest
from conftest import Warm
from PIL import Image
from test_runs import timeless

from colorization.core.disk import MACHINE
from colorization.dataset import load_photos
from colorization.eccv16 import load_model
from colorization.training.run import run_state

KILLS = [2, pytest.param(int(os.environ.get("KILLS", 25)), marks=pytest.mark.slow)]
TRAIN = """
import torch
torch.set_num_threads(1)
from colorization.finetune import finetune
finetune(
    split='validation', valid_split='test', size=32, batch_size=5, lr=1e-3,
    epochs=%d, run_dir='%s', save_minutes=%g)
"""
COLORIZE = """
import sys
sys.argv[1:] = ['colorize', 'photos', '-o', 'out']
from colorization.cli import main
sys.exit(main())
"""
AS_ON_A_CARD = """
from colorization.colorize import Colorizer
Colorizer._on_card = True
""" + COLORIZE


def killed(code, folder, begun, longest):
    """Start a program, wait until `begun()`, kill it at a random moment within `longest` seconds.

    Gives whether it was still at work."""
    program = Warm(code, folder)
    program.wait_for(lambda: begun() or not program.process.is_alive())
    time.sleep(random.uniform(0, longest))
    program.process.kill()
    return program.done().returncode == -signal.SIGKILL


@pytest.mark.parametrize("kills", KILLS)
def test_killed_runs_end_as_an_unbroken_one(kills, tmp_path, warm):
    random.seed(0)
    epochs, broken, whole = kills + 5, tmp_path/"broken", tmp_path/"whole"
    owner, model = broken/".owner", broken/"model.safetensors"
    for _ in range(kills):
        owner.unlink(missing_ok=True)
        assert killed(TRAIN % (epochs, "broken", 0), tmp_path, owner.exists, 1.2)
        if model.exists(): load_model(model)
    (broken/f".99999999-{MACHINE}-model.safetensors").write_bytes(b"half a file")
    assert warm(TRAIN % (epochs, "broken", 0)).returncode == 0
    assert warm(TRAIN % (epochs, "whole", 10)).returncode == 0
    rows = timeless(broken)
    assert rows == timeless(whole) and len(rows) == epochs
    state, whole_state = run_state(broken), run_state(whole)
    assert state.keys() == whole_state.keys()
    for name, tensor in state.items(): assert tensor.equal(whole_state[name]), name
    assert model.read_bytes() == (whole/"model.safetensors").read_bytes()
    assert [p.name for p in broken.rglob(".*")] == [".lock"]


@pytest.mark.parametrize("code", [COLORIZE, AS_ON_A_CARD], ids=["cores", "card"])
@pytest.mark.parametrize("kills", KILLS)
def test_killed_folder_jobs_colour_each_photo_once(kills, code, tmp_path, warm):
    random.seed(0)
    photos = [row["image"] for row in load_photos("samples", "train").select(range(12*kills))]
    (tmp_path/"photos").mkdir()
    for i, photo in enumerate(photos): photo.resize((300, 300)).save(tmp_path/f"photos/{i:03d}.png")
    done = {}
    def results(): return {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/[0-9]*.png")}
    for _ in range(kills):
        assert killed(code, tmp_path, lambda: len(results()) > len(done), 0.1)
        for path in results(): Image.open(path).load()
        assert results().items() >= done.items()
        done = results()
    says = f"{len(photos) - len(done)} coloured, {len(done)} already there, 0 failed; "
    assert says in warm(code).stderr.decode().splitlines()[-1]
    assert results().items() >= done.items() and len(results()) == len(photos)
