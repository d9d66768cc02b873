"Files of several pages: all of them are coloured on demand, or it is said which can't be."
import io
import json

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from skimage import data
from test_cli import files, lines, run, run_fresh

from colorization import Colorizer
from colorization.core.checks import ColorizeError, ImageError
from colorization.core.painting import save_like
from colorization.eccv16 import ECCV16

PHOTO = data.coffee()[:200, :300]
GRAY = PHOTO[..., 1]
LIES = [(274, 3, 1, 6, True)]  # its orientation, as a tag of tifffile


@pytest.fixture(scope="module")
def colorizer(): return Colorizer(ECCV16(0.05, size=32), precision="fp32")


def scan(path, *pages, **layout):
    "A TIFF of these pages: pixels, or pixels and how to write them."
    with tifffile.TiffWriter(path, **layout) as writer:
        for page in pages:
            pixels, how = page if isinstance(page, tuple) else (page, {})
            writer.write(pixels, metadata=None, **how)
    return path


def mixed(path, **layout):
    "Pages of four sizes and kinds; one lies."
    deep, white = GRAY[:40].astype(np.uint16)*257, (255 - GRAY[:, :64], dict(photometric="miniswhite"))
    return scan(path, PHOTO, deep, (PHOTO[:64, :48], dict(extratags=LIES, compression="zlib")), white, **layout)


def pages_of(path):
    "Size, mode and pixels of each page of a file."
    found = []
    with Image.open(path) as image:
        for page in range(image.n_frames):
            image.seek(page)
            found.append((image.size, image.mode, np.asarray(image)))
    return found


@pytest.mark.parametrize("layout", [{}, dict(bigtiff=True), dict(byteorder=">")])
def test_each_page_is_coloured_as_if_it_were_alone(colorizer, layout, tmp_path):
    mixed(tmp_path/"scan.tif", **layout)
    (source, problem), = colorizer.each(
        [tmp_path/"scan.tif"], pages="all", then=lambda source, pictures: save_like(pictures, tmp_path/"all.tif"))
    found = pages_of(tmp_path/"all.tif")
    assert [size for size, *_ in found] == [(300, 200), (300, 40), (64, 48), (64, 200)] and problem is None
    alone = [PHOTO, GRAY[:40], np.rot90(PHOTO[:64, :48], -1), GRAY[:, :64]]
    for (_, mode, pixels), photo in zip(found, alone):
        (_, expected), = colorizer.each([photo])
        assert mode == "RGB" and np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1
    assert len(pages_of(tmp_path/"all.tif")) == len(list(colorizer.pages((tmp_path/"scan.tif").read_bytes())))


def test_only_pages_that_stand_for_themselves(colorizer, tmp_path, caplog):
    small = dict(subfiletype=1)
    scan(tmp_path/"scan.tif", (PHOTO[::8, ::8], small), PHOTO, (GRAY > 9, dict(subfiletype=4)), GRAY)
    assert [picture.size for picture in colorizer.pages(tmp_path/"scan.tif")] == [(300, 200)]*2
    assert caplog.messages == [
        f"{tmp_path}/scan.tif: has 4 pages; 2 that are smaller copies or masks aren't used"]
    scan(tmp_path/"with a thumbnail.tif", (PHOTO[::8, ::8], small), PHOTO)
    (_, done), = colorizer.each([tmp_path/"with a thumbnail.tif"], pages="all",
                                then=lambda source, pictures: save_like(pictures, tmp_path/"photo.jpg"))
    assert done is None and Image.open(tmp_path/"photo.jpg").size == (300, 200)


def test_what_has_no_pages_is_one_photo(colorizer, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path/"photo.png")
    sources = [tmp_path/"photo.png", PHOTO, Image.fromarray(GRAY), scan(tmp_path/"one.tif", PHOTO)]
    for _, picture in colorizer.each(sources, pages="all"): assert picture.size == (300, 200)
    for source in sources: assert len(list(colorizer.pages(source))) == 1
    for nothing in (tmp_path/"nowhere.tif", b"", tmp_path):
        with pytest.raises(ImageError): list(colorizer.pages(nothing))
    says = "pages: must be one of 'largest', 'all', got 'some'"
    with pytest.raises(ColorizeError, match=says): list(colorizer.each(sources, pages="some"))


def test_order_stays_and_errors_are_yielded(colorizer, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path/"photo.png")
    (tmp_path/"broken.png").write_bytes(b"no photo")
    paths = [tmp_path/"photo.png", mixed(tmp_path/"a.tif"), tmp_path/"broken.png", mixed(tmp_path/"b.tif")]
    found = dict(colorizer.each(paths, pages="all"))
    assert list(found) == paths and isinstance(found[paths[2]], ImageError)
    assert [len(found[path]) for path in (paths[1], paths[3])] == [4, 4]
    by_default = dict(colorizer.each(paths))
    assert by_default[paths[1]].size == (300, 200)


def test_exif_of_each_page_is_kept(colorizer, tmp_path):
    pictures = [colorizer(PHOTO) for _ in range(3)]
    for number, picture in enumerate(pictures):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = f"Maker {number}"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"200{number}:02:03 04:05:06"
        picture.info["exif"] = exif.tobytes()
    save_like(pictures, tmp_path/"all.tif")
    for number, picture in enumerate(colorizer.pages(tmp_path/"all.tif")):
        exif = picture.getexif()
        assert exif[ExifTags.Base.Make] == f"Maker {number}"
        original = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal]
        assert original == f"200{number}:02:03 04:05:06"


def cut(path, tag, page):
    "Have a page's tag say that its pixels lie beyond the end of the file."
    with tifffile.TiffFile(path, mode="r+b") as file: file.pages[page].tags[tag].overwrite([10**8])


@pytest.mark.parametrize("harm", ["pixels", "directory"])
def test_a_damaged_page_is_named(harm, tmp_path):
    scan(tmp_path/"scan.tif", PHOTO, GRAY, PHOTO)
    if harm == "pixels": cut(tmp_path/"scan.tif", "StripOffsets", 1)
    else:
        with tifffile.TiffFile(tmp_path/"scan.tif") as file: last = file.pages[2].offset
        (tmp_path/"scan.tif").write_bytes((tmp_path/"scan.tif").read_bytes()[:last])
        assert last > 100
    Image.fromarray(PHOTO).save(tmp_path/"photo.png")
    done = run(tmp_path, "colorize", "scan.tif", "photo.png", "-o", "out", "--run-size", 32, "--pages", "all")
    page = 2 if harm == "pixels" else 3
    assert done.returncode == 1 and lines(done)[-1].startswith("1 coloured, 0 already there, 1 failed"), done.stderr
    assert lines(done)[0].startswith(f"colorization: scan.tif, page {page}: "), done.stderr
    assert "copy it again" in lines(done)[0], done.stderr
    assert set(map(str, files(tmp_path/"out"))) == {"photo.png"}


def test_command(tmp_path):
    mixed(tmp_path/"scan.tif")
    command = ["colorize", "scan.tif", "--run-size", 32]
    done = run(tmp_path, *command, "-o", "out")
    assert done.returncode == 0 and len(pages_of(tmp_path/"out/scan.tif")) == 1
    assert lines(done)[0] == "scan.tif: has 4 pages; only the largest, page 1, is used"
    done = run(tmp_path, *command, "-o", "out", "--pages", "all")
    assert done.returncode == 2 and "(pages was largest, is all)" in lines(done)[0]
    done = run(tmp_path, *command, "-o", "out", "--pages", "all", "--overwrite")
    assert done.returncode == 0 and len(pages_of(tmp_path/"out/scan.tif")) == 4, done.stderr
    for output in (["-o", "out.jpg"], ["-o", "other", "--format", "png"]):
        done = run(tmp_path, *command, *output, "--pages", "all")
        assert done.returncode == 1 and "has room for one page, and there are several; end its name in .tif" in (
            lines(done)[0]), done.stderr
    assert not (tmp_path/"out.jpg").exists()
    with open(tmp_path/"scan.tif", "rb") as file:
        done = run_fresh(tmp_path, "colorize", "-", "-o", "-", "--pages", "all", "--run-size", 32, stdin=file)
    assert len(pages_of(io.BytesIO(done.stdout))) == 4, done.stderr


def test_a_record_from_before_pages_were_an_option(tmp_path):
    mixed(tmp_path/"scan.tif")
    command = ["colorize", "scan.tif", "--run-size", 32, "-o", "out/"]
    assert run(tmp_path, *command).returncode == 0
    record = tmp_path/"out/.colorization.jsonl"
    entry = json.loads(record.read_text().strip())
    assert entry["options"].pop("pages") == "largest"
    record.write_text(json.dumps(entry))
    done = run(tmp_path, *command)
    assert done.returncode == 0 and lines(done)[-1].startswith("0 coloured, 1 already there"), done.stderr
    assert run(tmp_path, *command, "--pages", "all").returncode == 2


def test_over_four_gigabytes(colorizer, tmp_path, monkeypatch):
    monkeypatch.setattr("colorization.core.painting._MOST", 300_000)
    with pytest.raises(ColorizeError, match="over 4 GB"): save_like([colorizer(PHOTO)]*2, tmp_path/"all.tif")
    assert not list(tmp_path.iterdir())
