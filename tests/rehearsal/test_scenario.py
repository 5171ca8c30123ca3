"""The scenario of the Redis upgrade, seeded into a real local cloud."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from botocore.exceptions import ClientError

from helpers.rehearsal import dataset, engines, scenario
from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.scenario import Access, Scenario, ScenarioFailed
from helpers.rehearsal.servers import Server

from tests.rehearsal.mishaps import grown, parameter_changed, truncated_object

KEYS = 6_000
Until = Callable[..., Any]


@pytest.fixture(scope="module")
def seeded(cloud: Cloud) -> Iterator[Scenario]:
    yield scenario.redis_upgrade(cloud, keys=KEYS, rate=200)
    scenario.stop_application(cloud.directory)


@pytest.fixture
def access(cloud: Cloud) -> Access:
    return Access(cloud.environment())


def data(found: Scenario, database: int = 0) -> redis.Redis:
    host, port = found.endpoint.split(":")
    return redis.Redis(host=host, port=int(port), db=database, decode_responses=True)


def test_the_group_is_as_the_runbook_expects_it(seeded: Scenario, access: Access) -> None:
    found = access.client("elasticache").describe_replication_groups(ReplicationGroupId="sessions")
    group = found["ReplicationGroups"][0]
    assert (group["Status"], group["CacheNodeType"]) == ("available", "cache.r6g.large")
    assert (group["AutomaticFailover"], group["MultiAZ"]) == ("enabled", "enabled")
    assert len(group["MemberClusters"]) == 2
    member = access.client("elasticache").describe_cache_clusters(CacheClusterId="sessions-001")["CacheClusters"][0]
    oldest = engines.available()[0]
    assert member["CacheParameterGroup"]["CacheParameterGroupName"] == f"default.{oldest.family}"
    assert seeded.engine == f"{oldest.name} {oldest.minor}"
    assert seeded.pristine
    assert seeded.keys_made == KEYS


def test_the_bucket_lets_elasticache_in_and_the_parameter_leads_to_the_group(seeded: Scenario, access: Access) -> None:
    policy = json.loads(access.client("s3").get_bucket_policy(Bucket="sessions-backup")["Policy"])
    assert policy == scenario.snapshot_policy("sessions-backup", "ap-northeast-1")
    assert policy["Statement"][0]["Principal"] == {"Service": "ap-northeast-1.elasticache-snapshot.amazonaws.com"}
    parameter = access.client("ssm").get_parameter(Name="/sessions/redis/endpoint")["Parameter"]
    assert (parameter["Type"], parameter["Value"]) == ("String", seeded.endpoint)


def test_there_are_keys_of_every_type_with_and_without_a_ttl(seeded: Scenario) -> None:
    client = data(seeded)
    raw = redis.Redis.from_url(f"redis://{seeded.endpoint}/0")
    pipeline = raw.pipeline(transaction=False)
    for key in (keys := list(raw.scan_iter(count=2_000))):
        pipeline.type(key).ttl(key)
    replies = pipeline.execute()
    # A session whose user logs out between the two looks is of no type any more.
    types = Counter(kind for kind in replies[::2] if kind != b"none")
    assert set(types) == {b"string", b"hash", b"list", b"set", b"zset", b"stream"}
    assert min(types.values()) > 20
    expiring = sum(ttl > 0 for ttl in replies[1::2])
    assert 0.3 < expiring / len(keys) < 0.7
    assert min(ttl for ttl in replies[1::2] if ttl > 0) > 3_600
    assert client.xpending("events:orders", "billing")["pending"] == 25
    assert client.zscore("scores:edges", "Zoe") == float("-inf")
    assert client.zscore("scores:edges", "bob") == -0.1
    assert client.pfcount(min(client.scan_iter("visitors:*", count=2_000))) == 20
    assert {row["name"] for row in json.loads(client.get("SELECT * FROM users;"))} >= {"alice", "Ignatius", "jonny"}
    assert data(seeded, 1).dbsize() == KEYS // dataset.SECOND_DATABASE_SHARE


def test_the_application_writes_sessions_and_has_lost_nothing(seeded: Scenario, access: Access, until: Until) -> None:
    report = until(lambda: (found := scenario.read_report(access)) and found["audits"] and found)
    assert report["pid"] == seeded.application
    assert report["endpoint"] == seeded.endpoint
    assert report["acknowledged_writes"] > 0
    assert (report["acknowledged_writes_lost"], report["errors"]) == (0, {})
    assert report["cache_hits"] > 0
    assert report["cache_misses"] == 0


def test_seeding_again_changes_nothing(seeded: Scenario, cloud: Cloud) -> None:
    again = scenario.seed(cloud.environment(), keys=KEYS, directory=cloud.directory)
    assert again.keys_made == 0
    assert (again.application, again.endpoint, again.pristine) == (seeded.application, seeded.endpoint, True)
    assert scenario.redis_upgrade(cloud).application == seeded.application


def test_an_application_that_was_killed_is_started_again(seeded: Scenario, cloud: Cloud, until: Until) -> None:
    before = scenario.application_pid(cloud.directory)
    assert before is not None
    os.kill(before, 9)
    until(lambda: scenario.application_pid(cloud.directory) is None)
    after = scenario.redis_upgrade(cloud, rate=200)
    assert after.application not in (None, before)
    assert scenario.read_report(Access(cloud.environment()))["acknowledged_writes_lost"] == 0


def test_a_run_under_way_keeps_what_it_made_of_the_scenario(seeded: Scenario, cloud: Cloud, access: Access) -> None:
    before = parameter_changed(cloud.environment(), "127.0.0.1:9")
    try:
        found = scenario.redis_upgrade(cloud)
        assert (found.endpoint, found.pristine) == ("127.0.0.1:9", False)
        with pytest.raises(ScenarioFailed, match="no longer as seeded .*cloud down"):
            scenario.redis_upgrade(cloud, fresh=True)
        assert access.client("ssm").get_parameter(Name=seeded.parameter)["Parameter"]["Value"] == "127.0.0.1:9"
    finally:
        parameter_changed(cloud.environment(), before)


@pytest.mark.parametrize("parameter", ["/retired/endpoint", "appconfig:retired/production/settings#redis"])
def test_a_new_run_gets_the_group_back_that_an_earlier_one_retired(
    parameter: str, cloud: Cloud, access: Access, tmp_path: Path, until: Until
) -> None:
    names = {"replication_group": "retired", "bucket": "retired-backup", "parameter": parameter}

    def ensured(**options: Any) -> Scenario:
        return scenario.ensure(cloud.environment(), **names, directory=tmp_path, keys=500, replicas=0, **options)

    try:
        first = ensured()
        client = access.client("elasticache")
        client.delete_replication_group(ReplicationGroupId="retired")
        until(lambda: not scenario._describe(client, "retired"))
        assert not ensured().pristine
        second = ensured(fresh=True)
        assert second.pristine
        assert (second.keys_made, second.application == first.application) == (500, False)
    finally:
        scenario.stop_applications(tmp_path)


def test_the_users_own_profile_and_proxy_do_not_matter(
    seeded: Scenario, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    assert scenario.redis_upgrade(cloud).endpoint == seeded.endpoint


@pytest.mark.parametrize("engine", engines.available(), ids=str)
def test_the_same_keys_are_made_every_time_on_every_engine(engine: engines.Engine, tmp_path: Path) -> None:
    with Server(engine, tmp_path / "one") as one, Server(engine, tmp_path / "two") as two:
        assert dataset.fill(f"127.0.0.1:{one.port}", 2_000) == 2_000
        assert dataset.fill(f"127.0.0.1:{one.port}", 2_000) == 0
        # Left half done, it is done anew without harm.
        dataset.fill(f"127.0.0.1:{two.port}", 2_000)
        two.client().delete(dataset.MARKER)
        assert dataset.fill(f"127.0.0.1:{two.port}", 2_000) == 2_000
        for database in (0, 1):
            first, second = one.client(db=database), two.client(db=database)
            keys = sorted(first.scan_iter(count=5_000))
            assert keys == sorted(second.scan_iter(count=5_000))
            assert [first.dump(key) for key in keys if _plain(key)] == [second.dump(key) for key in keys if _plain(key)]


def _plain(key: bytes) -> bool:
    """Return whether a key's dump says its content alone: a stream's has times of delivery, a set's an order by chance."""
    return not key.startswith((b"stream:", b"events:", b"set:", b"hash:", b"scores:large"))


def test_a_hundred_thousand_keys_take_seconds(tmp_path: Path) -> None:
    with Server(engines.available()[0], tmp_path) as server:
        began = time.monotonic()
        assert dataset.fill(f"127.0.0.1:{server.port}", 100_000) == 100_000
        # A second and a half on a free machine; the bound is for a busy one.
        assert time.monotonic() - began < 15
        assert sum(one["keys"] for one in server.client().info("keyspace").values()) == 100_000


def test_what_a_runbook_must_refuse_can_be_made(seeded: Scenario, cloud: Cloud, access: Access) -> None:
    environment = cloud.environment()
    s3 = access.client("s3")
    scenario.bucket_without_grant(environment, "no-grant")
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket="no-grant")
    scenario.bucket_elsewhere(environment, "elsewhere-backup")
    assert s3.get_bucket_location(Bucket="elsewhere-backup")["LocationConstraint"] == "us-west-2"
    s3.put_object(Bucket="no-grant", Key="a.rdb", Body=b"REDIS0009" * 10)
    assert truncated_object(environment, "no-grant", "a.rdb") == 45
    before = data(seeded).info("memory")["used_memory"]
    assert grown(seeded.endpoint, 4) > before + 4 * 2**20
    data(seeded).unlink(*(f"ballast:{number}" for number in range(4)))
