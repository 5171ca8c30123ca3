"""An image of a local Docker or Podman, saved to a scratch archive with its own command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from helpers.aws import RunbookError
from helpers.ecr.files import require_space, scratch

ENGINES = ("docker", "podman")
SECONDS = 1800
ASKED_S = 20


def save_from_daemon(name: str, engine: str = "") -> Path:
    """The archive of an image that a local engine has; `engine` is docker or podman, empty asks both.

    Raises `RunbookError` where no engine is installed, or none has the image, with what each of them said.
    """
    told = []
    for command in [engine] if engine else ENGINES:
        if shutil.which(command) is None:
            told.append(f"{command} is not installed")
            continue
        asked = _run([command, "image", "inspect", "--format", "{{.Size}}", name], ASKED_S)
        if asked.returncode:
            told.append(f"{command} says: {_last(asked.stderr)}")
            continue
        size = int(asked.stdout.strip().splitlines()[-1]) if asked.stdout.strip().isdigit() else 0
        require_space(2 * size, f"Saving {name}")
        archive = scratch() / "image.tar"
        saved = _run([command, "save", "--output", str(archive), name], SECONDS)
        if saved.returncode == 0:
            return archive
        told.append(f"{command} save says: {_last(saved.stderr)}")
    raise RunbookError(f"No image {name!r} can be had from a local engine: {'; '.join(told)}.", "Give the path of an OCI layout, an archive or a chart, or start the engine that has it.")


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it did not answer in {seconds:.0f} s")


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["nothing"])[-1].rstrip(".")
