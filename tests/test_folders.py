"Folders that weren't laid out for machines: which photos of them are used, and what is said of the others."
import io
import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from colorization.core.checks import DatasetError, RunError
from colorization.core.image import photos_in
from colorization.dataset import fingerprint, load_photos
from colorization.finetune import finetune
from colorization.training.photos import Unreadable, describe_data, open_photos, photo_pairs, training_batches
from colorization.training.run import read_losses


def photo(place):
    "A small photo that no other is like."
    return PILImage.new("RGB", (40, 33), (7*place % 256, 90, 200))


def write(folder, *names):
    "A folder of photos of these names."
    for place, name in enumerate(names):
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        photo(place).save(folder/name)
    return folder


def used(folder, *splits, streaming=False):
    "Names of the photos in these splits, sorted."
    raw = [open_photos(str(folder), split, streaming).cast_column("image", Image(decode=False)) for split in splits]
    tables = [[next(rows)[1] for _ in range(len(table))] if streaming else list(table)
              for table in raw for rows in [table.read() if streaming else None]]
    return sorted(row["image"]["path"].removeprefix(f"{folder.resolve()}/") for table in tables for row in table)


both = pytest.mark.parametrize("streaming", [False, True])
EIGHT = [f"IMG_{i}.jpg" for i in range(8)]


@both
@pytest.mark.parametrize("names", [
    [*EIGHT, "train station.jpg", "a train.jpg"],
    [*EIGHT, "test.jpg", "my-test-1.jpg"],
    ["people/a.jpg", "ships/b.jpg", "train/c.jpg"],
    [f"train {i}.jpg" for i in range(4)] + [f"val-{i}.jpg" for i in range(4)],
    [f"data/train/{name}" for name in EIGHT] + [f"data/test/{name}" for name in EIGHT],
    ["Station/train/a.jpg", "Station/b.jpg", "eval_2020/c.jpg"],
    [f"[old] {name}" for name in EIGHT] + ["what?.jpg", "*.jpg", "a#b.jpg", "50%20.jpg"],
    [f"[1923]/{name}" for name in EIGHT] + ["w?/a.jpg", "*/b.jpg", "__thumbs/c.jpg"],
])
def test_names_decide_nothing(names, streaming, tmp_path):
    folder = write(tmp_path/"photos", *names)
    assert used(folder, "train", "validation", streaming=streaming) == sorted(names)
    assert len(photos_in(folder)) == len(names)


@both
@pytest.mark.parametrize("folder", ["[ab]", "a*", "?b", "a[!b]c", "{a,b}", "ab [1]"])
def test_folder_is_no_pattern(folder, streaming, tmp_path):
    write(tmp_path/"a", "of a neighbour.jpg", "another.jpg")
    write(tmp_path/"ab", "of a neighbour.jpg", "another.jpg")
    names = ["1.jpg", "2.jpg", "x/3.jpg"]
    assert used(write(tmp_path/folder, *names), "train", "validation", streaming=streaming) == names


def table(n):
    "A table of photos."
    return Dataset.from_dict(dict(image=[photo(i) for i in range(n)]), features=Features(image=Image()))


@both
def test_folder_of_parquet_is_no_pattern(streaming, tmp_path):
    for folder in ("a", "[ab]*"):
        (tmp_path/folder).mkdir()
        for split, n in dict(train=3, validation=2).items(): table(n).to_parquet(tmp_path/folder/f"{split}-0.parquet")
    assert [len(open_photos(str(tmp_path/"[ab]*"), split, streaming)) for split in ("train", "validation")] == [3, 2]


@both
@pytest.mark.parametrize("train, validation", [("TRAIN", "Val"), ("training", "dev"), ("Train", "VALID")])
def test_splits_are_folders_of_its_own(train, validation, streaming, tmp_path):
    folder = write(tmp_path/"photos", f"{train}/a.jpg", f"{train}/x/b.jpg", f"{validation}/test.jpg", "Test/train.jpg")
    splits = [used(folder, split, streaming=streaming) for split in ("train", "validation", "test")]
    assert splits == [[f"{train}/a.jpg", f"{train}/x/b.jpg"], [f"{validation}/test.jpg"], ["Test/train.jpg"]]


def test_photo_beside_splits_is_said(tmp_path, capsys):
    folder = write(tmp_path/"photos", "train/a.jpg", "train/b.jpg", "val/c.jpg", "cover.jpg")
    assert len(used(folder, "train", "validation")) == 4
    said = "1 of 4 photos don't lie in train, val, so these are no splits, and all photos are one"
    assert capsys.readouterr().out == f"dataset {folder}: {said}\n"


@both
def test_order_is_that_of_whole_paths(streaming, tmp_path):
    "As before, so that a run finds its photos again."
    names = [f"train/{name}" for name in ("a/1.jpg", "a-b/2.jpg", "a.jpg", "a b.jpg", "Z.jpg")] + ["val/1.jpg"]
    photos = open_photos(str(write(tmp_path/"photos", *names)), "train", streaming)
    rows = list(photos.cast_column("image", Image(decode=False)).rows if streaming else
                photos.cast_column("image", Image(decode=False)))
    assert [row["image"]["path"].partition("/photos/")[2] for row in rows] == sorted(names[:-1])


@both
def test_sidecars_are_no_photos(streaming, tmp_path):
    folder = write(tmp_path/"photos", *EIGHT)
    for name in EIGHT:
        for ending in ("xmp", "json", "txt", "pp3", "dop"): (folder/f"{name}.{ending}").write_text("{}")
    (folder/"photo.jpg.mpg").write_text("a film")
    assert used(folder, "train", "validation", streaming=streaming) == EIGHT


@both
def test_captions_beside_photos(streaming, tmp_path):
    folder = write(tmp_path/"photos", "a.jpg", "b.jpg")
    for name in ("a.txt", "b.txt", "c.txt"): (folder/name).write_text("a caption")
    assert used(folder, "train", "validation", streaming=streaming) == ["a.jpg", "b.jpg"]


@both
@pytest.mark.parametrize("kind, ending", [("HEIF", "heic"), ("AVIF", "avif"), ("MPO", "mpo"), ("JPEG", "JPG")])
def test_kinds_of_photos(kind, ending, streaming, tmp_path):
    if kind == "HEIF": pytest.importorskip("pillow_heif").register_heif_opener()
    if kind not in PILImage.SAVE: pytest.skip(f"nothing here writes {kind}")
    folder = write(tmp_path/"photos", "a.png", "b.png")
    for name in "cd": photo(3).save(folder/f"{name}.{ending}", kind)
    names = ["a.png", "b.png", f"c.{ending}", f"d.{ending}"]
    assert used(folder, "train", "validation", streaming=streaming) == names
    assert [path.name for path in photos_in(folder)] == names


def test_heic_in_a_table_can_be_looked_at(python, tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    (tmp_path/"photos").mkdir()
    for name in "abc": photo(3).save(tmp_path/f"photos/{name}.heic", "HEIF")
    done = python("from colorization import load_photos; print(load_photos('photos')[0]['image'].size)")
    assert done.stdout.splitlines()[-1:] == ["(40, 33)"], done.stderr


@both
def test_linked_albums(streaming, tmp_path):
    album = write(tmp_path/"elsewhere", "b.jpg", "c.jpg")
    folder = write(tmp_path/"photos", "a.jpg")
    write(tmp_path, "neighbour.jpg")
    for name, target in dict(album=album, again=album, loop=folder, up=tmp_path).items():
        (folder/name).symlink_to(target)
    (folder/"one.jpg").symlink_to(tmp_path/"neighbour.jpg")
    names = ["a.jpg", "again/b.jpg", "again/c.jpg", "one.jpg"]
    assert used(folder, "train", "validation", streaming=streaming) == names


def test_folder_of_nothing_but_links(tmp_path):
    (tmp_path/"photos").mkdir()
    (tmp_path/"photos/album").symlink_to(write(tmp_path/"elsewhere", "a.jpg", "b.jpg"))
    assert len(used(tmp_path/"photos", "train", "validation")) == 2


def test_labels_of_folders_stay(tmp_path):
    folder = write(tmp_path/"photos", *(f"{label}/{i}.jpg" for label in ("cat", "[dog]") for i in range(5)))
    assert load_photos(str(folder)).features["label"].names == ["[dog]", "cat"]


@both
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_that_leave_out_photos(kind, streaming, tmp_path, capsys):
    folder = write(tmp_path/"photos", *(f"{name}.jpg" for name in "abcdef"))
    listed = ["e.jpg", "a.jpg", "c.jpg", "gone.jpg"][:3]
    rows = {"csv": "file_name,caption\n" + "".join(f"{name},words\n" for name in listed),
            "jsonl": "".join(json.dumps(dict(file_name=name, caption="words")) + "\n" for name in listed)}
    (folder/f"metadata.{kind}").write_text(rows[kind])
    parts = [open_photos(str(folder), split, streaming) for split in ("train", "validation")]
    assert [len(part) for part in parts] == [2, 1]
    assert used(folder, "train", "validation", streaming=streaming) == ["a.jpg", "c.jpg", "e.jpg"]
    said = "uses 3 of 6 photos, since its metadata don't list b.jpg, d.jpg, f.jpg"
    assert capsys.readouterr().out == f"dataset {folder}: {said}\n"
    if not streaming: assert load_photos(str(folder))[0]["caption"] == "words"


def encoded(image):
    "The bytes of a PNG file."
    f = io.BytesIO()
    image.save(f, "PNG")
    return f.getvalue()


def write_null(path, n):
    "A file of parquet whose rows 3, 4 and 5 hold no image, in three ways."
    rows = [dict(bytes=encoded(photo(i)), path=None) for i in range(n)]
    rows[3:6] = [None, dict(bytes=None, path=None), dict(bytes=b"", path=None)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table(dict(image=pa.array(rows, kind))), path)


@both
def test_null_images(streaming, tmp_path, capsys):
    for split, n in dict(train=300, validation=10).items(): write_null(tmp_path/f"{split}.parquet", n)
    photos = open_photos(str(tmp_path), "train", streaming)
    assert len(photos) == (300 if streaming else 297) and len(describe_data(photos)["fingerprint"]) == 16
    if not streaming: assert "skipped 3 unreadable of 300 photos: row 3: " in capsys.readouterr().out
    pairs = photo_pairs(photos, 32, unreadable=Unreadable(tmp_path/"unreadable.txt", 300))
    batches = training_batches(Accelerator(cpu=True), pairs, 50)
    assert sum(len(l_norm) for l_norm, _ in batches) == len(photos)//50*50
    named = pairs.unreadable.lines()  # by their places in the shuffled order
    assert len(named) == (3 if streaming else 0) and all(line.startswith("row ") for line in named)


def test_fingerprint_of_null_images(tmp_path):
    write_null(tmp_path/"a.parquet", 10)
    photos = Dataset.from_parquet(str(tmp_path/"a.parquet")).cast_column("image", Image())
    assert len(fingerprint(photos)) == 16


@both
def test_here(streaming, tmp_path, monkeypatch):
    write(tmp_path/"photos", *EIGHT)
    monkeypatch.chdir(tmp_path/"photos")
    assert len(open_photos(".", "train", streaming)) == 8 - 1


def zipped(folder):
    with zipfile.ZipFile(folder/"photos.zip", "w") as f: f.writestr("a.png", encoded(photo(1)))


def damaged(folder):
    for i in range(3): table(5).to_parquet(folder/f"train-{i}.parquet")
    (folder/"train-1.parquet").write_bytes((folder/"train-1.parquet").read_bytes()[:-50])


def webdataset(folder):
    with tarfile.open(folder/"train-0.tar", "w") as f:
        for i in range(5):
            entry, content = tarfile.TarInfo(f"{i}.png"), encoded(photo(i))
            entry.size = len(content)
            f.addfile(entry, io.BytesIO(content))


def parquet(table):
    def write(folder):
        for split in ("train", "validation"): table.to_parquet(folder/f"{split}.parquet")
    return write


def values(**columns): return parquet(Dataset.from_dict(columns))


SAVED = "was written by save_to_disk; write each split by to_parquet, after load_from_disk"


@both
@pytest.mark.parametrize("fill, says", [
    (zipped, "holds photos.zip and no photos; unpack it first"),
    (lambda folder: table(5).save_to_disk(folder), SAVED),
    (lambda folder: table(5).train_test_split(test_size=2).save_to_disk(folder), SAVED),
    (damaged, "train-1.parquet: "),
    (parquet(table(5).rename_column("image", "img")), "it has img; rename 'img' to 'image', by rename_column"),
    (values(text=["a"]), "has no column 'image'; it has text"),
    (webdataset, "rename 'png' to 'image', by rename_column"),
    (values(image=[1, 2]), "column 'image' holds no images, but Value('int64'); give files"),
    (values(image=[[1], [2]]), "column 'image' holds no images, but List(Value('int64')); give files"),
], ids=["zip", "saved", "saved splits", "damaged", "img", "text", "webdataset", "integers", "lists"])
def test_refusals_lead_somewhere(fill, says, streaming, tmp_path):
    if streaming and fill is webdataset: says = "can't be streamed, since nothing says how many photos it has"
    fill(tmp_path)
    with pytest.raises(DatasetError) as e: open_photos(str(tmp_path), "train", streaming)
    assert str(e.value).startswith(f"dataset {tmp_path}: {says.partition('rename')[0]}"[:40])
    assert says in str(e.value) and "\n" not in str(e.value)


def test_photos_beside_parquet_are_said(tmp_path, capsys):
    for name in ("train-0", "train-1", "validation-0"): table(4).to_parquet(tmp_path/f"{name}.parquet")
    write(tmp_path, "preview.png")
    assert len(load_photos(str(tmp_path))) == 8
    assert capsys.readouterr().out == f"dataset {tmp_path}: not read, beside its tables: preview.png\n"


def test_parquet_and_archives_beside_photos_are_said(tmp_path, capsys):
    folder = write(tmp_path/"photos", *EIGHT)
    table(4).to_parquet(folder/"old.parquet")
    (folder/"more.zip").write_bytes(b"")
    assert used(folder, "train", "validation") == EIGHT
    assert capsys.readouterr().out == f"dataset {folder}: not read, beside its photos: more.zip, old.parquet\n"


def gray_photos(folder, n, *coloured):
    "A folder of gray photos, and of a few in colour."
    write(folder, *coloured).mkdir(exist_ok=True)
    for i in range(n): PILImage.new("L", (40, 33), 20*i).convert("RGB").save(folder/f"gray-{i}.jpg")
    return folder


def test_only_gray_photos_are_said(tmp_path, capsys):
    folder = gray_photos(tmp_path/"photos", 6)
    assert len(load_photos(str(folder))) == 5
    said = "all 6 photos are gray, so there is no colour to learn"
    assert capsys.readouterr().out == f"dataset {folder}, train: {said}\n"


def test_gray_photos_are_left_out_on_request(tmp_path, capsys):
    folder = gray_photos(tmp_path/"photos", 6, "train/a.jpg", "train/b.jpg", "val/c.jpg")
    for i in range(6): (folder/f"gray-{i}.jpg").rename(folder/f"train/gray-{i}.jpg")
    assert len(load_photos(str(folder))) == 8 and not capsys.readouterr().out
    assert len(load_photos(str(folder), min_colourfulness=5)) == 2
    said = "left out 6 of 8 photos that are less colourful than 5"
    assert capsys.readouterr().out == f"dataset {folder}, train: {said}\n"
    with pytest.raises(DatasetError, match="min_colourfulness 200: no photo in split 'train' is that colourful"):
        load_photos(str(folder), min_colourfulness=200)
    with pytest.raises(DatasetError, match="min_colourfulness: a stream isn't looked at beforehand; give 0, or"):
        open_photos(str(folder), "train", True, 5)


def test_run_on_colour_alone(tmp_path):
    folder = gray_photos(tmp_path/"photos", 6, "train/a.jpg", "train/b.jpg", "val/c.jpg")
    for i in range(6): (folder/f"gray-{i}.jpg").rename(folder/f"train/gray-{i}.jpg")
    settings = dict(dataset=str(folder), size=32, run_dir=str(tmp_path/"run"))
    run = finetune(**settings, epochs=1, min_colourfulness=5)
    assert run.record["data"]["train"]["photos"] == 2
    with pytest.raises(RunError, match="min_colourfulness was 5, is 0"): finetune(**settings, epochs=2)


def test_record_of_before_goes_on(tmp_path):
    settings = dict(dataset=str(write(tmp_path/"photos", *EIGHT)), size=32, run_dir=str(tmp_path/"run"))
    finetune(**settings, epochs=1)
    record = json.loads((tmp_path/"run/params.json").read_text())
    later = ("min_colourfulness", "mix", "prior", "labels", "cache", "deterministic")
    for name in later: del record["params"][name]
    (tmp_path/"run/params.json").write_text(json.dumps(record))
    assert finetune(**settings, epochs=2).epoch == 2


@pytest.mark.parametrize("size", [(40, 33), (1, 1)])
def test_scores_that_gray_photos_leave_undefined(size, tmp_path):
    "In proportion to no colour at all, there is no chroma; the run's files are JSON all the same."
    (tmp_path/"photos").mkdir()
    for i in range(4): PILImage.new("RGB", size, (20*i, 20*i, 20*i)).save(tmp_path/f"photos/{i}.png")
    settings = dict(dataset=str(tmp_path/"photos"), size=32, run_dir=str(tmp_path/"run"))
    finetune(**settings, epochs=1)
    finetune(**settings, epochs=2)
    rows = read_losses(tmp_path/"run")
    assert [(row["valid_chroma"], row["valid_edges"]) for row in rows] == [(None, None)]*2
    assert all(0 <= row["valid_auc"] <= 1 for row in rows)
    assert not any(word in (tmp_path/"run/state.safetensors").read_bytes()[:200_000] for word in (b"Infinity", b"NaN"))


def test_scores_of_one_pixel(tmp_path):
    "A photo of one colour has no edges."
    (tmp_path/"photos").mkdir()
    for i in range(4): PILImage.new("RGB", (1, 1), (200, 20*i, 20)).save(tmp_path/f"photos/{i}.png")
    run = finetune(dataset=str(tmp_path/"photos"), size=32, run_dir=str(tmp_path/"run"), epochs=1)
    assert run.rows[0]["valid_edges"] is None and run.rows[0]["valid_chroma"] > 0
