"""A real mount in a virtual machine: over TLS, proven, with its tunnel killed, and unmounted all the same.

amazon-efs-utils is in no package of Debian: a stand-in for mount.efs does in the guest what it does, with stunnel and mount.nfs4.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.efs import mounts
from helpers.efs.diagnose import diagnose_mount
from helpers.efs.mount import NFS_OPTIONS, Target, mount_script, proof_script, status_script, unmount_script
from helpers.rehearsal.efs import guest, nfs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # two boots of a machine in software emulation at the most

CACHE = Path(__file__).parents[2] / ".rehearsal" / "guest"
ID = "fs-0123456789abcdef0"
PROMISE_S = 3.0  # with the tunnel dead; measured by the clock of the guest, emulation included
TARGET = Target(ID, "/mnt/efs", "us-east-1", "/app")
HELPER = """#!/bin/sh
# mount.efs SOURCE PLACE -o OPTIONS
mkdir -p /run/efs
stunnel {here}/client.conf || exit 1
echo "{{\\"pid\\": $(cat /run/stunnel.pid)}}" > /run/efs/{id}.mnt.efs.20049
exec mount.nfs4 127.0.0.1:"${{1#*:}}" "$2" -o {options},port=20049
"""
CLIENT = """\
pid = /run/stunnel.pid
output = /run/stunnel.log
[efs]
client = yes
accept = 127.0.0.1:20049
connect = {host}:{port}
sslVersionMin = TLSv1.2
verify = 2
CAfile = {ca}
checkHost = {name}
"""
SCRIPT = """
export LC_ALL=C
cp {here}/mount.efs /sbin/mount.efs && chmod 755 /sbin/mount.efs
since() {{ awk -v start="$1" '{{ printf "%.1f s", $1 - start }}' /proc/uptime; }}
now() {{ cut -d ' ' -f 1 /proc/uptime; }}
status() {{ start=$(now); PYTHONPATH={modules} {python} -S -c 'import mounts, sys, time
began = time.monotonic()
for mount, use in mounts.status(limit=float(sys.argv[1])).rows: print("@@ status", mount.file_system, mount.directory, "dead" if mount.dead else "alive", use.why or use.size)
print(f"@@ status took {{time.monotonic() - began:.1f}} s")' "$1"
echo "@@ with the start of Python it took $(since "$start")"; }}
sh {here}/mount.sh; echo "@@ mount $?"
sh {here}/mount.sh | grep already
sh {here}/proof.sh; echo "@@ proof $?"
mkdir /mnt/other
mount.nfs4 127.0.0.1:/nope /mnt/other -o {options},port=20049 2>&1 | sed 's/^/@@ no path: /'
mount.nfs4 127.0.0.1:/app /mnt/nowhere -o {options},port=20049 2>&1 | sed 's/^/@@ no mount point: /'
status 20
sh {here}/look.sh
head -c 8388608 /dev/urandom > /mnt/efs/eight; sync; echo "@@ sum $(sha256sum < /mnt/efs/eight | cut -c 1-64)"
kill -9 "$(cat /run/stunnel.pid)"; echo "@@ tunnel killed"
status 1.5
start=$(now); sh {here}/look.sh; echo "@@ look $? took $(since "$start")"
timeout -s KILL 5 df /mnt/efs >/dev/null 2>&1 && echo "@@ df answered" || echo "@@ df hung"
start=$(now); sh {here}/unmount.sh; echo "@@ unmount $? took $(since "$start")"
grep -c ' /mnt/efs ' /proc/self/mountinfo | sed 's/^/@@ mounts left /'
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the guest wrote, with what was found on the server's side at the end."""
    if reason := nfs.missing() or guest.missing():
        pytest.skip(reason)
    here = tmp_path_factory.mktemp("guest")
    try:
        guest.kernel(CACHE)
    except guest.GuestFailed as error:
        pytest.skip(f"no kernel for the guest: {error}")
    with nfs.NfsServer(here / "nfs", names=(TARGET.host,)) as server:
        (server.export / "app").mkdir()
        for name, text in {
            "mount.efs": HELPER.format(here=here, id=ID, options=NFS_OPTIONS),
            "client.conf": CLIENT.format(host=guest.HOST_LOOPBACK, port=server.tls_port, ca=server.ca_file, name=TARGET.host),
            "mount.sh": mount_script(TARGET),
            "proof.sh": proof_script(TARGET, "guest"),
            "look.sh": status_script(TARGET.mount_point),
            "unmount.sh": unmount_script(TARGET.mount_point),
        }.items():
            (here / name).write_text(text)
        script = SCRIPT.format(here=here, options=NFS_OPTIONS, python=sys.executable, modules=Path(mounts.__file__).parent)
        ended = guest.run(script, here / "machine", CACHE)
        written = (server.export / "app" / "eight").read_bytes()
    yield f"{ended.output}@@ server sum {hashlib.sha256(written).hexdigest()}\n"


def test_the_file_system_is_mounted_over_tls(said: str) -> None:
    assert f"@@ found mount -t efs -o tls {ID}:/app /mnt/efs" in said
    assert "@@ mount 0" in said
    assert "@@ found mounted already, 127.0.0.1:/app" in said


def test_the_mount_is_proven(said: str) -> None:
    assert "1048576 bytes written, read back and equal" in said
    assert "@@ proof 0" in said


def test_the_server_has_the_bytes_that_were_written(said: str) -> None:
    sums = [line.split()[-1] for line in said.splitlines() if line.startswith(("@@ sum", "@@ server sum"))]
    assert len(sums) == 2
    assert sums[0] == sums[1]


@pytest.mark.parametrize(("case", "code"), [("no path", "REMOTE_PATH_MISSING"), ("no mount point", "MOUNTPOINT_MISSING")])
def test_what_the_real_mount_command_says_is_diagnosed(said: str, case: str, code: str) -> None:
    lines = [line.removeprefix(f"@@ {case}: ") for line in said.splitlines() if line.startswith(f"@@ {case}: ")]
    assert diagnose_mount("\n".join(lines), 32).code == code


def test_the_status_names_the_file_system_and_its_size(said: str) -> None:
    line = next(line for line in said.splitlines() if line.startswith(f"@@ status {ID} /app alive"))
    assert int(line.split()[-1]) > 0


def test_with_the_tunnel_killed_the_status_still_answers_where_df_hangs(said: str) -> None:
    before, after = said.split("@@ tunnel killed")
    assert "@@ found 127.0.0.1:/app, " in before
    assert "@@ found 127.0.0.1:/app, but its tunnel on port 20049 is dead" in after
    assert "@@ look 1" in after
    assert f"@@ status {ID} /app dead the tunnel on port 20049 is dead" in after
    assert "@@ df hung" in after


def test_with_the_tunnel_killed_it_is_unmounted(said: str) -> None:
    assert "@@ found unmounted by force" in said
    assert "@@ unmount 0" in said
    assert "@@ mounts left 0" in said


@pytest.mark.parametrize("act", ["status", "look 1", "unmount 0"])
def test_with_the_tunnel_killed_nothing_takes_more_than_three_seconds(said: str, act: str) -> None:
    took = re.search(rf"@@ {act} took ([0-9.]+) s", said.split("@@ tunnel killed")[1])
    assert took is not None and float(took[1]) < PROMISE_S, said
