"""Tags: what is refused, what is taken from git, and what is said of a tree with changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.aws import RunbookError
from helpers.ecr.content import CHART, OCI_MANIFEST, Image, Manifest
from helpers.ecr.tags import choose_tag

IMAGE = Image(Manifest("sha256:" + "ab" * 32, OCI_MANIFEST, b""), "web")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_latest_is_refused_unless_it_is_asked_for_twice(tree: Path) -> None:
    with pytest.raises(RunbookError, match="The tag latest is refused.*allow_latest"):
        choose_tag("latest", IMAGE, directory=tree)
    allowed = choose_tag("latest", IMAGE, allow_latest=True, directory=tree)
    assert allowed.name == "latest" and allowed.check().outcome == "warn"


def test_the_default_is_the_git_commit(tree: Path) -> None:
    tag = choose_tag("", IMAGE, directory=tree)
    assert tag.name == git(tree, "rev-parse", "HEAD")[:12] and tag.check().outcome == "pass"


def test_a_tree_with_changes_is_said_in_the_tag_and_in_words(tree: Path) -> None:
    (tree / "a").write_text("b")
    tag = choose_tag("", IMAGE, directory=tree)
    assert tag.name.endswith("-dirty") and "not committed" in tag.check().found and tag.check().outcome == "warn"


def test_without_git_the_images_own_digest_is_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert choose_tag("", IMAGE, directory=tmp_path).name == "ab" * 6


@pytest.mark.parametrize(("tag", "origin"), [("1.2.3", "a semantic version"), ("v1.2.3-rc.1", "a semantic version"), ("stable", "as asked for"), ("x" * 300, "as asked for")])
def test_versions_and_names_are_welcome(tag: str, origin: str) -> None:
    assert (choose_tag(tag, IMAGE).name, choose_tag(tag, IMAGE).origin) == (tag, origin)


@pytest.mark.parametrize("tag", ["1.0+a", "-a", ".a", "a b", "a/b", "x" * 301, "é"])
def test_what_ecr_does_not_take_is_told_before_it_is_sent(tag: str) -> None:
    with pytest.raises(RunbookError, match="is no tag"):
        choose_tag(tag, IMAGE)


def test_a_charts_tag_is_its_version_with_an_underscore_for_the_plus() -> None:
    chart = Image(IMAGE.root, "demo", CHART, "demo", "1.2.0+7")
    assert choose_tag("", chart).name == choose_tag("1.2.0+7", chart).name == "1.2.0_7"
    with pytest.raises(RunbookError, match=r"has the version 1\.2\.0\+7, so Helm would not find it under the tag new"):
        choose_tag("new", chart)
