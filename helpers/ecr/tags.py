"""The tag of an image: never `latest` unless it is asked for, the git commit by default, within ECR's grammar."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from helpers.aws import Check, RunbookError
from helpers.ecr.content import CHART, Image

# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImage.html: 1 to 300 characters
GRAMMAR = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,299}")
SEMANTIC = re.compile(r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(_[0-9A-Za-z.-]+)?")
LATEST, DIGITS, GIT_S = "latest", 12, 10


@dataclass(frozen=True)
class Tag:
    """A tag, and in words what it was taken from; `doubt` says what speaks against it."""

    name: str
    origin: str
    doubt: str = ""

    def check(self) -> Check:
        """The tag as a check: a warning where something speaks against it."""
        return Check("the tag names this version", "warn" if self.doubt else "pass", f"{self.name}: {self.origin}{'; ' + self.doubt if self.doubt else ''}")


def choose_tag(asked: str, image: Image, *, allow_latest: bool = False, directory: Path | str = ".") -> Tag:
    """The tag to push under: the one asked for, a chart's version, the git commit of `directory`, else the image's own digest.

    Raises `RunbookError` for `latest` without `allow_latest`, for what ECR's grammar does not take, and for a chart whose
    tag is not its version, under which Helm would not find it.
    """
    if asked == LATEST and not allow_latest:
        raise RunbookError("The tag latest is refused: it names another image tomorrow, so that nobody can say what runs, or roll back.", "Leave `tag` empty for the git commit, give a version, or set allow_latest.")
    if image.kind == CHART:
        return _of_chart(asked, image)
    if asked:
        return Tag(_grammatical(asked), "a semantic version" if SEMANTIC.fullmatch(asked) else "as asked for", "it moves with every push" if asked == LATEST else "")
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return Tag(image.root.digest.removeprefix("sha256:")[:DIGITS], "the image's own digest, as there is no git commit here")
    if _git(directory, "status", "--porcelain", "--untracked-files=no"):
        return Tag(f"{commit[:DIGITS]}-dirty", "the git commit of the working directory", "there are changes that are not committed, so no commit holds what was built")
    return Tag(commit[:DIGITS], "the git commit of the working directory")


def _of_chart(asked: str, image: Image) -> Tag:
    """A chart is pulled by its version; a tag has no plus sign, for which Helm writes an underscore."""
    version = image.version.replace("+", "_")
    if asked and asked not in (version, image.version):
        raise RunbookError(f"The chart {image.name} has the version {image.version}, so Helm would not find it under the tag {asked}.", "Leave `tag` empty, or change the version in Chart.yaml.")
    return Tag(_grammatical(version), "the chart's version")


def _grammatical(tag: str) -> str:
    if not GRAMMAR.fullmatch(tag):
        raise RunbookError(f"{tag!r} is no tag: it has 1 to 300 letters, digits, dots, hyphens and underscores, and begins with a letter, a digit or an underscore.", "Write an underscore for the plus sign of a version.")
    return tag


def _git(directory: Path | str, *arguments: str) -> str:
    """What git says, in one line; empty where it is not installed, or this is no work tree."""
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=GIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""
