"TIFFs of every kind that tifffile writes come out right, or are refused by name."
import io
import itertools
import struct
from functools import cache

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from skimage import data

from colorization.core.checks import ImageError
from colorization.core.image import load_image, load_rgb

PHOTO = np.array(Image.fromarray(data.coffee()[:320, :400]).resize((40, 32)))  # no square, more than a tile
GRAY = PHOTO[..., 1]
ALPHA = np.broadcast_to(np.linspace(100, 255, 40).round().astype(np.uint8), GRAY.shape)
WHITE = dict(u1=255, u2=65535, f2=1, f4=1, f8=1)  # in each type of number
KINDS = [
    *itertools.product(["minisblack", "miniswhite", "rgb"], WHITE), ("palette", "u1"), ("palette", "u2"),
    *itertools.product(["separated", "cielab", "icclab"], ["u1", "u2"])]
MEANINGS = dict(miniswhite=0, minisblack=1, rgb=2, palette=3, separated=5, cielab=8, icclab=9)
CODES = dict(width=256, height=257, bits=258, compression=259, meaning=262, place=273, count=277, rows=278, length=279,
             palette=320, format=339)
EXTRAS = dict(none=None, alpha=["unassalpha"], multiplied=["assocalpha"], unspecified=["unspecified"])
PLACES = [
    {}, dict(bigtiff=True), dict(tile=(16, 16)), dict(planarconfig="separate"),
    dict(planarconfig="separate", tile=(16, 16))]
LAYOUTS = [dict(byteorder=order) | place for order, place in itertools.product("<>", PLACES)]


def deep(pixels, dtype):
    "8 bits as the numbers that mean the same in another type."
    a = pixels/255*WHITE[dtype]
    return (a if dtype[0] == "f" else a.round()).astype(dtype)


@cache
def lab():
    "The photo as L of 0 to 255, and a and b with their signs."
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(*spaces, "RGB", "LAB")
    a = np.asarray(ImageCms.applyTransform(Image.fromarray(PHOTO), transform))
    return np.dstack([a[..., :1], a[..., 1:].view(np.int8)]).astype(int)


def samples(kind, dtype):
    "What a kind of file has for the photo."
    if kind == "rgb": return deep(PHOTO, dtype)
    if kind == "separated": return deep(np.dstack([255 - PHOTO, 0*GRAY]), dtype)
    if kind == "palette": return GRAY.astype(dtype)
    if kind == "icclab": return (lab() + [0, 128, 128]).astype(dtype)*dict(u1=1, u2=256)[dtype]
    if kind == "cielab": return (lab()*dict(u1=[1, 1, 1], u2=[257, 256, 256])[dtype]).astype(dtype)
    return WHITE[dtype] - deep(GRAY, dtype) if kind == "miniswhite" else deep(GRAY, dtype)


def table(dtype):
    "A palette that makes gray brighter, and red."
    levels = np.arange(256)//2 + 100
    colours = np.zeros((3, WHITE[dtype] + 1), "u2")
    colours[:, :256] = [levels*257, levels*200, levels*150]
    return colours


def with_extra(pixels, dtype, extra):
    "Samples, and one more."
    alpha = deep(ALPHA, dtype)
    if extra == "multiplied": pixels = (np.dstack([pixels])*(ALPHA/255)[..., None])
    if dtype[0] == "u": pixels = np.round(pixels)
    return np.dstack([pixels, alpha]).astype(dtype)


def written(kind, dtype, extra="none", byteorder="<", bigtiff=False, **layout):
    "The bytes of a file."
    pixels, f = samples(kind, dtype), io.BytesIO()
    if extra != "none": pixels = with_extra(pixels, dtype, extra)
    if kind == "palette": layout["colormap"] = table(dtype)
    if pixels.ndim == 2: layout.pop("planarconfig", None)
    if "planarconfig" in layout: pixels = np.moveaxis(pixels, 2, 0)
    with tifffile.TiffWriter(f, byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(pixels, photometric=kind, extrasamples=EXTRAS[extra], metadata=None, **layout)
    return f.getvalue()


def photo(kind, dtype):
    "What shall come out."
    if kind == "palette": return table(dtype)[:, GRAY].transpose(1, 2, 0)/257
    return np.dstack([GRAY]*3) if kind.startswith("minis") else PHOTO


def makes_sense(kind, extra):
    "What isn't tried is Lab with more samples, and what no specification says how to multiply."
    if extra == "multiplied": return kind in ("minisblack", "rgb")
    return extra == "none" or kind in ("minisblack", "miniswhite", "rgb", "separated")


def off(a, b): return np.abs(np.asarray(a, float) - b).max()


USUAL = list(itertools.product(["minisblack", "rgb"], ["u1", "u2"]))  # without any extra
NEEDS_EXTRA = "is a TIFF that needs the extra tiff; in a clone of this project: pip install '.[tiff]'"
CASES = [(*kind, extra) for kind in KINDS for extra in EXTRAS if makes_sense(kind[0], extra)]


def check(file, kind, dtype, extra="none", about=""):
    "A file holds the photo, within what rounding costs."
    most = 5 if "lab" in kind else 3 if extra == "multiplied" else 1
    image = load_image(file)
    assert image.mode == ("RGBA" if extra in ("alpha", "multiplied") else "RGB"), about
    assert off(image.convert("RGB"), photo(kind, dtype)) <= most, about
    if image.mode == "RGBA": assert off(image.getchannel("A"), ALPHA) <= 1, about


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind, dtype, extra", CASES)
def test_every_kind_comes_out_right(kind, dtype, extra, compression):
    for layout in LAYOUTS:
        check(written(kind, dtype, extra, compression=compression, **layout), kind, dtype, extra, layout)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind, dtype", KINDS)
def test_predictors_and_lzma(kind, dtype, order):
    predictor = "floatingpoint" if dtype[0] == "f" else "horizontal"
    for options in (dict(compression="zlib", predictor=predictor), dict(compression="lzma")):
        try: file = written(kind, dtype, byteorder=order, **options)
        except KeyError as e:
            assert "requires the 'imagecodecs' package" in str(e)
            continue
        check(file, kind, dtype, about=options)


def by_hand(order, strip, **tags):
    "A file of one strip and of these tags, which lies behind the directory and what had no room there."
    usual = dict(width=40, height=32, bits=8, compression=1, meaning=1, place=0, count=1, rows=32)
    tags = usual | dict(length=len(strip)) | tags
    end = 8 + 2 + 12*len(tags) + 4
    sizes = {name: (4 if name in ("place", "length") else 2)*np.size(value) for name, value in tags.items()}
    tags["place"] = end + sum(size for size in sizes.values() if size > 4)
    entries, after = b"", b""
    for name, code in CODES.items():
        if name not in tags: continue
        kind, size = (4, "u4") if name in ("place", "length") else (3, "u2")
        content = np.array(tags[name]).astype(order + size).tobytes()
        if len(content) > 4: content, after = struct.pack(order + "I", end + len(after)), after + content
        entries += struct.pack(order + "HHI", code, kind, np.size(tags[name])) + content.ljust(4, b"\0")
    head = dict(zip("<>", (b"II", b"MM")))[order] + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + after + strip


def packbits(row):
    "Bytes as runs of different ones, which is no less PackBits for being longer."
    runs = [row[i:i + 128] for i in range(0, len(row), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def in_bytes(numbers, bits):
    "Numbers of so many bits without gaps, and zeros to the next byte."
    text = "".join(f"{number:0{bits}b}" for number in numbers)
    size = -(-len(text)//8)
    return int(text.ljust(8*size, "0"), 2).to_bytes(size)


def lzw(content):
    "Bytes as 9-bit codes for themselves; the table is forgotten before it needs a tenth bit."
    codes = []
    for i, byte in enumerate(content): codes += [256, byte] if i%200 == 0 else [byte]
    return in_bytes([*codes, 257], 9)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [5, 32773], ids=["lzw", "packbits"])
@pytest.mark.parametrize("kind, dtype", KINDS)
def test_old_compressions(kind, dtype, compression, order):
    pixels = samples(kind, dtype)
    rows = [row.astype(order + dtype).tobytes() for row in pixels]
    count = pixels[0, 0].size
    more = dict(palette=table(dtype).ravel()) if kind == "palette" else {}
    strip = lzw(b"".join(rows)) if compression == 5 else b"".join(map(packbits, rows))
    file = by_hand(
        order, strip, compression=compression, count=count, bits=[8*int(dtype[1])]*count,
        meaning=MEANINGS[kind], format=[3 if dtype[0] == "f" else 1]*count, **more)
    try: check(file, kind, dtype)
    except ImageError as e:
        assert compression == 5 and str(e).endswith(NEEDS_EXTRA), e
        assert (kind, dtype) not in USUAL


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite", "rgb"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 24])
def test_packed_bits(bits, kind, order):
    rgb, levels = photo(kind, "u1"), 2**bits - 1
    a = np.round((rgb if kind == "rgb" else GRAY)/255*levels).astype(int)
    if kind == "miniswhite": a = levels - a
    strip, count = b"".join(in_bytes(row.ravel(), bits) for row in a), a[0, 0].size
    file = by_hand(order, strip, bits=[bits]*count, count=count, meaning=MEANINGS[kind])
    try: assert off(load_rgb(file), np.round(rgb/255*levels)/levels*255) <= 1
    except ImageError as e:
        assert str(e).endswith(NEEDS_EXTRA), e
        assert (bits, kind, order) != (12, "minisblack", "<") and bits != 8


def test_the_two_that_were_reported():
    deep = GRAY.astype("u2")*257
    assert np.corrcoef(load_rgb(written("miniswhite", "u2"))[..., 1].ravel(), GRAY.ravel())[0, 1] > .999
    white = by_hand("<", in_bytes([4095]*1280, 12), bits=12)
    assert (load_rgb(white) == 255).all()
    assert off(load_rgb(Image.open(io.BytesIO(written("miniswhite", "u2"))))[..., 1], GRAY) <= 1  # opened elsewhere
    assert off(load_rgb(deep)[..., 1], GRAY) == 0


def test_what_was_decoded_elsewhere_is_refused():
    image = Image.open(io.BytesIO(written("miniswhite", "u2")))
    image.load()
    image.fp = None
    with pytest.raises(ImageError, match="photo: Pillow doesn't read this TIFF as it is meant; give the file instead"):
        load_image(image, "photo")


def test_lab_is_converted_and_its_a_is_no_transparency():
    red = Image.new("LAB", (4, 3), (138, 209, 198))  # of sRGB, under D50
    for source in (red, encoded(red)):
        image = load_image(source)
        assert image.mode == "RGB" and off(image, [255, 0, 0]) <= 5


def encoded(image, format="TIFF", **kw):
    f = io.BytesIO()
    image.save(f, format, **kw)
    return f.getvalue()


@pytest.mark.parametrize("dtype, says", [
    ("i2", "image: int16 pixels must lie in 0…255, found -5…300"),
    ("i4", "image: int32 pixels must lie in 0…255, found -5…300"), ("c8", "image: complex64 is no pixel type")])
def test_what_has_no_white_is_refused(dtype, says):
    f = io.BytesIO()
    tifffile.imwrite(f, np.linspace(-5, 300, 1280).reshape(32, 40).astype(dtype), photometric="minisblack")
    with pytest.raises(ImageError, match=says): load_image(f.getvalue())


def test_other_colours_are_refused():
    f = io.BytesIO()
    tifffile.imwrite(f, GRAY.astype("u2"), photometric="cfa", metadata=None,
                     extratags=[(33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes([0, 1, 1, 2]), True)])
    says = "is a TIFF that can't be read .its colours are CFA.; convert it to RGB or gray of 8 or 16 bits"
    with pytest.raises(ImageError, match=says): load_image(f.getvalue())


def test_a_hollow_tiff_is_refused_before_it_is_decoded():
    file = by_hand("<", bytes(99), width=9000, height=9000, rows=9000, bits=16, meaning=0)
    says = "hollow: says it has 9000×9000 pixels, but is only"
    with pytest.raises(ImageError, match=says): load_image(file, "hollow")


@pytest.mark.parametrize("sides", [dict(width=0, height=4), dict(width=4, height=0)])
def test_a_tiff_without_pixels_is_refused(sides):
    file = by_hand("<", bytes(32), bits=16, meaning=0, **sides)
    with pytest.raises(ImageError, match="empty: .*it has no pixels"): load_image(file, "empty")


def test_turned_and_described(tmp_path):
    exif = [(274, 3, 1, 6, True), (271, 2, 6, "Maker", True)]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = load_image(written("rgb", "f4", extratags=exif, iccprofile=profile))
    assert image.size == (32, 40) and off(np.asarray(image), np.rot90(PHOTO, -1)) <= 1
    assert image.info["icc_profile"] == profile and image.getexif()[271] == "Maker" and 274 not in image.getexif()


def test_without_tifffile_a_photo_is_read_and_a_tiff_is_named(python, tmp_path):
    (tmp_path/"a.jpg").write_bytes(encoded(Image.fromarray(PHOTO), "JPEG"))
    (tmp_path/"b.tif").write_bytes(encoded(Image.fromarray(PHOTO), compression="tiff_lzw"))
    (tmp_path/"c.tif").write_bytes(written("miniswhite", "u2"))
    done = python("""
import sys
from colorization.core.image import load_rgb
for name in ("a.jpg", "b.tif"): print(load_rgb(name).shape, "tifffile" in sys.modules, "torch" in sys.modules)
sys.modules["tifffile"] = None
try: load_rgb("c.tif")
except ValueError as e: print(e)
""")
    assert done.stdout.splitlines() == [
        "(32, 40, 3) False False", "(32, 40, 3) False False",
        "c.tif: is a TIFF that Pillow can't read as it is meant; pip install tifffile"], done.stderr


def pictures(ending, *pictures):
    "A file of several pictures."
    first, *others = map(Image.fromarray, pictures)
    return encoded(first, ending, save_all=True, append_images=others)


@pytest.fixture
def said(monkeypatch):
    "The lines that loading says."
    lines = []
    monkeypatch.setattr("colorization.core.image._warn", lines.append)
    return lines


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_largest_page_is_the_photo(place, said):
    pages = [PHOTO[::4, ::4], PHOTO[::2, ::2]]
    pages.insert(place, PHOTO)
    assert off(load_image(pictures("TIFF", *pages), "scan.tif"), PHOTO) == 0
    assert said == [f"scan.tif: has 3 pages; only the largest, page {place + 1}, is used"]


def test_a_page_that_pillow_reads_wrongly_behind_one_that_it_knows(said):
    f = io.BytesIO()
    with tifffile.TiffWriter(f) as writer:
        writer.write(PHOTO[::4, ::4], photometric="rgb", metadata=None)
        writer.write(65535 - GRAY.astype("u2")*257, photometric="miniswhite", metadata=None)
    assert off(load_image(f.getvalue(), "scan.tif"), np.dstack([GRAY]*3)) <= 1
    assert len(said) == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_named(kind, said):
    image = load_image(pictures(kind, PHOTO, 255 - PHOTO), "dance")
    assert said == ["dance: has 2 pictures; only the first is used"]
    assert off(image.convert("RGB"), PHOTO) < 120  # not the other one
    load_image(encoded(Image.fromarray(PHOTO), kind))
    assert len(said) == 1
