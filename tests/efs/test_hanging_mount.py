"""A mount that hangs in the kernel, as one over a dead tunnel does, is told and taken away at once.

A FUSE file system whose server never answers stands in for NFS, which needs a kernel that has its client: what asks it waits for ever.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.efs.mount import unmount_script
from helpers.efs.mounts import Mount, status

FUSE = Path("/dev/fuse")
PROMISE_S = 15.0  # far above the promised 3 s, for a busy machine, and far below what a hang takes
HANGS_S = 1
LINE = "34 30 0:30 / {place} rw - nfs4 127.0.0.1:/ rw,hard,port=20879,timeo=600\n"


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A mount point that never answers."""
    if os.geteuid() or not os.access(FUSE, os.W_OK):
        pytest.skip("a hanging mount needs root and /dev/fuse")
    place = tmp_path / "hanging"
    place.mkdir()
    server = os.open(FUSE, os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nobody", bytes(place), b"fuse", 0, options):
        os.close(server)
        pytest.skip(f"FUSE cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    yield place
    os.close(server)  # what waits for an answer gets an error now
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def test_df_hangs_and_the_status_does_not(hanging: Path) -> None:
    df = subprocess.run(["timeout", "-s", "KILL", str(HANGS_S), "df", str(hanging)], capture_output=True, check=False)
    started = time.monotonic()
    found = status([Mount(str(hanging), "127.0.0.1:/", "fs-0123456789abcdef0", "/", "rw")])
    assert df.returncode != 0
    assert time.monotonic() - started < PROMISE_S
    assert "no answer" in found.rows[0][1].why


def test_the_mount_is_unmounted_by_force(hanging: Path, tmp_path: Path) -> None:
    mountinfo, sockets = tmp_path / "mountinfo", tmp_path / "tcp"
    mountinfo.write_text(LINE.format(place=hanging))
    sockets.write_text("")  # nothing listens on the tunnel's port
    umount = tmp_path / "umount"
    umount.write_text(f'#!/bin/sh\n/usr/bin/umount "$@" && : > {mountinfo}\n')
    umount.chmod(0o755)
    script = unmount_script(str(hanging)).replace("/proc/self/mountinfo", str(mountinfo)).replace("/proc/net/tcp6", "/nowhere").replace("/proc/net/tcp", str(sockets))
    started = time.monotonic()
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert time.monotonic() - started < PROMISE_S
    assert "unmounted by force" in done.stdout and done.returncode == 0
    assert str(hanging) not in Path("/proc/self/mountinfo").read_text()


def test_looking_at_mounts_loads_no_pandas_and_no_boto3() -> None:
    script = "import sys; from helpers.efs import status; status(); print(sorted({'pandas', 'numpy', 'numba', 'botocore'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
