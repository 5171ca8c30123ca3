"""A plan: no write leaves the process, whoever makes it, and later reads see what was planned."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from helpers.aws import UNKNOWN, calls
from helpers.aws.planned import PlannedWorld
from helpers.elasticache import planned as _rules  # noqa: F401 - what planned writes bring about


@pytest.fixture
def nowhere() -> Iterator[dict[str, object]]:
    """Client settings for an endpoint where nobody listens: whatever is sent fails."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
        yield {"endpoint_url": f"http://127.0.0.1:{port}", "config": Config(retries={"total_max_attempts": 1}), **keys}


@pytest.fixture
def planned() -> Iterator[list[calls.Call]]:
    """The calls made while a plan is made."""
    seen: list[calls.Call] = []
    calls.watch(calls.Watch(seen.append, plan=PlannedWorld()))
    yield seen
    calls.watch(None)


def test_a_write_is_listed_and_not_sent(nowhere: dict, planned: list[calls.Call]) -> None:
    boto3.client("ssm", **nowhere).put_parameter(Name="/a", Value="v", Type="String")
    assert [(call.identity, call.write, call.sent) for call in planned] == [(("ssm", "PutParameter", "/a"), True, False)]


def test_a_client_made_before_the_plan_is_held_back_too(nowhere: dict) -> None:
    client, seen = boto3.client("sns", **nowhere), []
    with pytest.raises(EndpointConnectionError):
        client.publish(TopicArn="arn:aws:sns:eu-west-1:123456789012:t", Message="m")
    calls.watch(calls.Watch(seen.append, plan=PlannedWorld()))
    client.publish(TopicArn="arn:aws:sns:eu-west-1:123456789012:t", Message="m")
    calls.watch(None)
    assert [call.sent for call in seen] == [False]


def test_a_call_that_only_looks_is_no_write_and_in_a_plan_is_held_back_all_the_same(nowhere: dict) -> None:
    client, seen = boto3.client("sqs", **nowhere), []
    for plan in (None, PlannedWorld()):
        calls.watch(calls.Watch(seen.append, plan=plan))
        with calls.peeking(), contextlib.suppress(EndpointConnectionError):
            client.receive_message(QueueUrl=f"{client.meta.endpoint_url}/1/q")
    with contextlib.suppress(EndpointConnectionError):
        client.receive_message(QueueUrl=f"{client.meta.endpoint_url}/1/q")
    calls.watch(None)
    assert [(call.write, call.sent) for call in seen] == [(False, True), (True, False), (True, False)]


def test_resources_transfers_and_unknown_operations_are_held_back(nowhere: dict, planned: list[calls.Call], tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    boto3.resource("s3", **nowhere).Bucket("b").put_object(Key="k", Body=b"x")
    boto3.client("s3", **nowhere).upload_file(str(tmp_path / "file"), "b", "k2")
    boto3.client("lambda", **nowhere).invoke(FunctionName="f")
    boto3.client("elasticache", **nowhere).test_failover(ReplicationGroupId="g", NodeGroupId="0001")
    boto3.client("ecr", **nowhere).start_lifecycle_policy_preview(repositoryName="repo")
    assert len(planned) == 5
    assert all(call.write and not call.sent for call in planned)


def test_reads_are_sent(nowhere: dict, planned: list[calls.Call]) -> None:
    with pytest.raises(EndpointConnectionError):
        boto3.client("ssm", **nowhere).get_parameter(Name="/other")
    assert [(call.write, call.sent, call.error_code) for call in planned] == [(False, True, "EndpointConnectionError")]


def test_a_write_with_wrong_parameters_is_refused_as_boto3_would(nowhere: dict, planned: list[calls.Call]) -> None:
    with pytest.raises(ParamValidationError):
        boto3.client("ssm", **nowhere).put_parameter(Name=1, Value="v")
    assert planned == []


def test_a_planned_create_is_seen_by_later_reads_with_unknown_values(nowhere: dict, planned: list[calls.Call]) -> None:
    client = boto3.client("elasticache", **nowhere)
    made = client.create_snapshot(SnapshotName="s", ReplicationGroupId="g")
    seen = client.describe_snapshots(SnapshotName="s")["Snapshots"]
    assert made["Snapshot"]["SnapshotName"] == "s"
    assert seen[0]["SnapshotStatus"] == "available"
    assert seen[0]["ARN"] == UNKNOWN


def test_a_planned_group_has_members_that_follow_its_upgrade(nowhere: dict, planned: list[calls.Call]) -> None:
    client = boto3.client("elasticache", **nowhere)
    client.create_replication_group(ReplicationGroupId="g", ReplicationGroupDescription="d", Engine="redis", EngineVersion="6.2", NumCacheClusters=2)
    client.modify_replication_group(ReplicationGroupId="g", Engine="valkey", EngineVersion="8.1")
    members = client.describe_replication_groups(ReplicationGroupId="g")["ReplicationGroups"][0]["MemberClusters"]
    versions = [client.describe_cache_clusters(CacheClusterId=one)["CacheClusters"][0]["EngineVersion"] for one in members]
    assert (members, versions) == (["g-001", "g-002"], ["8.1", "8.1"])


def test_a_planned_deletion_makes_reads_answer_not_found(nowhere: dict, planned: list[calls.Call]) -> None:
    client = boto3.client("elasticache", **nowhere)
    client.delete_replication_group(ReplicationGroupId="g")
    with pytest.raises(ClientError, match="ReplicationGroupNotFoundFault"):
        client.describe_replication_groups(ReplicationGroupId="g")


def test_a_planned_put_is_what_get_returns(nowhere: dict, planned: list[calls.Call]) -> None:
    client = boto3.client("ssm", **nowhere)
    client.put_parameter(Name="/a", Value="new", Type="String", Overwrite=True)
    assert client.get_parameter(Name="/a")["Parameter"]["Value"] == "new"


def test_secrets_are_not_listed(nowhere: dict, planned: list[calls.Call]) -> None:
    boto3.client("secretsmanager", **nowhere).put_secret_value(SecretId="s", SecretString="hunter2")
    boto3.client("ssm", **nowhere).put_parameter(Name="/p", Value="hunter2", Type="SecureString")
    assert "hunter2" not in str([call.parameters for call in planned])


@pytest.mark.parametrize(
    ("service", "operation", "write"),
    [
        ("elasticache", "DescribeReplicationGroups", False),
        ("elasticache", "TestFailover", True),
        ("ecr", "BatchCheckLayerAvailability", False),
        ("ecr", "BatchDeleteImage", True),
        ("ecr", "StartLifecyclePolicyPreview", True),
        ("sts", "AssumeRole", False),
        ("iam", "SimulatePrincipalPolicy", False),
        ("s3", "HeadObject", False),
        ("events", "TestEventPattern", False),
        ("sqs", "ReceiveMessage", True),
        ("madeup", "FrobnicateThing", True),
        ("license-manager", "CheckoutLicense", True),
        ("dynamodb", "BatchGetItem", False),
        ("dynamodb", "BatchWriteItem", True),
    ],
)
def test_the_unknown_counts_as_a_write(service: str, operation: str, write: bool) -> None:
    assert calls.is_write(service, operation) is write
