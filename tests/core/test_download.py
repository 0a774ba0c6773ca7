"""Downloads against a server on this machine: atomic, resumed, verified."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unirae.core.download import download, hash_in_name, remote_size
from unirae.core.errors import WeightsError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    breaks_after: int | None = None
    ranges: list[str | None]
    content = CONTENT
    tag: str | None = None
    changed: str | None = None
    overlooks_if_range = False


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._start(200, len(CONTENT))

    def do_GET(self):
        if self.path == "/absent.pth":
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content, expected = self.server.content, self.headers.get("If-Range")
        current = (None, self.server.tag, self.server.changed)
        if expected not in current and not self.server.overlooks_if_range:
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self._start(206 if wanted else 200, len(body))
        limit, self.server.breaks_after = self.server.breaks_after, None
        self.wfile.write(body if limit is None else body[:limit])

    def _start(self, status: int, length: int):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in (("ETag", self.server.tag), ("Last-Modified", self.server.changed)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.ranges = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server, name="net.pth"):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_the_hash_in_a_file_name():
    assert hash_in_name("vgg16-397923af.pth") == "397923af"
    assert hash_in_name("weights-inception-2015-12-05-6726825d.pth") == "6726825d"
    assert hash_in_name("dino_vit_small_patch8_224.pth") is None


def test_a_file_arrives_whole_and_verified(server, tmp_path):
    assert remote_size(url(server)) == len(CONTENT)
    seen = []
    path = tmp_path / "new" / "net.pth"
    digest = download(url(server), path, sha256=SHA256[:8], progress=lambda *at: seen.append(at))
    assert digest == SHA256
    assert path.read_bytes() == CONTENT
    assert (seen[0], seen[-1]) == ((0, len(CONTENT)), (len(CONTENT), len(CONTENT)))
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]


def test_what_was_interrupted_continues(server, tmp_path):
    server.breaks_after = 1_000_000
    with pytest.raises(WeightsError, match=r"stopped after 1,000,000 of 1,280,000 bytes.*again to continue"):
        download(url(server), tmp_path / "net.pth", resume=True)
    assert [file.name for file in tmp_path.iterdir()] == [".net.pth.part"]
    assert download(url(server), tmp_path / "net.pth", resume=True, sha256=SHA256) == SHA256
    assert server.ranges == [None, "bytes=1000000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


DAY = "Mon, 0{} Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize("overlooks", [False, True])
@pytest.mark.parametrize(
    "versions",
    [(('"one"', None), ('"two"', None)), ((None, DAY.format(1)), (None, DAY.format(2))),
     (('W/"same"', DAY.format(1)), ('W/"same"', DAY.format(2)))],
)  # fmt: skip
def test_a_file_that_changed_meanwhile_is_never_mixed(server, tmp_path, versions, overlooks):
    server.overlooks_if_range = overlooks
    server.tag, server.changed = versions[0]
    server.breaks_after = 1_000_000
    with pytest.raises(WeightsError, match="stopped after"):
        download(url(server), tmp_path / "net.pth", resume=True)
    assert {file.name for file in tmp_path.iterdir()} == {".net.pth.part", ".net.pth.part.version"}
    server.tag, server.changed = versions[1]
    server.content = CONTENT[::-1]
    download(url(server), tmp_path / "net.pth", resume=True)
    assert (tmp_path / "net.pth").read_bytes() == server.content
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_a_file_that_stayed_continues_by_its_version(server, tmp_path):
    server.tag, server.breaks_after = '"one"', 1_000_000
    with pytest.raises(WeightsError, match="stopped after"):
        download(url(server), tmp_path / "net.pth", resume=True)
    assert download(url(server), tmp_path / "net.pth", resume=True) == SHA256
    assert server.ranges == [None, "bytes=1000000-"]
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_without_a_version_or_a_hash_it_starts_anew(server, tmp_path):
    (tmp_path / ".net.pth.part").write_bytes(b"another version")
    assert download(url(server), tmp_path / "net.pth", resume=True) == SHA256
    assert server.ranges == [None]


def test_a_part_that_is_too_long_begins_again(server, tmp_path):
    (tmp_path / ".net.pth.part").write_bytes(CONTENT + b"more")
    assert download(url(server), tmp_path / "net.pth", resume=True, sha256=SHA256) == SHA256


def test_without_resuming_nothing_stays_behind(server, tmp_path):
    server.breaks_after = 1000
    with pytest.raises(WeightsError, match="stopped after"):
        download(url(server), tmp_path / "net.pth")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused(server, tmp_path):
    with pytest.raises(WeightsError, match="not the published 00000000"):
        download(url(server), tmp_path / "net.pth", resume=True, sha256="00000000")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_and_a_server_that_is_away_are_explained(server, tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth \(404 Not Found\)"):
        download(url(server, "absent.pth"), tmp_path / "net.pth", resume=True)
    with pytest.raises(WeightsError, match="Connection refused"):
        download("http://127.0.0.1:9/net.pth", tmp_path / "net.pth", resume=True)
    assert remote_size("http://127.0.0.1:9/net.pth") is None
    assert list(tmp_path.iterdir()) == []
