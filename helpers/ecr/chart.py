"""A Helm chart as the OCI artefact that `helm push` makes of it: the same config, annotations and manifest, byte for byte.

https://helm.sh/docs/topics/registries/; measured with Helm 4.1.4 (tests/ecr/test_chart.py compares).
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.aws import RunbookError
from helpers.ecr.chart_folder import CHART_FILE, pack
from helpers.ecr.content import CHART, HELM_CONFIG, OCI_MANIFEST, Blob, Image, Manifest, digest_of

CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE = "application/vnd.cncf.helm.chart.provenance.v1.prov"
ANNOTATION = "org.opencontainers.image."
KEPT = (f"{ANNOTATION}version", f"{ANNOTATION}title")  # a chart's own annotations do not replace these two


def read_chart(path: Path) -> Image:
    """The artefact of a chart: a `.tgz`, with its `.prov` beside it where there is one, or a chart folder, which is packed first.

    Raises `RunbookError` where it is no chart, or its Chart.yaml lacks a name or a version.
    """
    packed = pack(path) if path.is_dir() else path
    size = packed.stat().st_size
    with open(packed, "rb") as file:
        content = Blob(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", size, CONTENT, str(packed))
    meta = metadata(_chart_yaml(packed), str(path))
    config = _json(meta)
    blobs = [Blob(digest_of(config), len(config), HELM_CONFIG, data=config), content]
    provenance = packed.with_name(packed.name + ".prov")
    if provenance.is_file():
        signed = provenance.read_bytes()
        blobs.append(Blob(digest_of(signed), len(signed), PROVENANCE, data=signed))
    body = _json({
        "schemaVersion": 2,
        "config": _described(blobs[0]),
        "layers": [_described(blob) for blob in blobs[1:]],
        "annotations": annotations(meta, _created(packed)),
    })  # fmt: skip
    manifest = Manifest(digest_of(body), OCI_MANIFEST, body, tuple(blobs))
    return Image(manifest, str(path), CHART, meta["name"], meta["version"])


def is_chart(path: Path) -> bool:
    """True for a folder with a Chart.yaml, and for a gzipped tar that has one in its only top folder."""
    if path.is_dir():
        return (path / CHART_FILE).is_file()
    try:
        return bool(_chart_yaml(path))
    except RunbookError:
        return False


def metadata(text: bytes, what: str) -> dict[str, Any]:
    """The content of a Chart.yaml with the members, their order and their types as Helm keeps them; empty ones are left out.

    Raises `RunbookError` where it is no YAML, or has no name, version or apiVersion.
    """
    import yaml  # costs 15 ms, which an image does not need

    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunbookError(f"{CHART_FILE} of {what} is no YAML: {' '.join(str(error).split())}.", "`helm lint` shows the place.") from error
    if not isinstance(given, dict) or not all(given.get(name) for name in ("name", "version", "apiVersion")):
        raise RunbookError(f"{CHART_FILE} of {what} lacks name, version or apiVersion.", "`helm lint` says what a chart needs.")
    return _picked(given, CHART_MEMBERS)


def annotations(meta: Mapping[str, Any], created: str) -> dict[str, str]:
    """The manifest's annotations: from the metadata, overlaid by the chart's own but for version and title; sorted."""
    authors = ", ".join(one.get("name", "") + (f" ({one['email']})" if one.get("email") else "") for one in meta.get("maintainers", []))
    told = {
        "description": meta.get("description", ""), "title": meta["name"], "version": meta["version"], "url": meta.get("home", ""),
        "created": created, "source": (meta.get("sources") or [""])[0], "authors": authors,
    }  # fmt: skip
    own = {name: value for name, value in meta.get("annotations", {}).items() if name not in KEPT}
    return dict(sorted({**{ANNOTATION + name: value for name, value in told.items() if value.strip()}, **own}.items()))


def _text(value: Any) -> str:
    """A scalar as Go writes it where a text is wanted: `version: 1.10` is the number 1.1."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _texts(value: Any) -> list[str]:
    return [_text(one) for one in value]


def _picked(given: Mapping[str, Any], members: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The members that are given and not empty, in Helm's order; `repository` of a dependency is always written."""
    found = {name: make(given[name]) for name, make in members.items() if given.get(name) is not None}
    if members is DEPENDENCY_MEMBERS:
        found.setdefault("repository", "")
    return {name: found[name] for name in members if name in found and (found[name] or name == "repository")}


MAINTAINER_MEMBERS: dict[str, Callable[[Any], Any]] = {"name": _text, "email": _text, "url": _text}
DEPENDENCY_MEMBERS: dict[str, Callable[[Any], Any]] = {
    "name": _text, "version": _text, "repository": _text, "condition": _text, "tags": _texts, "enabled": bool, "import-values": list, "alias": _text,
}  # fmt: skip
CHART_MEMBERS: dict[str, Callable[[Any], Any]] = {
    "name": _text, "home": _text, "sources": _texts, "version": _text, "description": _text, "keywords": _texts,
    "maintainers": lambda value: [_picked(one, MAINTAINER_MEMBERS) for one in value],
    "icon": _text, "apiVersion": _text, "condition": _text, "tags": _text, "appVersion": _text, "deprecated": bool,
    "annotations": lambda value: {_text(name): _text(item) for name, item in sorted(value.items())},
    "kubeVersion": _text,
    "dependencies": lambda value: [_picked(one, DEPENDENCY_MEMBERS) for one in value],
    "type": _text,
}  # fmt: skip


def _json(value: Any) -> bytes:
    """JSON as Go writes it: compact, UTF-8, and safe inside HTML."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _described(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}


def _created(packed: Path) -> str:
    """When the archive was written, in seconds of this machine's time zone: Helm takes it for the annotation `created`."""
    when = datetime.fromtimestamp(int(packed.stat().st_mtime)).astimezone().isoformat()
    return when.replace("+00:00", "Z")


def _chart_yaml(packed: Path) -> bytes:
    """Chart.yaml of a packed chart. Raises `RunbookError` where the file is no packed chart."""
    try:
        with tarfile.open(packed, "r:gz") as archive:
            for member in archive:
                parts = member.name.removeprefix("./").split("/")
                if len(parts) == 2 and parts[1] == CHART_FILE and member.isreg():
                    return (archive.extractfile(member) or io.BytesIO()).read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise RunbookError(f"{packed} is no packed chart: {error}.", "Pack it again with `helm package`.") from error
    raise RunbookError(f"{packed} has no {CHART_FILE}.", "Pack it again with `helm package`.")
