"What is seen in the terminal where papermill runs a training; and with `-m slow`, Ctrl+C in it."
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from test_runs import timeless

from colorization.core.weights import read_tensors
from colorization.training.run import STATES

ENV = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
PAPERMILL = [Path(sys.executable).parent/"papermill", "--no-progress-bar", "-k", "python3", "study.ipynb", "out.ipynb"]
CODE = """
from colorization.finetune import finetune
finetune(split='validation', valid_split='test', size=64, batch_size=%d, epochs=3, run_dir='%s', save_minutes=1000)
"""
SLOW = """
import sys, time, torch
import colorization.finetune
module = sys.modules["colorization.finetune"]
loss = module.colour_loss
def slow_loss(*args):
    if torch.is_grad_enabled(): time.sleep(3.2)  # papermill sends SIGTERM after 2.5 s, and SIGKILL after 5 s
    return loss(*args)
module.colour_loss = slow_loss
"""


def notebook(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells))), path)


def started(folder):
    "Papermill in a process group of its own, as a shell starts one."
    return subprocess.Popen(PAPERMILL, cwd=folder, env=ENV, start_new_session=True, stderr=subprocess.PIPE, text=True)


def wait_for(there, process):
    deadline = time.time() + 300
    while not there():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)


TRAINS = """
from colorization.core.screen import on_screen, with_bar
print('a lesson')
with on_screen():
    for epoch in range(2):
        for batch in with_bar(range(3), label=f'epoch {epoch}'): pass
        print(f'epoch {epoch} learned', flush=True)
"""


def on_a_terminal(command, folder):
    "What a command writes to a terminal."
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 100))
    process = subprocess.Popen(command, cwd=folder, env=ENV, stdout=end, stderr=end)
    os.close(end)
    text = b""
    try:
        while part := os.read(terminal, 1000): text += part
    except OSError: pass  # the other end is closed
    assert process.wait() == 0, text
    return text.decode()


def test_a_training_is_seen_where_papermill_was_started(tmp_path):
    "On a terminal as lines under each other, with a bar that is gone; in a log without the bar; in the report as ever."
    notebook(tmp_path/"study.ipynb", "# papermill_description=lessons", TRAINS)
    command = [PAPERMILL[0], "-k", "python3", "--log-level", "ERROR", "study.ipynb", "out.ipynb"]
    text = on_a_terminal(command, tmp_path)
    assert "Executing lessons: " in text and "a lesson" not in text
    for epoch in (0, 1):
        assert re.search(rf"\repoch {epoch}: +\d+%\|.*\| \d/3 .*\r\x1b\[Kepoch {epoch} learned\r\n", text), text
    done = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert "\nepoch 0 learned\nepoch 1 learned\n" in done.stderr and "/3 [" not in done.stderr
    output = nbformat.read(tmp_path/"out.ipynb", 4).cells[1].outputs
    assert "".join(part.text for part in output) == "a lesson\nepoch 0 learned\nepoch 1 learned\n"


@pytest.mark.slow
@pytest.mark.parametrize("before, batch_size", [("", 1), (SLOW, 10)], ids=["short batches", "long batches"])
def test_ctrl_c_keeps_the_state_and_the_run_goes_on(before, batch_size, tmp_path, python):
    notebook(tmp_path/"study.ipynb", before, CODE % (batch_size, "run"))
    process = started(tmp_path)
    wait_for((tmp_path/"run/losses.csv").exists, process)
    time.sleep(0.4)  # into the second epoch
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.endswith("Aborted!\n"), said
    facts = read_tensors(tmp_path/"run"/STATES[0], "state")[1]
    assert len(facts["rows"]) == 1 and facts["place"].get("batches"), facts

    again = started(tmp_path)
    assert again.wait(timeout=400) == 0, again.stderr.read()
    assert python(CODE % (batch_size, "whole")).returncode == 0
    assert timeless(tmp_path/"run") == timeless(tmp_path/"whole")
