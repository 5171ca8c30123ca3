"""The relay gives servers a stable address, and hands connections over when it is pointed elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.rehearsal import engines
from helpers.rehearsal.elasticache.certificates import Certificates
from helpers.rehearsal.relay import Relay, RelayFailed
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Wire, WireError


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    engine = engines.available()[0]
    with (
        Server(engine, tmp_path_factory.mktemp("a")) as first,
        Server(engine, tmp_path_factory.mktemp("b")) as second,
    ):
        first.client().set("who", "first")
        second.client().set("who", "second")
        yield first, second


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as started:
        yield started


def client(port: int, host: str = "127.0.0.1") -> redis.Redis:
    return redis.Redis(host=host, port=port, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def test_commands_reach_the_server_through_the_stable_port(relay: Relay, two: tuple[Server, Server]) -> None:
    assert client(relay.listen([two[0].port])).get("who") == "first"


def test_pointing_elsewhere_closes_connections_and_leads_new_ones_there(
    relay: Relay, two: tuple[Server, Server]
) -> None:
    port = relay.listen([two[0].port])
    with Wire(f"127.0.0.1:{port}") as connected:
        assert connected.one("GET", "who") == b"first"
        assert relay.point(port, [two[1].port]) == 1
        with pytest.raises(WireError):
            connected.one("GET", "who")
    assert client(port).get("who") == "second"


def test_several_targets_are_taken_in_turn(relay: Relay, two: tuple[Server, Server]) -> None:
    port = relay.listen([server.port for server in two])
    assert {client(port).get("who") for _ in range(2)} == {"first", "second"}


def test_a_large_answer_arrives_whole(relay: Relay, two: tuple[Server, Server]) -> None:
    two[0].client().set("large", b"x" * 20_000_000)
    assert len(client(relay.listen([two[0].port])).get("large")) == 20_000_000
    two[0].client().delete("large")


def test_a_port_without_a_target_closes_its_connections(relay: Relay) -> None:
    with pytest.raises(redis.ConnectionError):
        client(relay.listen()).ping()


def test_a_target_that_is_gone_closes_the_connection(relay: Relay, tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server:
        connected = client(relay.listen([server.port]))
        assert connected.ping()
    with pytest.raises(redis.ConnectionError):
        connected.ping()


def test_a_closed_port_no_longer_listens(relay: Relay, two: tuple[Server, Server], until: Callable[..., Any]) -> None:
    port = relay.listen([two[0].port])
    relay.close(port)

    def refused() -> bool:
        try:
            return not client(port).ping()
        except redis.ConnectionError:
            return True

    until(refused)


def test_a_port_that_the_relay_does_not_have_is_an_error(relay: Relay) -> None:
    with pytest.raises(RelayFailed, match="KeyError"):
        relay.point(1, [])


def test_a_listener_with_a_certificate_speaks_tls_and_moves_large_answers_both_ways(
    relay: Relay, two: tuple[Server, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = Certificates(tmp_path)
    certificates.write_bundle(tmp_path / "trusted.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    port = relay.listen([two[0].port], tls=certificates.of("127.0.0.1"))
    with redis.Redis(host="127.0.0.1", port=port, ssl=True, retry=Retry(NoBackoff(), 0)) as encrypted:
        encrypted.set("large", b"x" * 20_000_000)
        assert encrypted.get("large") == b"x" * 20_000_000
        assert relay.point(port, [two[1].port]) == 1
        with pytest.raises(redis.ConnectionError):
            encrypted.get("who")
        assert encrypted.get("who") == b"second"
    two[0].client().delete("large")


def test_one_port_is_served_on_several_addresses_where_the_machine_offers_them(
    relay: Relay, two: tuple[Server, Server]
) -> None:
    try:
        port = relay.listen([two[0].port], host="127.77.1.1")
    except RelayFailed:
        assert sys.platform != "linux"
        return
    assert relay.listen([two[1].port], host="127.77.1.2", port=port) == port
    assert [client(port, host=f"127.77.1.{last}").get("who") for last in (1, 2)] == ["first", "second"]
    with pytest.raises(RelayFailed):
        relay.listen(host="127.77.1.2", port=port)
    relay.close(port, host="127.77.1.2")
    assert client(port, host="127.77.1.1").get("who") == "first"
