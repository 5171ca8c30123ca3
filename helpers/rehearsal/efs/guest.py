"""A small virtual machine with Debian's kernel, whose NFS client can mount for real where this machine's kernel has none.

QEMU in software emulation; the host's `/` is shared read-only under an overlay in memory, so that every program of the host runs
in the guest and nothing of the host is changed. The host's loopback is 10.0.2.2. Linux on x86-64 with Debian's packages only.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

HOST_LOOPBACK = "10.0.2.2"
PACKAGES = "qemu-system-x86 busybox-static nfs-common stunnel4"  # of Debian
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "mount.nfs4": "nfs-common", "stunnel": "stunnel4", "apt-get": "apt"}
MODULES = ("9p", "9pnet_virtio", "overlay", "virtio_pci", "virtio_net", "nfsv4")
NAMES = re.compile(rb"\0depends=([\w,-]*)\0")
MARK = "@@ guest ended with "
BOOT_TRIES = 2  # about one boot in twenty fails in software emulation
BOOTED = "@@ guest is up"
INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc /sys /dev /host /memory /new
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for module in /modules/*.ko; do $B insmod $module; done
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /host
$B mount -t tmpfs memory /memory
$B mkdir /memory/upper /memory/work
$B mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new
$B mount -t proc proc /new/proc
$B mount -t sysfs sys /new/sys
$B mount -t devtmpfs dev /new/dev
$B mount -t tmpfs run /new/run
$B ip link set lo up
$B ip addr add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
$B ip route add default via 10.0.2.2
echo "@booted@"
PATH=/usr/sbin:/usr/bin:/sbin:/bin $B chroot /new /bin/sh @script@ </dev/null
echo "@mark@$?"
$B poweroff -f
"""


class GuestFailed(RuntimeError):
    """A guest that did not boot, or did not end in time; the message ends with its console."""


@dataclass(frozen=True)
class Ended:
    """What a script in a guest did: its exit code and everything that it wrote."""

    exit_code: int
    output: str


def missing() -> str:
    """What keeps this machine from running a guest, in a sentence; empty where nothing does."""
    if os.uname().machine != "x86_64":
        return "The guest runs on x86-64 only."
    absent = [package for program, package in PROGRAMS.items() if shutil.which(program, path=_path()) is None]
    return f"Not installed here: apt-get install {' '.join(absent)}." if absent else ""


def kernel(cache: Path) -> Path:
    """Debian's kernel, downloaded with apt and unpacked (not installed) below `cache`, once. Raises GuestFailed without one."""
    unpacked = cache / "kernel"
    if not unpacked.exists():
        cache.mkdir(parents=True, exist_ok=True)
        depends = _output(["apt-cache", "depends", "linux-image-amd64"])
        named = re.search(r"Depends: (linux-image-\S+)", depends)
        if named is None:
            raise GuestFailed("apt knows no linux-image-amd64: apt-get update.")
        _output(["apt-get", "download", "-q", named[1]], cache)
        package = max(cache.glob(f"{named[1]}_*.deb"), key=lambda file: file.stat().st_mtime)
        _output(["dpkg", "-x", str(package), str(cache / "unpacking")])
        package.unlink()
        (cache / "unpacking").rename(unpacked)
    return unpacked


def run(script: str, directory: Path, cache: Path, seconds: float = 180.0) -> Ended:
    """Run a shell script as root in a fresh guest; a boot that fails is tried once more.

    `directory` holds the script and the initial memory disk; it must lie where the host's `/` file system has it, as must all that
    the script uses. Raises GuestFailed where the guest does not boot, or has not ended after `seconds`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "guest.sh"
    file.write_text(script)
    tree = kernel(cache)
    initial = directory / "initrd.gz"
    initial.write_bytes(_memory_disk(tree, _init(file)))
    console = ""
    for _ in range(BOOT_TRIES):
        console = _boot(next((tree / "boot").glob("vmlinuz-*")), initial, seconds)
        _, up, said = console.partition(f"{BOOTED}\n")
        ended = re.search(rf"^{MARK}(\d+)", said, re.MULTILINE)
        if ended is not None:
            return Ended(int(ended[1]), said[: ended.start()])
        if up:
            break
    raise GuestFailed(f"The guest did not end in {seconds:g} s, its console says: {console[-1500:]}")


def _boot(image: Path, initial: Path, seconds: float) -> str:
    """Start the machine and return what its console said, until it ends or `seconds` are over."""
    command = [
        shutil.which("qemu-system-x86_64", path=_path()), "-machine", "q35,accel=tcg", "-cpu", "max", "-bios", "qboot.rom", "-m", "512", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio",
        "-kernel", image, "-initrd", initial, "-append", "console=ttyS0 quiet panic=-1 tsc=unstable",
        "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap", "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip
    with subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as machine:
        try:
            said, _ = machine.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            machine.kill()
            said, _ = machine.communicate()
    return said.decode(errors="replace").replace("\r\n", "\n")


def _init(script: Path) -> str:
    return INIT.replace("@script@", shlex.quote(str(script.resolve()))).replace("@booted@", BOOTED).replace("@mark@", MARK)


def _memory_disk(tree: Path, init: str) -> bytes:
    """The initial memory disk: busybox, the modules in the order of their dependencies, and `init`."""
    files = {"bin/busybox": (Path(shutil.which("busybox", path=_path()) or "").read_bytes(), 0o755), "init": (init.encode(), 0o755)}
    for number, module in enumerate(_modules(tree)):
        files[f"modules/{number:02}-{module.name}"] = (module.read_bytes(), 0o644)
    entries = [_cpio(name, b"", stat.S_IFDIR | 0o755) for name in ("bin", "modules", "dev", "proc", "sys")]
    entries += [_cpio(name, data, stat.S_IFREG | mode) for name, (data, mode) in files.items()]
    return gzip.compress(b"".join(entries) + _cpio("TRAILER!!!", b"", 0), 1)


def _modules(tree: Path) -> list[Path]:
    """The kernel modules that the guest needs, each after what it depends on; what the kernel has built in is left out."""
    every = {file.name.removesuffix(".ko").replace("-", "_"): file for file in tree.glob("lib/modules/*/kernel/**/*.ko")}
    ordered: list[Path] = []

    def add(name: str) -> None:
        file = every.get(name.replace("-", "_"))
        if file is None or file in ordered:
            return
        found = NAMES.search(file.read_bytes())
        for needed in found[1].decode().split(",") if found else []:
            add(needed)
        ordered.append(file)

    for name in MODULES:
        add(name)
    return ordered


def _cpio(name: str, data: bytes, mode: int) -> bytes:
    """One file of an archive in cpio's newc format, which the kernel unpacks."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def _output(command: list[str], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuestFailed(f"`{shlex.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
