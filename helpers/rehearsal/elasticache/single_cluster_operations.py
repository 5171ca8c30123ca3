"""The operations on cache clusters that are in no replication group: one node with an endpoint of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache import catalogue, group_operations
from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.endpoints import Serving
from helpers.rehearsal.elasticache.groups import DEFAULTS, Group
from helpers.rehearsal.elasticache.parameter_groups import check_name

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

# Source: AWS, CreateCacheCluster (CacheClusterId).
LONGEST_ID = 50
# Source: AWS, CreateCacheCluster (Engine): "memcached | redis".
DEFAULT_ENGINE = "memcached"

_REFUSED_WHEN_SET = (
    "ReplicationGroupId",
    "CacheSecurityGroupNames",
    "OutpostMode",
    "PreferredOutpostArn",
    "PreferredOutpostArns",
    "LogDeliveryConfigurations",
)
_NEEDS_A_GROUP = ("AuthToken", "TransitEncryptionEnabled")

InvalidValue = "InvalidParameterValueException"
InvalidCombination = "InvalidParameterCombinationException"


def create_cache_cluster(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Start a cluster of one node, empty or from a backup."""
    name = check_name(parameters["CacheClusterId"], "CacheClusterId", LONGEST_ID)
    _check_offered(parameters)
    settings, parameter_group = group_operations._wanted_settings(service, parameters)
    if catalogue.tiered(settings.node_type):
        raise Fault(InvalidCombination, f"Node type {settings.node_type} (data tiering) needs a replication group.")
    options = {**DEFAULTS, **{key: value for key, value in parameters.items() if key in (*DEFAULTS, "Port")}}
    group_operations._check_subnet_group(service, options["CacheSubnetGroupName"])
    port = group_operations._serving(parameters).port
    wanted_zones = [parameters["PreferredAvailabilityZone"]] if "PreferredAvailabilityZone" in parameters else None
    zones = group_operations._zones(service, wanted_zones, 1)
    seed = group_operations._seed(service, parameters)
    with service.lock:
        if name in service.cluster_ids():
            raise Fault("CacheClusterAlreadyExistsFault", f"Cache cluster {name} already exists.")
        cluster = Group(
            id=name,
            description="",
            settings=settings,
            parameter_group=parameter_group.name,
            options=options,
            zones=zones,
            primary_port=0,
            reader_port=0,
            serving=Serving(port=port, nodes=True),
            planned=[name],
            alone=True,
        )
        service.clusters[name] = cluster
        service.tags[service.arn("cluster", name)] = group_operations._tags(parameters)
        shown = _describe(service, cluster)
    service.in_background(lambda: group_operations._create(service, cluster, seed))
    return {"CacheCluster": shown}


def modify_cache_cluster(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Change the settings of a cluster at once, and its node now or in the maintenance window."""
    with service.lock:
        cluster = _available(service, parameters["CacheClusterId"])
        if parameters.get("NumCacheNodes", 1) != 1:
            raise Fault(InvalidValue, "A cluster of this engine has exactly one cache node.")
        if parameters.get("Engine", cluster.settings.engine.name) != cluster.settings.engine.name:
            raise Fault(
                InvalidCombination,
                "The engine of a cluster outside a replication group cannot be changed: create a replication group "
                "with this PrimaryClusterId first.",
            )
        for name in (*_NEEDS_A_GROUP, "AuthTokenUpdateStrategy", "LogDeliveryConfigurations", "ScaleConfig"):
            if name in parameters:
                raise not_offered(f"{name} of a cluster outside a replication group")
        change = group_operations._wanted_change(service, cluster, parameters)
        cluster.options = {**cluster.options, **{key: value for key, value in parameters.items() if key in DEFAULTS}}
        if parameters.get("ApplyImmediately", False):
            group_operations._begin(service, cluster, change)
        else:
            cluster.pending = change
            if change.parameter_group is not None and change.settings is None:
                cluster.parameter_status = "pending-reboot"
        return {"CacheCluster": _describe(service, cluster)}


def delete_cache_cluster(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a cluster, after a final snapshot when one is asked for."""
    final = parameters.get("FinalSnapshotIdentifier")
    with service.lock:
        cluster = _alone(service, parameters["CacheClusterId"])
        if cluster.status not in (("available",) if final else ("available", "create-failed")):
            raise _wrong_state(cluster)
        snapshot = None
        if final:
            name = service.snapshots.check_new(check_name(final, "FinalSnapshotIdentifier", 255))
            snapshot = service.snapshots.begin(name, cluster, [cluster.primary], by_cluster=True)
        group_operations._set_status(cluster, "deleting")
        shown = _describe(service, cluster)
    service.in_background(lambda: group_operations._delete(service, cluster, snapshot))
    return {"CacheCluster": shown}


def _check_offered(parameters: dict[str, Any]) -> None:
    """Raise for what AWS refuses for one node alone, and for what the local cloud has not."""
    engine = parameters.get("Engine", DEFAULT_ENGINE)
    if engine == "valkey":
        raise Fault(
            InvalidValue,
            "This API doesn't support Valkey engine. "
            "Please use CreateReplicationGroup API for Valkey cluster creation.",
        )
    if engine == "memcached":
        raise not_offered("Memcached")
    if parameters.get("NumCacheNodes", 1) != 1:
        raise Fault(InvalidValue, f"NumCacheNodes must be 1 for engine {engine}.")
    for name in _REFUSED_WHEN_SET:
        if name in parameters:
            raise not_offered(name)
    for name in _NEEDS_A_GROUP:
        if parameters.get(name):
            raise Fault(InvalidCombination, f"{name} needs a replication group for engine {engine}.")
    if {parameters.get("NetworkType", "ipv4"), parameters.get("IpDiscovery", "ipv4")} != {"ipv4"}:
        raise not_offered("IPv6")


def _alone(service: Service, name: str) -> Group:
    """Return a cluster that is in no group, or raise the service's error."""
    owner = service.group_of_cluster(name)
    if not owner.alone:
        raise not_offered(f"Changing {name.lower()} by itself, a member of replication group {owner.id},")
    return owner


def _available(service: Service, name: str) -> Group:
    cluster = _alone(service, name)
    if cluster.status != "available":
        raise _wrong_state(cluster)
    return cluster


def _wrong_state(cluster: Group) -> Fault:
    return Fault("InvalidCacheClusterStateFault", f"Cache cluster {cluster.id} is {cluster.status}, not available.")


def _describe(service: Service, cluster: Group) -> dict[str, Any]:
    return cluster.describe_clusters(lambda name: service.arn("cluster", name), with_nodes=False)[0]


OPERATIONS = {
    "CreateCacheCluster": create_cache_cluster,
    "ModifyCacheCluster": modify_cache_cluster,
    "DeleteCacheCluster": delete_cache_cluster,
}
