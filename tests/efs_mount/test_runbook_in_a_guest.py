"""The runbook applied for real, in a virtual machine: probed, mounted over TLS, proven, kept, its tunnel killed, and rolled back all the same.

amazon-efs-utils is in no package of Debian: a stand-in for mount.efs does in the guest what it does, with stunnel and mount.nfs4.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.efs.mount import NFS_OPTIONS
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import scenario
from helpers.rehearsal.efs import guest, nfs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1300)]  # two boots of a machine in software emulation at the most

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".rehearsal" / "guest"
HELPER = """#!/bin/sh
# mount.efs SOURCE PLACE -o OPTIONS
mkdir -p /run/efs
stunnel {here}/client.conf || exit 1
echo "{{\\"pid\\": $(cat /run/stunnel.pid)}}" > /run/efs/"${{1%%:*}}".mnt.efs.20049
exec mount.nfs4 127.0.0.1:"${{1#*:}}" "$2" -o {options},port=20049
"""
CLIENT = """\
pid = /run/stunnel.pid
[efs]
client = yes
accept = 127.0.0.1:20049
connect = {name}:2049
sslVersionMin = TLSv1.2
verify = 2
CAfile = {ca}
checkHost = {name}
"""
SCRIPT = """
cp {here}/mount.efs /sbin/mount.efs && chmod 755 /sbin/mount.efs
echo "{gateway} {name}" >> /etc/hosts
export HOME=/root RUNBOOK_RUNS=/run/runs PYTHONPATH={root} {environment}
{python} {here}/applied.py
"""
APPLIED = """
import json, os, signal, time
cells = ["".join(cell["source"]) for cell in json.load(open({notebook!r}))["cells"] if cell["cell_type"] == "code"]
here = {{}}
exec(cells[0], here)
here.update(mode="apply", run_id="guest", approve="mount", directory="/site")
for cell in cells[1:]:
    exec(cell, here)
print("@@ status", here["run"].status, json.dumps(here["run"].metrics))
print("@@ fstab", open("/etc/fstab").read().strip().splitlines()[-1])
os.kill(int(open("/run/stunnel.pid").read()), signal.SIGKILL)
from helpers import runbook
from helpers.efs import mounts
time.sleep(0.5)
start = time.monotonic()
for one, use in mounts.status().rows:
    print("@@ looked", one.file_system, "dead" if one.dead else "alive", use.why)
print(f"@@ look took {{time.monotonic() - start:.1f}} s")
start = time.monotonic()
back = runbook.rollback("guest", approve="rollback")
print(f"@@ back {{back.status}} after {{time.monotonic() - start:.1f}} s")
print("@@ mounts left", open("/proc/self/mountinfo").read().count("/mnt/efs"), "lines left", open("/etc/fstab").read().count("fs-"))
"""


def _relay(address: str) -> socket.socket:
    """Lead port 2049 of the loopback, where a guest sees this machine, to a mount target of the local cloud."""
    listener = socket.create_server(("127.0.0.1", 2049))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((address, 2049))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the guest wrote."""
    if reason := nfs.missing() or guest.missing():
        pytest.skip(reason)
    here = tmp_path_factory.mktemp("guest")
    try:
        guest.kernel(CACHE)
    except guest.GuestFailed as error:
        pytest.skip(f"no kernel for the guest: {error}")
    cloud = clouds.up(here / "cloud")
    try:
        made = scenario.SCENARIOS["efs_mount"](cloud)
        identity = made.ids["web-content"]
        efs = scenario.Access(cloud.environment()).client("efs")
        address = next(one["IpAddress"] for one in efs.describe_mount_targets(FileSystemId=identity)["MountTargets"] if one["IpAddress"].startswith("127."))
        name = f"{identity}.efs.{cloud.region}.amazonaws.com"
        try:
            relay = _relay(address)
        except OSError as error:
            pytest.skip(f"port 2049 of this machine is not free: {error}")
        environment = {**cloud.environment(), "AWS_ENDPOINT_URL": cloud.endpoint.replace("127.0.0.1", guest.HOST_LOOPBACK)}
        for file, text in {
            "mount.efs": HELPER.format(here=here, options=NFS_OPTIONS),
            "client.conf": CLIENT.format(name=name, ca=cloud.directory / clouds.BUNDLE_FILE),
            "applied.py": APPLIED.format(notebook=str(ROOT / "runbooks" / "efs_mount.ipynb")),
        }.items():
            (here / file).write_text(text)
        exported = " ".join(f"{key}={value}" for key, value in environment.items())
        script = SCRIPT.format(here=here, gateway=guest.HOST_LOOPBACK, name=name, root=ROOT, environment=exported, python=sys.executable)
        with relay:
            yield guest.run(script, here / "machine", CACHE, seconds=600).output
    finally:
        clouds.down(here / "cloud")


def test_the_run_is_applied_and_its_mount_proven(said: str) -> None:
    assert '@@ status done {"probe": "OK"' in said
    assert '"hosts_mounted": 1, "hosts_proven": 1' in said
    assert "1048576 bytes written, read back and equal" in said


def test_the_line_of_fstab_waits_for_the_network(said: str) -> None:
    line = next(line for line in said.splitlines() if line.startswith("@@ fstab"))
    assert ":/site /mnt/efs efs _netdev,noresvport,tls 0 0" in line


def test_with_the_tunnel_killed_the_mount_is_still_named_and_rolled_back(said: str) -> None:
    assert "dead the tunnel on port 20049 is dead" in said
    assert "@@ back rolled back" in said
    assert "@@ mounts left 0 lines left 0" in said
