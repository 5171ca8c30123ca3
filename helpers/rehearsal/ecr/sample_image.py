"""A container image that runs, built here without Docker: the Valkey or Redis server of an installed wheel, as an OCI layout.

Three layers: the loader and the shared libraries that the server needs, from this machine; the server; its configuration.
The same machine builds the same bytes each time. Where the machine is no Linux its server is no Linux program either: the
image then holds that server without libraries, says so by its platform, and runs nowhere.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.rehearsal import engines
from helpers.rehearsal.ecr.manifests import IMAGE_CONFIGS, OCI_INDEX, OCI_MANIFEST

NAME, TAG = "image", "1.0.0"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIGURATION, COMMAND = "/etc/valkey/valkey.conf", "/usr/local/bin/valkey-server"
MACHINES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# A text that says when it was built would make each build another one.
CREATED = "2026-01-01T00:00:00Z"
SETTINGS = "bind 127.0.0.1\nport 6379\ndir /tmp\nsave \"\"\nappendonly no\nmaxmemory 64mb\nmaxmemory-policy allkeys-lru\n"


def sample_image(directory: Path) -> Path:
    """Build the sample image in a folder, where it is not there yet; returns the OCI layout, tagged `TAG`.

    Raises LookupError where no engine is installed.
    """
    layout = Path(directory) / NAME
    if (layout / "index.json").exists():
        return layout
    engine = engines.available()[-1] if engines.available() else None
    if engine is None:
        raise LookupError("The sample image holds a Redis or Valkey server, and none is installed: `uv sync --all-extras`.")
    libraries = libraries_of(engine.binary)
    packages = {f"{engine.name}-server": engine.version, **packages_of(libraries.values())}
    base = {name: path.read_bytes() for name, path in libraries.items()}
    base |= {"/etc/passwd": b"root:x:0:0:root:/:/sbin/nologin\n", "/etc/os-release": _os_release(), "/tmp/.keep": b""}
    own = f"{engine.name}-server"
    base |= {_status(name): _paragraph(name, version) for name, version in packages.items() if name != own}
    server = {COMMAND: engine.binary.read_bytes(), _status(own): _paragraph(own, engine.version)}
    settings = {CONFIGURATION: SETTINGS.encode(), "/etc/valkey/about.txt": f"{engine.name} {engine.version}, built for rehearsals\n".encode()}
    return write_layout(layout, [base, server, settings], _config(engine), TAG)


def _config(engine: engines.Engine) -> dict[str, Any]:
    system = "linux" if sys.platform == "linux" else sys.platform
    command = {"Entrypoint": [COMMAND], "Cmd": [CONFIGURATION], "ExposedPorts": {"6379/tcp": {}}, "WorkingDir": "/tmp", "Env": ["PATH=/usr/local/bin"]}
    labels = {"org.opencontainers.image.title": "sample", "org.opencontainers.image.version": TAG, "engine": str(engine)}
    machine = MACHINES.get(platform.machine(), platform.machine())
    return {"created": CREATED, "architecture": machine, "os": system, "config": {**command, "Labels": labels}}


def write_layout(layout: Path, layers: list[Mapping[str, bytes]], config: Mapping[str, Any], tag: str) -> Path:
    """Write an OCI layout of one image: layers as {path: content}, a config without rootfs; returns its folder."""
    partial = layout.with_name(layout.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    blobs = partial / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    packed = [_tar(files) for files in layers]
    described = [_put(blobs, gzip.compress(content, 6, mtime=0), LAYER) for content in packed]
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in packed]}
    configured = _put(blobs, _json({**config, "rootfs": rootfs}), IMAGE_CONFIGS[0])
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": configured, "layers": described}
    named = _put(blobs, _json(manifest), OCI_MANIFEST)
    named |= {"platform": {name: config[name] for name in ("architecture", "os")}, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (partial / "index.json").write_bytes(_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [named]}))
    (partial / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    shutil.rmtree(layout, ignore_errors=True)
    os.replace(partial, layout)
    return layout


def _put(blobs: Path, content: bytes, media_type: str) -> dict[str, Any]:
    name = hashlib.sha256(content).hexdigest()
    (blobs / name).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}


def _json(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Return files as a tar whose bytes depend on nothing but them; what is under bin or lib can be run."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders = sorted({str(parent).strip("/") for name in files for parent in Path(name).parents} - {""})
        for name in folders:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name.strip("/"))
            entry.size, entry.mode = len(data), 0o755 if re.search(r"/bin/|\.so", name) else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


# What the server needs of this machine


def libraries_of(binary: Path) -> dict[str, Path]:
    """Return the loader and the shared libraries of a program, {path in the image: file here}; nothing where this is no Linux."""
    loader = interpreter_of(binary)
    if not loader:
        return {}
    told = subprocess.run([loader, "--list", str(binary)], capture_output=True, text=True, check=True, timeout=20).stdout
    # A library that came with the wheel goes where the loader looks by itself, beside the others.
    home = next((str(Path(one).parent) for one in re.findall(r"libc\.so\.6 => (\S+)", told)), "/lib")
    found = {loader: Path(loader)}
    for name, path in re.findall(r"(\S+) => (/\S+)", told):
        found[f"{home}/{Path(name).name}"] = Path(path)
    return found


def interpreter_of(binary: Path) -> str:
    """Return the loader that an ELF program names, "" for any other.

    Source: System V ABI, "Program Header" (PT_INTERP), https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
    """
    content = binary.read_bytes()
    if content[:5] != b"\x7fELF\x02":
        return ""
    start, size, count = struct.unpack_from("<Q", content, 0x20)[0], *struct.unpack_from("<HH", content, 0x36)
    for number in range(count):
        at = start + number * size
        if struct.unpack_from("<I", content, at)[0] == 3:
            offset, length = struct.unpack_from("<Q", content, at + 8)[0], struct.unpack_from("<Q", content, at + 32)[0]
            return content[offset : offset + length].rstrip(b"\0").decode()
    return ""


def packages_of(files: Iterable[Path]) -> dict[str, str]:
    """Return the versions of the Debian packages that files belong to; nothing where there is no dpkg."""
    if not shutil.which("dpkg-query"):
        return {}
    # Where /lib is a link to /usr/lib, dpkg may know a file by either name.
    real = {str(file.resolve()) for file in files}
    names = sorted(real | {name.removeprefix("/usr") for name in real})
    owners = sorted(set(re.findall(r"^([^:,\s]+)[^/]*: /", _dpkg("--search", *names), re.MULTILINE)))
    shown = _dpkg("--show", "--showformat=${Package} ${Version}\n", *owners) if owners else ""
    return dict(line.split(" ", 1) for line in shown.splitlines())


def _dpkg(*arguments: str) -> str:
    return subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True, timeout=60).stdout


def _status(package: str) -> str:
    # One file a package, as images without a package manager have it, so that each layer brings its own.
    return f"/var/lib/dpkg/status.d/{package}"


def _paragraph(package: str, version: str) -> bytes:
    return f"Package: {package}\nStatus: install ok installed\nVersion: {version}\n".encode()


def _os_release() -> bytes:
    release = Path("/etc/os-release")
    return release.read_bytes() if release.exists() else b'ID=none\nNAME="no Linux"\n'
