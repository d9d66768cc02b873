import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.fixture
def python(tmp_path):
    "Run Python code in a fresh process, in an empty folder; gives the finished process."
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    def run(code, **kw):
        settings = dict(cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300) | kw
        return subprocess.run([sys.executable, "-c", code], **settings)
    return run
