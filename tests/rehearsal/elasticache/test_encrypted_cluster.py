"""Clusters with encryption in transit: every address speaks TLS and asks for the token; replicas are let in; none else."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from helpers.rehearsal import engines

OLD, NEW = engines.pair()
TOKEN = "a-token-of-this-test-only"
PING = b"*1\r\n$4\r\nPING\r\n"


def create(account: Any, name: str, **options: Any) -> dict[str, Any]:
    request = {
        "ReplicationGroupDescription": "a test", "Engine": OLD.name, "EngineVersion": OLD.minor,
        "CacheNodeType": "cache.r6g.large", "NumNodeGroups": 2, "ReplicasPerNodeGroup": 1,
        "AutomaticFailoverEnabled": True, **options,
    }  # fmt: skip
    account.elasticache.create_replication_group(ReplicationGroupId=name, **request)
    return dict(account.reaches(name, "available"))


def client(account: Any, name: str, **options: Any) -> RedisCluster:
    endpoint = account.group(name)["ConfigurationEndpoint"]
    return RedisCluster(
        host=endpoint["Address"], port=endpoint["Port"], decode_responses=True, **{"password": TOKEN, "ssl": True, **options}
    )


def addresses(account: Any, name: str) -> dict[str, dict[str, Any]]:
    return {m: account.member(m)["CacheNodes"][0]["Endpoint"] for m in account.group(name)["MemberClusters"]}


def filled(cluster: RedisCluster) -> bool:
    return [cluster.get(f"key:{number}") for number in range(100)] == [str(number) for number in range(100)]


@pytest.fixture(autouse=True)
def trusting(account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", account.cloud.environment()["SSL_CERT_FILE"])


@pytest.fixture(scope="module")
def secure(account: Any) -> Any:
    create(account, "secure", TransitEncryptionEnabled=True, AuthToken=TOKEN)
    return account


def test_a_cluster_client_with_tls_and_the_token_reaches_every_shard(secure: Any) -> None:
    group = secure.group("secure")
    assert (group["TransitEncryptionEnabled"], group["AuthTokenEnabled"], group["ClusterEnabled"]) == (True, True, True)
    data = client(secure, "secure")
    for number in range(100):
        data.set(f"key:{number}", number)
    assert filled(data)
    for one in addresses(secure, "secure").values():
        node = redis.Redis(host=one["Address"], port=one["Port"], ssl=True, password=TOKEN)
        assert node.dbsize() > 0


def test_neither_a_client_without_the_token_nor_one_without_tls_gets_in(secure: Any) -> None:
    one = addresses(secure, "secure")["secure-0001-001"]
    place = {"host": one["Address"], "port": one["Port"], "retry": Retry(NoBackoff(), 0), "socket_timeout": 5}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(**place, ssl=True).ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(**place, password=TOKEN).ping()
    # Who begins as a replica does gets no further without a replica's login.
    for rest in (b"*1\r\n$4\r\nINFO\r\n", b"*3\r\n$4\r\nAUTH\r\n$20\r\nelasticache-internal\r\n$1\r\nx\r\n"):
        with socket.create_connection((one["Address"], one["Port"]), 5) as plain:
            plain.sendall(PING)
            assert plain.recv(100).startswith(b"-NOAUTH")
            plain.sendall(rest)
            assert plain.recv(100) == b""


def test_an_encrypted_cluster_is_upgraded_failed_over_and_saved(secure: Any, until: Any) -> None:
    before, data = addresses(secure, "secure"), client(secure, "secure")
    for number in range(100):
        data.set(f"key:{number}", number)
    secure.modify("secure", Engine=NEW.name, EngineVersion=NEW.minor)
    assert addresses(secure, "secure") == before and filled(data)
    secure.elasticache.test_failover(ReplicationGroupId="secure", NodeGroupId="0001")
    secure.reaches("secure", "available")
    assert addresses(secure, "secure") == before and filled(client(secure, "secure"))
    secure.snapshot("secured", "secure")
    create(secure, "again", SnapshotName="secured", Engine=NEW.name, EngineVersion=NEW.minor,
           TransitEncryptionEnabled=True, AuthToken=TOKEN, ReplicasPerNodeGroup=0)  # fmt: skip
    assert filled(client(secure, "again"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has addresses of the loopback to choose from")
def test_a_cluster_at_a_port_has_an_address_for_each_node_and_keeps_them(account: Any, until: Any) -> None:
    group = create(account, "ported", Port=6379, TransitEncryptionEnabled=True, AuthToken=TOKEN)
    before = addresses(account, "ported")
    assert {one["Port"] for one in before.values()} == {6379} == {group["ConfigurationEndpoint"]["Port"]}
    assert len({one["Address"] for one in before.values()}) == 4
    data = client(account, "ported")
    for number in range(100):
        data.set(f"key:{number}", number)
    account.modify("ported", Engine=NEW.name, EngineVersion=NEW.minor)
    assert addresses(account, "ported") == before
    assert filled(client(account, "ported"))
    killed = account.cloud.fail("ported-0002-001")
    until(lambda: account.cloud.status()["groups"]["ported"]["nodes"]["ported-0002-001"]["pid"] != killed)
    account.reaches("ported", "available")
    assert addresses(account, "ported") == before and filled(client(account, "ported"))


def test_the_token_is_in_no_file_and_no_command_line(secure: Any) -> None:
    for file in Path(secure.cloud.directory).rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert TOKEN.encode() not in process.read_bytes()
        except OSError:
            continue
