"""What a real stunnel writes when the way is blocked is diagnosed as what the probe finds there."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from helpers.efs.diagnose import diagnose_mount
from helpers.efs.probe import probe
from helpers.rehearsal.efs import nfs

NAME = "fs-0123456789abcdef0.efs.us-east-1.amazonaws.com"
HUNG = 'Could not start amazon-efs-mount-watchdog, unrecognized init system "sh"\nMount attempt 1/3 failed due to timeout after 15 sec, wait 0 sec before next attempt.'
PATIENCE_S = 30.0
CLIENT = """\
foreground = yes
pid =
debug = info
[efs]
client = yes
accept = 127.0.0.1:{accept}
connect = 127.0.0.1:{connect}
sslVersionMin = TLSv1.2
TIMEOUTbusy = 20
TIMEOUTconnect = 1
verify = 2
CAfile = {ca}
checkHost = {name}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nfs.NfsServer]:
    if reason := nfs.missing():
        pytest.skip(reason)
    with nfs.NfsServer(tmp_path_factory.mktemp("nfs"), names=(NAME,)) as running:
        yield running


def tunnel_log(directory: Path, port: int, ca_file: Path, name: str) -> list[str]:
    """What stunnel says as the client of `port` when a mount tries to go through it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        accept = held.getsockname()[1]
    config, log = directory / "client.conf", directory / "client.log"
    config.write_text(CLIENT.format(accept=accept, connect=port, ca=ca_file, name=name))
    with log.open("wb") as output:
        process = subprocess.Popen([shutil.which("stunnel") or "/usr/bin/stunnel", str(config)], stdout=output, stderr=output)
    try:
        knock(accept)
    finally:
        process.terminate()
        process.wait()
    return log.read_text().splitlines()


def knock(port: int) -> None:
    """Connect once, as mount.nfs4 does, and wait until the tunnel gives up."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
                connection.sendall(b"\0" * 44)
                connection.recv(1)
                return
        except ConnectionRefusedError:
            time.sleep(0.05)
        except OSError:
            return
    pytest.fail("stunnel did not start")


def both(tmp_path: Path, server: nfs.NfsServer, *, ca_file: Path | None = None, name: str = NAME, port: int = 0) -> tuple[str, str]:
    """The codes of the diagnosis and of the probe."""
    ca_file, port = ca_file or server.ca_file, port or server.tls_port
    said = diagnose_mount(HUNG, 124, tunnel_log(tmp_path, port, ca_file, name))
    return said.code, probe("127.0.0.1", port, ca_file=str(ca_file), server_name=name).code


def test_a_wrong_authority(server: nfs.NfsServer, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    assert both(tmp_path, server, ca_file=other) == ("TLS_CA_UNTRUSTED", "TLS_CA_UNTRUSTED")


def test_a_wrong_host_name(server: nfs.NfsServer, tmp_path: Path) -> None:
    assert both(tmp_path, server, name=NAME.replace("0123", "9999")) == ("TLS_HOSTNAME_MISMATCH", "TLS_HOSTNAME_MISMATCH")


def test_a_refused_port(server: nfs.NfsServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    assert both(tmp_path, server, port=port) == ("TCP_REFUSED", "TCP_REFUSED")


def test_a_blackholed_port(server: nfs.NfsServer, tmp_path: Path) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        time.sleep(0.1)
        found = both(tmp_path, server, port=full.getsockname()[1])
    assert found == ("TCP_TIMEOUT_SG_OR_ROUTE", "TCP_TIMEOUT_SG_OR_ROUTE")
