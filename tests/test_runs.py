"Training runs that are stopped, run out of disk, or have several processes."
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, Warm
from PIL import Image

from colorization.core.checks import RunError
from colorization.core.disk import MACHINE
from colorization.dataset import load_photos
from colorization.eccv16 import load_model, save_model
from colorization.finetune import finetune
from colorization.training.photos import first_photo, open_photos
from colorization.training.run import read_losses, read_record, run_state

ENV = os.environ | dict(PYTHONPATH=str(ROOT))
RUN = """
import torch
torch.set_num_threads(2)
from colorization.finetune import finetune
finetune(split='validation', valid_split='test', size=32, lr=1e-3, run_dir='run', epochs=%d)
"""


def losses(folder): return [(r["train_loss"], r["valid_loss"]) for r in read_losses(folder)]


def timeless(folder):
    "The losses of a run, without how long its epochs took."
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_losses(folder)]


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_signal_to_all_processes_of_a_run(cache, tmp_path):
    "As a terminal's Ctrl+C, and the stop of a system or a cluster, which reach the processes that load photos, too."
    code = RUN.replace("size=32", f"size=32, workers=1, batch_size=1, cache={cache!r}") % 1000
    settings = dict(cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", code], **settings, start_new_session=True)
    said = next(line for line in process.stdout if line.startswith(" 1/1000  "))
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    said += process.communicate(timeout=100)[0]
    assert process.returncode == -signal.SIGTERM, said
    assert " of 30 batches; the same run goes on from there" in said


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, -1))
"""


def test_full_disk_keeps_what_was_done(tmp_path, warm):
    assert warm(RUN % 1).returncode == 0
    run = tmp_path/"run"
    before = {p: p.read_bytes() for p in run.glob("*.*")}
    failed = warm(FULL + RUN % 2)
    assert failed.returncode == 1
    assert b"RunError: run_dir run: epoch 2 can't be saved" in failed.stderr.splitlines()[-1]
    assert {p: p.read_bytes() for p in run.glob("*.*")} == before
    assert [p.name for p in run.rglob(".*")] == [".lock"]
    assert warm(RUN % 2).returncode == 0
    assert len(read_losses(run)) == 2


def test_file_in_place_of_run_dir(tmp_path):
    (tmp_path/"run").write_text("a file where the folder should be")
    with pytest.raises(RunError, match="run: can't be written to"): finetune(size=32, epochs=1, run_dir=tmp_path/"run")


THEIRS = (
    ".2023-11-05 notes.txt", ".tmp_keep", ".tmpABC123", "sub/.1923-originals.zip", "snapshots.txt",
    f".99999999-{MACHINE}-notes.txt", f"sub/.99999999-{MACHINE}-model.safetensors",
    ".99999999-0123ab-model.safetensors", f".{os.getpid()}-{MACHINE}-params.txt")
OURS = (
    f".99999999-{MACHINE}-model.safetensors", f".99999999-{MACHINE}-params.json",
    f".99999999-{MACHINE}-.99999999-{MACHINE}-state.safetensors.a1b2c3d4/.tmpABC123")


def test_only_what_a_killed_run_left_is_removed(tmp_path):
    for name in (*THEIRS, *OURS):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_text("kept")
    finetune(size=32, epochs=1, batch_size=40, run_dir=tmp_path)
    for name in THEIRS: assert (tmp_path/name).read_text() == "kept", name
    for name in OURS: assert not (tmp_path/name).exists(), name
    assert not (tmp_path/OURS[-1]).parent.exists()


def test_model_that_a_run_starts_from_is_kept(tmp_path):
    save_model(load_model("compact"), tmp_path/"model.safetensors")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RunError, match=r"holds model\.safetensors, but no record of a run"):
        finetune(str(tmp_path/"model.safetensors"), size=32, epochs=1, run_dir=tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("run_dir", ["runs/mine", "."])
def test_run_inside_its_dataset(tmp_path, monkeypatch, run_dir, streaming):
    "As after `cd photos`: what the run leaves there is no photo of the next one."
    monkeypatch.chdir(tmp_path)
    for i, row in enumerate(load_photos("samples", "test").select(range(5))): row["image"].save(f"{i}.png")
    settings = dict(dataset=str(tmp_path), size=32, batch_size=2, streaming=streaming, run_dir=run_dir)
    finetune(**settings, epochs=1)
    run = finetune(**settings, epochs=2)
    assert sum(part["photos"] for part in run.record["data"].values()) == 5
    assert [row["epoch"] for row in read_losses(run_dir)] == [1, 2]


@pytest.mark.parametrize("how", [dict(size=33), dict(size=36, objective="regression"), dict(size=100, streaming=True)])
def test_sizes_that_8_does_not_divide(tmp_path, how):
    run = finetune(split="validation", valid_split="test", epochs=1, batch_size=10, run_dir=tmp_path/"run", **how)
    assert len(run.rows) == 1


def test_divergence_that_the_loss_does_not_show(tmp_path):
    "The colours of such a network are NaN, though its losses are finite."
    model = load_model("compact")
    model.temperature = 1e-38
    save_model(model, tmp_path/"wild.safetensors")
    with pytest.raises(RunError, match="run: the colours are no numbers any more; what was saved before is kept; "):
        finetune(str(tmp_path/"wild.safetensors"), size=32, epochs=1, run_dir=tmp_path/"run")


def test_numbers_of_numpy_and_a_folder_named_by_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = dict(
        epochs=np.int64(1), batch_size=np.int64(10), lr=np.float32(1e-4), size=np.int64(32), seed=np.int64(2**32 - 1),
        workers=np.int64(0), save_minutes=np.float64(0), accumulate=np.int64(1), streaming=np.False_)
    finetune(split="validation", valid_split="test", run_dir=1924, **numbers)
    record, card = read_record("1924"), json.loads((ROOT/"colorization/compact.json").read_text())
    assert [record["params"][name] for name in ("run_dir", "epochs", "size", "seed")] == ["1924", 1, 32, 2**32 - 1]
    assert record["weights"] == card["sha256"]


@pytest.mark.parametrize("damaged", range(9))
def test_damaged_photo_among_nine(tmp_path, damaged):
    "Wherever it lies: the photo to validate on is drawn among those that can be read."
    for i in range(9): Image.new("RGB", (32, 32), (200, 20*i, 30)).save(tmp_path/f"{i}.png")
    (tmp_path/f"{damaged}.png").write_bytes(b"no photo")
    assert [len(load_photos(tmp_path, split)) for split in ("train", "validation")] == [7, 1]


def test_large_reference_photo(tmp_path):
    (tmp_path/"photos").mkdir()
    for i in range(2): Image.linear_gradient("L").resize((2100, 1500)).save(tmp_path/f"photos/{i}.png")
    for streaming in (False, True):
        photos = open_photos(tmp_path/"photos", "validation", streaming)
        assert first_photo(photos).shape == (731, 1024, 3)


def several_processes(folder, processes):
    "The arguments that start `train.py` in several processes."
    env = ENV | dict(ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return dict(args=[sys.executable, *launcher, "train.py"], cwd=folder, env=env)


PROCESSES = """
from accelerate import PartialState
print('processes:', PartialState().num_processes)
"""


SHARED = """
import os, torch
os.environ |= dict(RANK='%d', LOCAL_RANK='%d', WORLD_SIZE='%d', MASTER_ADDR='127.0.0.1', MASTER_PORT='%d')
os.environ['ACCELERATE_USE_CPU'] = 'true'
torch.set_num_threads(1)
"""


def in_processes(folder, processes, code):
    "Run code to its end in processes that share the work, with the variables that torchrun sets; what each said."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = [Warm(SHARED % (i, i, processes, port) + code, folder) for i in range(processes)]
    for process in started: assert process.done().returncode == 0, process.said("stderr").decode()
    return [process.said().decode() for process in started]


def test_two_processes(tmp_path):
    "The same whether they were started by torchrun, stopped, and went on, or not."
    def code(run): return RUN.replace("size=32", "size=32, batch_size=2").replace("'run'", repr(run)) % 3 + PROCESSES
    said = "".join(in_processes(tmp_path, 2, code("whole")))
    assert said.count("processes: 2") == 2
    assert said.count("\n    1/3  ") == 1
    load_model(tmp_path/"whole/model.safetensors")

    (tmp_path/"train.py").write_text(code("run"))
    command = several_processes(tmp_path, 2)
    stopped = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = next(line for line in stopped.stdout if line.startswith("    1/3  "))
    stopped.terminate()
    said += stopped.communicate(timeout=300)[0]
    assert said.count(" of 7 batches; the same run goes on from there") == 1, said
    in_processes(tmp_path, 2, code("run"))
    run, whole = tmp_path/"run", tmp_path/"whole"
    assert sum(losses(run), ()) == pytest.approx(sum(losses(whole), ()), rel=1e-12)
    state, whole_state = run_state(run), run_state(whole)
    for name, tensor in state.items(): assert tensor.equal(whole_state[name]), name


@pytest.mark.parametrize("cache", ["auto", "memory"])
def test_two_processes_learn_what_one_learns(cache, tmp_path):
    train = "from colorization.finetune import finetune\n"  # at a rate at which Adam doesn't amplify rounding
    train += "finetune(size=32, epochs=2, batch_size=%d, run_dir=%r, cache=%r, lr=5e-6)"
    for processes, run in ((1, "one"), (2, "two")):
        in_processes(tmp_path, processes, train % (16//processes, run, cache))
    one, two = (sum(losses(tmp_path/run), ()) for run in ("one", "two"))
    assert len(two) == 4
    assert two == pytest.approx(one, abs=1e-4)


def test_more_processes_than_photos(tmp_path):
    (tmp_path/"train.py").write_text(RUN.replace("size=32", "size=32, batch_size=16") % 1)
    done = subprocess.run(**several_processes(tmp_path, 2), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "RunError: batch_size: 16 in 2 processes is more than the " in done.stderr
    assert not (tmp_path/"run").exists()


def test_processes_that_would_work_alone(tmp_path):
    "As torchrun starts them where there is no GPU, if nothing says that they shall use the processor."
    (tmp_path/"train.py").write_text(RUN % 1)
    command = several_processes(tmp_path, 2)
    del command["env"]["ACCELERATE_USE_CPU"]
    command["env"]["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(**command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "RunError: processes: 2 were started, but each would work alone; start one, or " in done.stderr
    assert not (tmp_path/"run").exists()


def test_two_runs_in_one_folder(tmp_path, warm):
    first = Warm(RUN % 1000, tmp_path)
    first.wait_for((tmp_path/"run/losses.csv").exists)
    second = warm(RUN % 1000)
    assert second.returncode == 1
    assert f"RunError: run_dir run: process {first.process.pid} on " in second.stderr.decode().splitlines()[-1]
    assert first.process.is_alive()
    first.process.kill()
    first.done()
