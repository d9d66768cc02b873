"""Mutated image files, each made from its number alone, and a process of its own in which they are tried and measured.

`python tests/fuzz.py 17 18` writes mutants 17 and 18 into the folder it is run in."""
import io
import multiprocessing
import os
import random
import re
import shutil
import struct
import sys
import time
import warnings
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, ImageCms
from skimage import data

with suppress(ImportError):
    from pillow_heif import register_heif_opener
    register_heif_opener()  # HEIC among the originals

SECONDS, MIB = 5, 1024  # the most that one file may take
PATIENCE = 60  # seconds until a file that hangs is given up
WIDTH, HEIGHT = 60, 40
MODES = "1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV LAB I I;16 I;16B F".split()
ANIMATED = "AVIF GIF HEIF MPO PNG TIFF WEBP".split()
TAGGED = "AVIF HEIF JPEG MPO PNG TIFF WEBP".split()  # that have EXIF and a profile
OPTIONS = [
    ("JPEG", "RGB", dict(progressive=True)), ("JPEG2000", "RGB", dict(irreversible=True)),
    ("WEBP", "RGBA", dict(lossless=True)), ("PPM", "F", dict()), ("TGA", "RGB", dict(compression="tga_rle")),
    ("DDS", "RGBA", dict(pixel_format="DXT5")),
    *[("TIFF", "1", dict(compression=kind)) for kind in ("group3", "group4")],
    *[("TIFF", "RGB", dict(compression=kind)) for kind in "jpeg packbits tiff_adobe_deflate tiff_lzw".split()]]
EXTREME = [b"\0\0", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\0",
           b"\0\0\xff\xff", b"\x80\0\0\0"]


def encoded(image, format, **options):
    f = io.BytesIO()
    with warnings.catch_warnings(action="ignore"): image.save(f, format, **options)
    return f.getvalue()


def converted(image, mode):
    "The image in any mode, or None where Pillow can't convert it."
    for via in (image, image.convert("RGBA"), image.convert("L")):
        with suppress(ValueError): return via.convert(mode)


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
    jobs = [(format, mode, {}) for format in sorted(Image.SAVE) for mode in MODES if format != "ICNS"]
    jobs += [("ICNS", "RGBA", {}), *OPTIONS]  # ICNS is slow, and has but one mode
    more = dict(save_all=True, append_images=[photo().rotate(90), photo().rotate(180)])
    jobs += [(format, "RGB", more) for format in ANIMATED]
    jobs += [(format, mode, sane_metadata()) for format in TAGGED for mode in ("L", "RGB", "RGBA", "CMYK")]
    files, epoch = {}, time.gmtime(0)
    for format, mode, options in jobs:
        name = f"{format}-{mode.replace(';', '')}-{'-'.join(options) or 'plain'}-{len(files)}"
        dates = dict(creationDate=epoch, modDate=epoch) if format == "PDF" else {}
        with suppress(Exception): files[name] = encoded(converted(photo(), mode), format, **options, **dates)
    return files


def patched(data, at, new): return (data[:at] + new + data[at + len(new):])[:len(data)]


def place(r, data):
    "Where to change something: often near the beginning, where sizes and offsets are."
    return r.randrange(min(r.choice([32, 256, 2**14, len(data)]), len(data)))


def truncated(r, data): return data[:r.randrange(len(data))]


def overwritten(r, data):
    "In some places stand flipped bits, extreme numbers, or anything."
    def bit(at): return bytes([data[at] ^ 1 << r.randrange(8)])
    def number(at): return r.choice(EXTREME)
    def anything(at): return r.randbytes(r.randint(1, 8))
    new = r.choice([bit, number, anything])
    for _ in range(r.choice([1, 1, 2, 4, 8, 64])):
        at = place(r, data)
        data = patched(data, at, new(at))
    return data


def zeros(r, data):
    "From some place on, for some bytes, or everywhere."
    if r.random() < .1: return bytes(len(data))
    return patched(data, r.randrange(len(data)), bytes(r.choice([len(data), r.randrange(len(data))])))


def huge(r, data):
    "Wherever width or height stands in the first bytes, in any spelling, there stands another number."
    head, new = data[:600], r.choice([0, 1, 255, 8000, 13000, 30000, 65535, 2**31 - 1, 2**32 - 1])
    for size in r.choice([[WIDTH], [HEIGHT], [WIDTH, HEIGHT]]):
        for code, largest in r.sample([("<H", 0xFFFF), (">H", 0xFFFF), ("<I", 2**32 - 1), (">I", 2**32 - 1)], 4):
            head = head.replace(struct.pack(code, size), struct.pack(code, new & largest))
        head = head.replace(str(size).encode(), str(new).encode())
    return head + data[600:]


def spliced(r, data):
    "The beginning of one file, the end of another: only a header of the one, or cut anywhere."
    other = r.choice(list(originals().values()))
    header = r.choice([4, 8, 12, 32, 128])
    anywhere = data[:r.randrange(len(data))] + other[r.randrange(len(other)):]
    return r.choice([other[:header] + data[header:], anywhere])


def inserted(r, data):
    at, size = r.randrange(len(data)), r.choice([1, 2, 16, 4096])
    return data[:at] + r.choice([r.randbytes(size), data[:size]]) + data[at:]


def rubbish(r, data):
    "A sound picture with damaged EXIF, XMP and ICC profile."
    damages = [overwritten, truncated, zeros, lambda r, value: r.randbytes(200)]
    damaged = {key: r.choice(damages)(r, value) for key, value in sane_metadata().items() if r.random() < .8}
    image = photo().convert(r.choice(["L", "RGB", "RGB", "RGBA", "CMYK"]))
    with suppress(Exception): return encoded(image, r.choice(TAGGED), **damaged)
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


MUTATIONS = [truncated, *[overwritten]*4, zeros, *[huge]*2, *[spliced]*2, inserted, rubbish]


def mutant(seed):
    "Name and bytes of a mutated image file."
    r = random.Random(seed)
    name = r.choice(list(originals()))
    data, kinds = originals()[name], r.choices(MUTATIONS, k=r.choice([1, 1, 1, 2]))
    for kind in kinds: data = kind(r, data or b"\0")
    if data.startswith(b"\x89PNG") and r.random() < .7: data = checked_png(data)
    endings = {format: ending for ending, format in Image.registered_extensions().items()}
    return f"{seed}-{'-'.join(k.__name__ for k in kinds)}-{name}{endings.get(name.partition('-')[0], '.bin')}", data


def load(name):
    from colorization.lab import ImageError, load_rgb
    try: return "picture" if load_rgb(name).shape[2] == 3 else "no picture"
    except ImageError as e:
        print(f"colorization: {e}", file=sys.stderr)
        return "refused"


def colorize(name):
    from colorization.cli import main
    from colorization.core.image import quiet_readers
    shutil.rmtree("out", ignore_errors=True)
    try: code = main(["colorize", name, "-o", "out"])
    except SystemExit as e: code = e.code
    results = [path for path in Path("out").glob("[!.]*")]
    if code == 1 and not results: return "refused"
    if code != 0 or len(results) != 1: return f"exit code {code}, results {results}"
    with quiet_readers(), Image.open(results[0]) as image: image.load()
    return "picture"


def peak():
    "The most memory that this process held since it was last cleared, in MiB."
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])/1024


def work(task, folder, pipe):
    "Try the files that are named; answer with what becomes of each, in how many seconds and MiB."
    os.chdir(folder)
    said = os.open("said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2): os.dup2(said, stream)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    while True:
        name = pipe.recv()
        Path("/proc/self/clear_refs").write_text("5")
        start = time.perf_counter()
        try: outcome = task(name)
        except BaseException as e: outcome = f"escaped: {type(e).__name__}: {e}"
        pipe.send(dict(outcome=outcome, seconds=time.perf_counter() - start, mib=peak()))


class Worker:
    "A process that tries one file at a time, by `load` or by `colorize`; another one, where it ended or hung."
    def __init__(self, task, folder): self.task, self.folder, self.process = task, Path(folder), None

    def _start(self):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=work, args=(self.task, self.folder, end), daemon=True)
        self.process.start()
        end.close()
        self("warm.png", encoded(photo(), "PNG"))

    def __call__(self, name, data):
        "What becomes of a file: `outcome`, `seconds`, `mib`, and what is `said` on standard error."
        if not self.process: self._start()
        (self.folder/name).write_bytes(data)
        (self.folder/"said").write_bytes(b"")
        self.pipe.send(name)
        if not self.pipe.poll(PATIENCE): self.process.kill()
        try: done = self.pipe.recv()
        except EOFError:
            self.process.join()
            done = dict(outcome=f"the process ended with {self.process.exitcode}", seconds=0, mib=0)
            self.process = None
        (self.folder/name).unlink()
        return done | dict(said=(self.folder/"said").read_text())


def wrong(name, done):
    "What is wrong with what became of a file: a list, empty if all is well."
    notices = f"{re.escape(name)}: (its .* it is ignored|has .* is used)"
    ours = re.compile(notices + "|[01] coloured, 0 already there, [01] failed; .*")
    said = [line for line in done["said"].splitlines() if not ours.fullmatch(line)]
    refusal = re.compile(f"colorization: {re.escape(name)}: .+")
    refused = len(said) == 1 and refusal.fullmatch(said[0]) and said[0].isprintable()
    problems = [] if done["outcome"] in ("picture", "refused") else [done["outcome"]]
    if not (refused if done["outcome"] == "refused" else not said): problems.append(f"{done['outcome']}, said {said!r}")
    if done["seconds"] > SECONDS: problems.append(f"took {done['seconds']:.1f} s")
    if done["mib"] > MIB: problems.append(f"took {done['mib']:.0f} MiB")
    return problems


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        name, content = mutant(seed)
        Path(name).write_bytes(content)
        print(name)
