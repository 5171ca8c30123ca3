"""What is one store's own: metadata of parameters, labels of secrets, deployments, records and certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import trustme

from helpers.aws import UNKNOWN, Aws, Check, RunbookError, WaitFailed, calls
from helpers.aws.planned import PlannedWorld
from helpers.elasticache.adapters import appconfig, certificate_names, compare_and_set, is_at, longest, put_parameter, read_setting, same_port, setting_checks
from helpers.elasticache.adapters.route53 import certificate_check, covers

OLD, NEW, THEIRS = "old.example.com:6379", "new.example.com:6379", "theirs.example.com:6379"
WILDCARD = "*.abc123.ng.0001.apne1.cache.amazonaws.com"
ssm, secure, secret, plain, configuration, record = (
    pytest.mark.parametrize("store", [name], indirect=True) for name in ("Ssm", "SecureSsm", "Secret", "PlainSecret", "AppConfig", "Dns")
)


def switch(aws: Aws, store: Any, expected: str = OLD, value: str = NEW) -> None:
    compare_and_set(aws, read_setting(aws, store.where), expected, value)


def check(aws: Aws, store: Any, part: str, *, tls: bool = False) -> Check:
    return next(one for one in setting_checks(aws, store.where, (OLD,), tls=tls) if part in one.name)


# -- SSM -------------------------------------------------------------------------------------------


@ssm
def test_a_third_writer_while_the_second_is_put_back_wins(aws: Aws, store: Any, before_call: Callable) -> None:
    before = read_setting(aws, store.where)
    before_call(store, "PutParameter", lambda: (store.write(THEIRS), before_call(store, "PutParameter", lambda: store.write("third.example.com:1"))) and None)
    with pytest.raises(RunbookError, match=r"holds 'third.example.com:1', not 'old.example.com:6379': somebody changed it"):
        compare_and_set(aws, before, OLD, NEW)
    assert read_setting(aws, store.where).value == "third.example.com:1"


@ssm
def test_a_put_sends_no_policies_so_that_they_stay(aws: Aws, store: Any) -> None:
    seen: list[calls.Call] = []
    calls.watch(calls.Watch(seen.append))
    switch(aws, store)
    calls.watch(None)
    (put,) = [call for call in seen if call.operation == "PutParameter"]
    assert put.parameters.keys() == {"Name", "Value", "Overwrite", "Type", "Description", "AllowedPattern", "DataType", "Tier"}


@ssm
def test_a_value_that_the_parameters_pattern_forbids_is_refused(aws: Aws, store: Any) -> None:
    store.client().put_parameter(Name=store.where, Value=OLD, Type="String", Overwrite=True, AllowedPattern=r"^old\.")
    with pytest.raises(RunbookError, match="ParameterPatternMismatchException"):
        switch(aws, store)
    assert is_at(read_setting(aws, store.where), OLD)


@secure
def test_another_secret_in_a_parameter_is_not_shown(aws: Aws, store: Any) -> None:
    store.write("hunter2-hunter2")
    assert "hunter2" not in repr(read_setting(aws, store.where))
    with pytest.raises(RunbookError) as refused:
        switch(aws, store)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(setting_checks(aws, store.where, (OLD,), tls=False))


def test_a_flag_is_put_whatever_it_holds_and_keeps_its_type(aws: Aws) -> None:
    for value in ("one", "two"):
        put_parameter(aws, "/flag", value)
        found = aws.client("ssm").get_parameter(Name="/flag")["Parameter"]
        assert (found["Value"], found["Type"]) == (value, "String")


# -- Secrets Manager -------------------------------------------------------------------------------


@secret
def test_the_version_that_was_left_stays_as_the_previous_one(aws: Aws, store: Any) -> None:
    before = read_setting(aws, store.where).version
    switch(aws, store)
    labels = store.client().describe_secret(SecretId=f"app/{store.name}")["VersionIdsToStages"]
    assert labels[before] == ["AWSPREVIOUS"]
    assert sorted(labels.values()) == [["AWSCURRENT"], ["AWSPREVIOUS"]]


@secret
def test_a_secret_is_named_by_its_arn_too_and_planned_so(aws: Aws, store: Any) -> None:
    where = f"secretsmanager:{store.client().describe_secret(SecretId=f'app/{store.name}')['ARN']}#redis"
    calls.watch(calls.Watch(lambda call: None, plan=PlannedWorld()))
    compare_and_set(aws, read_setting(aws, where), OLD, NEW)
    planned = read_setting(aws, where)
    calls.watch(None)
    assert is_at(planned, NEW) and is_at(read_setting(aws, where), OLD)
    compare_and_set(aws, read_setting(aws, where), OLD, NEW)
    assert is_at(read_setting(aws, where), NEW)


@secret
def test_rotation_is_warned_of(aws: Aws, store: Any) -> None:
    assert check(aws, store, "nothing else writes").outcome == "pass"
    store.client().rotate_secret(SecretId=f"app/{store.name}", RotationLambdaARN="arn:aws:lambda:ap-northeast-1:123456789012:function:turn")
    found = check(aws, store, "nothing else writes")
    assert found.outcome == "warn" and "function:turn" in found.found and found.remedy


@secret
def test_a_replica_cannot_be_written(aws: Aws, store: Any, cloud: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.client().replicate_secret_to_regions(SecretId=f"app/{store.name}", AddReplicaRegions=[{"Region": "us-west-2"}])
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    there = Aws(boto3.Session(region_name="us-west-2"), aws.account, "us-west-2", aws.caller)
    found = check(there, store, "can be written")
    assert found.outcome == "fail" and "ap-northeast-1" in found.found
    with pytest.raises(RunbookError, match="replica secret"):
        switch(there, store)


@secret
def test_a_secret_marked_for_deletion_is_told_as_aws_tells_it(aws: Aws, store: Any) -> None:
    store.client().delete_secret(SecretId=f"app/{store.name}")
    (found,) = setting_checks(aws, store.where, (OLD,), tls=False)
    assert found.outcome == "fail" and "marked for deletion" in found.found


@plain
def test_a_binary_secret_holds_no_endpoint(aws: Aws, store: Any) -> None:
    store.client().put_secret_value(SecretId=f"app/{store.name}", SecretBinary=b"\x00")
    assert read_setting(aws, store.where).value == "(something that is no host:port)"


@secret
@pytest.mark.parametrize(("text", "told"), [("{", "no JSON object"), ('{"other": "hunter2-hunter2"}', "without the key 'redis'")])
def test_a_secret_of_another_shape_is_told_without_its_content(aws: Aws, store: Any, text: str, told: str) -> None:
    store.client().put_secret_value(SecretId=f"app/{store.name}", SecretString=text)
    (found,) = setting_checks(aws, store.where, (OLD,), tls=False)
    assert found.outcome == "fail" and told in found.found and "hunter2" not in repr(found)


# -- AppConfig -------------------------------------------------------------------------------------


@configuration
def test_the_way_back_while_the_deployment_bakes_is_to_stop_it(aws: Aws, store: Any) -> None:
    switch(aws, store)
    versions, seen = store.versions(), []
    calls.watch(calls.Watch(seen.append))
    switch(aws, store, NEW, OLD)
    calls.watch(None)
    assert [call.operation for call in seen if call.write] == ["StopDeployment"]
    assert store.versions() == versions
    switch(aws, store)  # and forward again
    assert is_at(read_setting(aws, store.where), NEW)


@configuration
def test_the_way_back_after_the_bake_time_is_a_deployment_of_its_own(aws: Aws, store: Any) -> None:
    there = store.everything()
    store.write(NEW)  # deployed without bake time
    switch(aws, store, NEW, OLD)
    assert store.everything() == there


@configuration
def test_a_deployment_of_somebody_else_that_bakes_is_waited_for_before_anything_is_written(aws: Aws, store: Any) -> None:
    store.deploy(store.version(store.text(OLD).replace("token", "renewed")), appconfig.STRATEGY)
    there, versions = store.everything(), store.versions()
    found = check(aws, store, "no deployment is under way")
    assert found.outcome == "fail" and "is BAKING" in found.found and "bake time" in found.remedy
    with pytest.raises(RunbookError, match="is BAKING: nothing was changed"):
        switch(aws, store)
    assert (store.everything(), store.versions()) == (there, versions)


@configuration
def test_a_way_back_never_takes_somebody_elses_changes_back_with_it(aws: Aws, store: Any) -> None:
    store.write(NEW)
    store.deploy(store.version(store.text(OLD).replace("token", "renewed")), appconfig.STRATEGY)
    there = store.everything()
    with pytest.raises(RunbookError, match="is BAKING: nothing was changed"):
        switch(aws, store, OLD, NEW)
    assert store.everything() == there


@configuration
def test_a_deployment_that_loses_the_race_leaves_no_version_behind(aws: Aws, store: Any, before_call: Callable) -> None:
    before = read_setting(aws, store.where)
    before_call(store, "StartDeployment", lambda: store.deploy(1, appconfig.STRATEGY))
    with pytest.raises(RunbookError, match="is BAKING: nothing was changed"):
        compare_and_set(aws, before, OLD, NEW)
    assert store.versions() == [1]


@configuration
def test_a_deployment_that_is_rolled_back_is_told_with_its_event_log(aws: Aws, store: Any, before_call: Callable) -> None:
    place = {"ApplicationId": store.application, "EnvironmentId": store.environment}
    there = store.everything()
    before_call(store, "GetDeployment", lambda: store.client().stop_deployment(**place, DeploymentNumber=2, AllowRevert=True) and None)
    with pytest.raises(WaitFailed, match="ended as 'ROLLED_BACK'.*Deployment started.*Rollback initiated by"):
        switch(aws, store)
    assert store.everything() == there
    switch(aws, store)
    assert is_at(read_setting(aws, store.where), NEW)


@configuration
def test_a_deployment_of_ours_that_is_not_served_in_time_is_stopped_and_not_begun_twice(aws: Aws, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appconfig, "DEPLOYED_WITHIN", 0.5)
    store.deploy(store.version(store.text(NEW)), "AppConfig.Linear50PercentEvery30Seconds")  # as a killed process left it
    with pytest.raises(WaitFailed, match="still 'DEPLOYING' after"):
        switch(aws, store)
    assert store.versions() == [2, 1]
    newest = store.client().list_deployments(ApplicationId=store.application, EnvironmentId=store.environment)["Items"][0]
    assert (newest["DeploymentNumber"], newest["State"]) == (2, "ROLLED_BACK")
    assert is_at(read_setting(aws, store.where), OLD)


@configuration
def test_what_counts_is_the_deployed_version_not_the_newest(aws: Aws, store: Any) -> None:
    store.version(store.text(THEIRS))
    assert is_at(read_setting(aws, store.where), OLD)
    found = check(aws, store, "newest version")
    assert found.outcome == "warn" and "version 1 is served, the newest is 2" in found.found
    switch(aws, store)
    assert store.versions() == [3, 2, 1]


@configuration
def test_the_newest_of_many_deployments_and_versions_is_found(aws: Aws, store: Any) -> None:
    for number in range(53):
        store.write(f"h{number}.example.com:1")
    assert read_setting(aws, store.where).value == "h52.example.com:1"
    switch(aws, store, "h52.example.com:1", NEW)
    assert is_at(read_setting(aws, store.where), NEW)


@configuration
def test_another_profiles_deployments_do_not_count(aws: Aws, store: Any) -> None:
    client = store.client()
    other = client.create_configuration_profile(ApplicationId=store.application, Name="other", LocationUri="hosted")["Id"]
    client.create_hosted_configuration_version(ApplicationId=store.application, ConfigurationProfileId=other, Content=b"x", ContentType="text/plain")
    client.start_deployment(ApplicationId=store.application, EnvironmentId=store.environment, ConfigurationProfileId=other, DeploymentStrategyId=store.at_once, ConfigurationVersion="1")
    switch(aws, store)
    assert is_at(read_setting(aws, store.where), NEW)


@configuration
def test_names_and_ids_mean_the_same_and_a_name_given_twice_is_refused(aws: Aws, store: Any) -> None:
    assert is_at(read_setting(aws, f"appconfig:{store.application}/{store.environment}/{store.profile}#cache"), OLD)
    store.client().create_environment(ApplicationId=store.application, Name="live")
    with pytest.raises(RunbookError, match="2 AppConfig environments are called 'live'"):
        read_setting(aws, f"appconfig:{store.application}/live/redis#cache")


@configuration
@pytest.mark.parametrize(("profile", "told"), [({"LocationUri": "ssm-parameter://x", "RetrievalRoleArn": "arn:aws:iam::123456789012:role/r"}, "is kept in ssm-parameter://x"), ({"LocationUri": "hosted", "Type": "AWS.AppConfig.FeatureFlags"}, "holds feature flags")])
def test_a_profile_that_cannot_be_switched_is_refused(aws: Aws, store: Any, profile: dict[str, str], told: str) -> None:
    store.client().create_configuration_profile(ApplicationId=store.application, Name="odd", **profile)
    (found,) = setting_checks(aws, f"appconfig:{store.name}/live/odd", (OLD,), tls=False)
    assert found.outcome == "fail" and told in found.found


@configuration
def test_alarms_that_could_take_the_switch_back_and_slow_clients_are_warned_of(aws: Aws, store: Any) -> None:
    alarm = "arn:aws:cloudwatch:ap-northeast-1:123456789012:alarm:errors"
    store.client().update_environment(ApplicationId=store.application, EnvironmentId=store.environment, Monitors=[{"AlarmArn": alarm}])
    found = check(aws, store, "no alarm")
    assert found.outcome == "warn" and found.found.startswith("errors in alarm")
    assert check(aws, store, "follows at once").outcome == "warn"


def test_a_botocore_that_does_not_know_the_lock_fails_the_check(aws: Aws) -> None:
    assert appconfig._lock(aws.client("appconfig")).outcome == "pass"
    old = SimpleNamespace(meta=SimpleNamespace(service_model=SimpleNamespace(operation_model=lambda name: SimpleNamespace(input_shape=SimpleNamespace(members={})))))
    found = appconfig._lock(old)
    assert found.outcome == "fail" and "LatestDeploymentNumber" in found.found and found.remedy


# -- Route 53 --------------------------------------------------------------------------------------


@record
def test_the_switch_waits_until_every_server_knows(aws: Aws, store: Any) -> None:
    seen: list[calls.Call] = []
    calls.watch(calls.Watch(seen.append))
    switch(aws, store)
    calls.watch(None)
    assert [call.operation for call in seen] == ["ListResourceRecordSets", "ChangeResourceRecordSets", "GetChange", "GetChange", "ListResourceRecordSets"]


@record
def test_an_address_is_switched_in_an_a_record_and_only_there(aws: Aws, store: Any) -> None:
    name = f"a.{store.name}.test"
    store.change("CREATE", {"Name": name, "Type": "A", "TTL": 5, "ResourceRecords": [{"Value": "127.0.0.2"}]})
    where = f"route53:{store.zone}/{name}"
    there = store.everything()
    compare_and_set(aws, read_setting(aws, where), "127.0.0.2:7000", "127.0.0.3:7000")
    assert is_at(read_setting(aws, where), "127.0.0.3:7000")
    with pytest.raises(RunbookError, match="of type A, which cannot hold new.example.com"):
        compare_and_set(aws, read_setting(aws, where), "127.0.0.3:7000", "new.example.com:7000")
    with pytest.raises(RunbookError, match=r"of type CNAME, which cannot hold 127\.0\.0\.3"):
        switch(aws, store, OLD, "127.0.0.3:6379")
    compare_and_set(aws, read_setting(aws, where), "127.0.0.3:7000", "127.0.0.2:7000")
    assert store.everything() == there


@record
def test_another_port_cannot_stand_behind_the_record(aws: Aws, store: Any) -> None:
    with pytest.raises(RunbookError, match="carries no port: the old endpoint has 6379, the new one 6380"):
        switch(aws, store, OLD, "new.example.com:6380")
    assert is_at(read_setting(aws, store.where), OLD)
    assert same_port(store.where, OLD, "new.example.com:6380").outcome == "fail"
    assert same_port(store.where, OLD, NEW).outcome == same_port(store.where, OLD, f"{UNKNOWN}:{UNKNOWN}").outcome == "pass"
    assert same_port("/p", OLD, "new.example.com:6380") is None


@record
def test_a_ttl_that_somebody_changed_meanwhile_stays(aws: Aws, store: Any) -> None:
    before = read_setting(aws, store.where)
    store.change("UPSERT", store.record(OLD, TTL=7))
    there = store.everything()
    with pytest.raises(RunbookError, match="holds 'old.example.com' again: somebody changed it"):
        compare_and_set(aws, before, OLD, NEW)
    assert store.everything() == there


@record
@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"SetIdentifier": "blue", "Weight": 10}, "SetIdentifier, Weight"),
        ({"SetIdentifier": "one", "Failover": "PRIMARY"}, "Failover, SetIdentifier"),
        ({"SetIdentifier": "r", "Region": "eu-west-1"}, "Region, SetIdentifier"),
        ({"HealthCheckId": "abc"}, "HealthCheckId"),
    ],
)
def test_a_record_with_a_routing_policy_is_refused(aws: Aws, store: Any, more: dict[str, Any], why: str) -> None:
    store.change("DELETE", store.record(OLD))
    store.change("CREATE", store.record(OLD, **more))
    (found,) = setting_checks(aws, store.where, (OLD,), tls=False)
    assert found.outcome == "fail" and f"is no simple record: it has {why}." in found.found


@record
def test_an_alias_and_several_addresses_are_refused(aws: Aws, store: Any) -> None:
    alias, several = (f"{kind}.{store.name}.test" for kind in ("alias", "several"))
    target = {"HostedZoneId": store.zone, "DNSName": "lb.example.com.", "EvaluateTargetHealth": False}
    store.change("CREATE", {"Name": alias, "Type": "A", "AliasTarget": target})
    store.change("CREATE", {"Name": several, "Type": "A", "TTL": 5, "ResourceRecords": [{"Value": "127.0.0.2"}, {"Value": "127.0.0.3"}]})
    with pytest.raises(RunbookError, match="it has AliasTarget"):
        read_setting(aws, f"route53:{store.zone}/{alias}")
    with pytest.raises(RunbookError, match="it has several values"):
        read_setting(aws, f"route53:{store.zone}/{several}")


@record
def test_a_long_ttl_is_warned_of_and_a_private_zone_is_told(aws: Aws, store: Any) -> None:
    assert check(aws, store, "follow the record").outcome == "pass"
    store.change("UPSERT", store.record(OLD, TTL=300))
    found = check(aws, store, "follow the record")
    assert found.outcome == "warn" and "300 s" in found.found and "wait 300 s" in found.remedy
    assert "public zone" in check(aws, store, "sees the record").found
    vpc = {"VPCRegion": "ap-northeast-1", "VPCId": "vpc-1"}
    store.zone = store.client().create_hosted_zone(Name=f"p.{store.name}.test", CallerReference=f"p{store.name}", VPC=vpc)["HostedZone"]["Id"].rpartition("/")[2]
    name = f"r.p.{store.name}.test"
    store.change("CREATE", {"Name": name, "Type": "CNAME", "TTL": 5, "ResourceRecords": [{"Value": "old.example.com"}]})
    store.where = f"route53:{store.zone}/{name}"
    assert "private zone, seen in vpc-1" in check(aws, store, "sees the record").found


@pytest.fixture
def tls_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """A TLS server on the loopback with ElastiCache's kind of certificate, which the default context trusts."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert(WILDCARD, "127.0.0.1").configure_cert(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(accepted, server_side=True) as secured:
                        secured.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def test_a_certificates_names_are_read_in_a_handshake(tls_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert certificate_names("127.0.0.1", tls_port) == (WILDCARD, "127.0.0.1")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        certificate_names("127.0.0.1", tls_port)


@record
def test_tls_clients_of_the_record_are_told_which_name_is_covered(aws: Aws, store: Any, tls_port: int) -> None:
    name = f"tls.{store.name}.test"
    store.change("CREATE", {"Name": name, "Type": "A", "TTL": 5, "ResourceRecords": [{"Value": "127.0.0.1"}]})
    checks = setting_checks(aws, f"route53:{store.zone}/{name}", (f"127.0.0.1:{tls_port}",), tls=True)
    found = checks[-1]
    assert found.outcome == "warn" and f"127.0.0.1 is covered, {name} is not" in found.found and WILDCARD in found.found
    assert certificate_check(f"route53:Z1/{WILDCARD.replace('*', 'sessions')}", f"127.0.0.1:{tls_port}", planned=False).outcome == "pass"


def test_a_group_that_cannot_be_reached_fails_the_check_and_only_warns_in_a_plan(tls_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for planned, expected in ((True, "warn"), (False, "fail")):
        found = certificate_check("route53:Z1/redis.test", f"127.0.0.1:{port}", planned=planned)
        assert found.outcome == expected and "shows no certificate" in found.found


@pytest.mark.parametrize(
    ("host", "covered"),
    [("sessions.abc123.ng.0001.apne1.cache.amazonaws.com", True), ("SESSIONS.abc123.ng.0001.apne1.cache.amazonaws.com.", True), ("127.0.0.1", True), ("a.b.abc123.ng.0001.apne1.cache.amazonaws.com", False), ("abc123.ng.0001.apne1.cache.amazonaws.com", False), ("redis.internal", False), ("127.0.0.2", False)],
)
def test_a_wildcard_covers_one_label(host: str, covered: bool) -> None:
    assert covers((WILDCARD, "127.0.0.1"), host) is covered


def test_how_long_a_change_may_take_is_told_for_each_store() -> None:
    assert [longest(where) for where in ("/p", "secretsmanager:s", "appconfig:a/e/p", "route53:Z1/r")] == [10.0, 10.0, 70.0, 130.0]
