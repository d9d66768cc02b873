import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).resolve().parent.parent
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["colorization.cli", "colorization.colorize", "colorization.gan_refine"])
FLAGS = """
headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking
disable-component-update disable-sync disable-dev-shm-usage window-size=1200,1400
""".split()


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background of a shell starts without


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    "Headless Chromium that keeps what its console says and what it asks for."
    from selenium import webdriver
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.fail("no chromium and chromedriver; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("browser")
    for flag in [*FLAGS, f"user-data-dir={profile}"]: options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", dict(browser="ALL", performance="ALL"))
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def _warm_main(code, arguments, folder, out):
    "What such a process does: it writes into files, as `code` of `python -c` with these arguments."
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{out}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(folder)
    sys.argv = ["-c", *arguments]
    exec(code, dict(__name__="__main__"))


class Warm:
    """Python code in a process of its own, which was forked from one that has PyTorch and the package imported.

    It starts in no time, where a fresh one takes seconds. What depends on imports, on the environment or on standard
    input needs a fresh one."""
    def __init__(self, code, folder, *arguments):
        self.code, self.out = code, TemporaryDirectory()
        for name in ("stdout", "stderr"): Path(self.out.name, name).touch()
        self.process = WARM.Process(target=_warm_main, args=(code, list(map(str, arguments)), folder, self.out.name))
        self.process.start()

    def said(self, name="stdout"): return Path(self.out.name, name).read_bytes()

    def wait_for(self, there, timeout=200):
        "Until something is there, while the process is at work."
        deadline = time.time() + timeout
        while not there():
            assert self.process.is_alive() and time.time() < deadline, self.said("stderr").decode()
            time.sleep(0.005)

    def done(self, timeout=300):
        "What came of it when it has ended, as from `subprocess.run`."
        self.process.join(timeout)
        assert not self.process.is_alive(), self.said("stderr").decode()
        return subprocess.CompletedProcess(self.code, self.process.exitcode, self.said(), self.said("stderr"))


@pytest.fixture
def warm(tmp_path):
    "Run code in a process that has the package imported already, in an empty folder; gives the finished process."
    return lambda code: Warm(code, tmp_path).done()


@pytest.fixture
def python(tmp_path):
    "Run Python code in a fresh process, in an empty folder; gives the finished process."
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    def run(code, **kw):
        settings = dict(cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300) | kw
        return subprocess.run([sys.executable, "-c", code], **settings)
    return run
