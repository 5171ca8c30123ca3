"""Make a cache cluster that is in no replication group the primary of a new one, and back; everything of its own stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.groups import DEFAULTS, Group

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

# What the group takes over from its primary cluster, and a request therefore cannot say.
TAKEN_OVER = (
    "NumCacheClusters",
    "NumNodeGroups",
    "NodeGroupConfiguration",
    "ClusterMode",
    "ReplicasPerNodeGroup",
    "PreferredCacheClusterAZs",
    "CacheNodeType",
    "Engine",
    "EngineVersion",
    "CacheParameterGroupName",
    "CacheSubnetGroupName",
    "SnapshotArns",
    "SnapshotName",
    "Port",
    "AuthToken",
    "UserGroupIds",
    "TransitEncryptionEnabled",
)


def group_around(service: Service, parameters: dict[str, Any], name: str) -> Group:
    """Return a new group with an existing cluster as its only node, or raise the service's error. The lock is held.

    Source: AWS, CreateReplicationGroup (PrimaryClusterId): "This cluster must already exist and have
    a status of available."
    """
    if said := [member for member in TAKEN_OVER if member in parameters]:
        raise Fault(
            "InvalidParameterCombinationException",
            f"{said[0]} cannot be specified together with PrimaryClusterId: the primary cluster decides it.",
        )
    wanted = parameters["PrimaryClusterId"].lower()
    owner = service.group_of_cluster(wanted)
    if not owner.alone:
        raise Fault("InvalidCacheClusterStateFault", f"Cache cluster {wanted} is in replication group {owner.id}.")
    if owner.status != "available":
        raise Fault("InvalidCacheClusterStateFault", f"Cache cluster {wanted} is {owner.status}, not available.")
    primary, reader = service.endpoints.open(owner.serving), service.endpoints.open(owner.serving)
    own = {key: value for key, value in parameters.items() if key in DEFAULTS}
    group = Group(
        id=name,
        description=parameters["ReplicationGroupDescription"],
        settings=owner.settings,
        parameter_group=owner.parameter_group,
        options={**owner.options, **own},
        zones=owner.zones,
        primary_port=primary[1],
        reader_port=reader[1],
        primary_host=primary[0],
        reader_host=reader[0],
        serving=owner.serving,
        fronts=owner.fronts,
        nodes=owner.nodes,
        parameter_status=owner.parameter_status,
        member_status="modifying",
        work=owner.work,
    )
    del service.clusters[owner.id]
    return group


def finish(service: Service, group: Group) -> None:
    """Lead the endpoints of such a group to its primary; then it is available."""
    with group.work:
        service.work.lead(group)
    service.events.add(CLUSTER, group.primary.cluster_id, f"Cache cluster is now in replication group {group.id}")
    service.events.add(GROUP, group.id, f"Replication group {group.id} created")
    with service.lock:
        group.status = group.member_status = "available"


def check_release(group: Group) -> None:
    """Raise for a group whose primary cannot go on as a cache cluster outside any group."""
    if group.cluster_mode or group.serving.tls:
        raise not_offered("RetainPrimaryCluster of a group with cluster mode enabled or encryption in transit")


def release(service: Service, group: Group) -> None:
    """Delete a group, its endpoints and its replicas; its primary stays, with its data, endpoint and connections.

    Source: AWS, DeleteReplicationGroup (RetainPrimaryCluster): "all of the read replicas are deleted, but
    the primary node is retained."
    """
    with group.work:
        service.work.remove_replicas(group, [node.cluster_id for node in group.replicas])
        primary = group.primary
        service.relay.close(group.primary_port, host=group.primary_host)
        service.relay.close(group.reader_port, host=group.reader_host)
    cluster = Group(
        id=primary.cluster_id,
        description="",
        settings=group.settings,
        parameter_group=group.parameter_group,
        options={**group.options, "AutomaticFailoverEnabled": False, "MultiAZEnabled": False},
        zones=[primary.zone],
        primary_port=0,
        reader_port=0,
        serving=group.serving,
        fronts=group.fronts,
        nodes=[primary],
        parameter_status=group.parameter_status,
        status="available",
        member_status="available",
        alone=True,
        work=group.work,
    )
    with service.lock:
        service.groups.pop(group.id, None)
        service.tags.pop(service.arn("replicationgroup", group.id), None)
        service.clusters[cluster.id] = cluster
    service.events.add(CLUSTER, cluster.id, f"Cache cluster is no longer in replication group {group.id}")
    service.events.add(GROUP, group.id, f"Replication group {group.id} deleted")
