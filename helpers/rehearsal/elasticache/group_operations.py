"""The operations on replication groups: check the request as the service does, then set the work going."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache import authentication, catalogue, single_clusters, tiering
from helpers.rehearsal.elasticache.answers import not_offered, page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.endpoints import Serving
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.faults import OrderedFailure
from helpers.rehearsal.elasticache.groups import DEFAULTS, Change, Group
from helpers.rehearsal.elasticache.logins import Logins
from helpers.rehearsal.elasticache.nodes import Settings
from helpers.rehearsal.elasticache.parameter_groups import ParameterGroup, check_name
from helpers.rehearsal.elasticache.snapshot_operations import take
from helpers.rehearsal.engines import Engine

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

# Source: AWS, CreateReplicationGroup (ReplicationGroupId, ReplicasPerNodeGroup: 0 to 5).
LONGEST_ID = 40
MOST_NODES = 6
LAST_PORT = 65535
DEFAULT_NODE_TYPE = "cache.t3.micro"
DEFAULT_ENGINE = "redis"

# What the local cloud has not got yet, and would otherwise have to pretend.
_REFUSED_WHEN_SET = (
    "KmsKeyId",
    "GlobalReplicationGroupId",
    "NodeGroupConfiguration",
    "NodeGroupId",
    "ServerlessCacheSnapshotName",
    "CacheSecurityGroupNames",
    "Durability",
)
# What a modification changes by replacing or configuring nodes.
_OF_THE_NODES = {"Engine", "EngineVersion", "CacheNodeType", "CacheParameterGroupName"}

InvalidValue = "InvalidParameterValueException"
InvalidCombination = "InvalidParameterCombinationException"


def create_replication_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Start a new group, empty or from a backup."""
    _refuse_not_offered(parameters)
    name = check_name(parameters["ReplicationGroupId"], "ReplicationGroupId", LONGEST_ID)
    if "PrimaryClusterId" in parameters:
        return _create_around(service, parameters, name)
    count = _node_count(parameters)
    settings, parameter_group = _wanted_settings(service, parameters)
    options = {**DEFAULTS, **{key: value for key, value in parameters.items() if key in (*DEFAULTS, "Port")}}
    _check_failover(options, count)
    _check_subnet_group(service, options["CacheSubnetGroupName"])
    tiering.check_new(parameters, settings)
    serving = _serving(parameters)
    who = authentication.of_new_group(service, parameters, settings.engine)
    seed = _seed(service, parameters)
    with service.lock:
        if name in service.groups:
            raise Fault("ReplicationGroupAlreadyExistsFault", f"Replication group {name} already exists.")
        primary, reader = service.endpoints.open(serving), service.endpoints.open(serving)
        group = Group(
            id=name,
            description=parameters["ReplicationGroupDescription"],
            settings=replace(settings, logins=Logins(authentication.logins_of(service, who))),
            parameter_group=parameter_group.name,
            options=options,
            zones=_zones(service, parameters.get("PreferredCacheClusterAZs"), count),
            primary_port=primary[1],
            reader_port=reader[1],
            primary_host=primary[0],
            reader_host=reader[0],
            serving=serving,
            authentication=who,
            # Source: AWS, CreateReplicationGroup: "Default: true when using Valkey, false when using Redis OSS".
            at_rest=parameters.get("AtRestEncryptionEnabled", settings.engine.name == "valkey"),
            planned=[f"{name}-{number:03d}" for number in range(1, count + 1)],
        )
        service.groups[name] = group
        service.tags[service.arn("replicationgroup", name)] = _tags(parameters)
        shown = _describe(service, group)
        ordered = service.faults.take(seeded=bool(seed))
    if ordered is not None:
        service.in_background(lambda: _create_failed(service, group, ordered, seeded=ordered.seeded))
    else:
        service.in_background(lambda: _create(service, group, seed))
    return {"ReplicationGroup": shown}


def _create_around(service: Service, parameters: dict[str, Any], name: str) -> dict[str, Any]:
    """Start a group of a cache cluster that exists."""
    _check_failover({**DEFAULTS, **parameters}, 1)
    with service.lock:
        if name in service.groups:
            raise Fault("ReplicationGroupAlreadyExistsFault", f"Replication group {name} already exists.")
        group = single_clusters.group_around(service, parameters, name)
        service.groups[name] = group
        service.tags[service.arn("replicationgroup", name)] = _tags(parameters)
        shown = _describe(service, group)
    service.in_background(lambda: single_clusters.finish(service, group))
    return {"ReplicationGroup": shown}


def describe_replication_groups(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show one group or all."""
    with service.lock:
        if wanted := parameters.get("ReplicationGroupId"):
            groups = [service.group(wanted)]
        else:
            groups = [service.groups[name] for name in sorted(service.groups)]
        return page("ReplicationGroups", [_describe(service, group) for group in groups], parameters)


def describe_cache_clusters(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the members of all groups and the clusters outside them, or one of them."""
    wanted = parameters.get("CacheClusterId", "").lower()
    alone = parameters.get("ShowCacheClustersNotInReplicationGroups", False)
    with service.lock:
        groups = service.clusters.values() if alone else service.all_groups()
        shown = [
            cluster
            for group in sorted(groups, key=lambda group: group.id)
            for cluster in group.describe_clusters(
                lambda cluster_id: service.arn("cluster", cluster_id),
                with_nodes=parameters.get("ShowCacheNodeInfo", False),
            )
            if wanted in ("", cluster["CacheClusterId"])
        ]
    if wanted and not shown:
        raise Fault("CacheClusterNotFoundFault", f"CacheCluster not found: {wanted}")
    return page("CacheClusters", shown, parameters)


def modify_replication_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Change settings at once, and nodes now or in the maintenance window."""
    with service.lock:
        group = _available(service, parameters["ReplicationGroupId"])
        _refuse_not_offered(parameters)
        if parameters.get("TransitEncryptionEnabled", group.serving.tls) != group.serving.tls:
            raise not_offered("Turning encryption in transit on or off on a group that runs")
        who = authentication.wanted(service, group, parameters)
        change = _wanted_change(service, group, parameters)
        if change.settings is not None:
            authentication.check_engine(service, group.authentication, change.settings)
        if who is not None and not _OF_THE_NODES.isdisjoint(parameters):
            raise not_offered("Changing who may log in and the nodes in one request")
        options = {**group.options, **{key: value for key, value in parameters.items() if key in DEFAULTS}}
        _check_failover(options, len(group.nodes))
        _note_failover(service, group, options)
        group.options = options
        group.description = parameters.get("ReplicationGroupDescription", group.description)
        if who is not None:
            # At once, whatever ApplyImmediately says: AWS's own examples leave it out.
            group.authentication = replace(group.authentication, pending=authentication.pending(parameters))
            _set_status(group, "modifying")
            work = functools.partial(authentication.apply, service, group, who)
            _background(service, group, work, "changing the authentication")
        elif parameters.get("ApplyImmediately", False):
            _begin(service, group, change)
        else:
            group.pending = change
            if change.parameter_group is not None and change.settings is None:
                group.parameter_status = "pending-reboot"
        return {"ReplicationGroup": _describe(service, group)}


def increase_replica_count(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add replicas."""
    with service.lock:
        group, count = _replica_change(service, parameters)
        more = count - len(group.replicas)
        if more < 1:
            raise Fault(
                InvalidValue, f"NewReplicaCount must be more than the present {len(group.replicas)} replicas."
            )
        names = (f"{group.id}-{number:03d}" for number in itertools.count(1))
        ids = list(itertools.islice((name for name in names if name not in group.member_ids), more))
        zones = _zones(service, None, count + 1)[-more:]
        _set_status(group, "modifying")
        _background(service, group, lambda: service.work.add_replicas(group, ids, zones), "adding replicas")
        return {"ReplicationGroup": _describe(service, group)}


def decrease_replica_count(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take replicas away: those named, or those with the highest numbers."""
    with service.lock:
        group, count = _replica_change(service, parameters)
        fewer = len(group.replicas) - count
        ids = parameters.get("ReplicasToRemove") or [node.cluster_id for node in group.replicas][-fewer:]
        if fewer < 1 or len(ids) != fewer:
            raise Fault(
                InvalidValue, f"NewReplicaCount must be less than the present {len(group.replicas)} replicas."
            )
        if unknown := set(ids) - {node.cluster_id for node in group.replicas}:
            raise Fault(InvalidValue, f"Not a replica of {group.id}: {', '.join(sorted(unknown))}.")
        _check_failover(group.options, count + 1)
        _set_status(group, "modifying")
        _background(service, group, lambda: service.work.remove_replicas(group, ids), "removing replicas")
        return {"ReplicationGroup": _describe(service, group)}


def delete_replication_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a group, after a final snapshot when one is asked for."""
    final = parameters.get("FinalSnapshotIdentifier")
    with service.lock:
        group = service.group(parameters["ReplicationGroupId"])
        if parameters.get("RetainPrimaryCluster", False):
            raise not_offered("RetainPrimaryCluster")
        if group.status not in ("available", "create-failed"):
            raise _wrong_state(group)
        if final and group.status != "available":
            raise Fault(InvalidCombination, f"{group.id} is {group.status}: there is nothing to snapshot.")
        snapshot = None
        if final:
            name = service.snapshots.check_new(check_name(final, "FinalSnapshotIdentifier", 255))
            node = (group.replicas or [group.primary])[0]
            snapshot = service.snapshots.begin(name, group, node, by_cluster=False)
        _set_status(group, "deleting")
        shown = _describe(service, group)
    service.in_background(lambda: _delete(service, group, snapshot))
    return {"ReplicationGroup": shown}


def list_allowed_node_type_modifications(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the node types that a group can be scaled to."""
    with service.lock:
        if wanted := parameters.get("ReplicationGroupId"):
            group = service.group(wanted)
        elif wanted := parameters.get("CacheClusterId"):
            group = service.group_of_cluster(wanted)
        else:
            raise Fault(InvalidCombination, "Give either CacheClusterId or ReplicationGroupId.")
        up, down = catalogue.node_type_changes(group.settings.node_type)
    return {"ScaleUpModifications": up, "ScaleDownModifications": down}


def parameter_group_changed(service: Service, changed: ParameterGroup) -> None:
    """Bring every group that uses a parameter group to its new values. The lock is held."""
    for group in service.all_groups():
        if group.parameter_group != changed.name or not group.nodes:
            continue
        group.parameter_status = "applying"
        settings = replace(group.settings, values=dict(changed.values))
        service.in_background(lambda group=group, settings=settings: _apply(service, group, settings))  # type: ignore[misc]


def _available(service: Service, name: str) -> Group:
    group = service.group(name)
    if group.status != "available":
        raise _wrong_state(group)
    return group


def _wrong_state(group: Group) -> Fault:
    return Fault(
        "InvalidReplicationGroupStateFault",
        f"Replication group {group.id} is not in a valid state for this: its state is {group.status}.",
    )


def _describe(service: Service, group: Group) -> dict[str, Any]:
    return group.describe(service.arn("replicationgroup", group.id))


def _set_status(group: Group, status: str) -> None:
    group.status = group.member_status = status


def _tags(parameters: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in parameters.get("Tags", [])}


def _refuse_not_offered(parameters: dict[str, Any]) -> None:
    for name in _REFUSED_WHEN_SET:
        if name in parameters:
            raise not_offered(name)
    if "TransitEncryptionMode" in parameters and not parameters.get("TransitEncryptionEnabled"):
        raise Fault(InvalidCombination, "TransitEncryptionMode needs TransitEncryptionEnabled to be true.")
    if parameters.get("TransitEncryptionMode", "required") != "required":
        raise not_offered("TransitEncryptionMode preferred (one endpoint with and without TLS at once)")
    if parameters.get("NumNodeGroups", 1) > 1 or parameters.get("ClusterMode", "disabled") != "disabled":
        raise not_offered("Cluster mode (several node groups)")
    if {parameters.get("NetworkType", "ipv4"), parameters.get("IpDiscovery", "ipv4")} != {"ipv4"}:
        raise not_offered("IPv6")
    if parameters.get("LogDeliveryConfigurations"):
        raise not_offered("Log delivery")


def _node_count(parameters: dict[str, Any]) -> int:
    if "NumCacheClusters" in parameters and "ReplicasPerNodeGroup" in parameters:
        raise Fault(InvalidCombination, "Give either NumCacheClusters or ReplicasPerNodeGroup, not both.")
    count = parameters.get("NumCacheClusters", parameters.get("ReplicasPerNodeGroup", 0) + 1)
    if not 1 <= count <= MOST_NODES:
        raise Fault(InvalidValue, f"A replication group has 1 to {MOST_NODES} nodes, not {count}.")
    return int(count)


def _serving(parameters: dict[str, Any]) -> Serving:
    """Return how a new group is served, or raise what the service refuses."""
    port, tls = parameters.get("Port"), bool(parameters.get("TransitEncryptionEnabled"))
    if port is not None and not 1 <= port <= LAST_PORT:
        raise Fault(InvalidValue, f"Port must be between 1 and {LAST_PORT}, not {port}.")
    return Serving(tls, port, nodes=tls or port is not None)


def _zones(service: Service, wanted: list[str] | None, count: int) -> list[str]:
    if wanted:
        if len(wanted) != count:
            raise Fault(InvalidCombination, f"PreferredCacheClusterAZs names {len(wanted)} zones for {count} nodes.")
        if foreign := [zone for zone in wanted if not zone.startswith(service.region)]:
            raise Fault(InvalidValue, f"Availability zone {foreign[0]} is not in {service.region}.")
        return list(wanted)
    zones = itertools.cycle(f"{service.region}{letter}" for letter in "acd")
    return list(itertools.islice(zones, count))


def _check_failover(options: dict[str, Any], count: int) -> None:
    """Raise the service's error for failover without a replica, or zones without failover."""
    if options["AutomaticFailoverEnabled"] and count < 2:
        raise Fault(InvalidCombination, "Automatic failover needs a replication group with at least one replica.")
    if options["MultiAZEnabled"] and not options["AutomaticFailoverEnabled"]:
        raise Fault(InvalidCombination, "Multi-AZ needs automatic failover to be enabled.")


def _check_subnet_group(service: Service, name: str) -> None:
    if name.lower() != "default" and name.lower() not in service.subnet_groups:
        raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {name} does not exist.")


def _note_failover(service: Service, group: Group, options: dict[str, Any]) -> None:
    for name, said in (("AutomaticFailoverEnabled", "Automatic failover"), ("MultiAZEnabled", "Multi-AZ")):
        if options[name] != group.options[name]:
            word = "on" if options[name] else "off"
            service.events.add(GROUP, group.id, f"{said} has been turned {word} for replication group {group.id}")


def _wanted_settings(service: Service, parameters: dict[str, Any]) -> tuple[Settings, ParameterGroup]:
    """Return what the nodes of a new group run with."""
    engine = catalogue.resolve(parameters.get("Engine", DEFAULT_ENGINE), parameters.get("EngineVersion"))
    node_type = catalogue.check_node_type(parameters.get("CacheNodeType", DEFAULT_NODE_TYPE))
    name = parameters.get("CacheParameterGroupName", f"default.{engine.family}")
    with service.lock:
        group = _parameter_group(service, name, engine)
    return Settings(engine, node_type, dict(group.values)), group


def _parameter_group(service: Service, name: str, engine: Engine) -> ParameterGroup:
    """Return a parameter group that fits an engine, or raise the service's error."""
    group = service.parameter_groups.get(name)
    if group.family != engine.family:
        raise Fault(
            InvalidCombination,
            f"Expected a parameter group of family {engine.family} but found one of family {group.family}",
        )
    if group.cluster_enabled:
        raise not_offered(f"Cluster mode (parameter group {group.name})")
    return group


def _wanted_change(service: Service, group: Group, parameters: dict[str, Any]) -> Change:
    """Return the change to the nodes that a request asks for, with what was pending before."""
    current = group.settings
    base = group.pending.settings or current
    engine = base.engine
    if "Engine" in parameters or "EngineVersion" in parameters:
        name = parameters.get("Engine", engine.name)
        version = parameters.get("EngineVersion", engine.version if name == engine.name else None)
        engine = catalogue.resolve(name, version)
        catalogue.check_forward(current.engine, engine)
    node_type = catalogue.check_node_type(parameters.get("CacheNodeType", base.node_type))
    chosen = _chosen_parameter_group(service, group, engine, parameters.get("CacheParameterGroupName"))
    settings = Settings(engine, node_type, dict(chosen.values), current.logins)
    tiering.check_change(current, settings)
    return Change(
        settings if (engine, node_type) != (current.engine, current.node_type) else None,
        chosen.name if chosen.name != group.parameter_group else None,
    )


def _chosen_parameter_group(service: Service, group: Group, engine: Engine, asked: str | None) -> ParameterGroup:
    if asked is not None:
        return _parameter_group(service, asked, engine)
    present = service.parameter_groups.get(group.pending.parameter_group or group.parameter_group)
    if present.family != engine.family and present.is_default:
        return service.parameter_groups.default_of(engine.family)
    # A custom group does not follow by itself: the request must name one of the new family.
    return _parameter_group(service, present.name, engine)


def _replica_change(service: Service, parameters: dict[str, Any]) -> tuple[Group, int]:
    group = _available(service, parameters["ReplicationGroupId"])
    if not parameters["ApplyImmediately"]:
        raise Fault(InvalidValue, "ApplyImmediately must be true: AWS carries out replica changes at once only.")
    if parameters.get("ReplicaConfiguration"):
        raise not_offered("ReplicaConfiguration (for cluster mode)")
    count = parameters.get("NewReplicaCount")
    if count is None and (gone := parameters.get("ReplicasToRemove")):
        count = len(group.replicas) - len(gone)
    if count is None or not 0 <= count < MOST_NODES:
        raise Fault(InvalidValue, f"NewReplicaCount must be between 0 and {MOST_NODES - 1}.")
    return group, int(count)


def _seed(service: Service, parameters: dict[str, Any]) -> Callable[[Path], None] | None:
    """Return how to fetch the RDB file that a new group starts from; raises what the service refuses."""
    arns, name = parameters.get("SnapshotArns") or [], parameters.get("SnapshotName")
    if arns and name:
        raise Fault(InvalidCombination, "Give either SnapshotArns or SnapshotName, not both.")
    if len(arns) > 1:
        raise not_offered("Seeding from several files (cluster mode)")
    if arns:
        bucket, key = service.storage.check_import(arns[0])
        return lambda file: service.storage.download(bucket, key, file)
    if name:
        with service.lock:
            snapshot = service.snapshots.ready(name)
            tiering.check_restore(snapshot, parameters.get("CacheNodeType", DEFAULT_NODE_TYPE))
            source = snapshot.file
        return lambda file: _copy(source, file)
    return None


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _create(service: Service, group: Group, seed: Callable[[Path], None] | None) -> None:
    file = service.nodes.directory / f"{group.id}.seed.rdb"
    try:
        with group.work:
            if seed is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                seed(file)
            service.work.create(group, file if seed else None)
    except Exception as error:  # noqa: BLE001  whatever went wrong is the group's outcome
        _create_failed(service, group, error, seeded=seed is not None)
        return
    finally:
        file.unlink(missing_ok=True)
    for node in group.nodes:
        service.events.add(CLUSTER, node.cluster_id, f"Added cache node 0001 in availability zone {node.zone}")
        service.events.add(CLUSTER, node.cluster_id, "Cache cluster created")
    if seed is not None:
        service.events.add(group.source_type, group.id, f"Restore succeeded for {group.title}")
    if not group.alone:
        service.events.add(GROUP, group.id, f"Replication group {group.id} created")
    with service.lock:
        _set_status(group, "available")


def _create_failed(service: Service, group: Group, error: Exception, *, seeded: bool) -> None:
    what = "Restore from the backup failed" if seeded else "Creation failed"
    for name in group.planned:
        service.events.add(CLUSTER, name, f"{what} for cache cluster {name}: {error}")
    if not group.alone:
        service.events.add(GROUP, group.id, f"{what} for replication group {group.id}: {error}")
    with service.lock:
        group.status = "create-failed"
        group.member_status = "restore-failed" if seeded else "create-failed"
        if isinstance(error, OrderedFailure):
            group.member_status = error.member_status


def _begin(service: Service, group: Group, change: Change) -> None:
    """Start a change of the nodes. The lock is held."""
    group.pending = Change()
    if change == Change():
        return
    parameter_group = service.parameter_groups.get(change.parameter_group or group.parameter_group)
    before = group.parameter_group
    group.parameter_group = parameter_group.name
    _set_status(group, "modifying")
    if change.settings is None:
        group.parameter_status = "applying"
        settings = replace(group.settings, values=dict(parameter_group.values))
        _background(service, group, lambda: service.work.configure(group, settings), "changing parameters")
        return
    wanted = change.settings
    if wanted.engine != group.settings.engine:
        service.events.add(
            group.source_type, group.id, f"Engine upgrade of {group.title} to {wanted.engine} has started"
        )

    def undo() -> None:
        group.parameter_group = before

    _background(service, group, lambda: service.work.replace_nodes(group, wanted), "modifying the nodes", undo)


def _background(
    service: Service, group: Group, work: Callable[[], None], what: str, undo: Callable[[], None] | None = None
) -> None:
    """Do work on a group in a thread; then the group is available again, and an event says how it went."""

    def run() -> None:
        try:
            with group.work:
                work()
            message = f"Finished {what} of {group.title}"
        except Exception as error:  # noqa: BLE001  whatever went wrong is told by an event
            message = f"Failed {what} of {group.title}: {error}"
            if undo is not None:
                undo()
        service.events.add(group.source_type, group.id, message)
        with service.lock:
            _set_status(group, "available")

    service.in_background(run)


def _apply(service: Service, group: Group, settings: Settings) -> None:
    """Bring a group to changed values of the parameter group that it uses."""
    try:
        with group.work:
            with service.lock:
                if not any(group is known for known in service.all_groups()):
                    return
            service.work.configure(group, settings)
        message = f"Updated parameter group {group.parameter_group} applied to {group.title}"
    except Exception as error:  # noqa: BLE001
        message = f"Could not apply parameter group {group.parameter_group} to {group.id}: {error}"
    service.events.add(group.source_type, group.id, message)


def _delete(service: Service, group: Group, snapshot: Any) -> None:
    with group.work:
        if snapshot is not None and not take(service, group, snapshot):
            # The final snapshot is the last copy: without it nothing is deleted.
            with service.lock:
                _set_status(group, "available")
            return
        service.work.delete(group)
    for name in group.member_ids:
        service.events.add(CLUSTER, name, "Cache cluster deleted")
    if not group.alone:
        service.events.add(GROUP, group.id, f"Replication group {group.id} deleted")
    with service.lock:
        (service.clusters if group.alone else service.groups).pop(group.id, None)
        service.tags.pop(service.arn("cluster" if group.alone else "replicationgroup", group.id), None)


OPERATIONS = {
    "CreateReplicationGroup": create_replication_group,
    "DescribeReplicationGroups": describe_replication_groups,
    "DescribeCacheClusters": describe_cache_clusters,
    "ModifyReplicationGroup": modify_replication_group,
    "IncreaseReplicaCount": increase_replica_count,
    "DecreaseReplicaCount": decrease_replica_count,
    "DeleteReplicationGroup": delete_replication_group,
    "ListAllowedNodeTypeModifications": list_allowed_node_type_modifications,
}
