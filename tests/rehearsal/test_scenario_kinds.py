"""Every kind of group to rehearse on, each with another form of setting, side by side in one local cloud."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.rehearsal import rehearse, scenario, settings
from helpers.rehearsal.cloud import Cloud
from helpers.rehearsal.cluster_wire import connect
from helpers.rehearsal.login import words_of
from helpers.rehearsal.scenario import KINDS, Access, Plan, Scenario, ScenarioFailed
from helpers.rehearsal.wire import Refused, WireError

Until = Callable[..., Any]
KEYS = 3_000
# A record needs groups at addresses of their own, which Linux alone has without being set up.
RECORDS = sys.platform == "linux"
SETTINGS = {
    "replica": "/{0}/redis/endpoint",
    "alone": "appconfig:{0}/production/settings#redis.endpoint",
    "cluster": "route53:ZCLUSTER/redis.{0}.internal" if RECORDS else "/{0}/endpoint",
    "tls": "secretsmanager:{0}/settings#redis",
    "cluster_tls": "route53:{0}.internal/redis.{0}.internal" if RECORDS else "/{0}/endpoint",
    "users": "appconfig:{0}/production/redis",
}


def options(kind: str) -> dict[str, Any]:
    name = f"on-{kind.replace('_', '-')}"
    names = {"replication_group": name, "bucket": f"{name}-backup", "auth_secret": f"{name}/auth"}
    return {**names, "parameter": SETTINGS[kind].format(name), "rehearse_on": kind, "keys": KEYS, "rate": 100}


@pytest.fixture(scope="module")
def access(cloud: Cloud) -> Access:
    return Access(cloud.environment())


@pytest.fixture(scope="module", params=KINDS)
def seeded(request: pytest.FixtureRequest, cloud: Cloud) -> Iterator[Scenario]:
    found = scenario.redis_upgrade(cloud, **options(request.param))
    yield found
    scenario.stop_application(scenario.application_directory(cloud.directory, found.replication_group))


def login(seeded: Scenario, access: Access) -> dict[str, Any]:
    """Return how one connects to the group: the options of `connect`."""
    kind = KINDS[seeded.rehearse_on]
    words: tuple[str, ...] = ()
    if kind.tls:
        secret = access.client("secretsmanager").get_secret_value(SecretId=f"{seeded.replication_group}/auth")
        words = words_of(secret["SecretString"])
    return {"cluster": kind.cluster, "tls": scenario.tls_of(access, kind), "login": words}


def test_a_group_of_every_kind_is_seeded_filled_and_used(seeded: Scenario, cloud: Cloud, access: Access, until: Until) -> None:
    assert seeded.pristine
    assert seeded.keys_made == KEYS
    with connect(seeded.endpoint, **login(seeded, access)) as wire:
        keys = sum(wire.each("DBSIZE"))
        assert keys > 0.9 * KEYS
        assert wire.one("XPENDING", "events:orders", "billing")[0] == 25
    report = until(lambda: (found := scenario.read_report(access, seeded.bucket)) and found["audits"] and found)
    assert (report["pid"], report["endpoint"]) == (seeded.application, seeded.endpoint)
    assert (report["acknowledged_writes_lost"], report["errors"], report["cache_misses"]) == (0, {}, 0)
    again = scenario.redis_upgrade(cloud, **options(seeded.rehearse_on), fresh=True)
    assert (again.pristine, again.application, again.keys_made) == (True, seeded.application, 0)


def test_the_group_is_of_its_kind(seeded: Scenario, access: Access) -> None:
    kind = KINDS[seeded.rehearse_on]
    found = scenario._describe(access.client("elasticache"), seeded.replication_group, alone=kind.alone)
    assert bool(found.get("TransitEncryptionEnabled")) == kind.tls
    if kind.alone:
        assert (found["NumCacheNodes"], found.get("ReplicationGroupId")) == (1, None)
    else:
        assert found["ClusterEnabled"] == kind.cluster
        assert len(found["NodeGroups"]) == (2 if kind.cluster else 1)
        assert len(found["MemberClusters"]) == (4 if kind.cluster else 2)
        assert found["AutomaticFailover"] == "enabled"


def test_nobody_gets_in_without_the_login_of_the_secret(seeded: Scenario, cloud: Cloud, access: Access) -> None:
    how = login(seeded, access)
    if not how["login"]:
        with connect(seeded.endpoint, cluster=how["cluster"]) as wire:
            assert wire.one("EXISTS", "scores:edges") == 1
        return
    with pytest.raises(Refused, match="NOAUTH|NOPERM"), connect(seeded.endpoint, **{**how, "login": ()}) as wire:
        wire.one("GET", "counter:edge")
    with pytest.raises(Refused, match="WRONGPASS|invalid"):
        connect(seeded.endpoint, **{**how, "login": (*how["login"][:-1], "wrong" * 8)})
    with pytest.raises((WireError, Refused)):
        connect(seeded.endpoint, **{**how, "tls": None}, timeout_s=1.0).one("PING")


def test_no_password_is_on_a_command_line_or_in_a_file_of_the_application(seeded: Scenario, cloud: Cloud, access: Access) -> None:
    folder = scenario.application_directory(cloud.directory, seeded.replication_group)
    texts = [path.read_text(errors="replace") for path in folder.iterdir() if path.is_file()]
    assert seeded.application is not None
    if (command := Path(f"/proc/{seeded.application}/cmdline")).exists():
        texts.append(command.read_text())
    words = login(seeded, access)["login"]
    assert not [text for text in texts for word in words[-1:] if word in text]
    assert len(words) == (0 if not KINDS[seeded.rehearse_on].tls else 2 if KINDS[seeded.rehearse_on].users else 1)


def test_a_setting_that_names_a_record_leads_to_port_6379(seeded: Scenario, access: Access) -> None:
    assert settings.read(access.client, seeded.parameter) == seeded.endpoint
    assert seeded.endpoint.endswith(":6379") == seeded.parameter.startswith("route53:")


def test_two_groups_of_one_cloud_do_not_share_a_setting_or_a_report(seeded: Scenario, cloud: Cloud) -> None:
    other = {**options(seeded.rehearse_on), "replication_group": "another"}
    with pytest.raises(ScenarioFailed, match=f"{seeded.replication_group} in this cloud finds its endpoint in .*switch_parameter"):
        scenario.redis_upgrade(cloud, **other)
    with pytest.raises(ScenarioFailed, match="writes its report to .*application_report"):
        scenario.redis_upgrade(cloud, **{**other, "parameter": "/another/endpoint"})


def test_a_group_of_another_kind_under_the_same_name_is_not_taken_for_it(cloud: Cloud) -> None:
    plan = {"replication_group": "kind", "bucket": "kind-backup", "parameter": "/kind/endpoint", "keys": 200}
    scenario.seed(cloud.environment(), **plan)
    assert scenario.ensure(cloud.environment(), **plan, fresh=True).pristine
    with pytest.raises(ScenarioFailed, match="is no group to rehearse on 'cluster': choose another replication_group"):
        scenario.ensure(cloud.environment(), **plan, rehearse_on="cluster", fresh=True)
    with pytest.raises(ScenarioFailed, match="choose replica, alone, cluster, tls, cluster_tls, users"):
        scenario.ensure(cloud.environment(), **plan, rehearse_on="sharded")


def test_a_secret_of_another_form_is_refused_and_no_application_left(cloud: Cloud, access: Access, tmp_path: Path) -> None:
    access.client("secretsmanager").create_secret(Name="of-a-user", SecretString='{"username": "a", "password": "b"}')
    plan = {"rehearse_on": "tls", "auth_secret": "of-a-user", "bucket": "refused", "parameter": "/refused"}
    with pytest.raises(ScenarioFailed, match="does not hold an AUTH token alone: choose another auth_secret"):
        scenario.seed(cloud.environment(), directory=tmp_path, **plan)
    assert scenario.application_pid(tmp_path) is None


def test_a_new_run_that_reports_elsewhere_gets_an_application_that_does(cloud: Cloud, access: Access, tmp_path: Path) -> None:
    plan = {"replication_group": "moved", "bucket": "moved-backup", "parameter": "/moved", "keys": 200, "directory": tmp_path}
    try:
        first = scenario.ensure(cloud.environment(), **plan)
        second = scenario.ensure(cloud.environment(), **plan, fresh=True, report="s3://moved-reports/a/b.json")
        assert second.application not in (None, first.application)
        assert scenario.read_report(access, "moved-reports", "a/b.json")["pid"] == second.application
        # A run under way is left the application that it has.
        assert scenario.ensure(cloud.environment(), **plan).application == second.application
    finally:
        scenario.stop_applications(tmp_path)


def test_a_scenario_takes_its_names_from_the_parameters_of_the_run() -> None:
    parameters = {
        "replication_group": "shop",
        "bucket": "shop-backup",
        "switch_parameter": "secretsmanager:shop#redis",
        "auth_secret": "",
        "rehearse_on": "cluster_tls",
        "application_report": "s3://reports/shop/report.json",
        "engine": "valkey",
    }
    plan = Plan(**scenario.options_of(parameters))
    assert plan == Plan("shop", "shop-backup", "secretsmanager:shop#redis", "cluster_tls", report="s3://reports/shop/report.json")
    assert (plan.report_bucket, plan.report_key) == ("reports", "shop/report.json")
    # A run that is told nothing of a report looks for it where the notebook's default says.
    assert Plan(**scenario.options_of({"bucket": "shop-backup"})).report_bucket == scenario.BUCKET
    assert Plan(**scenario.options_of({})).replication_group == "sessions"


def test_a_run_is_seeded_by_its_parameters_and_keeps_them_when_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr(rehearse, "SHARED", tmp_path / "shared")
    monkeypatch.setitem(scenario.SCENARIOS, "redis_upgrade", functools.partial(scenario.redis_upgrade, keys=500))
    values = {
        "replication_group": "shop",
        "bucket": "shop-backup",
        "switch_parameter": "secretsmanager:shop#redis",
        "rehearse_on": "cluster",
        "application_report": "s3://shop-backup/shop.json",
    }
    run = tmp_path / "run"
    try:
        variables = rehearse.prepare("redis_upgrade", values, run)
        access = Access(variables)
        group = access.client("elasticache").describe_replication_groups()["ReplicationGroups"][0]
        assert (group["ReplicationGroupId"], group["ClusterEnabled"]) == ("shop", True)
        assert json.loads(access.client("secretsmanager").get_secret_value(SecretId="shop")["SecretString"])["redis"]
        first = scenario.read_report(access, "shop-backup", "shop.json")
        (run / "journal.jsonl").write_text('{"at": 0, "type": "intent", "key": "Write/write"}\n')
        assert scenario.stop_application(scenario.application_directory(run / "cloud", "shop"))
        rehearse.prepare("redis_upgrade", values, run)
        assert scenario.read_report(access, "shop-backup", "shop.json")["pid"] != first["pid"]
    finally:
        rehearse._end(run / "cloud")
    until(lambda: scenario.application_pid(scenario.application_directory(run / "cloud", "shop")) is None)
