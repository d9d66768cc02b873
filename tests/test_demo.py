"The demo in a real browser, and what its server refuses."
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from skimage import data

from colorization.eccv16 import ECCV16, save_model


def wait(condition, seconds=60):
    "The first true value of `condition()`."
    deadline = time.time() + seconds
    while not (value := condition()):
        assert time.time() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.05)
    return value


def answers(url):
    try: return httpx.get(url).status_code == 200
    except httpx.TransportError: return False


@contextmanager
def server(folder, **options):
    "A demo in a process of its own that has nothing but `folder`; gives its address and the process."
    with socket.create_server(("127.0.0.1", 0)) as s: port = s.getsockname()[1]
    code = f"from colorization.demo import launch; launch(**{dict(port=port) | options!r})"
    env = os.environ | dict(PYTHONPATH=str(ROOT), HOME=str(folder), TMPDIR=str(folder), MPLCONFIGDIR=str(folder/"mpl"))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: process.poll() is not None or answers(url), 300)
        assert process.poll() is None
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    "Address of a demo with two models."
    folder = tmp_path_factory.mktemp("demo")
    (folder/"run").mkdir()
    save_model(ECCV16(0.05), folder/"run/model.safetensors")
    with server(folder, models=("compact", "run/model.safetensors")) as (url, _): yield url


class Page:
    "The page in the browser."
    def __init__(self, driver): self.driver = driver
    def all(self, css): return self.driver.find_elements("css selector", css)
    def first(self, css): return wait(lambda: self.all(css), 20)[0]
    def upload(self, path): self.first("#photo input[type=file]").send_keys(str(path))
    def clear(self): self.first("#photo button:is([aria-label='Clear'], [aria-label='Remove this file'])").click()
    def message(self): return self.first("#message textarea").get_property("value")
    def says(self, text, seconds=60): return wait(lambda: text in self.message(), seconds)
    def slides(self): return self.widths("#slider img")
    def gallery(self): return self.widths("#gallery img")

    def widths(self, css):
        "Of the images that have been loaded."
        return [i.get_property("naturalWidth") for i in self.all(css) if i.get_property("complete")]


def requested(browser):
    "The addresses that the browser has asked for."
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    sockets = [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]
    return [a for a in requests + sockets if urlsplit(a).scheme not in ("data", "blob", "chrome")]


@pytest.fixture
def page(browser, url):
    "A fresh page; after the test: no error in the console, no request but to the demo."
    browser.get(url)
    yield Page(browser)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    addresses = requested(browser)
    assert addresses
    assert not [a for a in addresses if not a.startswith(url + "/")]


def photo(path, size, **kw):
    "A photo of this size, in a file."
    Image.fromarray(data.coffee()).resize(size).save(path, **kw)
    return path


def bomb(path, width, height):
    "A small PNG file of many black pixels."
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    pixels = zlib.compress(bytes(height*(1 + width)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def drag(page, pixels):
    "Drag the slider; how far it went."
    from selenium.webdriver import ActionChains
    handle = page.first("#slider .icon-wrap")
    before = handle.rect["x"]
    ActionChains(page.driver).drag_and_drop_by_offset(handle, pixels, 0).perform()
    return handle.rect["x"] - before


def downloaded(page, folder):
    "The file that the button gives."
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", dict(behavior="allow", downloadPath=str(folder)))
    page.first("#download:not([disabled])").click()
    return wait(lambda: [p for p in folder.glob("*") if p.suffix != ".crdownload" and p.stat().st_size], 30)[0]


@pytest.mark.browser
def test_upload_slide_download(page, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    page.upload(photo(tmp_path/"holiday.jpg", (1800, 1200), exif=exif))
    page.says("holiday-coloured.jpg: 1800 × 1200 pixels")
    assert wait(lambda: page.slides() == [1024, 1024])
    assert wait(lambda: page.gallery() == [1024]*3)  # gray and two models
    assert drag(page, -150) < -100
    assert drag(page, 200) > 150
    (tmp_path/"downloads").mkdir()
    file = downloaded(page, tmp_path/"downloads")
    with Image.open(file) as image:
        image.load()
        assert (file.name, image.format, image.size) == ("holiday-coloured.jpg", "JPEG", (1800, 1200))
        assert image.getexif()[0x010F] == "Maker"
        assert np.ptp(np.asarray(image).astype(int), axis=2).mean() > 5


@pytest.mark.browser
def test_embedded_photo_and_options(page):
    page.first("#examples button.thumbnail-item").click()
    page.says("camera-coloured.png: 512 × 512 pixels")
    def coloured(): return len(page.slides()) == 2 and page.all("#slider img")[1].get_attribute("src")
    before = wait(coloured)
    page.all("#model input")[1].click()
    wait(lambda: coloured() not in (False, before))
    assert float(page.first("#temperature input[type=number]").get_property("value")) == 0.38  # this model's own
    captions = [p.text for p in page.all("#gallery .caption-label")]
    assert captions == ["gray", "compact, T = 0.8", "run/model, T = 0.38"]
    page.says("camera-coloured.png: 512 × 512 pixels")


@pytest.mark.browser
def test_bad_files_leave_the_page_working(page, tmp_path):
    text = tmp_path/"notes.png"
    text.write_text("just a text")
    page.upload(text)
    page.says("notes.png: is no photo; give a JPEG, PNG, TIFF, WebP, GIF or BMP file")
    assert not page.slides() and page.first("#download").get_property("disabled")
    page.clear()
    page.upload(photo(tmp_path/"good.png", (300, 200)))
    page.says("good-coloured.png: 300 × 200 pixels")
    assert wait(lambda: page.slides() == [300, 300])


@pytest.mark.browser
def test_bomb_is_refused_at_once(page, tmp_path):
    path = bomb(tmp_path/"bomb.png", 20_000, 10_000)
    assert path.stat().st_size < 1e6
    seconds = []
    for _ in range(3):  # the others are for a machine that is busy
        page.first("#photo input[type=file]")
        start = time.perf_counter()
        page.upload(path)
        page.says("bomb.png: has more than 50 megapixels")
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 2: break
        page.clear()
        wait(lambda: not page.message())
    print(f"refused in {min(seconds):.2f} s")
    assert min(seconds) < 2


@pytest.mark.browser
def test_large_file_is_refused(page, tmp_path):
    path = tmp_path/"large.bmp"
    path.write_bytes(b"BM" + bytes(34_000_000))
    page.upload(path)
    wait(lambda: "exceed the maximum allowed size of 32.0 Mb" in page.first("body").text)
    assert not page.slides()
    time.sleep(2)
    page.driver.get_log("browser")  # Gradio asks for the progress of what it refused itself


@pytest.mark.browser
def test_phone(page):
    phone = dict(width=390, height=844, deviceScaleFactor=1, mobile=True)
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page.first("#examples button.thumbnail-item").click()
        page.says("camera-coloured.png: 512 × 512 pixels")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 390
        for part in ("#photo", "#slider", "#download", "#model", "#temperature", "#gallery"):
            assert 200 < page.first(part).rect["width"] <= 390
    finally: page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def get(url, path):
    "Status of a request whose path is sent as it is."
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", path)
    return connection.getresponse().status


def uploaded(url, name, content):
    "Where the server has put a file."
    answer = httpx.post(f"{url}/gradio_api/upload", files=dict(files=(name, content)))
    assert answer.status_code == 200
    return answer.json()[0]


def asked(url, photo):
    "What the server says when a client calls the page's function on this file."
    dependency = next(d for d in httpx.get(f"{url}/config").json()["dependencies"] if len(d["inputs"]) == 4)
    body = dict(fn_index=dependency["id"], session_hash="test", data=[photo, "compact", 1, 1])
    assert httpx.post(f"{url}/gradio_api/queue/join", json=body).status_code == 200
    with httpx.stream("GET", f"{url}/gradio_api/queue/data", params=dict(session_hash="test"), timeout=60) as stream:
        return next(line for line in stream.iter_lines() if "process_completed" in line)


def file_data(path): return dict(path=path, meta=dict(_type="gradio.FileData"))


def test_no_file_of_the_server_is_readable(url):
    secret = str(ROOT/"settings.ini")
    relative = ("../../../../etc/passwd", "..%2f..%2f..%2f..%2fetc/passwd")
    for path in (secret, "/etc/passwd", "/proc/self/environ", *relative, "file:///etc/passwd"):
        assert get(url, f"/gradio_api/file={path}") in (403, 404), path
    mine = uploaded(url, "mine.png", b"mine")
    assert get(url, f"/gradio_api/file={mine}") == 200
    for path in ("/../../../../../../etc/passwd", "/../../../run/model.safetensors"):
        assert get(url, f"/gradio_api/file={Path(mine).parent}{path}") in (403, 404), path
    for path in ("/static/../../../../../etc/passwd", "/assets/..%2f..%2f..%2fapp.py"):
        assert get(url, path) in (403, 404), path
    for path in (secret, "/etc/passwd"):
        answer = asked(url, file_data(path))
        assert '"success":false' in answer and "root:" not in answer and "lib_name" not in answer
    assert '"success":true' in asked(url, file_data(mine))


CLOSED = """/docs /openapi.json /gradio_api/openapi.json /gradio_api/info /monitoring /gradio_api/run/colour
/gradio_api/app_id /gradio_api/process_recording /gradio_api/component_server""".split()


def test_the_page_answers_no_programs(url):
    for path in ("/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/file=http://127.0.0.1/"):
        assert get(url, path) in (403, 404), path
    for path in CLOSED:
        assert get(url, path) == 404, path
        assert httpx.post(url + path, files=dict(video=("a.mp4", b"#EXTM3U"))).status_code == 404, path


def test_uploads_have_a_limit(url):
    def sent(**kw):
        try: return httpx.post(f"{url}/gradio_api/upload", **kw).status_code
        except httpx.WriteError: return 413
    assert sent(files=dict(files=("a.png", bytes(33_000_000)))) == 200
    assert sent(files=dict(files=("a.png", bytes(34_000_000)))) == 413
    assert sent(files=[("files", (f"{i}.png", bytes(20_000_000))) for i in range(2)]) == 413  # each would do
    assert sent(content=iter([b"no length"])) == 411


def test_nothing_is_kept(tmp_path):
    "Uploads are deleted after a while, and everything when the server stops."
    before = set(Path(tmp_path).rglob("*"))
    with server(tmp_path, keep_minutes=0.05) as (url, process):
        config = httpx.get(f"{url}/config").text
        mine = Path(uploaded(url, "mine.png", io.BytesIO(b"mine")))
        folder = mine.parents[1]
        assert "camera.png" in config and mine.read_bytes() == b"mine" and tmp_path in folder.parents
        asked(url, file_data(uploaded(url, "cat.png", photo(tmp_path/"cat.png", (64, 64)).read_bytes())))
        assert list(folder.rglob("cat-coloured.png"))
        asked(url, file_data(str(folder/"camera.png")))
        wait(lambda: not mine.exists() and not list(folder.rglob("*-coloured.png")), 30)
        assert (folder/"camera.png").exists()
    left = {p for p in set(tmp_path.rglob("*")) - before if "mpl" not in p.parts and ".cache" not in p.parts}
    assert left == {tmp_path/"cat.png"}
