"""What can be pushed: each kind of source as it is opened, and what is said of those that cannot be."""

from __future__ import annotations

import gzip
import json
import os
import stat
from pathlib import Path

import pytest

from helpers.aws import RunbookError
from helpers.ecr import docker_save
from helpers.ecr.content import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from helpers.ecr.source import open_image
from tests.ecr import making


def contents(image) -> list[bytes]:
    read = []
    for blob in image.blobs:
        with blob.open() as file:
            read.append(file.read(blob.size))
    return read


def test_a_layout_gives_its_manifest_byte_for_byte_and_its_layers_where_they_lie(tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci", b"one", b"two")
    image = open_image(str(tmp_path / "oci"))
    assert (image.root.digest, image.root.media_type) == (digest, OCI_MANIFEST)
    assert making.digest(image.root.body) == digest and b"\n   " in image.root.body
    assert contents(image)[1:] == [b"one", b"two"]
    assert image.platforms == ("linux/amd64",)


def test_an_archive_is_read_without_being_unpacked(tmp_path: Path) -> None:
    digest = making.image(tmp_path / "oci", b"one", b"two")
    packed = making.archive(tmp_path / "oci", tmp_path / "image.tar")
    image = open_image(str(packed))
    assert image.root.digest == digest
    assert {blob.path for blob in image.blobs} == {str(packed)} and all(blob.offset for blob in image.blobs)
    assert contents(image)[1:] == [b"one", b"two"]
    (tmp_path / "image.tar.gz").write_bytes(gzip.compress(packed.read_bytes()))
    assert contents(open_image(str(tmp_path / "image.tar.gz")))[1:] == [b"one", b"two"]


def test_an_index_has_its_children_first_and_a_shared_layer_once(tmp_path: Path) -> None:
    _, digest = making.multi(tmp_path / "oci")
    image = open_image(str(tmp_path / "oci"))
    assert [one.media_type for one in image.manifests] == [OCI_MANIFEST, OCI_MANIFEST, OCI_INDEX]
    assert image.manifests[-1].digest == digest
    assert image.platforms == ("linux/amd64", "linux/arm64/v8")
    assert contents(image).count(b"shared") == 1 and len(image.blobs) == 5


@pytest.mark.parametrize(("platform", "found"), [("linux/amd64", "linux/amd64"), ("linux/arm64", "linux/arm64/v8"), ("linux/arm64/v8", "linux/arm64/v8")])
def test_one_platform_is_taken_out_of_an_index(tmp_path: Path, platform: str, found: str) -> None:
    making.multi(tmp_path / "oci")
    image = open_image(str(tmp_path / "oci"), platform)
    assert (image.root.platform, len(image.manifests)) == (found, 1)


def test_one_platform_can_be_taken_from_a_layout_that_has_no_other(tmp_path: Path) -> None:
    layout, _ = making.multi(tmp_path / "oci")
    whole = open_image(str(layout.folder))
    layout.path(whole.manifests[1].digest).unlink()
    assert open_image(str(layout.folder), "linux/amd64").root.platform == "linux/amd64"
    with pytest.raises(RunbookError, match=r"lacks the manifest for linux/arm64/v8.*skopeo copy --all"):
        open_image(str(layout.folder))


def test_a_name_chooses_an_image_of_a_layout(tmp_path: Path) -> None:
    layout = making.Layout(tmp_path / "oci")
    one, two = (layout.list(layout.image([name.encode()]), name) for name in ("web", "job"))
    assert open_image(f"{layout.folder}:web").root.digest == one
    assert open_image(f"{layout.folder}:job").root.digest == two
    with pytest.raises(RunbookError, match=r"has 2 images: web, job\..*Name one"):
        open_image(str(layout.folder))
    with pytest.raises(RunbookError, match=r"has no image other.*web, job"):
        open_image(f"{layout.folder}:other")


def test_docker_saves_layers_are_gzipped_the_same_way_each_time(tmp_path: Path) -> None:
    layers = [making.tar_of({"a": os.urandom(3_000_000)}), making.tar_of({"b": b"b" * 5_000_000})]
    saved = making.docker_save(tmp_path / "web.tar", layers)
    image, again = open_image(str(saved)), open_image(str(saved))
    assert image.root.media_type == DOCKER_MANIFEST and image.root.digest == again.root.digest
    assert [making.unzipped(blob.path) for blob in image.blobs[1:]] == layers
    assert [making.digest(Path(blob.path).read_bytes()) for blob in image.blobs[1:]] == [blob.digest for blob in image.blobs[1:]]
    assert json.loads(image.root.body)["layers"][0]["mediaType"] == docker_save.LAYER
    assert image.platforms == ("linux/amd64",)


def test_a_layer_of_docker_save_may_be_a_link_to_another(tmp_path: Path) -> None:
    layer = making.tar_of({"a": b"a"})
    image = open_image(str(making.docker_save(tmp_path / "web.tar", [layer, layer], linked=True)))
    assert len(image.root.blobs) == 3 and len(image.blobs) == 2


def test_a_layer_that_is_not_what_dockers_config_says_is_found_out(tmp_path: Path) -> None:
    saved = making.docker_save(tmp_path / "web.tar", [b"a layer"], diff_ids=["sha256:" + "0" * 64])
    with pytest.raises(RunbookError, match=r"is not what the manifest names: uncompressed it is sha256:.*Nothing was published"):
        open_image(str(saved))


def test_a_newer_docker_save_is_a_layout_whose_bare_layers_are_gzipped(tmp_path: Path) -> None:
    layer = making.tar_of({"a": b"a" * 100_000})
    layout = making.Layout(tmp_path / "oci")
    config = layout.blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [making.digest(layer)]}}).encode(), f"{making.OCI}.config.v1+json")
    bare = layout.blob(layer, f"{making.OCI}.layer.v1.tar")
    layout.list(layout.blob(json.dumps({"schemaVersion": 2, "config": config, "layers": [bare]}).encode(), f"{making.OCI}.manifest.v1+json"))
    names = {"Config": f"blobs/sha256/{config['digest'][7:]}", "RepoTags": ["web:1"], "Layers": [f"blobs/sha256/{bare['digest'][7:]}"]}
    (layout.folder / "manifest.json").write_text(json.dumps([names]))
    image = open_image(str(making.archive(layout.folder, tmp_path / "web.tar")))
    assert image.root.media_type == DOCKER_MANIFEST and image.blobs[1].size < len(layer)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Docker's command, which has the image web:1; the folder that it is in."""
    saved = making.docker_save(tmp_path / "saved.tar", [making.tar_of({"a": b"a"})])
    command = tmp_path / "bin" / "docker"
    command.parent.mkdir()
    command.write_text(f"""#!/bin/sh
case "$1 $2" in
  "image inspect") [ "$5" = web:1 ] || {{ echo "Error: No such image: $5" >&2; exit 1; }}; echo 2048 ;;
  "save --output") cp {saved} "$3" ;;
esac
""")
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return command.parent


def test_an_image_of_a_local_engine_is_saved_by_its_own_command(engine: Path) -> None:
    assert open_image("web:1").root.media_type == DOCKER_MANIFEST
    assert open_image("docker:web:1").platforms == ("linux/amd64",)


def test_an_image_that_no_engine_has_is_told_with_what_each_engine_said(engine: Path) -> None:
    with pytest.raises(RunbookError, match=r"No image 'job:2' can be had.*docker says: Error: No such image: job:2; podman is not installed"):
        open_image("job:2")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda layout, layer, manifest: layer.unlink(), "has no blobs/sha256/"),
        (lambda layout, layer, manifest: layer.write_bytes(b"shorter"), "it has 7 bytes in place of"),
        (lambda layout, layer, manifest: manifest.write_bytes(manifest.read_bytes() + b" "), "has another digest"),
        (lambda layout, layer, manifest: (layout / "index.json").write_text("{"), "index.json holds no JSON"),
        (lambda layout, layer, manifest: (layout / "oci-layout").unlink(), "is no chart, OCI layout, OCI archive"),
    ],
)
def test_a_damaged_layout_is_told_in_a_sentence(tmp_path: Path, damage, told: str) -> None:
    digest = making.image(tmp_path / "oci", b"a layer of some bytes")
    image = open_image(str(tmp_path / "oci"))
    damage(tmp_path / "oci", Path(image.blobs[1].path), tmp_path / "oci" / "blobs" / "sha256" / digest.removeprefix("sha256:"))
    with pytest.raises(RunbookError, match=told) as failure:
        open_image(str(tmp_path / "oci"))
    assert failure.value.remedy


@pytest.mark.parametrize(
    ("name", "told"),
    [("./nothing", "There is no ./nothing"), ("$NOT_SET/image", r"There is no \$NOT_SET/image")],
)
def test_a_path_that_is_not_there_is_not_taken_for_an_image_of_an_engine(name: str, told: str) -> None:
    with pytest.raises(RunbookError, match=told):
        open_image(name)


def test_variables_in_a_path_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = making.image(tmp_path / "oci")
    monkeypatch.setenv("BUILDS", str(tmp_path))
    assert open_image("$BUILDS/oci").root.digest == digest


def test_a_file_that_is_no_archive_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(RunbookError, match="is neither a folder nor a tar archive"):
        open_image(str(tmp_path / "notes.txt"))
    with pytest.raises(RunbookError, match="The platform linux/s390x is not in the image"):
        making.image(tmp_path / "oci")
        open_image(str(tmp_path / "oci"), "linux/s390x")
