"""Whatever is in an image file, it gives a picture or a refusal in one line, in 5 s and 1 GiB; nothing else is said.

The long form, `-m slow`: FUZZ seeded mutants (10,000) are loaded, a twentieth goes through the whole command."""
import os
import struct
import sys
from collections import Counter

import fuzz
import pytest
from fuzz import HEIGHT, SECONDS, WIDTH, Worker, encoded, mutant, originals, wrong
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
FILES = int(os.environ.get("FUZZ", 10_000))


def test_every_format_that_pillow_writes():
    stubs = {"BUFR", "GRIB", "HDF5", "WMF"}  # written only by handlers that Pillow lacks
    assert {name.partition("-")[0] for name in originals()} == set(Image.SAVE) - stubs


def test_mutants_are_made_from_their_number_alone():
    assert [mutant(seed) for seed in (3, 1, 3)] == [mutant(3), mutant(1), mutant(3)]


def test_a_file_that_says_it_is_huge(tmp_path):
    size, claimed = struct.pack("<HH", WIDTH, HEIGHT), struct.pack("<HH", 13000, 13000)
    hollow = encoded(Image.new("L", (WIDTH, HEIGHT)), "GIF").replace(size, claimed)
    done = Worker(fuzz.load, tmp_path)("hollow.gif", hollow)
    assert "hollow.gif: says it has 13000×13000 pixels, but is only" in done["said"] and not wrong("hollow.gif", done)


def tried(worker, name, data):
    "What becomes of a file; tried again where it took long, since the machine may have been busy."
    done = worker(name, data)
    return done if done["seconds"] <= SECONDS else worker(name, data)


def long(*values): return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("task, files", [
    ("load", 400), ("colorize", 20), long("load", FILES), long("colorize", FILES//20)])
def test_mutants(task, files, tmp_path):
    worker, results, problems = Worker(getattr(fuzz, task), tmp_path), {}, {}
    for seed in range(files):
        name, data = mutant(seed)
        results[name] = tried(worker, name, data)
        if found := wrong(name, results[name]): problems[name] = "; ".join(found)
    slowest, largest = (max(results, key=lambda name: results[name][what]) for what in ("seconds", "mib"))
    print(f"{task}: {files} files, {dict(Counter(done['outcome'] for done in results.values()))}; "
          f"slowest {results[slowest]['seconds']:.2f} s ({slowest}), "
          f"most memory {results[largest]['mib']:.0f} MiB ({largest})")
    listed = "\n".join(f"{name}: {found}" for name, found in problems.items())
    assert not problems, f"{len(problems)} of {files}; `python tests/fuzz.py NUMBER` writes a file again\n{listed}"
