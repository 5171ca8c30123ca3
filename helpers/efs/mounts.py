"""What of EFS is mounted on this machine, and how full it is, without ever hanging on a dead tunnel.

Under a hard mount whose tunnel is dead `df`, `ls`, `stat -f`, `mountpoint -q` and a plain `umount` wait for ever. The kernel's
mountinfo, the state files of amazon-efs-utils and the table of listening sockets answer at once: they are asked first.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MOUNTINFO, STATE_FILES = Path("/proc/self/mountinfo"), Path("/var/run/efs")
SOCKETS = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
LISTENING = "0A"  # as /proc/net/tcp writes the state
LOCAL = re.compile(r"^(127\.|localhost$|\[?::1)")
FILE_SYSTEM = re.compile(r"\bfs-(?:[0-9a-f]{17}|[0-9a-f]{8})\b")
LIMIT = 1.5  # seconds for one file system's figures
STATVFS = "import os,sys; v=os.statvfs(sys.argv[1]); print(v.f_frsize*v.f_blocks, v.f_frsize*v.f_bfree, v.f_frsize*v.f_bavail)"


@dataclass(frozen=True)
class Mount:
    """One NFS mount: where, of what; `file_system` is empty where it is not known to be EFS.

    `port` is the local port of the TLS tunnel, None for a mount without one, and `tunnel_listens` whether anything listens there.
    """

    mount_point: str
    source: str
    file_system: str
    directory: str
    options: str
    port: int | None = None
    tunnel_pid: int | None = None
    tunnel_listens: bool | None = None

    @property
    def dead(self) -> bool:
        """Whether its tunnel is dead: what touches the mount point would hang."""
        return self.tunnel_listens is False


@dataclass(frozen=True)
class Usage:
    """The figures of `df` in bytes, None where the file system did not answer, and why it did not."""

    size: int | None = None
    used: int | None = None
    available: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Status:
    """The NFS mounts of this machine, each with its figures."""

    rows: tuple[tuple[Mount, Usage], ...]

    def table(self) -> pd.DataFrame:
        """A row a mount: mount point, file system, directory, tunnel, used (GiB), note."""
        import pandas as pd  # costs a second, which a script need not pay

        rows = [(m.mount_point, m.file_system or m.source, m.directory, _tunnel(m), _gib(u.used), u.why) for m, u in self.rows]
        return pd.DataFrame(rows, columns=["mount point", "file system", "directory", "tunnel", "used (GiB)", "note"])


def mounted(mountinfo: Path = MOUNTINFO, state_files: Path = STATE_FILES, sockets: tuple[Path, ...] = SOCKETS) -> list[Mount]:
    """The NFS mounts of this machine; those of EFS behind a tunnel named by the state file of the tunnel's port. Never hangs."""
    states, ports = _states(state_files), _listening(sockets)
    found = []
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        dash = fields.index("-", 6)
        kind, source, options = fields[dash + 1 : dash + 4]
        if kind in ("nfs", "nfs4"):
            found.append(_mount(_unescaped(fields[4]), _unescaped(source), options, states, ports))
    return found


def find_mount(mount_point: str, mounts: list[Mount] | None = None) -> Mount | None:
    """The NFS mount at a mount point, the newest where several lie above each other; None where there is none."""
    wanted = os.path.normpath(mount_point)  # never realpath: it would ask the file system
    return next((one for one in reversed(mounted() if mounts is None else mounts) if one.mount_point == wanted), None)


def usage(mount: Mount, limit: float = LIMIT) -> Usage:
    """The figures of `df` for one mount, asked in a child process that is killed after `limit` seconds."""
    if mount.dead:
        return Usage(why=f"the tunnel on port {mount.port} is dead: unmount with force, then mount again")
    child = subprocess.Popen(_statvfs(mount.mount_point), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said, _ = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        child.kill()
        return Usage(why=f"no answer in {limit:g} s: run the probe")
    if child.returncode:
        return Usage(why="the mount point cannot be read")
    size, free, available = (int(word) for word in said.split())
    return Usage(size, size - free, available)


def status(mounts: list[Mount] | None = None, limit: float = LIMIT) -> Status:
    """Every NFS mount of this machine with its figures, all asked at once, in about `limit` seconds at the most."""
    found = mounted() if mounts is None else mounts
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as pool:
        return Status(tuple(zip(found, pool.map(lambda one: usage(one, limit), found), strict=True)))


def _mount(mount_point: str, source: str, options: str, states: dict[int, dict], ports: set[int]) -> Mount:
    host, _, directory = source.rpartition(":/")
    port = re.search(r"(?:^|,)port=(\d+)", options)
    if not LOCAL.match(host) or port is None:
        named = FILE_SYSTEM.search(host)
        return Mount(mount_point, source, named[0] if named else "", f"/{directory}", options)
    number = int(port[1])
    state = states.get(number, {})
    return Mount(mount_point, source, state.get("file_system", ""), f"/{directory}", options, number, state.get("pid"), number in ports)


def _states(directory: Path) -> dict[int, dict]:
    """The state files by the tunnel's port, which their names end with: `fs-….mnt.efs.20879`, while mounting `~fs-…`."""
    states: dict[int, dict] = {}
    for file in sorted(directory.glob("*fs-*.*[0-9]")) if directory.is_dir() else []:
        named = re.fullmatch(r"~?(fs-[0-9a-f]+)\..*\.(\d+)", file.name) or re.fullmatch(r"~?(fs-[0-9a-f]+)\.(\d+)", file.name)
        if named and file.is_file():
            try:
                state = json.loads(file.read_text())
            except ValueError:  # being written just now
                state = {}
            states[int(named[2])] = {"file_system": state.get("fsId") or named[1], "pid": state.get("pid")}
    return states


def _listening(tables: tuple[Path, ...]) -> set[int]:
    """The TCP ports that something listens on."""
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {int(fields[1].rpartition(":")[2], 16) for fields in lines if len(fields) > 3 and fields[3] == LISTENING}


def _statvfs(mount_point: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", STATVFS, mount_point]


def _unescaped(field: str) -> str:
    """A field of mountinfo, where a space stands as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _tunnel(mount: Mount) -> str:
    if mount.port is None:
        return "none"
    return f"port {mount.port}, {'dead' if mount.dead else 'listening'}"


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / (1 << 30):,.2f}"
