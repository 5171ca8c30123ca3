"""Other clients accept what was pushed: skopeo and Helm inspect, pull and push the same, where they are installed."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.ecr.push import push
from helpers.ecr.source import open_image
from tests.ecr import making
from tests.ecr.conftest import Account
from tests.rehearsal.ecr.test_conformance import HELM, SKOPEO, needs_helm, needs_skopeo



@pytest.fixture
def login(account: Account, tmp_path: Path) -> tuple[str, Path]:
    """The registry's host, and a file with a login for it as these clients keep it."""
    given = account.ecr.get_authorization_token()["authorizationData"][0]
    host = urlsplit(given["proxyEndpoint"]).netloc
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: {"auth": given["authorizationToken"]}}}))
    return host, tmp_path / "auth.json"


def skopeo(login: tuple[str, Path], *arguments: str) -> str:
    command = [str(SKOPEO), "--insecure-policy", *arguments[:1], "--authfile", str(login[1]), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_skopeo
def test_skopeo_inspects_what_was_pushed(account: Account, tmp_path: Path, login: tuple[str, Path]) -> None:
    digest = making.image(tmp_path / "oci")
    push(account.aws, str(tmp_path / "oci"), account.repository, "1.0.0")
    told = json.loads(skopeo(login, "inspect", "--tls-verify=false", f"docker://{login[0]}/{account.repository}:1.0.0"))
    assert told["Digest"] == digest and told["RepoTags"] == ["1.0.0"]
    raw = skopeo(login, "inspect", "--raw", "--tls-verify=false", f"docker://{login[0]}/{account.repository}:1.0.0")
    assert making.digest(raw.encode()) == digest


@needs_skopeo
def test_skopeo_copies_back_what_was_pushed_byte_for_byte(account: Account, tmp_path: Path, login: tuple[str, Path]) -> None:
    layout, digest = making.multi(tmp_path / "oci")
    push(account.aws, str(layout.folder), account.repository, "1.0.0")
    skopeo(login, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", f"docker://{login[0]}/{account.repository}:1.0.0", f"oci:{tmp_path / 'back'}")
    back = open_image(str(tmp_path / "back"))
    ours = open_image(str(layout.folder))
    assert back.root.digest == digest
    assert {blob.digest for blob in back.blobs} == {blob.digest for blob in ours.blobs}
    for blob in back.blobs:
        assert making.digest(Path(blob.path).read_bytes()) == blob.digest


@needs_skopeo
def test_a_push_by_skopeo_and_one_by_us_of_the_same_layout_give_the_same_digest(account: Account, tmp_path: Path, login: tuple[str, Path]) -> None:
    # Really gzipped: skopeo compresses, and so renames, a layer that is not.
    digest = making.image(tmp_path / "oci", gzip.compress(making.tar_of({"a": os.urandom(100_000)}), mtime=0))
    skopeo(login, "copy", "--dest-tls-verify=false", f"oci:{tmp_path / 'oci'}", f"docker://{login[0]}/{account.repository}:theirs")
    done = push(account.aws, str(tmp_path / "oci"), account.repository, "ours")
    assert account.tags() == {"theirs": digest, "ours": digest}
    assert done.layers.rows == ()


@needs_skopeo
def test_skopeo_reads_an_archive_of_docker_save_as_we_pushed_it(account: Account, tmp_path: Path, login: tuple[str, Path]) -> None:
    layer = making.tar_of({"a": b"a" * 10_000})
    push(account.aws, str(making.docker_save(tmp_path / "web.tar", [layer])), account.repository, "1.0.0")
    skopeo(login, "copy", "--src-tls-verify=false", f"docker://{login[0]}/{account.repository}:1.0.0", f"docker-archive:{tmp_path / 'back.tar'}")
    back = open_image(str(tmp_path / "back.tar"))
    assert making.unzipped(back.blobs[1].path) == layer


def helm(login: tuple[str, Path], home: Path, *arguments: str) -> str:
    environment = {**os.environ, "HELM_REGISTRY_CONFIG": str(login[1]), "HOME": str(home), "HELM_CACHE_HOME": str(home / "cache")}
    done = subprocess.run([str(HELM), *arguments], capture_output=True, text=True, timeout=60, env=environment, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@needs_helm
@pytest.mark.parametrize("packed", [False, True])
def test_helm_pulls_a_chart_that_we_pushed(account: Account, tmp_path: Path, login: tuple[str, Path], packed: bool) -> None:
    folder = making.chart(tmp_path / "demo")
    source = open_image(str(folder)).blobs[1].path if packed else str(folder)
    name = f"{account.repository}/demo"
    account.ecr.create_repository(repositoryName=name)
    done = push(account.aws, source, name)
    told = helm(login, tmp_path, "pull", f"oci://{login[0]}/{name}", "--version", "0.3.0+build.5", "--plain-http", "--destination", str(tmp_path))
    assert done.plan.digest in told
    pulled = tmp_path / "demo-0.3.0+build.5.tgz"
    assert making.digest(pulled.read_bytes()) == done.plan.layers[1].digest
    assert "version: 0.3.0+build.5" in helm(login, tmp_path, "show", "chart", str(pulled))


@needs_helm
def test_a_push_by_helm_and_one_by_us_of_the_same_archive_give_the_same_digest(account: Account, tmp_path: Path, login: tuple[str, Path]) -> None:
    subprocess.run([str(HELM), "package", making.chart(tmp_path / "demo"), "--destination", tmp_path], check=True, capture_output=True, timeout=60)
    packed = next(tmp_path.glob("demo-*.tgz"))
    account.ecr.create_repository(repositoryName=f"{account.repository}/demo")
    told = helm(login, tmp_path, "push", str(packed), f"oci://{login[0]}/{account.repository}", "--plain-http")
    done = push(account.aws, str(packed), f"{account.repository}/demo")
    assert done.plan.is_done and done.plan.digest in told


def test_the_login_is_what_docker_login_would_keep(account: Account) -> None:
    given = account.ecr.get_authorization_token()["authorizationData"][0]
    assert base64.b64decode(given["authorizationToken"]).startswith(b"AWS:")
