"The program `colorization`, in processes of its own."
import inspect
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import termios
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Warm
from PIL import ExifTags, Image, ImageCms
from skimage import color, data

from colorization.cli import _parser, options_of, score
from colorization.core.disk import MACHINE
from colorization.dataset import load_photos
from colorization.eccv16 import ECCV16, save_model

CODE = "import sys; from colorization.cli import main; sys.exit(main())"
PROGRAM = [sys.executable, "-c", CODE]
ENV = os.environ | dict(PYTHONPATH=str(ROOT))
DAMAGE = [lambda b: b[:len(b)//2], lambda b: b"", lambda b: b"not a photo", lambda b: b[:100], lambda b: bytes(len(b))]


def run(folder, *arguments): return Warm(CODE, folder, *arguments).done()


def run_fresh(folder, *arguments, **kw):
    return subprocess.run([*PROGRAM, *map(str, arguments)], cwd=folder, env=ENV, capture_output=True, timeout=300, **kw)


def start(folder, *arguments, **kw):
    return subprocess.Popen([*PROGRAM, *map(str, arguments)], cwd=folder, env=ENV, **kw)


def files(folder):
    "The files in a folder, without the record that a job keeps, and when they were written."
    found = [p for p in Path(folder).rglob("*") if not p.is_dir() and p.name != ".colorization.jsonl"]
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in found}


def lines(done): return done.stderr.decode().splitlines()


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    "A folder with 90 JPEG files in nested folders and 10 damaged ones among them; gives it and the damaged ones."
    root, large = tmp_path_factory.mktemp("photos"), ROOT.parent/"shared/data/imagenet-photos"
    table = load_photos(str(large) if large.exists() else "samples", "train")
    bad = set()
    for i in range(100):
        path = root/f"{i%3}"/f"{i%5}"/f"photo {i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        table[i % len(table)]["image"].convert("RGB").save(path)
        if i % 10 == 7:
            path.write_bytes(DAMAGE[i//10 % len(DAMAGE)](path.read_bytes()))
            bad.add(path.relative_to(root))
    return root, bad


def test_killed_folder_job_goes_on(hundred, tmp_path):
    root, bad = hundred
    job = Warm(CODE, tmp_path, "colorize", root, "-o", "out")
    job.wait_for(lambda: len(list(tmp_path.rglob("photo*.jpg"))) >= 40)
    job.process.kill()
    job.done()
    finished = {p: t for p, t in files(tmp_path/"out").items() if not p.name.startswith(".")}
    assert 40 <= len(finished) < 90
    for p in finished: Image.open(tmp_path/"out"/p).load()
    (tmp_path/f"out/0/0/.99999999-{MACHINE}-photo 60.jpg").write_bytes(b"half a file")

    done = run(tmp_path, "colorize", root, "-o", "out")
    assert done.returncode == 1
    assert {line.split(": ")[1] for line in lines(done)[:-1]} == {str(root/p) for p in bad} and len(lines(done)) == 11
    assert lines(done)[-1].startswith(f"{90 - len(finished)} coloured, {len(finished)} already there, 10 failed; ")
    results = files(tmp_path/"out")
    assert set(results) == set(files(root)) - bad
    assert {p: results[p] for p in finished} == finished
    for p in results:
        with Image.open(tmp_path/"out"/p) as result, Image.open(root/p) as photo:
            result.load()
            assert result.size == photo.size and result.format == "JPEG"

    again = run(tmp_path, "colorize", root, "-o", "out")
    assert again.returncode == 1 and lines(again)[-1].startswith("0 coloured, 90 already there, 10 failed; ")
    assert files(tmp_path/"out") == results


def test_two_jobs_in_one_folder(hundred, tmp_path):
    root, bad = hundred
    jobs = [Warm(CODE, tmp_path, "colorize", root, "-o", "out") for _ in range(2)]
    for job in jobs:
        done = job.done()
        assert done.returncode == 1 and b", 10 failed; " in done.stderr.splitlines()[-1], done.stderr
    results = files(tmp_path/"out")
    assert set(results) == set(files(root)) - bad
    for p in results: Image.open(tmp_path/"out"/p).load()


def test_24_megapixels_in_bounded_memory(tmp_path):
    Image.fromarray(data.astronaut()).resize((6000, 4000)).save(tmp_path/"large.jpg")
    process = start(tmp_path, "colorize", "large.jpg", "-o", "coloured.jpg", stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and Image.open(tmp_path/"coloured.jpg").size == (6000, 4000)
    assert usage.ru_maxrss < 2*2**20  # KiB
    assert usage.ru_utime + usage.ru_stime < 30  # 15 s on two cores


def test_lightness_orientation_exif_and_profile_are_kept(tmp_path):
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Maker"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    photo = Image.fromarray(data.coffee())
    photo.save(tmp_path/"photo.png", exif=exif.tobytes(), icc_profile=profile)
    assert run(tmp_path, "colorize", "photo.png", "-o", "coloured.png", "--saturation", 3).returncode == 0
    result = Image.open(tmp_path/"coloured.png")
    upright = np.asarray(photo.transpose(Image.Transpose.ROTATE_270))
    assert result.size == upright.shape[1::-1]
    assert ExifTags.Base.Orientation not in result.getexif()
    assert result.getexif()[ExifTags.Base.Make] == "Maker" and result.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert result.info["icc_profile"] == profile
    rgb = np.asarray(result)
    in_gamut = ((rgb > 0) & (rgb < 255)).all(-1)
    drift = np.abs(color.rgb2lab(rgb) - color.rgb2lab(upright))[..., 0]
    assert in_gamut.mean() > 0.05 and drift[in_gamut].max() < 1


def test_batches_of_mixed_sizes_change_nothing(tmp_path):
    for i, (width, height) in enumerate([(300, 200), (31, 400), (1, 1), (256, 256), (90, 40)]):
        (tmp_path/"in").mkdir(exist_ok=True)
        Image.fromarray(data.astronaut()).resize((width, height)).save(tmp_path/f"in/{i}.png")
    for size in (1, 4): assert run(tmp_path, "colorize", "in", "-o", f"out{size}", "--batch-size", size).returncode == 0
    for name in files(tmp_path/"in"): assert (tmp_path/"out1"/name).read_bytes() == (tmp_path/"out4"/name).read_bytes()


def test_many_kinds_of_input_and_of_results(tmp_path):
    photo = Image.fromarray(data.chelsea()).resize((60, 40))
    for name in ("a/x.jpg", "a/deep/y.png", "b/x.jpg", "b/z.gif", "b/.hidden.jpg", "a/notes.txt"):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path/name, "PNG")
    assert run(tmp_path, "colorize", "a", "b", "-o", "two").returncode == 0
    assert set(map(str, files(tmp_path/"two"))) == {"a/x.jpg", "a/deep/y.png", "b/x.jpg", "b/z.png"}
    assert run(tmp_path, "colorize", "**/x.jpg", "-o", "x", "--format", "webp", "--quality", 50).returncode == 0
    assert set(map(str, files(tmp_path/"x"))) == {"a/x.webp", "b/x.webp", "two/a/x.webp", "two/b/x.webp"}
    for _ in range(2):
        done = run(tmp_path, "colorize", "a", "-o", "a/coloured")
        assert done.returncode == 0 and set(map(str, files(tmp_path/"a/coloured"))) == {"x.jpg", "deep/y.png"}
    assert lines(done)[-1].startswith("0 coloured, 2 already there, 0 failed")


def test_pipes(tmp_path):
    f = io.BytesIO()
    Image.fromarray(data.chelsea()).save(f, "JPEG")
    done = run_fresh(tmp_path, "colorize", "-", "-o", "-", "--format", "png", input=f.getvalue())
    assert done.returncode == 0 and Image.open(io.BytesIO(done.stdout)).format == "PNG"
    bad = run_fresh(tmp_path, "colorize", "-", "-o", "-", input=f.getvalue()[:3000])
    assert bad.returncode == 1 and bad.stdout == b""
    assert lines(bad)[0].startswith("colorization: <stdin>: can't be read")

    (tmp_path/"photo.jpg").write_bytes(f.getvalue())
    reading, writing = os.pipe()
    os.close(reading)
    process = start(tmp_path, "colorize", "photo.jpg", "-o", "-", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate()[1] == b"colorization: output -: can't be written (Broken pipe)\n"
    assert process.returncode == 2
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_progress_on_a_terminal(tmp_path):
    for i in range(3): Image.fromarray(data.chelsea()).save(tmp_path/f"{i}.jpg")
    (tmp_path/"0.jpg").write_text("not a photo")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    process = start(tmp_path, "colorize", "*.jpg", "-o", "out", "--batch-size", 1, stderr=end)
    os.close(end)
    text = b""
    try:
        while part := os.read(terminal, 1000): text += part
    except OSError: pass  # the other end is closed
    assert process.wait() == 1
    assert "3/3 [" in text.decode() and "photos/s]" in text.decode() and "<00:0" in text.decode(), text.decode()
    assert "colorization: 0.jpg: not an image" in text.decode()


@pytest.mark.parametrize("arguments, says", [
    ("colorize -o out", "required: PHOTO"),
    ("colorize photo.png -o out --temperature -1", "--temperature: must be a number, 0 to 1, got '-1'"),
    ("colorize photo.png -o out --temperature 1.5", "--temperature: must be a number, 0 to 1, got '1.5'"),
    ("evaluate --temperature 2", "--temperature: must be a number, 0 to 1"),
    ("export --temperature 2 model.onnx", "--temperature: must be a number, 0 to 1"),
    ("colorize photo.png -o out --temperature nan", "--temperature"),
    ("colorize photo.png -o out --run-size 5", "--run-size: must be a whole number, 32 or more"),
    ("colorize photo.png -o out --quality 101", "--quality: must be a whole number, 0 to 100"),
    ("colorize photo.png -o out --batch-size 0", "--batch-size"),
    ("colorize photo.png -o out --format gif", "invalid choice: 'gif'"),
    ("colorize photo.png -o out --colour blue", "unrecognized arguments: --colour blue"),
    ("colorize photo.png -o out --device toaster", "device: 'toaster' is unknown"),
    ("colorize photo.png -o out --model nowhere.safetensors", "model nowhere.safetensors: no such file"),
    ("colorize nowhere.jpg photo.png -o out", "photo nowhere.jpg: no such file"),
    ("colorize photo.png -o photo.png/out", "output photo.png/out: can't be written (Not a directory)"),
    ("colorize photo.png -o /proc/nowhere/out", "output /proc/nowhere/out: can't be written"),
    ("colorize photo.png -o ./photo.png", "output photo.png: is one of the photos"),
    ("evaluate --output /proc/scores.json", "can't be written"),
    ("finetune --epochs 0", "epochs: must be a whole number, 1 or more"),
    ("finetune --run-dir photo.png/run --epochs 1 --size 32", "run_dir photo.png/run: can't be written"),
    ("export photo.png/model.onnx", "there is no folder photo.png"),
    ("paint", "invalid choice: 'paint'"),
])
def test_mistakes_are_one_line_and_nothing_is_written(tmp_path, arguments, says):
    Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/"photo.png")
    before = files(tmp_path)
    done = run(tmp_path, *arguments.split())
    assert (done.returncode, done.stdout, len(lines(done))) == (2, b"", 1), done.stderr.decode()[-1000:]
    assert says in lines(done)[0]
    assert files(tmp_path) == before and os.listdir(tmp_path) == ["photo.png"]


QUICK = """
import sys
from colorization.cli import main
large = ("torch", "datasets", "skimage", "matplotlib", "safetensors.torch", "huggingface_hub")
try: main()
finally: print([m for m in large if m in sys.modules])
"""


@pytest.mark.parametrize("arguments, says", [
    ("evaluate --dataset nopath", "dataset nopath: no such folder"),
    ("evaluate --dataset empty", "dataset empty: is an empty folder"),
    ("evaluate --model nopath.safetensors", "model nopath.safetensors: no such file"),
    ("evaluate --model photo.png", "model photo.png: is no whole safetensors file"),
    ("evaluate --model empty", "model empty: is a folder without a checkpoint (it holds no model.safetensors)"),
    ("colorize photo.png --model net.pth", "model net.pth: is a file of PyTorch's, and no checkpoint of this package"),
    ("evaluate --split training", "split: must be one of 'train', 'validation', 'test', 'all', got 'training'"),
    ("evaluate --metrics beauty", "--metrics: must be one of auc, psnr"),
    ("evaluate --predictions nopath --truth .", "folder nopath: no such folder"),
    ("evaluate --predictions empty --truth .", "folder empty: holds no pictures"),
    ("evaluate --predictions .", "predictions and truth: give both, folders of pictures and the folder of their"),
    ("evaluate --predictions . --truth . --model eccv16", "predictions: leaves no use for model; leave it out"),
    ("evaluate --protocol beauty", "--protocol: must be one of paper, ddcolor, ddcolor-squashed, ct2, got 'beauty'"),
    ("evaluate --protocol paper --score-size 64", "protocol: leaves no use for score_size; leave it out"),
    ("colorize nopath.jpg", "photo nopath.jpg: no such file or folder"),
    ("colorize photo.png --model nopath", "model nopath: no such file"),
    ("colorize photo.png --device toaster", "device: 'toaster' is unknown; give cpu, cuda, cuda:1, mps or xpu"),
    ("colorize photo.png -o photo.png/out", "output photo.png/out: can't be written"),
    ("colorize photo.png -o done", "0 coloured, 1 already there, 0 failed"),
    ("finetune --dataset nopath", "dataset nopath: no such folder"),
    ("finetune --lr 0", "--lr: must be a number above 0, got '0'"),
    ("finetune --rebalance most", "--rebalance: must be one of smoothed, inverse, none, got 'most'"),
    ("finetune --labels firm", "--labels: must be one of hard, soft, got 'firm'"),
    ("finetune --prior coco", "--prior: must be one of data, imagenet, got 'coco'"),
    ("finetune --mix 2", "--mix: must be a number, 0 to 1, got '2'"),
    ("finetune --run-dir photo.png/run", "run_dir photo.png/run: can't be written"),
    ("refine --smoothing 2", "--smoothing: must be a number above 0.5, at most 1, got '2'"),
    ("export --model nopath model.onnx", "model nopath: no such file"),
    ("demo --models nopath", "model nopath: no such file"),
    ("report run beauty", "must be one of baseline, gamut"),
    ("report run --model nopath", "model nopath: no such file"),
])
def test_what_needs_no_work_is_said_at_once(tmp_path, arguments, says):
    Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/"photo.png")
    for folder in ("empty", "done"): (tmp_path/folder).mkdir()
    (tmp_path/"done/photo.png").write_bytes((tmp_path/"photo.png").read_bytes())
    (tmp_path/"net.pth").write_bytes(b"\x80\x02}q\x00.")  # a pickle
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK, *arguments.split()], cwd=tmp_path, env=ENV,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, _, usage = os.wait4(process.pid, 0)
    assert says in err and len(err.splitlines()) == 1, err
    assert out == "[]\n"
    assert usage.ru_utime + usage.ru_stime < 1  # 0.2 s


def test_a_folder_that_is_not_split_is_scored_whole(tmp_path):
    (tmp_path/"photos").mkdir()
    for i in range(12): Image.fromarray(data.chelsea()[10*i:10*i + 40, :40]).save(tmp_path/f"photos/{i}.png")
    command = "evaluate --dataset photos --score-size 32 --run-size 32 --metrics auc"
    for options, photos in {"": 12, "--split all": 12, "--split train": 11, "--split all --limit 5": 5}.items():
        done = run(tmp_path, *command.split(), *options.split())
        assert json.loads(done.stdout)["protocol"]["photos"] == photos, done.stderr


def test_pictures_of_the_program_have_its_numbers(tmp_path, monkeypatch):
    "Nearly, since `colorize` lets colours follow the edges. What doesn't fit is named, a line each."
    (tmp_path/"photos").mkdir()
    for i, rgb in enumerate((data.chelsea(), data.coffee(), data.astronaut())):
        Image.fromarray(rgb).resize((256, 256)).save(tmp_path/f"photos/{i}.png")
    run(tmp_path, "colorize", "photos", "-o", "ours", "--format", "png", "--precision", "fp32")
    monkeypatch.chdir(tmp_path)
    measured = ["auc", "psnr", "ssim", "colourfulness"]
    model = score(dataset="photos", metrics=measured)["rows"]["model"]

    shutil.copy("photos/0.png", "photos/3.png")
    shutil.copy("photos/0.png", "ours/4.png")
    Path("ours/3.png").write_bytes(b"no picture")
    folders = ["--predictions", "ours", "--truth", "photos"]
    done = run(tmp_path, "evaluate", *folders, "--per-photo", "a.csv", "--metrics", *measured)
    assert lines(done)[:3] == [
        "ours/3.png: not an image, or of a kind that Pillow can't read",
        "ours/4.png: there is no photo of that name in photos",
        "3 photos are scored; 2 faults are named above"]
    ours = json.loads(done.stdout)["rows"]["ours"]
    for name, near in dict(psnr=.3, ssim=.01, colourfulness=5).items():
        assert ours["image_mean"][name] == pytest.approx(model["image_mean"][name], abs=near)
    assert ours["pooled"]["auc"] == pytest.approx(model["pooled"]["auc"], abs=5e-3)
    header, *rows = Path("a.csv").read_text().splitlines()
    assert header == "photo,auc,auc_rebalanced,psnr,ssim,colourfulness"
    assert [row.partition(",")[0] for row in rows] == ["0", "1", "2"]


@pytest.mark.parametrize("weight", ["model3.0.weight", "model7.6.running_var"])
def test_a_network_that_predicts_no_numbers_writes_nothing(tmp_path, weight):
    "NaN weights are seen when the network is loaded, a variance below 0 at the first photo."
    network = ECCV16(.05, size=32)
    network.state_dict()[weight].view(-1)[0] = float("nan") if weight == "model3.0.weight" else -1
    save_model(network, tmp_path/"nan.safetensors")
    Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/"photo.jpg")
    for command in ("colorize photo.jpg -o out.jpg --precision fp32", "evaluate --limit 2 --score-size 32"):
        done = run(tmp_path, *command.split(), "--model", "nan.safetensors")
        assert done.returncode == 2 and "predicts colours that are NaN or infinite" in lines(done)[-1], done.stderr
    assert set(map(str, files(tmp_path))) == {"photo.jpg", "nan.safetensors"}


def test_truncated_photos_are_tolerated_on_demand(tmp_path):
    for name in ("whole", "cut"): Image.fromarray(data.chelsea()).save(tmp_path/f"{name}.jpg")
    (tmp_path/"cut.jpg").write_bytes((tmp_path/"cut.jpg").read_bytes()[:9000])
    command = ["colorize", "whole.jpg", "cut.jpg", "-o", "out", "--run-size", 32]
    done = run(tmp_path, *command)
    assert done.returncode == 1 and "colorize --tolerate-truncated colours what is there" in lines(done)[0]
    again = run(tmp_path, *command, "--tolerate-truncated")  # goes on, for what was whole comes out the same
    assert again.returncode == 0 and lines(again)[-1].startswith("1 coloured, 1 already there, 0 failed"), again.stderr
    assert lines(again)[0] == "cut.jpg: the end of the file is missing; what is there is used"
    assert set(map(str, files(tmp_path/"out"))) == {"whole.jpg", "cut.jpg"}


@pytest.mark.parametrize("command, now", [
    ("colorize photo.png -o out.png --size 40", "--run-size"),
    ("evaluate --limit 2 --metrics auc --run-size 32 --size 40", "--score-size")])
def test_options_by_their_former_names(command, now, tmp_path):
    Image.fromarray(data.chelsea()[:60, :60]).save(tmp_path/"photo.png")
    done, again = run(tmp_path, *command.split()), run(tmp_path, *command.replace("--size", now).split())
    assert (done.returncode, again.returncode) == (0, 0), done.stderr
    assert lines(done)[0] == f"--size is called {now} now" and b"is called" not in again.stderr
    assert done.stdout == again.stdout
    if command.startswith("evaluate"): assert json.loads(done.stdout)["protocol"]["height"] == 40
    helped = run(tmp_path, command.split()[0], "--help").stdout.decode()
    assert now in helped and " --size" not in helped


def test_without_an_output_results_go_to_coloured(tmp_path):
    Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/"photo.jpg")
    done = run(tmp_path, "colorize", "photo.jpg", "--run-size", 32)
    assert done.returncode == 0 and lines(done)[0] == "results go to the folder coloured; -o gives another one"
    assert set(map(str, files(tmp_path))) == {"photo.jpg", "coloured/photo.jpg"}
    again = run(tmp_path, "colorize", ".", "--run-size", 32)
    assert again.returncode == 0 and lines(again)[1].startswith("0 coloured, 1 already there")


def test_other_options_are_not_ignored_in_silence(tmp_path):
    for name in ("a", "b"): Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/f"{name}.png")
    assert run(tmp_path, "colorize", "a.png", "-o", "out/", "--run-size", 32).returncode == 0
    before = files(tmp_path)
    others = {
        "--saturation 2": "saturation was 1.0, is 2.0",
        "--temperature 0.5": "temperature was the model's own, is 0.5",
        "--model eccv16": "model was compact, is eccv16",
        "--quality 50": "quality was 95, is 50"}
    for more, says in others.items():
        done = run(tmp_path, "colorize", "a.png", "b.png", "-o", "out", "--run-size", 32, *more.split())
        assert (done.returncode, len(lines(done))) == (2, 1)
        assert lines(done)[0] == (
            f"colorization: output out: holds results made with other options ({says}); "
            "give --overwrite to make them anew, or another folder")
    assert files(tmp_path) == before
    assert run(tmp_path, "colorize", "a.png", "b.png", "-o", "out", "--run-size", 32).returncode == 0
    done = run(tmp_path, "colorize", "a.png", "b.png", "-o", "out", "--run-size", 32, "--saturation", 2, "--overwrite")
    assert lines(done)[-1].startswith("2 coloured, 0 already there")
    assert run(tmp_path, "colorize", "a.png", "-o", "out", "--run-size", 32).returncode == 2


def test_photos_whose_results_would_have_the_same_name(tmp_path):
    photo = Image.fromarray(data.chelsea()[:40, :40])
    for name in ("in/x.gif", "in/x.bmp", "in/x.png", "in/x.bmp.png", "in/deep/x.gif"):
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path/name)
    for expected in ("5 coloured, 0", "0 coloured, 5"):
        done = run(tmp_path, "colorize", "in", "-o", "out", "--run-size", 32)
        assert done.returncode == 0 and lines(done)[-1].startswith(expected)
        names = {"x.png", "x.bmp.png", "x.bmp.png.png", "x.gif.png", "deep/x.png"}
        assert set(map(str, files(tmp_path/"out"))) == names


def test_a_broken_profile_is_one_line(tmp_path):
    Image.fromarray(data.chelsea()[:40, :40]).save(tmp_path/"photo.png", icc_profile=b"none")
    done = run(tmp_path, "colorize", "photo.png", "-o", "out", "--run-size", 32)
    assert done.returncode == 0 and len(lines(done)) == 2
    assert lines(done)[0] == "photo.png: its colour profile is broken, or meant for other pixels; it is ignored"


def test_export(tmp_path):
    done = run(tmp_path, "export", "--model", "compact", "model.onnx")
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    facts = json.loads(done.stdout)
    assert facts["path"] == "model.onnx" and facts["difference"] < 1e-3 and os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("command, module, function", [
    ("report run", "reports", "run_reports"),
    ("evaluate", "cli", "score"),
    ("demo", "demo", "launch"),
])
def test_options_are_those_of_the_function(command, module, function):
    pytest.importorskip(f"colorization.{module}")
    def plain(value): return (list(value) if isinstance(value, (list, tuple)) else value) or None
    options = options_of(_parser(command.split()).parse_args(command.split()))
    parameters = inspect.signature(getattr(import_module(f"colorization.{module}"), function)).parameters
    for name, parameter in parameters.items():
        if name in options: assert plain(options[name]) == plain(parameter.default), name
    assert set(options) <= set(parameters)
