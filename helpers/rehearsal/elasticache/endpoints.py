"""Open the endpoints that clients connect to: listeners of the relay, with TLS or without.

An endpoint that is asked for at a port is at exactly that port, on an address of the loopback that
is its own (127.x.y.z), so that several endpoints, groups and clouds have the same port at once, as
hosts of their own have on AWS. Linux offers these addresses; where the machine does not (macOS),
and where no port is asked for, an endpoint is at 127.0.0.1 and a free port.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from helpers.rehearsal.elasticache.certificates import Certificates
from helpers.rehearsal.relay import Relay, RelayFailed
from helpers.rehearsal.servers import HOST

# Another cloud may have the address: take another. One that is refused so often is not offered here.
ADDRESS_ATTEMPTS = 8


@dataclass(frozen=True)
class Serving:
    """How a group is served: with TLS, at a port that was asked for, its nodes by lasting endpoints."""

    tls: bool = False
    port: int | None = None
    nodes: bool = False


@dataclass(frozen=True)
class Front:
    """A lasting endpoint of one node, and the server port that it leads to now."""

    host: str
    port: int
    target: int


class Endpoints:
    """Opens listeners of one relay, under one certificate authority."""

    def __init__(self, relay: Relay, certificates: Certificates) -> None:
        self._relay = relay
        self._certificates = certificates

    def open(
        self, serving: Serving, targets: list[int] | None = None, *, replicas: tuple[str, str] | None = None
    ) -> tuple[str, int]:
        """Return host and port of a new endpoint that leads to server ports. Raises RelayFailed without any.

        `replicas` is the login of the cloud's own replicas, who speak no TLS and are let in without it.
        """
        if serving.port is not None:
            for _ in range(ADDRESS_ATTEMPTS):
                host = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
                try:
                    return host, self._listen(serving, targets, host, serving.port, replicas)
                except RelayFailed:
                    continue
        return HOST, self._listen(serving, targets, HOST, 0, replicas)

    def _listen(
        self, serving: Serving, targets: list[int] | None, host: str, port: int, replicas: tuple[str, str] | None
    ) -> int:
        tls = self._certificates.of(host) if serving.tls else None
        return self._relay.listen(targets, tls=tls, host=host, port=port, replicas=replicas if tls else None)
