"""skopeo and Helm against the local cloud's registry: what others' clients push, inspect and pull agrees with the API.

`.ci/debian_packages` installs skopeo, and `.ci/helm` a Helm binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal.ecr import sample_image
from helpers.rehearsal.ecr.sample_chart import sample_chart

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aws-runbooks" / "helm"
SKOPEO = shutil.which("skopeo")
HELM = shutil.which("helm") or (str(CACHE) if os.access(CACHE, os.X_OK) else None)
SCRIPT = Path(__file__).parents[3] / ".ci" / "helm"
needs_skopeo = pytest.mark.skipif(not SKOPEO, reason="skopeo is not installed: `.ci/debian_packages`")
needs_helm = pytest.mark.skipif(not HELM, reason="no Helm on PATH or in the cache: `.ci/helm`")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_image.sample_image(tmp_path_factory.mktemp("samples"))


def manifest_digest(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


def run(*command: str, home: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program with no login and no settings but those of a folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "REGISTRY_AUTH_FILE": str(home / "auth.json"), "XDG_RUNTIME_DIR": str(home)}
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, env=environment)


def skopeo(home: Path, *arguments: str, given: str = "") -> str:
    done = run("skopeo", *arguments, home=home, given=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def login(registry: Any, home: Path) -> str:
    """Log skopeo in as `docker login` is; return the repository's address."""
    host, password = registry.login()
    assert "Login Succeeded" in skopeo(home, "login", "--tls-verify=false", "--username", "AWS", "--password-stdin", host, given=password)
    return f"{host}/{registry.repository}"


@needs_skopeo
def test_skopeo_logs_in_copies_inspects_and_copies_back(registry: Any, layout: Path, tmp_path: Path) -> None:
    address = login(registry, tmp_path)
    skopeo(tmp_path, "copy", "--dest-tls-verify=false", f"oci:{layout}:{sample_image.TAG}", f"docker://{address}:v1")
    told = json.loads(skopeo(tmp_path, "inspect", "--tls-verify=false", f"docker://{address}:v1"))
    assert told["Digest"] == manifest_digest(layout) == registry.detail(imageTag="v1")["imageDigest"]
    assert told["RepoTags"] == ["v1"]
    back = tmp_path / "back"
    skopeo(tmp_path, "copy", "--src-tls-verify=false", f"docker://{address}:v1", f"oci:{back}:v1")
    assert manifest_digest(back) == manifest_digest(layout)
    manifest = json.loads((layout / "blobs" / "sha256" / manifest_digest(layout).removeprefix("sha256:")).read_text())
    parts = [manifest["config"], *manifest["layers"]]
    assert registry.detail(imageTag="v1")["imageSizeInBytes"] == sum(part["size"] for part in parts)
    for part in parts:
        assert hashlib.sha256((back / "blobs" / "sha256" / part["digest"].removeprefix("sha256:")).read_bytes()).hexdigest() == part["digest"].removeprefix("sha256:")


@needs_skopeo
def test_skopeo_prints_what_ecr_says(registry: Any, layout: Path, tmp_path: Path) -> None:
    address, source = login(registry, tmp_path), f"oci:{layout}:{sample_image.TAG}"

    def refused(*arguments: str) -> str:
        done = run("skopeo", *arguments, home=tmp_path)
        assert done.returncode != 0
        return done.stderr

    registry.ecr.put_image_tag_mutability(repositoryName=registry.repository, imageTagMutability="IMMUTABLE")
    registry.push("v1", b"another image")
    assert "already exists in the" in refused("copy", "--dest-tls-verify=false", source, f"docker://{address}:v1")
    missing = address.replace(registry.repository, "no/such")
    assert "name unknown" in refused("copy", "--dest-tls-verify=false", source, f"docker://{missing}:v1")
    registry.cloud.registry(deny=["ecr:InitiateLayerUpload"])
    new = f"{registry.repository}-new"
    registry.ecr.create_repository(repositoryName=new)
    assert "is not authorized to perform: ecr:InitiateLayerUpload" in refused("copy", "--dest-tls-verify=false", source, f"docker://{address}-new:v1")
    registry.cloud.registry(expire_tokens=True, deny=[])
    assert "Your authorization token has expired. Reauthenticate and try again." in refused("inspect", "--tls-verify=false", f"docker://{address}:v1")


@needs_skopeo
def test_skopeo_mounts_layers_that_another_repository_has(registry: Any, layout: Path, tmp_path: Path) -> None:
    address, other = login(registry, tmp_path), f"{registry.repository}-other"
    registry.ecr.create_repository(repositoryName=other)
    registry.ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    skopeo(tmp_path, "copy", "--dest-tls-verify=false", f"oci:{layout}:{sample_image.TAG}", f"docker://{address}:v1")
    # A cut that would break any upload of a layer.
    registry.cloud.registry(cut={"after_bytes": 100_000, "times": 100})
    target = f"docker://{address.replace(registry.repository, other)}:v1"
    skopeo(tmp_path, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{address}:v1", target)
    found = registry.ecr.describe_images(repositoryName=other)["imageDetails"]
    assert [one["imageDigest"] for one in found] == [manifest_digest(layout)]


@needs_helm
def test_helm_takes_the_sample_chart_and_pushes_and_pulls_it(registry: Any, tmp_path: Path) -> None:
    def helm(*arguments: str, given: str = "") -> str:
        done = run(str(HELM), *arguments, home=tmp_path, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    chart = sample_chart(tmp_path)
    assert "0 chart(s) failed" in helm("lint", "--strict", str(chart))
    assert f'image: "{registry.repository}@sha256:1"' in helm("template", str(chart), "--set", f"image.repository={registry.repository},image.digest=sha256:1")
    helm("package", str(chart), "--destination", str(tmp_path))
    packed = tmp_path / "sample-1.0.0.tgz"
    # A chart is pushed to a repository of its own name.
    registry.ecr.create_repository(repositoryName=f"{registry.repository}/sample")
    host, password = registry.login()
    helm("registry", "login", host, "--plain-http", "--username", "AWS", "--password-stdin", given=password)
    told = helm("push", str(packed), f"oci://{host}/{registry.repository}", "--plain-http")
    found = registry.ecr.describe_images(repositoryName=f"{registry.repository}/sample")["imageDetails"][0]
    assert found["imageDigest"] in told
    assert (found["imageTags"], found["artifactMediaType"]) == (["1.0.0"], "application/vnd.cncf.helm.config.v1+json")
    (tmp_path / "back").mkdir()
    helm("pull", f"oci://{host}/{registry.repository}/sample", "--version", "1.0.0", "--plain-http", "--destination", str(tmp_path / "back"))
    assert (tmp_path / "back" / packed.name).read_bytes() == packed.read_bytes()
    with tarfile.open(packed) as archive:
        assert "sample/templates/deployment.yaml" in archive.getnames()


def test_the_script_that_fetches_helm_is_executable_and_parses() -> None:
    assert os.access(SCRIPT, os.X_OK)
    subprocess.run(["bash", "-n", SCRIPT], check=True)
