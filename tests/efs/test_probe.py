"""The probe names the layer that fails, against a real NFS server behind TLS and against ports that are anything else."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from helpers.efs.probe import LAYERS, Probe, probe
from helpers.rehearsal.efs import nfs

NAME = "fs-0123456789abcdef0.efs.us-east-1.amazonaws.com"
LIMIT_S = 15.0  # far above the 3 s that the probe promises, for a busy machine, and far below what a hang takes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nfs.NfsServer]:
    if reason := nfs.missing():
        pytest.skip(reason)
    with nfs.NfsServer(tmp_path_factory.mktemp("nfs"), names=(NAME, "127.0.0.1")) as running:
        (running.export / "app" / "data").mkdir(parents=True)
        (running.export / "app" / "note").write_text("a file")
        (running.export / "app" / "link").symlink_to("data")
        yield running


def at(server: nfs.NfsServer, path: str = "/", **options: object) -> Probe:
    return probe("127.0.0.1", server.tls_port, path, **{"ca_file": str(server.ca_file), "server_name": NAME, **options})


def failing(found: Probe) -> str:
    return next(row.layer for row in found.rows if row.ok is False)


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of the loopback where one connection after the other is handed to `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def blackhole() -> Iterator[int]:
    """A port of the loopback that answers no SYN: the queue of its listener is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            filling.append(one)
        time.sleep(0.1)
        yield listener.getsockname()[1]
        for one in filling:
            one.close()


def test_every_layer_of_a_real_server_behind_tls_passes(server: nfs.NfsServer) -> None:
    found = at(server)
    assert found.ok, str(found)
    assert [row.layer for row in found.rows] == list(LAYERS)
    assert all(row.ok for row in found.rows)


def test_a_deep_directory_is_found(server: nfs.NfsServer) -> None:
    found = at(server, "/app/data/")
    assert found.ok, str(found)
    assert "/app/data is a directory" in found.rows[-1].found


def test_without_tls_the_layer_is_not_asked_for(server: nfs.NfsServer) -> None:
    found = probe("127.0.0.1", server.port, "/app", tls=False)
    assert found.ok, str(found)
    assert [row.found for row in found.rows if row.layer == "TLS"] == ["not asked for"]


@pytest.mark.parametrize(
    ("path", "said"),
    [("/app/nope/x", "'nope' in /app does not exist"), ("/gone", "'gone' in / does not exist"), ("/app/note", "no directory but a file"), ("/app/link", "symbolic link")],
)
def test_the_component_that_is_missing_is_named(server: nfs.NfsServer, path: str, said: str) -> None:
    found = at(server, path)
    assert (found.code, failing(found)) == ("REMOTE_PATH_MISSING", "path")
    assert said in found.rows[-1].found


def test_an_authority_that_did_not_sign_the_certificate_is_told(server: nfs.NfsServer, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    found = at(server, ca_file=str(tmp_path / "other.pem"))
    assert (found.code, failing(found)) == ("TLS_CA_UNTRUSTED", "TLS")


def test_a_file_of_authorities_that_is_missing_is_told(server: nfs.NfsServer) -> None:
    assert at(server, ca_file="/nowhere/ca.pem").code == "TLS_CA_UNTRUSTED"


@pytest.mark.parametrize("name", ["fs-0fffffffffffffff0.efs.us-east-1.amazonaws.com", "127.0.0.2"])
def test_a_certificate_of_another_host_name_is_told(server: nfs.NfsServer, name: str) -> None:
    found = at(server, server_name=name)
    assert (found.code, failing(found)) == ("TLS_HOSTNAME_MISMATCH", "TLS")


def test_a_port_without_tls_is_told(server: nfs.NfsServer) -> None:
    found = probe("127.0.0.1", server.port, tls=True)
    assert (found.code, failing(found)) == ("TLS_NOT_SPOKEN", "TLS")
    assert found.ms < LIMIT_S * 1000


def test_a_port_with_tls_asked_without_it_is_told(server: nfs.NfsServer) -> None:
    found = probe("127.0.0.1", server.tls_port, tls=False)
    assert (found.code, failing(found)) == ("RPC_NOT_NFS", "RPC")


def test_a_dead_tunnel_is_a_refused_port(tmp_path: Path) -> None:
    if reason := nfs.missing():
        pytest.skip(reason)
    with nfs.NfsServer(tmp_path) as server:
        server.stop_tunnel()
        assert probe("127.0.0.1", server.tls_port, ca_file=str(server.ca_file)).code == "TCP_REFUSED"


def test_the_server_ends_with_its_context(tmp_path: Path) -> None:
    if reason := nfs.missing():
        pytest.skip(reason)
    with nfs.NfsServer(tmp_path) as server:
        pids = server.pids
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_refused_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    found = probe("127.0.0.1", port)
    assert (found.code, failing(found)) == ("TCP_REFUSED", "TCP")
    assert found.rows[-1].found == "not reached"


def test_a_blackholed_port_is_told_and_not_waited_for() -> None:
    with blackhole() as port:
        started = time.monotonic()
        found = probe("127.0.0.1", port)
        took = time.monotonic() - started
    assert (found.code, failing(found)) == ("TCP_TIMEOUT_SG_OR_ROUTE", "TCP")
    assert took < LIMIT_S
    assert "security group" in next(row.remedy for row in found.rows if row.ok is False)


def test_a_name_that_does_not_resolve_is_told() -> None:
    found = probe("fs-0fffffffffffffff0.efs.nowhere.invalid")
    assert (found.code, failing(found)) == ("DNS_UNRESOLVED", "DNS")


def test_a_resolver_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30))
    started = time.monotonic()
    found = probe("fs-01234567.efs.us-east-1.amazonaws.com")
    over.set()
    assert found.code == "DNS_UNRESOLVED"
    assert time.monotonic() - started < LIMIT_S


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"),
        lambda connection: connection.close(),
        lambda connection: time.sleep(4),
        lambda connection: connection.sendall(b"\x80\x00\x00\x04abcd"),
        lambda connection: connection.sendall(b"\x80\x00\x00\x18" + connection.recv(8)[4:] + struct.pack(">5I", 1, 0, 0, 0, 1)),
    ],
    ids=["another protocol", "closed", "silent", "too short", "RPC, but another program"],
)
def test_what_is_not_nfs_is_told(answer: Callable[[socket.socket], None]) -> None:
    with listening(answer) as port:
        started = time.monotonic()
        found = probe("127.0.0.1", port, tls=False)
        assert time.monotonic() - started < LIMIT_S
    assert (found.code, failing(found)) == ("RPC_NOT_NFS", "RPC")


def test_a_probe_reads_as_text_as_html_and_as_a_table() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    found = probe("127.0.0.1", port)
    assert "TCP_REFUSED" in str(found)
    assert "remedy: Check the address" in str(found)
    assert "<table" in found._repr_html_()
    assert "refuses connections" in found._repr_html_()
    assert list(found.table().columns) == ["outcome", "layer", "ms", "found", "remedy"]
