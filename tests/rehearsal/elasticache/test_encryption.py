"""Encryption in transit is real TLS: clients that verify are let in, others are not, and nothing is left in plain."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.elasticache.changes import Capture
from helpers.rehearsal import cloud as clouds
from helpers.rehearsal import engines
from helpers.rehearsal.elasticache.certificates import Certificates

OLD, NEW = engines.pair()


@pytest.fixture(scope="module")
def sealed(account: Any) -> Any:
    account.create("sealed", NumCacheClusters=2, TransitEncryptionEnabled=True)
    return account


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch, cloud: Any) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", cloud.environment()["SSL_CERT_FILE"])


def connected(endpoint: dict[str, Any], **options: Any) -> redis.Redis:
    options = {"ssl": True, "host": endpoint["Address"], "retry": Retry(NoBackoff(), 0), "decode_responses": True, **options}
    return redis.Redis(port=endpoint["Port"], **options)


def endpoints(account: Any, name: str) -> dict[str, dict[str, Any]]:
    shard = account.group(name)["NodeGroups"][0]
    found = {"primary": shard["PrimaryEndpoint"], "reader": shard["ReaderEndpoint"]}
    return found | {m["CacheClusterId"]: m["ReadEndpoint"] for m in shard["NodeGroupMembers"]}


def test_every_endpoint_of_an_encrypted_group_serves_clients_that_verify(sealed: Any, until: Any) -> None:
    found = endpoints(sealed, "sealed")
    connected(found["primary"]).set("key", "x" * 3_000_000)
    for endpoint in found.values():
        until(lambda endpoint=endpoint: connected(endpoint).get("key") == "x" * 3_000_000)
    assert sealed.member("sealed-002")["CacheNodes"][0]["Endpoint"] == found["sealed-002"]
    assert connected(found["sealed-002"]).info("replication")["role"] == "slave"


def test_an_encrypted_group_is_described_as_such(sealed: Any) -> None:
    for shown in (sealed.group("sealed"), sealed.member("sealed-001")):
        assert (shown["TransitEncryptionEnabled"], shown["TransitEncryptionMode"]) == (True, "required")


def test_no_endpoint_of_an_encrypted_group_answers_in_plain(sealed: Any) -> None:
    for endpoint in endpoints(sealed, "sealed").values():
        with pytest.raises(redis.ConnectionError):
            connected(endpoint, ssl=False, socket_timeout=5).ping()


def test_a_host_name_that_is_not_in_the_certificate_is_refused(sealed: Any) -> None:
    endpoint = endpoints(sealed, "sealed")["primary"]
    with pytest.raises(redis.ConnectionError, match="(?i)hostname mismatch"):
        connected(endpoint, host="localhost").ping()


def test_a_client_that_does_not_know_the_authority_refuses_the_server(
    sealed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    Certificates(tmp_path).write_bundle(tmp_path / "another.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "another.pem"))
    with pytest.raises(redis.ConnectionError, match="(?i)certificate verify failed"):
        connected(endpoints(sealed, "sealed")["primary"]).ping()


def test_the_bundle_has_the_usual_authorities_too(cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ssl.create_default_context(cafile=cloud.environment()["SSL_CERT_FILE"]).cert_store_stats()["x509_ca"]
    monkeypatch.delenv("SSL_CERT_FILE")
    assert ours == ssl.create_default_context().cert_store_stats()["x509_ca"] + 1


def test_a_process_that_attaches_to_the_cloud_finds_the_certificates(sealed: Any) -> None:
    endpoint = endpoints(sealed, "sealed")["primary"]
    attached = clouds.attach(sealed.cloud.directory)
    assert attached is not None
    kept = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    script = f"import redis; print(redis.Redis(host={endpoint['Address']!r}, port={endpoint['Port']}, ssl=True).ping())"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**kept, **attached.environment()}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr


def test_an_upgrade_keeps_the_endpoints_of_an_encrypted_group_and_of_its_nodes(sealed: Any) -> None:
    sealed.create("renewed", NumCacheClusters=2, TransitEncryptionEnabled=True)
    before = endpoints(sealed, "renewed")
    waiting = connected(before["primary"])
    waiting.set("key", "value")
    first = waiting.info("server")["run_id"]
    sealed.modify("renewed", Engine=NEW.name, EngineVersion=NEW.minor)
    assert endpoints(sealed, "renewed") == before
    with contextlib.suppress(redis.ConnectionError):  # its connection was cut; a client that has seen so already connects again
        assert waiting.info("server")["run_id"] != first
    assert all(connected(endpoint).get("key") == "value" for endpoint in before.values())


def test_a_replica_that_is_taken_away_takes_its_endpoint_with_it(sealed: Any) -> None:
    sealed.create("shrunk", TransitEncryptionEnabled=True)
    kept = connected(endpoints(sealed, "shrunk")["shrunk-001"])
    number = kept.client_id()
    for count, change in ((1, sealed.elasticache.increase_replica_count), (0, sealed.elasticache.decrease_replica_count)):
        before = endpoints(sealed, "shrunk")
        change(ReplicationGroupId="shrunk", NewReplicaCount=count, ApplyImmediately=True)
        sealed.reaches("shrunk", "available")
    assert set(before) - set(endpoints(sealed, "shrunk")) == {"shrunk-002"}
    with pytest.raises(redis.ConnectionError):
        connected(before["shrunk-002"]).ping()
    assert kept.client_id() == number


def test_what_is_not_offered_of_encryption_is_refused(sealed: Any) -> None:
    request = {"ReplicationGroupId": "refused", "ReplicationGroupDescription": "x"}
    create, modify = sealed.elasticache.create_replication_group, sealed.elasticache.modify_replication_group
    for call, options, words in (
        (create, {**request, "TransitEncryptionEnabled": True, "TransitEncryptionMode": "preferred"}, "preferred"),
        (create, {**request, "TransitEncryptionMode": "required"}, "needs TransitEncryptionEnabled"),
        (modify, {"ReplicationGroupId": "sealed", "TransitEncryptionEnabled": False}, "not offered by the local"),
    ):
        assert sealed.refusal(call, **options) == "InvalidParameterCombination"
        assert words in sealed.last_message


def test_encryption_at_rest_is_a_property_with_the_defaults_of_each_engine(sealed: Any) -> None:
    for name, options, expected in (
        ("plain", {"Engine": OLD.name, "EngineVersion": OLD.minor}, OLD.name == "valkey"),
        ("kept", {"Engine": OLD.name, "EngineVersion": OLD.minor, "AtRestEncryptionEnabled": True}, True),
        ("modern", {"Engine": NEW.name, "EngineVersion": NEW.minor}, NEW.name == "valkey"),
    ):
        shown = sealed.create(name, **options)
        assert shown["AtRestEncryptionEnabled"] == sealed.member(f"{name}-001")["AtRestEncryptionEnabled"] == expected
        assert shown["StorageEncryptionType"] == ("sse-elasticache" if expected else "none")


def test_a_capture_over_tls_takes_in_changes_while_other_threads_ask_for_barriers(account: Any) -> None:
    client = account.elasticache
    client.create_cache_parameter_group(CacheParameterGroupName="poured", CacheParameterGroupFamily=OLD.family, Description="a test")
    pairs = [{"ParameterName": "notify-keyspace-events", "ParameterValue": "KEA"}]
    client.modify_cache_parameter_group(CacheParameterGroupName="poured", ParameterNameValues=pairs)
    account.create("poured", CacheParameterGroupName="poured", TransitEncryptionEnabled=True)
    source, ended = connected(endpoints(account, "poured")["primary"], decode_responses=False), threading.Event()

    def pour() -> None:
        while not ended.is_set():
            pipe = source.pipeline(transaction=False)
            for number in range(500):
                pipe.set(f"key:{number}", number)
            pipe.execute()

    def ask(capture: Capture) -> int:
        asked = 0
        while not ended.is_set():
            capture.barrier()
            asked += 1
        return asked

    capture = Capture(source)
    capture.start()
    try:
        with ThreadPoolExecutor(5) as pool:
            pool.submit(pour)
            asking = [pool.submit(ask, capture) for _ in range(4)]
            time.sleep(4)
            ended.set()
            assert all(one.result() > 0 for one in asking)
        capture.barrier()
        capture.check()
        assert {(0, f"key:{number}".encode()) for number in range(500)} <= capture.peek()
    finally:
        capture.stop()
