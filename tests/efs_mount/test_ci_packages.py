"""The script that installs what real mounts need: it never keeps the tests from running."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "debian_packages"
TOOLS = ("bash", "env", "mktemp", "rm", "id", "grep", "timeout")


def run(path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script where only a few usual programs exist, and those given as shell scripts."""
    path.mkdir()
    for name in TOOLS:
        found = next(place for place in map(Path, ("/bin", "/usr/bin")) if (place / name).exists())
        (path / name).symlink_to(found / name)
    for name, text in programs.items():
        program = path / name.replace("_", "-")
        program.unlink(missing_ok=True)
        program.write_text(f"#!{path}/bash\n{text}\n")
        program.chmod(0o755)
    return subprocess.run([path / "bash", SCRIPT], env={"PATH": str(path)}, capture_output=True, text=True, timeout=30)


def test_it_is_executable() -> None:
    assert os.access(SCRIPT, os.X_OK)


def test_without_apt_it_says_so_and_succeeds(tmp_path: Path) -> None:
    done = run(tmp_path / "bin")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no apt-get here" in done.stderr


def test_without_root_it_names_what_is_missing_and_succeeds(tmp_path: Path) -> None:
    done = run(tmp_path / "bin", apt_get="exit 1", dpkg_query="exit 1", id="echo 1000")
    assert done.returncode == 0
    assert "not root" in done.stderr and "nfs-ganesha" in done.stderr


def test_where_the_packages_are_there_apt_is_not_asked_to_install(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    done = run(tmp_path / "bin", apt_get=f'echo "$@" >> {asked}', apt_cache="true", dpkg_query="echo 'install ok installed'", id="echo 0")
    assert (done.returncode, done.stderr, asked.exists()) == (0, "", False)


@pytest.mark.parametrize(("code", "told"), [(0, ""), (1, "could not all be installed")])
def test_what_is_missing_is_installed_and_a_failure_is_told_but_does_not_stop(tmp_path: Path, code: int, told: str) -> None:
    asked = tmp_path / "asked"
    apt = f'echo "$@" >> {asked}\necho "E: no such mirror" >&2\ncase "$*" in *install*) exit {code} ;; esac'
    done = run(tmp_path / "bin", apt_get=apt, apt_cache="exit 1", dpkg_query="exit 1", id="echo 0")
    assert done.returncode == 0
    assert told in done.stderr and (told == "" or "no such mirror" in done.stderr)
    assert [line.split()[1] for line in asked.read_text().splitlines()] == ["update", "install"]
