"""scripts/download_weights.sh with a `curl` that notes what it is asked for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT

NAMES = ("ViT-B_16-224.npz", "ViT-B_32.npz", "ViT-L_32.npz", "mae_finetuned_vit_base.pth")
CURL = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
*--head*) printf "$HEAD" ;;
*) for word; do [ "$last" != --output ] || printf '%s' "$BODY" >> "$word"; last=$word; done; exit ${CODE:-0} ;;
esac
"""
HEAD = "HTTP/1.1 302 Found\r\nContent-Length: 99\r\n\r\nHTTP/2 200\r\ncontent-length: 7\r\n\r\n"


@pytest.fixture
def download(tmp_path):
    """Run the script; what it printed, and what curl was asked for."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/curl").write_text(CURL)
    (tmp_path / "bin/curl").chmod(0o755)

    def run(*names: str, code: int = 0, **environment: str) -> tuple[str, list[str]]:
        log = tmp_path / "log"
        log.write_text("")
        given = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log), "HEAD": HEAD, "BODY": "weights"}
        command = [shutil.which("bash"), str(ROOT / "scripts/download_weights.sh"), str(tmp_path / "to"), *names]
        settings = {"VIT_URL": "https://vit/", "MAE_URL": "https://mae", "SKIP_CHECK": "1", **given, **environment}
        found = subprocess.run(command, env=settings, capture_output=True, text=True)
        assert found.returncode == code, found.stderr
        return (found.stderr if code else found.stdout), log.read_text().splitlines()

    run.folder = tmp_path / "to"
    return run


def asked(name: str, folder: Path) -> list[str]:
    url = f"https://{'mae' if name.endswith('pth') else 'vit'}/{name}"
    return [
        f"--silent --show-error --fail --location --head --connect-timeout 30 --max-time 120 {url}",
        "--fail --location --proto-redir =https --connect-timeout 30 --speed-limit 1 --speed-time 60 --silent "
        f"--continue-at - --output {folder / name}.part {url}",
    ]


def test_every_file_is_asked_for_once_and_its_length_is_where_the_address_leads(download):
    printed, found = download(*NAMES[:3])
    assert found == [line for name in NAMES[:3] for line in asked(name, download.folder)]
    assert {file.name: file.read_text() for file in download.folder.iterdir()} == dict.fromkeys(NAMES[:3], "weights")
    said = "size as on the server; no checksum is published: should it not load, delete it and run this again"
    first = download.folder / NAMES[0]
    assert printed.splitlines()[:2] == [f"{first}: fetching 7 bytes, 0 of them here already", f"    {said}"]


def test_the_names_and_their_order_by_default(download):
    found = download(code=2)[1]  # the last one's md5 is not the published one
    assert found == [line for name in NAMES for line in asked(name, download.folder)]
    assert not (download.folder / NAMES[3]).exists()


@pytest.mark.parametrize(
    "length", ["", "content-length: 0\\r\\n", "content-length: 1x\\r\\n", "x-content-length: 7\\r\\n"]
)
def test_an_answer_without_a_length_is_none(download, length):
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 99\r\n\r\nHTTP/2 200\r\n{length}\r\n"
    printed, found = download(NAMES[0], code=2, HEAD=head)
    said = "the server does not say how long the file is; is this the right address?"
    assert printed == f"download_weights.sh: https://vit/{NAMES[0]}: {said}\n"
    assert len(found) == 1


@pytest.mark.parametrize(
    ("curl", "code", "said"),
    [
        ("23", 4, "PART cannot be written (is the disk full?); make room, the same command resumes"),
        ("33", 2, "URL: this server cannot resume a download; PART is removed, the same command starts anew"),
        (
            "28",
            2,
            "URL: the download broke off (curl error 28); what arrived is kept in PART, the same command resumes",
        ),
    ],
)
def test_what_curl_reports(download, curl, code, said):
    part = download.folder / f"{NAMES[0]}.part"
    printed, _ = download(NAMES[0], code=code, CODE=curl)
    said = said.replace("URL", f"https://vit/{NAMES[0]}").replace("PART", str(part))
    assert printed == f"download_weights.sh: {said}\n"
    assert part.exists() == (curl != "33")


def test_a_file_of_another_length_is_removed_and_said(download):
    part = download.folder / f"{NAMES[0]}.part"
    printed, _ = download(NAMES[0], code=2, BODY="weight")
    said = f"{part} has 6 bytes, the file on the server 7; it is removed, the same command starts anew"
    assert printed == f"download_weights.sh: {said}\n"
    assert not part.exists()
