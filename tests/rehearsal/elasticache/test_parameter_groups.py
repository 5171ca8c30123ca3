"""Parameter groups have the families' parameters, and their changes reach the running servers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from helpers.rehearsal import engines


def make(account: Any, name: str, family: str = "redis6.x") -> str:
    account.elasticache.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily=family, Description="a test"
    )
    return name


def change(account: Any, name: str, **values: str) -> None:
    pairs = [{"ParameterName": key.replace("_", "-"), "ParameterValue": value} for key, value in values.items()]
    account.elasticache.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=pairs)


def parameters(account: Any, name: str, **options: Any) -> dict[str, dict[str, Any]]:
    pages = account.elasticache.get_paginator("describe_cache_parameters")
    found = [p for page in pages.paginate(CacheParameterGroupName=name, **options) for p in page["Parameters"]]
    return {parameter["ParameterName"]: parameter for parameter in found}


def in_sync(account: Any, until: Any, cluster: str) -> None:
    until(lambda: account.member(cluster)["CacheParameterGroup"]["ParameterApplyStatus"] == "in-sync")


@pytest.mark.parametrize("engine", engines.available(), ids=str)
def test_every_family_has_its_default_parameters_and_servers_take_them(account: Any, engine: engines.Engine) -> None:
    shown = parameters(account, f"default.{engine.family}")
    assert shown["notify-keyspace-events"]["ParameterValue"] == ""
    assert shown["maxmemory-policy"]["ParameterValue"] == "volatile-lru"
    assert shown["reserved-memory-percent"]["ParameterValue"] == "25"
    assert shown["databases"]["ChangeType"] == "requires-reboot"
    assert shown["timeout"]["ChangeType"] == "immediate"
    assert not shown["appendonly"]["IsModifiable"]
    name = f"family-{engine.minor.replace('.', '-')}"
    account.create(name, Engine=engine.name, EngineVersion=engine.minor)
    assert (
        account.member(f"{name}-001")["CacheParameterGroup"]["CacheParameterGroupName"] == f"default.{engine.family}"
    )
    assert account.data(name).info("memory")["maxmemory_policy"] == "volatile-lru"


def test_moving_a_group_to_a_custom_parameter_group_turns_notifications_on(account: Any, until: Any) -> None:
    account.create("listened", NumCacheClusters=2)
    make(account, "with-events")
    change(account, "with-events", notify_keyspace_events="KEA")
    data = account.data("listened")
    subscriber = data.pubsub()
    subscriber.psubscribe("__key*__:*")
    assert subscriber.get_message(timeout=5)["type"] == "psubscribe"
    account.modify("listened", CacheParameterGroupName="with-events")
    in_sync(account, until, "listened-001")
    data.set("key", "value")
    assert until(lambda: subscriber.get_message(timeout=1))["channel"] == "__keyspace@0__:key"
    shown = account.member("listened-002")["CacheParameterGroup"]
    assert shown["CacheParameterGroupName"] == "with-events"


def test_a_changed_parameter_reaches_every_node_of_the_groups_that_use_it(account: Any, until: Any) -> None:
    make(account, "tuned")
    account.create("tuned", NumCacheClusters=2, CacheParameterGroupName="tuned")
    change(account, "tuned", maxmemory_policy="allkeys-lfu", reserved_memory_percent="50")
    for cluster in ("tuned-001", "tuned-002"):
        in_sync(account, until, cluster)
        memory = account.node(cluster).info("memory")
        assert memory["maxmemory_policy"] == "allkeys-lfu"
        assert memory["maxmemory"] == 14037181030 // 2
    own = parameters(account, "tuned", Source="user")
    assert set(own) == {"maxmemory-policy", "reserved-memory-percent"}
    assert parameters(account, "tuned")["timeout"]["Source"] == "system"


def test_writes_stop_where_too_few_replicas_follow(account: Any, until: Any) -> None:
    make(account, "careful")
    account.create("careful", CacheParameterGroupName="careful")
    change(account, "careful", min_replicas_to_write="1")
    in_sync(account, until, "careful-001")
    with pytest.raises(Exception, match="NOREPLICAS"):
        account.data("careful").set("key", "value")


def test_a_parameter_that_needs_a_reboot_waits_for_it(account: Any, until: Any) -> None:
    make(account, "many")
    account.create("many", CacheParameterGroupName="many")
    change(account, "many", databases="32")
    until(lambda: account.member("many-001")["CacheParameterGroup"]["ParameterApplyStatus"] == "pending-reboot")
    account.create("many-new", CacheParameterGroupName="many")
    assert account.data("many-new").execute_command("SELECT", "31")


def test_a_reset_brings_the_default_back_to_the_servers(account: Any, until: Any) -> None:
    make(account, "reset")
    change(account, "reset", maxmemory_policy="noeviction")
    account.create("reset", CacheParameterGroupName="reset")
    assert account.data("reset").info("memory")["maxmemory_policy"] == "noeviction"
    account.elasticache.reset_cache_parameter_group(CacheParameterGroupName="reset", ResetAllParameters=True)
    until(lambda: account.data("reset").info("memory")["maxmemory_policy"] == "volatile-lru")
    assert parameters(account, "reset", Source="user") == {}


def test_default_groups_cannot_be_changed_or_deleted(account: Any) -> None:
    client = account.elasticache
    default = {"CacheParameterGroupName": "default.redis6.x"}
    values = [{"ParameterName": "timeout", "ParameterValue": "1"}]
    code = "InvalidCacheParameterGroupState"
    assert account.refusal(client.modify_cache_parameter_group, **default, ParameterNameValues=values) == code
    assert account.refusal(client.reset_cache_parameter_group, **default, ResetAllParameters=True) == code
    assert account.refusal(client.delete_cache_parameter_group, **default) == code


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", "soon"),
        ("timeout", "-1"),
        ("maxmemory-policy", "sometimes"),
        ("notify-keyspace-events", "KEQ"),
        ("appendonly", "yes"),
        ("no-such-parameter", "1"),
    ],
)
def test_values_that_a_parameter_does_not_take_are_refused(account: Any, name: str, value: str) -> None:
    if account.refusal(account.elasticache.describe_cache_parameters, CacheParameterGroupName="strict"):
        make(account, "strict")
    refused = account.refusal(change, account, "strict", **{name.replace("-", "_"): value})
    assert refused == "InvalidParameterValue"


def test_a_parameter_that_only_aws_has_is_refused_and_not_pretended(account: Any) -> None:
    make(account, "honest")
    assert account.refusal(change, account, "honest", activedefrag="yes") == "InvalidParameterCombination"
    assert "not offered by the local cloud yet" in account.last_message


def test_a_group_in_use_cannot_be_deleted_and_a_free_one_can(account: Any) -> None:
    client = account.elasticache
    make(account, "used")
    account.create("user", CacheParameterGroupName="used")
    used = {"CacheParameterGroupName": "used"}
    assert account.refusal(client.delete_cache_parameter_group, **used) == "InvalidCacheParameterGroupState"
    client.delete_replication_group(ReplicationGroupId="user")
    account.gone("user")
    client.delete_cache_parameter_group(**used)
    assert account.refusal(client.describe_cache_parameter_groups, **used) == "CacheParameterGroupNotFound"


def test_names_and_families_are_checked(account: Any) -> None:
    make(account, "once")
    assert account.refusal(make, account, "once") == "CacheParameterGroupAlreadyExists"
    assert account.refusal(make, account, "other", "redis5.0") == "InvalidParameterValue"
    assert account.refusal(make, account, "default.mine") == "InvalidParameterValue"


def test_engine_defaults_are_shown_by_family(account: Any) -> None:
    family = engines.pair()[1].family
    answer = account.elasticache.describe_engine_default_parameters(CacheParameterGroupFamily=family)
    names = [p["ParameterName"] for p in answer["EngineDefaults"]["Parameters"]]
    assert "hash-max-listpack-entries" in names


def test_a_change_reaches_the_servers_although_a_client_cuts_every_connection_meanwhile(account: Any, until: Any) -> None:
    account.create("cut")
    account.modify("cut", CacheParameterGroupName=make(account, "cutting"))
    in_sync(account, until, "cut-001")
    data, ended = account.data("cut"), threading.Event()

    def cut() -> None:
        own = data.client_id()
        while not ended.is_set():
            for each in data.client_list():
                if int(each["id"]) != own:
                    data.execute_command("CLIENT", "KILL", "ID", each["id"])

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for policy in ("noeviction", "allkeys-lru") * 20:
            change(account, "cutting", maxmemory_policy=policy)
            in_sync(account, until, "cut-001")
    finally:
        ended.set()
        cutter.join()
    assert data.info("memory")["maxmemory_policy"] == "allkeys-lru"
