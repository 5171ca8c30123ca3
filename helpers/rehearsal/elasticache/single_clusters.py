"""Make a cache cluster that is in no replication group the primary of a new one; everything of its own stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
