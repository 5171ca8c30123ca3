"""Small images and charts for the tests: OCI layouts, indexes, archives of `docker save`, chart folders."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
LAYER = f"{OCI}.layer.v1.tar+gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar of these files, the same bytes each time."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


class Layout:
    """An OCI layout folder that is put together blob by blob."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.listed: list[dict[str, Any]] = []

    def path(self, one: str) -> Path:
        return self.folder / "blobs" / "sha256" / one.removeprefix("sha256:")

    def blob(self, content: bytes, kind: str) -> dict[str, Any]:
        self.path(digest(content)).write_bytes(content)
        return {"mediaType": kind, "digest": digest(content), "size": len(content)}

    def image(self, layers: Sequence[bytes], architecture: str = "amd64", **more: Any) -> dict[str, Any]:
        config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]}, **more}
        content = {
            "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": self.blob(json.dumps(config).encode(), f"{OCI}.config.v1+json"),
            "layers": [self.blob(one, LAYER) for one in layers],
        }  # fmt: skip
        # Spaces and line ends are part of what the digest names.
        return self.blob(json.dumps(content, indent=3).encode(), f"{OCI}.manifest.v1+json")

    def index(self, children: Sequence[dict[str, Any]]) -> dict[str, Any]:
        content = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": list(children)}
        return self.blob(json.dumps(content).encode(), f"{OCI}.index.v1+json")

    def list(self, described: dict[str, Any], name: str = "") -> str:
        """Name an image in index.json; returns its digest."""
        self.listed.append({**described, **({"annotations": {"org.opencontainers.image.ref.name": name}} if name else {})})
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.listed}))
        return str(described["digest"])


def image(folder: Path, *layers: bytes, **more: Any) -> str:
    """A layout with one image of these layers; returns its digest."""
    layout = Layout(folder)
    return layout.list(layout.image(layers or (b"a layer", b"another"), **more))


def multi(folder: Path, architectures: Sequence[str] = ("amd64", "arm64")) -> tuple[Layout, str]:
    """A layout with an index of an image for each architecture, which share their first layer; returns it and the index's digest."""
    layout = Layout(folder)
    children = []
    for one in architectures:
        described = layout.image([b"shared", f"for {one}".encode()], one)
        children.append({**described, "platform": {"os": "linux", "architecture": one, **({"variant": "v8"} if one == "arm64" else {})}})
    return layout, layout.list(layout.index(children))


def archive(layout: Path, target: Path) -> Path:
    """A layout as an OCI archive."""
    with tarfile.open(target, "w") as written:
        for path in sorted(layout.rglob("*")):
            written.add(path, path.relative_to(layout).as_posix(), recursive=False)
    return target


def docker_save(target: Path, layers: Sequence[bytes], tag: str = "web:1", linked: bool = False, diff_ids: Sequence[str] | None = None) -> Path:
    """What `docker save` writes before version 25: a folder a layer; `linked`, the second layer is a link to the first."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": list(diff_ids or map(digest, layers))}}).encode()
    name = digest(config).removeprefix("sha256:") + ".json"
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    with tarfile.open(target, "w") as written:
        for number, (where, content) in enumerate([(name, config), *zip(names, layers, strict=True)]):
            member = tarfile.TarInfo(where)
            if linked and number == 2:
                member.type, member.linkname = tarfile.SYMTYPE, f"../{names[0]}"
                written.addfile(member)
                continue
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
        listed = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": names}]).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(listed)
        written.addfile(member, io.BytesIO(listed))
    return target


def unzipped(path: str) -> bytes:
    return gzip.decompress(Path(path).read_bytes())


CHART_YAML = """\
# What Helm leaves out of its config, and how it orders the rest
version: "0.3.0+build.5"
name: demo
apiVersion: v2
description: "A <demo> & more: é"
appVersion: 1.10
type: application
kubeVersion: ">=1.20.0-0"
home: https://example.com/home
keywords: [web, "b c"]
sources: [https://example.com/src]
maintainers:
- {name: Jane, email: jane@example.com}
- {name: Bob, url: https://bob.example}
deprecated: true
annotations:
  z.example/one: "1"
  a.example/two: |
    two
    lines
  org.opencontainers.image.title: mine
dependencies:
- {name: sub, version: 0.1.0, repository: "", condition: sub.enabled, tags: [a], alias: other}
"""


def chart(folder: Path) -> Path:
    """A chart folder with a subchart, an ignored file, and files in every place that Helm knows."""
    files = {
        "Chart.yaml": CHART_YAML, "values.yaml": "a: 1\n", "values.schema.json": "{}\n", "README.md": "demo\n", ".helmignore": "# no backups\n*.bak\nprivate/\n/top.txt\n",
        "old.bak": "x", "private/key": "x", "top.txt": "x", "files/top.txt": "kept", "crds/c.yaml": "kind: X\n",
        "templates/z.yaml": "a: {{ .Values.a }}\n", "templates/_helpers.tpl": "", "templates/tests/t.yaml": "kind: Pod\n",
        "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n", "charts/sub/values.yaml": "b: 2\n", "charts/sub/templates/s.yaml": "c: 3\n",
    }  # fmt: skip
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
