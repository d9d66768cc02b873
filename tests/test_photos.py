"Photos as they come: colour profiles, HEIC and AVIF, and a package that is quick to import."
import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin
from skimage import data

from colorization import Colorizer
from colorization.core.painting import save_like
from colorization.eccv16 import ECCV16
from colorization.lab import load_image, load_rgb, rgb_to_lab

# Primaries (x, y) of red, green and blue; the white point of all is D65.
SRGB = [(.64, .33), (.30, .60), (.15, .06)]
P3 = [(.680, .320), (.265, .690), (.150, .060)]
ADOBE = [(.64, .33), (.21, .71), (.15, .06)]
D65, D50 = np.array([.95047, 1, 1.08883]), np.array([.9642, 1, .8249])
BRADFORD = np.array([[.8951, .2664, -.1614], [-.7502, 1.7135, .0367], [.0389, -.0685, 1.0296]])
CURVE = [2.4, 1/1.055, .055/1.055, 1/12.92, .04045]  # of sRGB: its power, and where it bends
SRGB_CURVE = b"para" + struct.pack(">IHH5i", 0, 3, 0, *[round(v*65536) for v in CURVE])


def xyz_matrix(primaries):
    "Linear RGB to XYZ under D65."
    m = np.array([[x/y, 1, (1 - x - y)/y] for x, y in primaries]).T
    return m*np.linalg.solve(m, D65)


def fixed(values): return b"".join(struct.pack(">i", round(v*65536)) for v in values)


def icc(kind, space, pcs, tags):
    "An ICC profile, version 4, of these tags."
    table, body = b"", b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", 132 + 12*len(tags) + len(body), len(value))
        body += value
    size, version, date = 132 + len(table) + len(body), 0x04200000, (2026, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s6H4s28x", size, version, kind, space, pcs, *date, b"acsp") + fixed(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def text(s): return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656e, 0x5553, 2*len(s), 28) + s.encode("utf-16-be")


def common(name): return {b"desc": text(name), b"cprt": text("none"), b"wtpt": b"XYZ " + bytes(4) + fixed(D50)}


def gamma(value): return b"curv" + struct.pack(">IIH", 0, 1, round(value*256))


def rgb_profile(primaries, curve):
    adapt = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50/(BRADFORD @ D65)) @ BRADFORD
    columns = (adapt @ xyz_matrix(primaries)).T
    places = {channel + b"XYZ": b"XYZ " + bytes(4) + fixed(xyz) for channel, xyz in zip((b"r", b"g", b"b"), columns)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return icc(b"mntr", b"RGB ", b"XYZ ", common("test") | places | curves)


def gray_profile(curve): return icc(b"mntr", b"GRAY", b"XYZ ", common("gray") | {b"kTRC": curve})


def cmyk_profile():
    "Ideal inks: black at the corners with all inks, white without any; between them, Lab on a straight line."
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab, lattice = ImageCms.buildTransform(srgb, lab, "RGB", "LAB"), []
    for c, m, y, k in np.ndindex(2, 2, 2, 2):
        rgb = tuple(255*(1 - v)*(1 - k) for v in (c, m, y))
        lattice += ImageCms.applyTransform(Image.new("RGB", (1, 1), rgb), to_lab).getpixel((0, 0))
    ramp = bytes(range(256))
    lut = b"mft1" + struct.pack(">4x4B", 4, 3, 2, 0) + fixed(np.eye(3).ravel()) + ramp*4 + bytes(lattice) + ramp*3
    return icc(b"prtr", b"CMYK", b"Lab ", common("inks") | {b"A2B0": lut, b"A2B1": lut})


def light(values): return np.where(values <= .04045*255, values/255/12.92, ((values/255 + .055)/1.055)**2.4)


def twin(rgb, primaries, decode):
    "The pixels that show the same colours as sRGB's `rgb` in another space; `decode` gives light to values."
    other = light(rgb) @ (np.linalg.inv(xyz_matrix(primaries)) @ xyz_matrix(SRGB)).T
    return np.round(decode(other.clip(0, 1))*255).astype(np.uint8)


def srgb_curve(light): return np.where(light <= .0031308, light*12.92, 1.055*light**(1/2.4) - .055)


def encoded(pixels, format="PNG", **kw):
    f = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(f, format, **kw)
    return f.getvalue()


def off(a, b): return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))


PHOTOS = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea")}
SPACES = {
    "P3": (rgb_profile(P3, SRGB_CURVE), P3, srgb_curve),
    "Adobe RGB": (rgb_profile(ADOBE, gamma(2.2)), ADOBE, lambda light: light**(1/2.2))}


@pytest.fixture(scope="module")
def colorizer():
    import torch
    torch.manual_seed(0)
    network = ECCV16(width=.05, size=64)
    network.model8[-1].weight.data *= 2000
    return Colorizer(network, device="cpu")


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_and_its_srgb_twin_give_the_same_colours(name, space, colorizer):
    photo, (profile, primaries, decode) = PHOTOS[name], SPACES[space]
    stored = twin(photo, primaries, decode)
    assert off(stored, photo).mean() > 2  # it makes a difference
    loaded = load_rgb(encoded(stored, icc_profile=profile))
    assert off(loaded, photo).mean() < 1
    result, expected = colorizer(encoded(stored, icc_profile=profile)), colorizer(photo)
    assert off(result, expected).mean() < 2
    kept = ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(kept)


def test_srgb_by_another_name_is_left_alone():
    profile = rgb_profile(SRGB, SRGB_CURVE)
    image = load_image(encoded(PHOTOS["coffee"], icc_profile=profile))
    assert (np.asarray(image) == PHOTOS["coffee"]).all() and image.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", ["L", "LA", "I;16"])
def test_gray_gamma(kind, colorizer):
    photo = np.asarray(Image.fromarray(PHOTOS["astronaut"]).convert("L"))
    stored = np.round(light(photo)**(1/1.8)*255).astype(np.uint8)
    assert off(stored, photo).mean() > 10
    alpha = np.full_like(stored, 200)
    pixels = {"L": stored, "LA": np.dstack([stored, alpha]), "I;16": stored.astype(np.uint16)*257}[kind]
    file = encoded(pixels, icc_profile=gray_profile(gamma(1.8)))
    loaded = load_image(file)
    assert loaded.mode == ("RGBA" if kind == "LA" else "RGB")
    rgb = np.asarray(loaded)[..., :3]
    assert off(rgb, np.stack([photo]*3, 2)).mean() < 1 and np.ptp(rgb, axis=2).max() <= 1
    assert colorizer(file).info["icc_profile"][16:20] == b"RGB "


def test_cmyk():
    inks = [[0, 0, 0, 0], [0, 255, 255, 0], [255, 0, 255, 0], [255, 255, 0, 0], [0, 0, 0, 255]]
    image = Image.frombytes("CMYK", (5, 1), np.uint8(inks).tobytes())
    loaded = load_rgb(encoded(image, "TIFF", icc_profile=cmyk_profile()))[0]
    assert off(loaded, [[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]).max() < 12


def test_a_broken_profile_is_named_once_in_one_line(python, tmp_path):
    (tmp_path/"photo.png").write_bytes(encoded(PHOTOS["coffee"], icc_profile=b"no profile"))
    done = python("from colorization.lab import load_rgb; [load_rgb('photo.png') for _ in range(3)]")
    said = "photo.png: its colour profile is broken, or meant for other pixels; it is ignored\n"
    assert (done.returncode, done.stderr) == (0, said)


@pytest.fixture
def writes_heic():
    "Pillow, with what `pillow-heif` adds to it."
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener
        register_heif_opener()


@pytest.mark.parametrize("kind, ending", [("HEIF", "heic"), ("AVIF", "avif")])
def test_heic_and_avif(kind, ending, colorizer, tmp_path, writes_heic):
    if kind not in Image.SAVE: pytest.skip(f"nothing here writes {kind}")
    photo = PHOTOS["coffee"]
    profile, primaries, decode = SPACES["P3"]
    stored = twin(photo, primaries, decode)
    (tmp_path/f"photo.{ending}").write_bytes(encoded(stored, kind, quality=95, icc_profile=profile))
    (source, result), = colorizer.folder(tmp_path)
    assert source.name == f"photo.{ending}" and result.size == (600, 400)
    assert off(load_rgb(source), photo).mean() < 4


def test_heic_without_its_package_names_the_extra(python, tmp_path):
    (tmp_path/"photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    code = """
import sys
sys.modules["pillow_heif"] = None
from colorization.cli import main
sys.exit(main(["colorize", ".", "-o", "out"]))
"""
    done = python(code)
    needs = "needs the extra heif; in a clone of this project: pip install '.[heif]'"
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"colorization: photo.heic: is a HEIC photo, which {needs}"


def test_heic_is_opened_in_a_fresh_process(python, tmp_path, writes_heic):
    if "HEIF" not in Image.SAVE: pytest.skip("nothing here writes HEIF")
    (tmp_path/"photo.heic").write_bytes(encoded(PHOTOS["coffee"], "HEIF"))
    done = python("""
from PIL import Image
from colorization.lab import load_rgb
print("HEIF" in Image.OPEN, load_rgb("photo.heic").shape, "HEIF" in Image.OPEN)
""")
    assert done.stdout == "False (400, 600, 3) True\n", done.stderr


def test_the_package_is_quick_to_import(python):
    code = """
import sys, colorization
print('torch' in sys.modules, 'numpy' in sys.modules)
from colorization import Colorizer
from colorization.core.painting import save_like
print(Colorizer.__module__, 'torch' in sys.modules)
try: colorization.Colourizer
except AttributeError as e: print(e)
"""
    done = python(code)
    unknown = "module 'colorization' has no attribute 'Colourizer'"
    assert done.stdout.splitlines() == ["False False", "colorization.colorize True", unknown], done.stderr


XMP = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><a>Lyon</a></x:xmpmeta><?xpacket end="w"?>'
IPTC = b"\x1c\x02\x78\0\x07harbour"  # a caption


def captioned(kind):
    "A photo with all captions that its kind of file has, and 600 dpi."
    photo, comment = Image.fromarray(PHOTOS["coffee"][:40, :60]), "caf\u00e9"
    if kind == "JPEG":
        block = b"Photoshop 3.0\08BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC
        segment = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
        return encoded(photo, kind, xmp=XMP, comment=comment.encode(), dpi=(600, 600), extra=segment)
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", comment)
        texts.add_text("Title", "Kaffee", zip=True)
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encoded(photo, kind, pnginfo=texts, dpi=(600, 600))
    if kind == "WEBP": return encoded(photo, kind, xmp=XMP)
    return encoded(photo, kind, tiffinfo={700: XMP, 33723: IPTC, 270: comment.encode()}, dpi=(600, 600))


def captions(path):
    "What the file of a result says."
    image = Image.open(path)
    image.load()
    info, tags = image.info, getattr(image, "tag_v2", {})
    comment = info.get("comment") or info.get("Comment") or tags.get(270, "").encode("latin-1")
    return dict(
        xmp=info.get("xmp"), iptc=info.get("photoshop", {}).get(0x0404) or tags.get(33723), title=info.get("Title"),
        comment=comment.decode() if isinstance(comment, bytes) else comment,
        dpi=tuple(map(round, info["dpi"])) if "dpi" in info else None)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_captions_and_resolution_stay(kind, ending, colorizer, tmp_path):
    save_like(colorizer(captioned(kind)), tmp_path/f"result.{ending}")
    found = captions(tmp_path/f"result.{ending}")
    assert found["xmp"] == XMP
    if kind != "WEBP" != ending.upper(): assert found["dpi"] == (600, 600)
    if "WEBP" not in (kind, ending.upper()) and (kind, ending) != ("TIFF", "png"):
        if kind != "TIFF" or ending == "tif": assert found["comment"] == "caf\u00e9"
    if kind in ("JPEG", "TIFF") and ending in ("jpg", "tif"): assert found["iptc"] == IPTC
    if kind == "PNG" and ending == "png": assert found["title"] == "Kaffee"


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_names_as_long_as_the_file_system_takes(ending, colorizer, tmp_path):
    path = tmp_path/("n"*(254 - len(ending)) + "." + ending)
    save_like(colorizer(PHOTOS["coffee"][:40, :60]), path)
    assert load_rgb(path).shape == (40, 60, 3) and [*tmp_path.iterdir()] == [path]


def test_mpo_is_a_photo_in_a_folder(colorizer, tmp_path):
    pages = [Image.fromarray(PHOTOS[name][:40, :60]) for name in ("coffee", "chelsea")]
    (tmp_path/"twice.mpo").write_bytes(encoded(pages[0], "MPO", save_all=True, append_images=pages[1:]))
    (source, result), = colorizer.folder(tmp_path)
    assert source.name == "twice.mpo" and result.size == (60, 40)


CUT = {"jpg": {}, "mpo": dict(save_all=True, append_images=[Image.new("RGB", (8, 8))]), "png": {}, "gif": {}, "bmp": {},
       "tif": {}}


@pytest.mark.parametrize("ending", CUT)
def test_what_is_there_of_a_truncated_photo(ending, colorizer, tmp_path, caplog):
    path = tmp_path/f"photo.{ending}"
    Image.fromarray(PHOTOS["coffee"]).save(path, **CUT[ending])
    whole, content = load_rgb(path), path.read_bytes()
    path.write_bytes(content[:len(content)//2])
    with pytest.raises(ValueError, match="photo.* is truncated"): colorizer(path)
    tolerant = Colorizer(colorizer.model, precision="fp32", tolerate_truncated=True)
    assert tolerant(path).size == whole.shape[1::-1]
    assert caplog.messages == [f"{path}: the end of the file is missing; what is there is used"]
    there = load_image(path, tolerate_truncated=True).convert("RGB")
    rows = off(there, whole).max((1, 2)) <= 8
    assert 0.4 < rows.mean() < 0.6
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ValueError, match="is truncated"): colorizer(path)  # elsewhere it is refused as before


def test_a_truncated_progressive_jpeg(tmp_path):
    file = encoded(PHOTOS["coffee"], "JPEG", progressive=True)
    there = load_image(file[:len(file)//2], "photo.jpg", tolerate_truncated=True)
    assert off(there, load_rgb(file)).mean() < 10  # all of it, but coarse


def test_nothing_is_tolerated_but_a_missing_end():
    file = encoded(PHOTOS["coffee"], "PNG")
    for damaged in (file[:30], b"", file[:200] + bytes(200) + file[400:]):
        with pytest.raises(ValueError, match="^image: "): load_image(damaged, tolerate_truncated=True)


def test_lab_of_whole_numbers_is_refused():
    import torch
    says = "rgb: must be floats in .0, 1., got uint8; see `to_tensor`"
    with pytest.raises(ValueError, match=says): rgb_to_lab(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


def test_refusals_say_what_would_help():
    jpeg = encoded(PHOTOS["coffee"], "JPEG")
    says = "truncated.*; the end of the file is missing: copy it again; colorize --tolerate-truncated colours what is"
    with pytest.raises(ValueError, match=says): load_image(jpeg[:len(jpeg)//2])
    float_tiff = encoded(Image.fromarray(np.linspace(-.01, 1.02, 60, dtype=np.float32).reshape(6, 10)), "TIFF")
    with pytest.raises(ValueError, match="found -0.01…1.02; clip them to 0…1"): load_image(float_tiff)
