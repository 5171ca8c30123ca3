"""What is mounted is read from the kernel's tables and the tunnel's state files, and nothing waits for a dead tunnel."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import pytest

from helpers.efs import mounts
from helpers.efs.mounts import Mount, find_mount, mounted, status, usage

MEASURED = json.loads((Path(__file__).parent / "data" / "dead_tunnel_commands.json").read_text())
PROMISE_S = 15.0  # far above the promised 3 s, for a busy machine, and far below what a hang takes
HEADER = "  sl  local_address rem_address   st tx_queue\n"


def line(mount_point: str, source: str = "127.0.0.1:/", port: str = ",port=20879") -> str:
    return f"34 30 0:30 / {mount_point} rw,relatime shared:1 - nfs4 {source} rw,vers=4.1,rsize=1048576,hard,noresvport,proto=tcp{port},timeo=600\n"


def tables(tmp_path: Path, lines: str, listening: int | None = None) -> list[Mount]:
    mountinfo, sockets, states = tmp_path / "mountinfo", tmp_path / "tcp", tmp_path / "efs"
    mountinfo.write_text("22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n" + lines)
    sockets.write_text(HEADER + (f"   0: 0100007F:{listening:04X} 00000000:0000 0A 00000000:00000000\n" if listening else ""))
    states.mkdir(exist_ok=True)
    (states / "stunnel-config.fs-0123456789abcdef0.mnt.efs.20879").write_text("accept = 127.0.0.1:20879")
    (states / "fs-0123456789abcdef0.mnt.efs.20879+").mkdir(exist_ok=True)
    (states / "fs-0123456789abcdef0.mnt.efs.20879").write_text(json.dumps({"pid": 153, "cmd": ["/usr/bin/stunnel"]}))
    return mounted(mountinfo, states, (sockets, tmp_path / "absent"))


def test_the_port_of_a_local_tunnel_leads_to_the_file_system(tmp_path: Path) -> None:
    (found,) = tables(tmp_path, line("/mnt/efs"), listening=20879)
    assert (found.mount_point, found.file_system, found.directory) == ("/mnt/efs", "fs-0123456789abcdef0", "/")
    assert (found.port, found.tunnel_pid, found.tunnel_listens, found.dead) == (20879, 153, True, False)


def test_the_measured_line_of_mountinfo_is_read(tmp_path: Path) -> None:
    said = next(text for text in MEASURED["lines"] if text.startswith("@@ mountinfo")).split(" ", 4)[4]
    (found,) = tables(tmp_path, said + "20879,timeo=600\n")
    assert (found.mount_point, found.file_system, found.dead) == ("/mnt/efs", "fs-0123456789abcdef0", True)


def test_a_plain_mount_names_its_file_system_and_has_no_tunnel(tmp_path: Path) -> None:
    (found,) = tables(tmp_path, line("/data", "fs-01234567.efs.eu-west-1.amazonaws.com:/a/b", port=""))
    assert (found.file_system, found.directory, found.port, found.dead) == ("fs-01234567", "/a/b", None, False)


def test_another_nfs_server_is_shown_as_what_it_is(tmp_path: Path) -> None:
    (found,) = tables(tmp_path, line("/home", "nas:/export", port=""))
    assert (found.source, found.file_system) == ("nas:/export", "")


def test_a_space_in_a_mount_point_is_read(tmp_path: Path) -> None:
    assert find_mount("/mnt/my files/", tables(tmp_path, line(r"/mnt/my\040files"))) is not None


def test_a_mount_point_that_nothing_is_mounted_at_is_none(tmp_path: Path) -> None:
    assert find_mount("/mnt/other", tables(tmp_path, line("/mnt/efs"))) is None


def test_a_half_written_state_file_still_names_the_file_system(tmp_path: Path) -> None:
    tables(tmp_path, line("/mnt/efs"))
    (tmp_path / "efs" / "fs-0123456789abcdef0.mnt.efs.20879").write_text("{")
    found = mounted(tmp_path / "mountinfo", tmp_path / "efs", (tmp_path / "tcp",))
    assert found[0].file_system == "fs-0123456789abcdef0"


def test_a_dead_tunnel_is_said_without_touching_the_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_statvfs", lambda _: pytest.fail("the mount point was asked"))
    found = status(tables(tmp_path, line("/mnt/efs")))
    assert found.table().loc[0, "tunnel"] == "port 20879, dead"
    assert "dead" in found.rows[0][1].why


def test_a_file_system_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_statvfs", lambda _: [sys.executable, "-c", "import time; time.sleep(60)"])
    started = time.monotonic()
    found = status(tables(tmp_path, line("/mnt/a") + line("/mnt/b") + line("/mnt/c"), listening=20879))
    assert time.monotonic() - started < PROMISE_S
    assert [one.used for _, one in found.rows] == [None] * 3
    assert "no answer" in found.table().loc[2, "note"]


def test_the_figures_are_those_of_the_file_system() -> None:
    found = usage(Mount("/", "here:/", "", "/", "rw"), limit=30)
    assert found.size is not None and found.available is not None
    assert 0 < found.size and 0 <= found.available <= found.size


def test_a_mount_point_that_cannot_be_read_is_said() -> None:
    assert usage(Mount("/nowhere/at/all", "here:/", "", "/", "rw"), limit=30).why == "the mount point cannot be read"


def test_a_port_is_seen_to_listen_in_the_kernels_own_table() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert port in mounts._listening(mounts.SOCKETS)
    assert port not in mounts._listening(mounts.SOCKETS)


def test_this_machine_can_be_asked() -> None:
    assert isinstance(mounted(), list)
