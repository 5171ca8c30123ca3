"""Notice nodes that fail and do what ElastiCache does: promote a replica, put a new node in the place, tell of it.

Sources: AWS, "Mitigating failures" and "Testing automatic failover" (the events' words and order).
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.groups import Group
from helpers.rehearsal.elasticache.nodes import NODE_ID, Node

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

LOOK_S = 0.1
RETRY_S = 5.0
# Source: AWS, TestFailover: "on up to 15 shards in any rolling 24-hour period".
MOST_TESTS = 15
TEST_WINDOW = timedelta(hours=24)


def watch(service: Service) -> None:
    """Recover groups whose nodes have failed, until the service closes."""
    while not service.closing.wait(LOOK_S):
        with service.lock:
            # Whoever works on a group is told of a failure by its own error, before we are.
            hurt = [group for group in service.all_groups() if group.status == "available" and group.failed]
            for group in hurt:
                group.status = group.member_status = "modifying"
        for group in hurt:
            service.in_background(functools.partial(_recovered, service, group))


def check_test(service: Service, group: Group, node_group: str) -> None:
    """Raise the service's error where it would not test the failover of a node group."""
    if node_group not in group.node_groups:
        raise Fault("NodeGroupNotFoundFault", f"Node group {node_group} is not one of {group.id}.")
    if not group.options["AutomaticFailoverEnabled"]:
        raise Fault("TestFailoverNotAvailableFault", f"Automatic failover is not enabled for {group.id}.")
    if not group.replicas_of(node_group):
        raise Fault("TestFailoverNotAvailableFault", f"Node group {node_group} of {group.id} has no replica to fail over to.")
    since = datetime.now(UTC) - TEST_WINDOW
    service.failover_tests = [moment for moment in service.failover_tests if moment > since]
    if len(service.failover_tests) >= MOST_TESTS:
        raise Fault(
            "APICallRateForCustomerExceededFault",
            f"Failover was tested on {MOST_TESTS} node groups in the last 24 hours, and no more can be.",
        )


def test(service: Service, group: Group, node_group: str) -> None:
    """Fail the primary of a node group, which is to be checked and the group's status set before."""
    service.failover_tests.append(datetime.now(UTC))
    service.events.add(GROUP, group.id, f"Test Failover API called for node group {node_group}")

    def work() -> None:
        with group.work:
            group.primary_of(node_group).server.kill()
        _recovered(service, group)

    service.in_background(work)


def fail(service: Service, cluster_id: str) -> int:
    """Kill the process of a node, as a failing machine does, and return its id; raises Fault for no such node."""
    with service.lock:
        node = service.group_of_cluster(cluster_id).node(cluster_id.lower())
    node.server.kill()
    return node.server.pid


def _recovered(service: Service, group: Group) -> None:
    """Bring a group's failed nodes back, whatever that takes; then it is available."""
    try:
        with group.work:
            while failed := group.failed:
                _recover(service, group, failed)
    except Exception as error:  # noqa: BLE001  whatever went wrong is told by an event, and tried again
        service.events.add(group.source_type, group.id, f"Recovery of {group.title} failed: {error}")
        service.closing.wait(RETRY_S)
    with service.lock:
        group.status = group.member_status = "available"


def _recover(service: Service, group: Group, failed: list[Node]) -> None:
    work = service.work_of(group)
    lost = [node for node in failed if node.is_primary and not _running_replicas(group, node)]
    for node in failed:
        replicas = _running_replicas(group, node)
        if node.is_primary and replicas and group.options["AutomaticFailoverEnabled"]:
            replica = max(replicas, key=Node.offset)
            work.promote(group, node, replica)
            done = f"Failover from primary node {node.cluster_id} to replica node {replica.cluster_id} completed"
            service.events.add(CLUSTER, replica.cluster_id, done)
            service.events.add(GROUP, group.id, done)
    work.lead_away(group)
    for node in failed:
        service.events.add(CLUSTER, node.cluster_id, f"Recovering cache nodes {NODE_ID}")
    work.replace(group, failed)
    for node in failed:
        service.events.add(CLUSTER, node.cluster_id, f"Finished recovery for cache nodes {NODE_ID}")
    for node in lost:
        said = f"The primary {node.cluster_id} failed without a replica: its data is lost, and its new node is empty"
        service.events.add(CLUSTER, node.cluster_id, said)
        if not group.alone:
            service.events.add(GROUP, group.id, said)


def _running_replicas(group: Group, node: Node) -> list[Node]:
    return [one for one in group.replicas_of(node.shard) if one is not node and one.server.alive]
