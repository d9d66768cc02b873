import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def python(tmp_path):
    "Run Python code in a fresh process, in an empty folder; gives the finished process."
    def run(code, **kw):
        env = os.environ | dict(PYTHONPATH=str(ROOT))
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, **kw)
    return run
