"""The hub's own client against a server on this machine that answers as the hub does, as far as the client asks."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

REVISION = "a" * 40
FILES = {
    "config.json": b'{"model_type": "vit"}',
    "model.safetensors": b"w" * 5000,
    "flax_model.msgpack": b"not wanted",
}


def described(name: str, content: bytes, *, key: str) -> dict:
    """A file in the hub's words, which differ between its two lists."""
    sha256 = hashlib.sha256(content).hexdigest()
    lfs = {"oid": sha256, "sha256": sha256, "size": len(content), "pointerSize": 130}
    common = {"type": "file", "size": len(content), "oid": hashlib.sha1(content).hexdigest(), key: name}
    return {**common, "lfs": lfs} if name.endswith(".safetensors") else common


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool):
        path, headers, content = urlsplit(self.path).path, {}, b""
        if path.startswith("/api/models/owner/model/tree"):
            content = json.dumps([described(n, c, key="path") for n, c in FILES.items()]).encode()
        elif path.startswith("/api/models/owner/model"):
            siblings = [described(n, c, key="rfilename") for n, c in FILES.items()]
            about = {"id": "owner/model", "sha": REVISION, "tags": [], "cardData": {"license": "mit"}}
            content = json.dumps({**about, "siblings": siblings}).encode()
        elif path.startswith(f"/owner/model/resolve/{REVISION}/"):
            content = FILES[path.rsplit("/", 1)[1]]
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": REVISION}
            self.server.sent.append(path.rsplit("/", 1)[1])
        elif "gated" in path:
            headers = {"X-Error-Code": "GatedRepo"}
        self.send_response(200 if content else 403 if headers else 404)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.sent = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import sys
from pathlib import Path
from unirae.app.weights.catalogue import model_need
from unirae.app.weights.hub import HuggingFaceHub
from unirae.app.weights.store import Store
from unirae.core.errors import WeightsError

hub, need = HuggingFaceHub(), model_need("owner/model", "encoder")
listing = hub.listing("owner/model")
store = Store(Path(sys.argv[1]), hub)
store.fetch(need, progress=lambda *_: None)
print(listing.size, listing.revision, listing.licence, store.state(need), Store(store.folder, hub).is_whole(need))
try:
    hub.listing("owner/gated")
except WeightsError as error:
    print(error)
"""


def test_the_client_lists_fetches_and_is_refused(server, tmp_path):
    """In a process of its own: the client reads its address and whether it is offline when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3] / "src"),
    }
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_TOKEN"):
        environment.pop(proxy, None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "DIR")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    facts, refusal = done.stdout.strip().splitlines()
    size = len(FILES["config.json"]) + 5000
    assert facts == f"{size} {REVISION} mit there True"
    assert refusal.startswith("owner/gated is gated: ")
    folder = tmp_path / "DIR" / "owner--model"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert all(path.read_bytes() == FILES[path.name] for path in folder.iterdir())
    assert "flax_model.msgpack" not in server.sent
