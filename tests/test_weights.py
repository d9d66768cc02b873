"""Weights: the official ones are fetched once, checked, from the mirror where the first address fails.

All over a local server. And what may name a model needs neither PyTorch nor the hub's client."""
import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.numpy import save_file

from colorization import eccv16
from colorization.eccv16 import ECCV16, ModelError, fetch_weights, load_model

NAME = "colorization_release_v2-9b330a0b.pth"


class Handler(SimpleHTTPRequestHandler):
    requests = []

    def do_GET(self):
        self.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args): pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "A file with exactly the official keys and shapes, its network and its hash."
    folder = tmp_path_factory.mktemp("server")
    torch.manual_seed(0)
    network = ECCV16(temperature=1.0)
    torch.save(network.state_dict(), folder/NAME)
    return folder, network.eval(), hashlib.sha256((folder/NAME).read_bytes()).hexdigest()


@pytest.fixture
def server(weights, tmp_path, monkeypatch):
    "Base address of a server that has the file; torch's hub cache is an empty folder."
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path/"hub"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(weights[0])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.requests = []
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_load_model_fetches_once(weights, server, monkeypatch):
    _, network, sha256 = weights
    monkeypatch.setattr(eccv16, "OFFICIAL_URLS", (f"{server}/{NAME}",))
    monkeypatch.setattr(eccv16, "OFFICIAL_SHA256", sha256)
    x = torch.rand(1, 1, 64, 64)
    for _ in range(2):
        loaded = load_model("eccv16")
        with torch.no_grad(): assert torch.equal(loaded.predict_ab(x), network.predict_ab(x))
    assert loaded.temperature == 1.0
    assert Handler.requests == [f"/{NAME}"]


def test_mirror(weights, server):
    path = fetch_weights((f"{server}/gone/{NAME}", f"{server}/{NAME}"), weights[2])
    assert path.stat().st_size == (weights[0]/NAME).stat().st_size


def test_file_url(weights, server):
    assert fetch_weights((weights[0].joinpath(NAME).as_uri(),), weights[2]).exists()
    assert Handler.requests == []


def test_wrong_hash_is_refused_and_leaves_nothing(weights, server, tmp_path):
    with pytest.raises(ModelError, match="invalid hash"): fetch_weights((f"{server}/{NAME}",), "0"*64)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_damaged_cache_is_replaced(weights, server):
    path = fetch_weights((f"{server}/{NAME}",), weights[2])
    path.write_bytes(path.read_bytes()[:1000])
    fetch_weights((f"{server}/{NAME}",), weights[2])
    assert path.stat().st_size == (weights[0]/NAME).stat().st_size


def test_no_network_says_where_to_put_the_file(server, tmp_path):
    with pytest.raises(ModelError) as e: fetch_weights((f"http://127.0.0.1:9/{NAME}", f"{server}/gone"), "0"*64)
    assert "check the network, or put the file at" in str(e.value) and str(tmp_path) in str(e.value)
    assert "\n" not in str(e.value)


def test_the_hub_is_imported_only_for_a_repository(python):
    code = """
import sys
from colorization.core.weights import check_model
check_model("user/name")
print("torch" in sys.modules)
from colorization.eccv16 import ECCV16
print(ECCV16.from_pretrained("compact").sha256, "huggingface_hub" in sys.modules)
"""
    done = python(code)
    sha256 = json.loads((ROOT/"colorization/compact.json").read_text())["sha256"]
    assert done.stdout.split() == ["False", sha256, "False"], done.stderr


CARD = dict(architecture="eccv16", width=.05, temperature=.4, size=64)
CARDS = {  # what a card may say, and what is said about it
    "[]": "card is no plain list of facts",
    "null": "card is no plain list of facts",
    "["*50_000 + "]"*50_000: "card is no plain list of facts",
    json.dumps(CARD | dict(data=json.loads("["*400 + "]"*400))): "card is no plain list of facts",
    json.dumps(CARD | dict(size=0)): "card's size: must be a whole number, 32 to 4096, got 0",
    json.dumps(CARD | dict(size="256")): "card's size: must be a whole number, 32 to 4096, got '256'",
    json.dumps(CARD | dict(size=1e5)): "card's size: must be a whole number, 32 to 4096, got 100000.0",
    json.dumps(CARD | dict(width=float("nan"))): "card's width: must be a number above 0, got nan",
    json.dumps(CARD | dict(temperature=None)): "card's temperature: must be a number, 0 to 1, got None",
    json.dumps(CARD | dict(objective=["regression"])): "card's objective: must be one of",
    json.dumps(CARD | dict(shortcut="no")): "card's shortcut: must be one of",
    json.dumps(CARD | dict(width=200)): "weights don't fit the network that its card describes (width 200)",
}


@pytest.mark.parametrize("card", CARDS, ids=range(len(CARDS)))
def test_a_card_is_not_trusted(tmp_path, card):
    "Neither are shapes: the first layer here is as wide as the widest card says, the others are missing."
    path = tmp_path/"model.safetensors"
    save_file({"model1.0.weight": np.zeros((12_800, 1, 3, 3), np.float32)}, path, metadata=dict(card=card))
    with pytest.raises(ModelError) as e: load_model(path)
    assert str(e.value).startswith(f"model {path}: its {CARDS[card]}") and "\n" not in str(e.value)
