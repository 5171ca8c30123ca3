"""Endpoints at a port that was asked for: exactly that one, on addresses of their own, where the machine has them."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import pytest
import redis

from helpers.rehearsal import cloud as clouds
from helpers.rehearsal.elasticache.certificates import Certificates
from helpers.rehearsal.elasticache.endpoints import Endpoints, Serving
from helpers.rehearsal.relay import Relay
from helpers.rehearsal.servers import free_port


def has_own_addresses() -> bool:
    """Return whether the loopback of this machine is more than one address, as on Linux."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.77.0.1", 0))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture
def served_at(port: int) -> Any:
    """Check endpoints that were asked for at the port, and return a client of the first."""

    def check(*endpoints: dict[str, Any], **options: Any) -> redis.Redis:
        if has_own_addresses():
            assert {endpoint["Port"] for endpoint in endpoints} == {port}
            assert len({endpoint["Address"] for endpoint in endpoints}) == len(endpoints)
        assert all(endpoint["Address"].startswith("127.") for endpoint in endpoints)
        return redis.Redis(host=endpoints[0]["Address"], port=endpoints[0]["Port"], decode_responses=True, **options)

    return check


def endpoints(group: dict[str, Any]) -> list[dict[str, Any]]:
    shard = group["NodeGroups"][0]
    return [shard["PrimaryEndpoint"], shard["ReaderEndpoint"], *(m["ReadEndpoint"] for m in shard["NodeGroupMembers"])]


def test_two_groups_have_the_same_port_at_once(account: Any, port: int, served_at: Any) -> None:
    first = account.create("first", NumCacheClusters=2, Port=port)
    second = account.create("second", NumCacheClusters=2, Port=port)
    served_at(*endpoints(first), *endpoints(second)).set("who", "first")
    served_at(*endpoints(second)).set("who", "second")
    assert served_at(*endpoints(first)).get("who") == "first"


def test_an_encrypted_group_at_a_port_has_certificates_for_its_addresses(
    account: Any, port: int, served_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", account.cloud.environment()["SSL_CERT_FILE"])
    found = endpoints(account.create("sealed", TransitEncryptionEnabled=True, Port=port))
    assert served_at(*found, ssl=True).ping() and served_at(*reversed(found), ssl=True).ping()


def test_a_lone_cluster_and_the_group_around_it_have_the_port(account: Any, port: int, served_at: Any, until: Any) -> None:
    account.elasticache.create_cache_cluster(CacheClusterId="lone", Engine="redis", EngineVersion="6.2", Port=port)
    until(lambda: account.member("lone")["CacheClusterStatus"] == "available")
    own = account.member("lone")["CacheNodes"][0]["Endpoint"]
    assert served_at(own).ping()
    account.elasticache.create_replication_group(
        ReplicationGroupId="around", ReplicationGroupDescription="x", PrimaryClusterId="lone"
    )
    found = endpoints(account.reaches("around", "available"))
    assert served_at(*found).ping() and found[-1] == own


def test_another_cloud_has_the_port_too(account: Any, port: int, served_at: Any, tmp_path: Path) -> None:
    here = endpoints(account.create("here", Port=port))
    other = type(account)(clouds.up(tmp_path))
    try:
        there = endpoints(other.create("there", Port=port))
        assert served_at(*here, *there).ping()
    finally:
        clouds.down(tmp_path)


def test_a_snapshot_remembers_the_port(account: Any, port: int) -> None:
    account.create("remembered", Port=port)
    assert account.snapshot("kept", "remembered")["Port"] == port


def test_a_port_out_of_range_is_refused(account: Any) -> None:
    request = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x", "Port": 65536}
    assert account.refusal(account.elasticache.create_replication_group, **request) == "InvalidParameterValue"


def test_without_an_address_of_its_own_an_endpoint_is_at_a_free_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    # Every address that is drawn is one that this machine has not, or that is taken.
    monkeypatch.setattr(random, "randint", lambda low, high: 77)
    with Relay() as relay:
        if has_own_addresses():
            relay.listen(host="127.77.77.77", port=port)
        host, got = Endpoints(relay, Certificates(tmp_path)).open(Serving(port=port))
        assert host == "127.0.0.1" and got != port
        socket.create_connection((host, got), 2).close()
