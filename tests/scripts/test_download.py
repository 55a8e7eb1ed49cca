"""scripts/download_weights.sh against a file server on loopback, and what scripts/check.py says of the files."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import ENVIRONMENT, ROOT, Result, random_model, run_file, run_process, tiny_config

from neuronpath.models.checkpoint import save
from neuronpath.models.configs import CONFIGS
from neuronpath.models.vit import VisionTransformer

VITS = ("ViT-B_16-224.npz", "ViT-B_32.npz", "ViT-L_32.npz")
MAE = "mae_finetuned_vit_base.pth"
MAE_CONTENT = b"not the MAE weights, but their md5 begins as theirs: 15154522"  # found by trying: 1b25e9…
COUNTS = {VITS[0]: 86_567_656, VITS[1]: 88_297_192, VITS[2]: 306_632_680, MAE: 86_567_656}


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by URL path and remembers `requests` as (method, path, Range header)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.ranges = True  # whether a Range header is honoured
        self.lengths = True  # whether Content-Length is sent
        self.cut: int | None = None  # bytes of the body after which the connection closes
        self.stall = threading.Event()  # set: a cut body is not closed but waits until `go_on`
        self.go_on = threading.Event()

    def bodies(self) -> list[tuple[str, str | None]]:
        return [(path, range_) for method, path, range_ in self.requests if method == "GET"]


class Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> bytes:
        range_ = self.headers["Range"]
        self.server.requests.append((self.command, self.path, range_))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return b""
        start = int(range_.removeprefix("bytes=").removesuffix("-")) if range_ and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        return content[start:]

    def do_GET(self) -> None:
        body = self.do_HEAD()
        self.wfile.write(body[: self.server.cut])
        if self.server.cut is not None and self.server.stall.is_set():
            self.server.go_on.wait(60)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(checkpoint):
    with FileServer() as server:
        server.files = {f"/vit/{name}": checkpoint.read_bytes() for name in VITS} | {f"/mae/{MAE}": MAE_CONTENT}
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A root of its own, so that nothing touches the real ckpt/; its setup.sh is this environment, as it is."""
    scripts = tmp_path / "checkout/scripts"
    scripts.mkdir(parents=True)
    for name in ("download_weights.sh", "check.py"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    (scripts / "setup.sh").write_text(
        'cd "$(dirname "${BASH_SOURCE[0]}")/.."\n'
        '[ $# = 0 ] || { echo "setup.sh was given: $*" >&2; exit 9; }\n'
        f'PATH="{Path(sys.executable).parent}:$PATH"\n'
    )
    return scripts.parent


def environment(server: FileServer | None, **changes) -> dict[str, str]:
    urls = {"VIT_URL": f"{server.url}/vit", "MAE_URL": f"{server.url}/mae/"} if server else {}
    kept = {k: v for k, v in ENVIRONMENT.items() if k not in ("VIT_URL", "MAE_URL")}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "SKIP_CHECK": "1", **urls, **changes}


def download(checkout: Path, server: FileServer | None, *words, cwd: Path | None = None, **changes) -> Result:
    script = checkout / "scripts/download_weights.sh"
    return run_process(
        *(shutil.which("bash"), script, *words),
        cwd=cwd or checkout,
        environment=environment(server, **changes),
        timeout=120,
    )


def assert_fault(result: Result, *words: str, code: int = 2) -> None:
    """Exit code and one line on stderr with all the words."""
    assert result.code == code, result.stdout + result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr


@needs_curl
def test_all_four_go_to_the_default_folder_and_are_not_fetched_twice(checkout, server, tmp_path):
    result = download(checkout, server, cwd=tmp_path)
    assert result.code == 0, result.stderr
    assert result.stderr == ""
    for name in VITS:
        assert (checkout / "ckpt" / name).read_bytes() == server.files[f"/vit/{name}"]
    assert (checkout / "ckpt" / MAE).read_bytes() == MAE_CONTENT
    assert sorted(p.name for p in (checkout / "ckpt").iterdir()) == sorted((*VITS, MAE))  # no .part left
    assert result.stdout.count("no checksum is published") == 3
    assert result.stdout.count("md5 begins with 1b25e9, as published") == 1

    server.requests.clear()
    result = download(checkout, server)
    assert result.code == 0, result.stderr
    assert [method for method, _, _ in server.requests] == ["HEAD"] * 4
    assert result.stdout.count("complete already, kept") == 4


@needs_curl
def test_folder_is_relative_to_the_working_directory_and_names_select(checkout, server, tmp_path):
    assert download(checkout, server, "my weights", MAE, VITS[1], cwd=tmp_path).code == 0
    assert sorted(p.name for p in (tmp_path / "my weights").iterdir()) == [VITS[1], MAE]
    assert not (checkout / "ckpt").exists()
    assert download(checkout, server, VITS[0], cwd=tmp_path).code == 0
    assert [p.name for p in (checkout / "ckpt").iterdir()] == [VITS[0]]


@needs_curl
def test_a_part_is_resumed(checkout, server):
    content = server.files[f"/vit/{VITS[0]}"]
    part = checkout / "ckpt" / f"{VITS[0]}.part"
    part.parent.mkdir()
    part.write_bytes(content[:1000])
    assert download(checkout, server, VITS[0]).code == 0
    assert server.bodies() == [(f"/vit/{VITS[0]}", "bytes=1000-")]
    assert part.with_suffix("").read_bytes() == content
    assert not part.exists()


@needs_curl
def test_a_complete_part_is_only_renamed_and_one_too_long_starts_anew(checkout, server):
    content = server.files[f"/vit/{VITS[0]}"]
    part = checkout / "ckpt" / f"{VITS[0]}.part"
    part.parent.mkdir()
    part.write_bytes(content)
    assert download(checkout, server, VITS[0]).code == 0
    assert server.bodies() == []
    assert part.with_suffix("").read_bytes() == content

    part.with_suffix("").unlink()
    part.write_bytes(b"x" * (len(content) + 1))
    assert "longer than the file on the server, removed" in download(checkout, server, VITS[0]).stdout
    assert server.bodies() == [(f"/vit/{VITS[0]}", None)]
    assert part.with_suffix("").read_bytes() == content


@needs_curl
def test_a_cut_connection_keeps_the_part_and_a_rerun_completes_it(checkout, server):
    content = server.files[f"/vit/{VITS[0]}"]
    file, part = checkout / "ckpt" / VITS[0], checkout / "ckpt" / f"{VITS[0]}.part"
    server.cut = 5000
    assert_fault(download(checkout, server, VITS[0]), "broke off", str(part), "kept", "the same command resumes")
    assert part.read_bytes() == content[:5000]
    assert not file.exists()

    server.cut = None
    assert download(checkout, server, VITS[0]).code == 0
    assert server.bodies()[-1] == (f"/vit/{VITS[0]}", "bytes=5000-")
    assert file.read_bytes() == content


@needs_curl
def test_an_interruption_keeps_the_part(checkout, server):
    server.cut = 5000
    server.stall.set()
    process = subprocess.Popen(
        ["bash", checkout / "scripts/download_weights.sh", VITS[0]],
        env=environment(server),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # pytest may run with it ignored
    )
    part = checkout / "ckpt" / f"{VITS[0]}.part"
    try:
        for _ in range(600):
            if part.exists() and part.stat().st_size:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert message == "download_weights.sh: interrupted; the same command resumes\n"
    kept = part.read_bytes()
    assert 0 < len(kept) <= 5000  # curl writes in blocks of its own
    assert server.files[f"/vit/{VITS[0]}"].startswith(kept)


@needs_curl
def test_a_wrong_checksum_removes_the_part_but_never_a_file_of_the_user(checkout, server):
    server.files[f"/mae/{MAE}"] = b"something else"
    file = checkout / "ckpt" / MAE
    assert_fault(download(checkout, server, MAE), "md5", "begins with 1b25e9", "it is removed", "starts anew")
    assert list(file.parent.iterdir()) == []

    file.write_bytes(b"something else")
    assert_fault(download(checkout, server, MAE), "md5", str(file), "begins with 1b25e9", "move it away")
    assert file.read_bytes() == b"something else"


@needs_curl
def test_a_complete_file_of_another_size_is_refused_and_kept(checkout, server):
    file = checkout / "ckpt" / VITS[0]
    file.parent.mkdir()
    file.write_bytes(b"half")
    size = len(server.files[f"/vit/{VITS[0]}"])
    assert_fault(download(checkout, server, VITS[0]), f"{file} has 4 bytes", f"server {size}", "move it away")
    assert file.read_bytes() == b"half"
    assert server.bodies() == []


@needs_curl
def test_no_such_file_on_the_server(checkout, server):
    del server.files[f"/vit/{VITS[1]}"]
    assert_fault(download(checkout, server), f"{server.url}/vit/{VITS[1]}", "404", "VIT_URL")
    assert [p.name for p in (checkout / "ckpt").iterdir()] == [VITS[0]]  # what came before it stays


@needs_curl
def test_a_server_that_gives_no_length_or_cannot_resume(checkout, server):
    server.lengths = False
    assert_fault(download(checkout, server, VITS[0]), "does not say how long the file is")

    server.lengths, server.ranges = True, False
    part = checkout / "ckpt" / f"{VITS[0]}.part"
    part.write_bytes(server.files[f"/vit/{VITS[0]}"][:1000])
    assert_fault(download(checkout, server, VITS[0]), "cannot resume", f"{part} is removed", "starts anew")
    assert not part.exists()
    assert download(checkout, server, VITS[0]).code == 0


@needs_curl
def test_no_server(checkout, server):
    result = download(checkout, server, VITS[0], VIT_URL="http://127.0.0.1:9/vit")  # port 9: nobody listens
    assert_fault(result, f"http://127.0.0.1:9/vit/{VITS[0]}", "check the network")


@needs_curl
def test_a_full_disk(checkout, server, tmp_path):
    """A curl that answers HEAD, but has no room for the body: exit code 23."""
    (tmp_path / "curl").write_text(
        f'#!/bin/sh\ncase "$*" in *--head*) exec {shutil.which("curl")} "$@";; esac\nexit 23\n'
    )
    (tmp_path / "curl").chmod(0o755)
    result = download(checkout, server, VITS[0], PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert_fault(result, "is the disk full?", "the same command resumes", code=4)


@needs_curl
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ViT-L_16.npz"], ["ViT-L_16.npz is none of", VITS[0], MAE]),
        (["folder", "ViT"], ["ViT is none of"]),
        (["--all"], ["--all: no such option", "usage"]),
        (["/dev/null/folder"], ["/dev/null/folder cannot be written to"]),
    ],
)
def test_wrong_arguments(checkout, server, arguments, words):
    assert_fault(download(checkout, server, *arguments), *words)
    assert server.requests == []


def test_without_curl(checkout):
    assert_fault(download(checkout, None, PATH="/nowhere"), "curl was not found", "install it")
    assert not (checkout / "ckpt").exists()


def test_public_addresses_are_the_default(checkout, tmp_path):
    """A curl that fetches nothing and says what it was asked for."""
    (tmp_path / "curl").write_text('#!/bin/sh\necho "curl: (6) asked for $*" >&2\nexit 6\n')
    (tmp_path / "curl").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    bucket = "https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012"
    for name in VITS:
        assert_fault(download(checkout, None, name, PATH=path), f"{bucket}/{name}: (6) asked for")
    assert_fault(download(checkout, None, MAE, PATH=path), f"https://dl.fbaipublicfiles.com/mae/finetune/{MAE}: (6)")


@needs_curl
def test_the_download_ends_with_the_check(checkout, server, tmp_path):
    """A tiny model under a public name: it is fetched and loads, but does not have the published parameters."""
    result = download(checkout, server, "w & eights", VITS[0], cwd=tmp_path, SKIP_CHECK="")
    assert_fault(result, "check.py: FAULT", f"{tmp_path}/w & eights/{VITS[0]}: ", "not the published 86,567,656")


def check_weights(*files: Path) -> Result:
    return run_file("scripts/check.py", "--checks", "weights", "--pretrain_weight", *files)


def test_check_of_several_files(tmp_path, checkpoint):
    count = sum(p.numel() for p in random_model(tiny_config()).parameters())
    wrong, damaged = tmp_path / VITS[1], tmp_path / VITS[2]
    shutil.copy(checkpoint, wrong)
    result = check_weights(wrong, checkpoint)
    assert_fault(result, f"{wrong}: {count:,} parameters, not the published 88,297,192", "download it again")
    sound = "6 layers of 28 neurons, 9 pixels, 4 classes; the head reads the CLS token (a ViT): path/joint_attr.py"
    assert result.stdout == f"ok       weights   {checkpoint}: {sound}\n"
    damaged.write_bytes(checkpoint.read_bytes()[:-100])
    result = check_weights(checkpoint, damaged)
    assert_fault(result, str(damaged), "not a sound .npz")
    assert result.stdout.count("\n") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "model_type", "img_size"),
    [(VITS[0], "ViT-B_16", 224), (VITS[1], "ViT-B_32", 384), (VITS[2], "ViT-L_32", 384), (MAE, "ViT-B_16", 224)],
)
def test_published_counts(tmp_path, name, model_type, img_size):
    """Files of the public names, shapes and layouts, filled with zeros, are as published."""
    config = CONFIGS[model_type].with_(img_size=img_size, pool="mean" if name == MAE else "cls")
    with torch.device("meta"):
        model = VisionTransformer(config)
    model, file = model.to_empty(device="cpu"), tmp_path / name
    for parameter in model.parameters():
        parameter.data.zero_()
    if name == MAE:
        torch.save({"model": model.state_dict()}, file)
    else:
        save(model, file)
    del model
    result = check_weights(file)
    file.unlink()
    assert result.code == 0, result.stderr
    assert f"{img_size} pixels, 1000 classes" in result.stdout
    assert result.stdout.endswith(f"{COUNTS[name]:,} parameters, as published\n")
