"""The sample image runs and is the same each time; the sample chart is a chart."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.rehearsal import engines
from helpers.rehearsal.ecr import packages, sample_image
from helpers.rehearsal.ecr.sample_chart import sample_chart

CHROOT = shutil.which("chroot")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the server of this machine's wheels is no Linux program")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_image.sample_image(tmp_path_factory.mktemp("samples"))


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def read(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return manifest and config."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]["digest"]).read_text())
    return manifest, json.loads(blob(layout, manifest["config"]["digest"]).read_text())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_machine_builds_the_same_bytes(layout: Path, tmp_path: Path) -> None:
    assert files(sample_image.sample_image(tmp_path)) == files(layout)


def test_the_layout_names_what_it_has_by_digest_and_size(layout: Path) -> None:
    import gzip
    import hashlib

    manifest, config = read(layout)
    for part in (manifest["config"], *manifest["layers"]):
        content = blob(layout, part["digest"]).read_bytes()
        assert (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)) == (part["digest"], part["size"])
    unpacked = [gzip.decompress(blob(layout, part["digest"]).read_bytes()) for part in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in unpacked]
    assert config["os"] == ("linux" if sys.platform == "linux" else sys.platform)


@LINUX
@pytest.mark.parametrize("way", ["chroot", "loader"])
def test_the_sample_image_runs(layout: Path, tmp_path: Path, way: str) -> None:
    if way == "chroot" and not may_chroot():
        pytest.skip("chroot needs root")
    manifest, config = read(layout)
    root = tmp_path / "root"
    for part in manifest["layers"]:
        with tarfile.open(blob(layout, part["digest"])) as archive:
            archive.extractall(root, filter="tar")
    entry = [*config["config"]["Entrypoint"], *config["config"]["Cmd"]]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*inside(root, entry, way), "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={})
    try:
        assert answers(port, b"PING\r\n") == b"+PONG\r\n"
        assert b"allkeys-lru" in answers(port, b"CONFIG GET maxmemory-policy\r\n"), "it read the file of the last layer"
    finally:
        process.kill()
        process.wait()


def may_chroot() -> bool:
    return os.geteuid() == 0 and CHROOT is not None and subprocess.run([CHROOT, "/", "true"], capture_output=True).returncode == 0


def inside(root: Path, entry: list[str], way: str) -> list[str]:
    """Return a command that runs an entrypoint in an unpacked image: with it for its root, or by its loader and libraries alone."""
    if way == "chroot":
        return [str(CHROOT), str(root), *entry]
    loader = sample_image.interpreter_of(root / entry[0].strip("/"))
    libraries = next(path.parent for path in root.rglob("libc.*"))
    return [str(root / loader.strip("/")), "--library-path", str(libraries), *(str(root / one.strip("/")) for one in entry)]


def answers(port: int, request: bytes) -> bytes:
    until = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(request)
                return connection.recv(4096)
        except OSError:
            assert time.monotonic() < until, "the server of the image does not answer"
            time.sleep(0.05)


@LINUX
def test_the_sample_image_says_which_packages_it_has(layout: Path) -> None:
    manifest, _ = read(layout)
    found = packages.installed(blob(layout, part["digest"]) for part in manifest["layers"])
    engine = engines.available()[-1]
    assert found[f"{engine.name}-server"] == engine.version
    assert not shutil.which("dpkg-query") or "libc6" in found


def test_a_server_that_is_no_linux_program_is_packed_without_libraries(tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_bytes(b"\xcf\xfa\xed\xfe" + b"\0" * 100)
    assert sample_image.libraries_of(program) == {}


def test_the_sample_chart_is_a_chart(tmp_path: Path) -> None:
    chart = sample_chart(tmp_path)
    told = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert (told["apiVersion"], told["name"], told["version"]) == ("v2", "sample", "1.0.0")
    assert yaml.safe_load((chart / "values.yaml").read_text())["image"]["repository"]
    assert (chart / "templates" / "deployment.yaml").exists()
