"""A real cluster of servers started directly, and another address, with TLS, for a server: what the local cloud makes by AWS's API."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import trustme

from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import Server, free_port

SLOTS = 16_384
BUS = 10_000


class RealCluster:
    """Shards of one primary, and one replica each where asked for, that agree on who has which slots.

    With `authority` every node announces an address of its own under TLS.
    """

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        shards: int = 2,
        *,
        replicas: bool = False,
        authority: trustme.CA | None = None,
        **config: str,
    ) -> None:
        count = shards * (2 if replicas else 1)
        password = config.get("requirepass")
        login = {"user": "default", "password": password} if password else {}
        self.servers: list[Server] = []
        self.fronts: list[Front] = []
        for number in range(count):
            port = _port_with_bus()
            settings = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", **config}
            if authority:
                self.fronts.append(Front(("127.0.0.1", port), authority))
                announced = self.fronts[-1].endpoint.split(":")[1]
                settings |= {"cluster-announce-port": announced, "cluster-announce-bus-port": str(port + BUS)}
            self.servers.append(Server(engine, directory / f"node-{number}", port, settings, **login))
        self.primaries, self.replicas = self.servers[:shards], self.servers[shards:]
        for number, server in enumerate(self.primaries):
            first, last = SLOTS * number // shards, SLOTS * (number + 1) // shards
            server.command("CLUSTER", "ADDSLOTS", *map(str, range(first, last)))
            # Two nodes of one epoch sort it out in their own time; told beforehand, they need not.
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for server in self.servers[1:]:
            server.command("CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port))
        self.until(lambda: all(self._knows(server) == count for server in self.servers))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            replica.command("CLUSTER", "REPLICATE", self.id_of(primary))
        self.until(lambda: all(b"cluster_state:ok" in server.command("CLUSTER", "INFO") for server in self.servers))
        self.until(lambda: all(b"master_link_status:up" in one.command("INFO", "replication") for one in self.replicas))

    @property
    def endpoint(self) -> str:
        """Return the configuration endpoint: any node will do."""
        return self.fronts[0].endpoint if self.fronts else f"127.0.0.1:{self.primaries[0].port}"

    def id_of(self, server: Server) -> str:
        return server.command("CLUSTER", "MYID").decode()

    def move_slot(self, slot: int, to: Server) -> None:
        """Give a slot to another primary, without its keys."""
        for server in self.primaries:
            server.command("CLUSTER", "SETSLOT", str(slot), "NODE", self.id_of(to))

    def stop(self) -> None:
        for front in self.fronts:
            front.close()
        for server in self.servers:
            server.stop()

    def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "the cluster did not come about"
            time.sleep(0.02)

    def _knows(self, server: Server) -> int:
        lines = server.command("CLUSTER", "NODES").decode().splitlines()
        return sum("handshake" not in line and "connected" in line.split() for line in lines)

    def __enter__(self) -> RealCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Front:
    """Another address of a server, as the local cloud's relay gives it: with `authority` under TLS, for `names`."""

    def __init__(
        self,
        server: Server | tuple[str, int],
        authority: trustme.CA | None = None,
        *names: str,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._address = server.address if isinstance(server, Server) else server
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if authority else None
        if authority:
            authority.issue_cert(*names or (host,)).configure_cert(self._context)
        self._listener = socket.create_server((host, port))
        self.endpoint = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # The thread that accepts would keep a closed listener open.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.create_connection(self._address) as inner:
            outer = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            threading.Thread(target=_pump, args=(inner, outer), daemon=True).start()
            _pump(outer, inner)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _port_with_bus() -> int:
    """Return a free port whose bus port, 10,000 above, exists and is free too."""
    while True:
        port = free_port()
        if port + BUS < 65_536:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port + BUS)):
                return port
