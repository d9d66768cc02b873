"""Whatever is in an image file, it gives a picture or a refusal in one line, in 5 s and 1 GiB, and nothing else is said.

FUZZ=10000 is the long form: 10,000 seeded mutants and a third as many of Hypothesis's are loaded, 500 go through the whole command."""
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from fuzz import SECONDS, Worker, ending, mutant, originals, patched, wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
FILES = int(os.environ.get("FUZZ", 300))


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    "Gives the worker for a task."
    workers = {task: Worker(tmp_path_factory.mktemp(task), task) for task in ("load", "colorize")}
    yield workers.get
    for worker in workers.values(): worker.close()


def test_every_format_that_pillow_writes():
    stubs = {"BUFR", "GRIB", "HDF5", "WMF"}  # written only by handlers that Pillow lacks
    assert {name.partition("-")[0] for name in originals()} == set(Image.SAVE) - stubs


def tried(worker, name, data):
    "What becomes of a file; tried again where it took long, since the machine may have been busy."
    done = worker(name, data)
    return done if done["seconds"] <= SECONDS else worker(name, data)


@pytest.mark.parametrize("task, files", [("load", FILES), ("colorize", FILES//20)])
def test_mutants(worker, task, files):
    results, problems = {}, {}
    for seed in range(files):
        name, data = mutant(seed)
        results[name] = tried(worker(task), name, data)
        if found := wrong(name, results[name]): problems[name] = found
    slowest, largest = (max(results, key=lambda name: results[name][what]) for what in ("seconds", "mib"))
    print(f"{task}: {files} files, {dict(Counter(done['outcome'] for done in results.values()))}; slowest {results[slowest]['seconds']:.2f} s ({slowest}), most memory {results[largest]['mib']:.0f} MiB ({largest})")
    assert not problems, "\n".join([f"{len(problems)} of {files}; `python tests/fuzz.py NUMBER` writes a file again", *(f"{name}: {'; '.join(found)}" for name, found in problems.items())])


@settings(max_examples=FILES//3, deadline=None, derandomize=True, database=None)
@given(st.deferred(lambda: st.sampled_from(sorted(originals()))), st.lists(st.tuples(st.integers(0, 2**14), st.binary(min_size=1, max_size=8)), max_size=4), st.integers(0, 2**14) | st.none())
def test_edits(worker, original, edits, length):
    "Bytes written over those of an original, and its end cut off."
    data = originals()[original][:length]
    for at, new in edits:
        if at < len(data): data = patched(data, at, new)
    name = f"edited-{original}.{ending(original)}"
    assert wrong(name, tried(worker("load"), name, data)) == []
