"""Charts as Helm pushes them: against what Helm 4.1.4 made of the same chart, and against Helm itself where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from helpers.aws import RunbookError
from helpers.ecr.chart import annotations, metadata, read_chart
from helpers.ecr.content import HELM_CONFIG
from helpers.ecr.source import open_image
from tests.ecr import making
from tests.rehearsal.ecr.test_conformance import HELM, needs_helm

# What Helm 4.1.4 wrote as the config of tests/ecr/making.py's chart.
CONFIG = (
    '{"name":"demo","home":"https://example.com/home","sources":["https://example.com/src"],"version":"0.3.0+build.5",'
    '"description":"A \\u003cdemo\\u003e \\u0026 more: é","keywords":["web","b c"],"maintainers":[{"name":"Jane","email":"jane@example.com"},'
    '{"name":"Bob","url":"https://bob.example"}],"apiVersion":"v2","appVersion":"1.1","deprecated":true,"annotations":'
    '{"a.example/two":"two\\nlines\\n","org.opencontainers.image.title":"mine","z.example/one":"1"},"kubeVersion":"\\u003e=1.20.0-0",'
    '"dependencies":[{"name":"sub","version":"0.1.0","repository":"","condition":"sub.enabled","tags":["a"],"alias":"other"}],"type":"application"}'
)


def test_a_chart_folder_is_packed_as_helm_package_does(tmp_path: Path) -> None:
    image = open_image(str(making.chart(tmp_path / "demo")))
    with tarfile.open(image.blobs[1].path, "r:gz") as packed:
        names = packed.getnames()
    assert names == [f"demo/{one}" for one in (
        "Chart.yaml", "values.yaml", "values.schema.json", "templates/_helpers.tpl", "templates/tests/t.yaml", "templates/z.yaml",
        ".helmignore", "README.md", "crds/c.yaml", "files/top.txt", "charts/sub/Chart.yaml", "charts/sub/values.yaml", "charts/sub/templates/s.yaml",
    )]  # fmt: skip
    assert (image.kind, image.name, image.version) == ("chart", "demo", "0.3.0+build.5")


def test_a_chart_folder_gives_the_same_digest_each_time(tmp_path: Path) -> None:
    folder = making.chart(tmp_path / "demo")
    assert read_chart(folder).root.digest == read_chart(folder).root.digest


def test_the_config_is_what_helm_writes(tmp_path: Path) -> None:
    image = open_image(str(making.chart(tmp_path / "demo")))
    assert image.blobs[0].media_type == HELM_CONFIG
    assert image.blobs[0].data.decode() == CONFIG


def test_the_manifest_has_sorted_annotations_and_no_media_type(tmp_path: Path) -> None:
    image = open_image(str(making.chart(tmp_path / "demo")))
    content = json.loads(image.root.body)
    assert list(content) == ["schemaVersion", "config", "layers", "annotations"]
    assert list(content["annotations"]) == sorted(content["annotations"])
    assert content["annotations"]["org.opencontainers.image.authors"] == "Jane (jane@example.com), Bob"
    assert content["annotations"]["org.opencontainers.image.title"] == "demo"


def test_created_is_when_the_archive_was_written_unless_the_chart_says_otherwise(tmp_path: Path) -> None:
    meta = metadata(b"apiVersion: v2\nname: a\nversion: 1.0.0\n", "a")
    assert annotations(meta, "2026-11-26T17:33:15Z")["org.opencontainers.image.created"] == "2026-11-26T17:33:15Z"
    own = {**meta, "annotations": {"org.opencontainers.image.created": "never", "org.opencontainers.image.version": "9"}}
    told = annotations(own, "2026-11-26T17:33:15Z")
    assert (told["org.opencontainers.image.created"], told["org.opencontainers.image.version"]) == ("never", "1.0.0")


def test_a_provenance_file_beside_the_archive_is_a_layer_too(tmp_path: Path) -> None:
    packed = Path(read_chart(making.chart(tmp_path / "demo")).blobs[1].path)
    shutil.copy(packed, tmp_path / packed.name)
    (tmp_path / f"{packed.name}.prov").write_text("signed")
    assert [blob.media_type.rpartition(".")[2] for blob in read_chart(tmp_path / packed.name).blobs] == ["v1+json", "tar+gzip", "prov"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("name: a\nversion: [", "is no YAML"), ("name: a\napiVersion: v2\n", "lacks name, version or apiVersion"), ("- a\n", "lacks name, version or apiVersion")],
)
def test_a_chart_yaml_that_helm_would_not_take_is_told_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(RunbookError, match=told) as failure:
        metadata(text.encode(), "demo")
    assert "helm lint" in failure.value.remedy


@needs_helm
def test_helm_itself_packs_the_same_files_and_the_artefact_has_helms_config(tmp_path: Path) -> None:
    folder = making.chart(tmp_path / "demo")
    subprocess.run([str(HELM), "package", folder, "--destination", tmp_path], check=True, capture_output=True, timeout=60)
    by_helm = next(tmp_path.glob("demo-*.tgz"))
    with tarfile.open(by_helm) as theirs, tarfile.open(read_chart(folder).blobs[1].path) as ours:
        assert theirs.getnames() == ours.getnames()
    assert read_chart(by_helm).blobs[0].data == read_chart(folder).blobs[0].data
