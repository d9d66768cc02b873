"""Mutated image files, each made from its number alone, and a process of its own in which they are tried and measured.

`python tests/fuzz.py 17 18` writes mutants 17 and 18 into the folder it is run in."""
import contextlib
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from functools import cache
from pathlib import Path
from threading import Timer

from PIL import Image, ImageCms
from skimage import data

SECONDS, MIB = 5, 1024  # the most that one file may take
PATIENCE = 60  # seconds until a file that hangs is given up
WIDTH, HEIGHT = 60, 40
MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV LAB I I;16 I;16B F".split()
ANIMATED = "AVIF GIF HEIF MPO PNG TIFF WEBP".split()
OPTIONS = [("JPEG", "RGB", dict(progressive=True)), ("JPEG2000", "RGB", dict(irreversible=True)), ("WEBP", "RGBA", dict(lossless=True)), ("PPM", "F", dict()),
    ("TGA", "RGB", dict(compression="tga_rle")), ("DDS", "RGBA", dict(pixel_format="DXT5")),
    *[("TIFF", "1" if "group" in c else "RGB", dict(compression=c)) for c in ("group3", "group4", "jpeg", "packbits", "tiff_adobe_deflate", "tiff_lzw")]]


def encoded(image, format, **options):
    f = io.BytesIO()
    with warnings.catch_warnings(action="ignore"): image.save(f, format, **options)
    return f.getvalue()


def converted(image, mode):
    "The image in any mode, or None where Pillow can't convert it."
    for via in (image, image.convert("RGBA"), image.convert("L")):
        with contextlib.suppress(ValueError): return via.convert(mode)


def sane_metadata():
    "EXIF and an ICC profile as they should be."
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "maker", "2026:01:01 00:00:00"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)  # its date
    return dict(exif=exif.tobytes(), icc_profile=bytes(profile))


@cache
def photo(): return Image.fromarray(data.chelsea()).resize((WIDTH, HEIGHT))


@cache
def originals():
    "A small photo in every format that Pillow can write: name to bytes."
    Image.init()
    files, jobs = {}, [(format, mode, {}) for format in sorted(Image.SAVE) for mode in (MODES if format != "ICNS" else ["RGBA"])] + OPTIONS  # ICNS is slow, and has but one mode
    jobs += [(format, "RGB", dict(save_all=True, append_images=[photo().rotate(90), photo().rotate(180)])) for format in ANIMATED]
    jobs += [(format, mode, sane_metadata()) for format in ("AVIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP") for mode in ("L", "RGB", "RGBA", "CMYK")]
    for format, mode, options in jobs:
        dates = dict(creationDate=time.gmtime(0), modDate=time.gmtime(0)) if format == "PDF" else {}
        with contextlib.suppress(Exception): files[f"{format}-{mode.replace(';', '')}-{'-'.join(map(str, options)) or 'plain'}-{len(files)}"] = encoded(converted(photo(), mode), format, **options, **dates)
    return files


def patched(data, at, new): return data[:at] + new + data[at + len(new):]


def truncated(r, data): return data[:r.randrange(len(data))]


def flipped(r, data):
    end = r.choice([64, 512, len(data)])
    for _ in range(r.choice([1, 2, 8, 64])):
        at = r.randrange(min(end, len(data)))
        data = patched(data, at, bytes([data[at] ^ 1 << r.randrange(8)]))
    return data


def wrong_header(r, data):
    other, length = r.choice(list(originals().values())), r.choice([4, 8, 12, 32, 128])
    return other[:length] + data[length:]


def huge(r, data):
    "Wherever width or height stands in the first bytes, in any spelling, there stands another number."
    number = r.choice([0, 1, 255, 8000, 13000, 30000, 65535, 2**31 - 1, 2**32 - 1])
    for size in r.choice([[WIDTH], [HEIGHT], [WIDTH, HEIGHT]]):
        for code in r.sample(["<H", ">H", "<I", ">I"], 4):
            new = number & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
            data = data[:600].replace(struct.pack(code, size), struct.pack(code, new)) + data[600:]
        data = data[:600].replace(str(size).encode(), str(number).encode()) + data[600:]
    return data


def number(r, data):
    "Somewhere stands an extreme number."
    new = r.choice([b"\0\0", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xff\xff", b"\x80\0\0\0"])
    return patched(data, r.randrange(r.choice([32, 256, len(data)])) % len(data), new)[:len(data)]


def zeros(r, data):
    start = r.randrange(len(data))
    length = r.choice([len(data), r.randrange(len(data))])
    return patched(data, start, bytes(min(length, len(data) - start))) if r.random() < .9 else bytes(len(data))


def spliced(r, data):
    "The beginning of one file, the end of another."
    other = r.choice(list(originals().values()))
    return data[:r.randrange(len(data))] + other[r.randrange(len(other)):]


def inserted(r, data):
    at, size = r.randrange(len(data)), r.choice([1, 2, 16, 4096])
    return data[:at] + r.choice([r.randbytes(size), data[:size]]) + data[at:]


def rubbish(r, data):
    "A sound picture with damaged EXIF, XMP and ICC profile."
    format = r.choice(["AVIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"])
    damaged = {key: r.choice([flipped, truncated, number, zeros, lambda r, d: r.randbytes(200)])(r, value) for key, value in sane_metadata().items() if r.random() < .8}
    with contextlib.suppress(Exception): return encoded(photo().convert(r.choice(["L", "RGB", "RGB", "RGBA", "CMYK"])), format, **damaged)
    return inserted(r, data)


def checked_png(data):
    "A PNG whose check sums are right, so that it is read in spite of what was changed."
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        body = data[at + 4:at + 8 + length]
        out += data[at:at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return out


MUTATIONS = [truncated, flipped, wrong_header, huge, number, zeros, spliced, inserted, rubbish]


def mutant(seed):
    "Name and bytes of a mutated image file."
    r = random.Random(seed)
    name = r.choice(list(originals()))
    data, kinds = originals()[name], r.choices(MUTATIONS, k=r.choice([1, 1, 1, 2]))
    for kind in kinds: data = kind(r, data or b"\0")
    if data.startswith(b"\x89PNG") and r.random() < .7: data = checked_png(data)
    return f"{seed}-{'-'.join(k.__name__ for k in kinds)}-{name}.{ending(name)}", data


def ending(name):
    "A file ending of an original's format."
    format = name.partition("-")[0]
    return next((e[1:] for e, f in Image.registered_extensions().items() if f == format), "bin")


class Worker:
    "A process that tries one file at a time, by `load` or by `colorize`."
    def __init__(self, folder, task): self.folder, self.task, self.process = Path(folder), task, None

    def _start(self):
        self.errors = open(self.folder/"stderr", "w+")
        env = os.environ | dict(PYTHONPATH=str(Path(__file__).resolve().parent.parent))
        self.process = subprocess.Popen([sys.executable, __file__, "work", self.task], cwd=self.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self("warm.png", encoded(photo(), "PNG"))

    def __call__(self, name, data):
        "What becomes of a file: `outcome`, `seconds`, `mib`, and what is `said` on standard error."
        if not self.process: self._start()
        (self.folder/name).write_bytes(data)
        before = os.fstat(self.errors.fileno()).st_size
        timer = Timer(PATIENCE, self.process.kill)
        timer.start()
        print(name, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        timer.cancel()
        (self.folder/name).unlink()
        self.errors.seek(before)
        if line: return json.loads(line) | dict(said=self.errors.read())
        code, self.process = self.process.wait(), None
        return dict(outcome=f"the process ended with {code}", seconds=0, mib=0, said=self.errors.read())

    def close(self):
        if self.process: self.process.communicate()


def wrong(name, done):
    "What is wrong with what became of a file: a list, empty if all is well."
    ours = re.compile(re.escape(name) + ": its .* it is ignored|[01] coloured, 0 already there, [01] failed; .*")
    said = [line for line in done["said"].splitlines() if not ours.fullmatch(line)]
    problems = [f"said {line!r}" for line in said] if done["outcome"] != "refused" else []
    if done["outcome"] not in ("picture", "refused"): problems.append(done["outcome"])
    if done["outcome"] == "refused" and not (len(said) == 1 and re.fullmatch(f"colorization: {re.escape(name)}: .+", said[0]) and said[0].isprintable()): problems.append(f"refused by {said!r}")
    if done["seconds"] > SECONDS: problems.append(f"took {done['seconds']:.1f} s")
    if done["mib"] > MIB: problems.append(f"took {done['mib']:.0f} MiB")
    return problems


def peak(reset=False):
    "The most memory that this process held since the last reset, in MiB."
    if reset: return Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])/1024


def load(name):
    from colorization.lab import ImageError, load_rgb
    try: return "picture" if load_rgb(name).shape[2] == 3 else "no picture"
    except ImageError as e:
        print(f"colorization: {e}", file=sys.stderr)
        return "refused"


def colorize(name):
    from colorization.cli import main
    shutil.rmtree("out", ignore_errors=True)
    try: code = main(["colorize", name, "-o", "out"])
    except SystemExit as e: code = e.code
    results = [path for path in Path("out").glob("[!.]*")]
    if code == 1 and not results: return "refused"
    if code != 0 or len(results) != 1: return f"exit code {code}, results {results}"
    with Image.open(results[0]) as image: image.load()
    return "picture"


def work(task):
    "Try the files named on standard input; tell a line of JSON for each."
    from colorization import lab  # it has Pillow's warnings silenced
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name = line.strip()
        peak(reset=True)
        start = time.perf_counter()
        try: outcome = task(name)
        except BaseException as e: outcome = f"escaped: {type(e).__name__}: {e}"
        print(json.dumps(dict(outcome=outcome, seconds=time.perf_counter() - start, mib=peak())), file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "work": work(dict(load=load, colorize=colorize)[sys.argv[2]])
    else:
        for seed in map(int, sys.argv[1:]):
            name, content = mutant(seed)
            Path(name).write_bytes(content)
            print(name)
