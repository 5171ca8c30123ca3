"""The operations on replication groups: check the request as the service does, then set the work going."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache import authentication, catalogue, failover, shards, single_clusters, tiering
from helpers.rehearsal.elasticache.answers import not_offered, page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.endpoints import Serving
from helpers.rehearsal.elasticache.events import CLUSTER, GROUP
from helpers.rehearsal.elasticache.faults import OrderedFailure
from helpers.rehearsal.elasticache.groups import DEFAULTS, Change, Group
from helpers.rehearsal.elasticache.logins import Logins
from helpers.rehearsal.elasticache.nodes import Settings
from helpers.rehearsal.elasticache.parameter_groups import ParameterGroup, check_name
from helpers.rehearsal.elasticache.shards import Shard
from helpers.rehearsal.elasticache.snapshot_operations import take
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import HOST

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
    layout = _layout(service, parameters)
    count = 0 if layout else _node_count(parameters)
    settings, parameter_group = _wanted_settings(service, parameters, cluster_mode=bool(layout))
    options = {**DEFAULTS, **{key: value for key, value in parameters.items() if key in (*DEFAULTS, "Port")}}
    if layout:
        _check_cluster_failover(options, [len(shard.zones) - 1 for shard in layout])
        planned = [member for shard in layout for member in shard.member_ids(name)]
    else:
        _check_failover(options, count)
        planned = [f"{name}-{number:03d}" for number in range(1, count + 1)]
    _check_subnet_group(service, options["CacheSubnetGroupName"])
    tiering.check_new(parameters, settings)
    serving = _serving(parameters)
    who = authentication.of_new_group(service, parameters, settings.engine)
    seed = _seed(service, parameters, cluster_mode=bool(layout))
    with service.lock:
        if name in service.groups:
            raise Fault("ReplicationGroupAlreadyExistsFault", f"Replication group {name} already exists.")
        primary = service.endpoints.open(serving)
        # With cluster mode the one endpoint is the configuration endpoint.
        reader = (HOST, 0) if layout else service.endpoints.open(serving)
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
            planned=planned,
            shards=layout,
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
        if parameters.get("ClusterMode", group.mode) != group.mode:
            raise not_offered("Changing the cluster mode of a group")
        if parameters.get("TransitEncryptionEnabled", group.serving.tls) != group.serving.tls:
            raise not_offered("Turning encryption in transit on or off on a group that runs")
        who = authentication.wanted(service, group, parameters)
        change = _wanted_change(service, group, parameters)
        if change.settings is not None:
            authentication.check_engine(service, group.authentication, change.settings)
        if who is not None and not _OF_THE_NODES.isdisjoint(parameters):
            raise not_offered("Changing who may log in and the nodes in one request")
        options = {**group.options, **{key: value for key, value in parameters.items() if key in DEFAULTS}}
        if group.cluster_mode:
            _check_cluster_failover(options, [len(group.replicas_of(one)) for one in group.node_groups])
        else:
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
    """Add replicas: to the one node group, or with cluster mode to all shards or some."""
    with service.lock:
        group, counts = _replica_change(service, parameters)
        ids: list[str] = []
        zones: list[str] = []
        for shard, count in counts.items():
            more = count - len(group.replicas_of(shard))
            if more < 1 and ("NewReplicaCount" not in parameters or not group.cluster_mode):
                raise _wrong_count(group, shard, "more")
            names = (_member_id(group, shard, number) for number in itertools.count(1))
            ids += itertools.islice((name for name in names if name not in group.member_ids), max(more, 0))
            zones += _replica_zones(service, group, shard, count, more, parameters)
        if not ids:
            raise _wrong_count(group, group.node_groups[0], "more")
        _set_status(group, "modifying")
        _background(service, group, lambda: service.work_of(group).add_replicas(group, ids, zones), "adding replicas")
        return {"ReplicationGroup": _describe(service, group)}


def decrease_replica_count(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Take replicas away: those named, or those with the highest numbers."""
    with service.lock:
        group, counts = _replica_change(service, parameters)
        named = parameters.get("ReplicasToRemove") or []
        if unknown := set(named) - {node.cluster_id for node in group.replicas}:
            raise Fault(InvalidValue, f"Not a replica of {group.id}: {', '.join(sorted(unknown))}.")
        ids: list[str] = []
        for shard, count in counts.items():
            present = [node.cluster_id for node in group.replicas_of(shard)]
            gone = [name for name in named if name in present] or present[count:]
            fewer = len(present) - count
            if fewer != len(gone) or (not gone and ("NewReplicaCount" not in parameters or not group.cluster_mode)):
                raise _wrong_count(group, shard, "less")
            ids += gone
        if not ids:
            raise _wrong_count(group, group.node_groups[0], "less")
        left = {shard: counts.get(shard, len(group.replicas_of(shard))) for shard in group.node_groups}
        if group.cluster_mode:
            _check_cluster_failover(group.options, list(left.values()))
        else:
            _check_failover(group.options, sum(left.values()) + 1)
        _set_status(group, "modifying")
        _background(service, group, lambda: service.work_of(group).remove_replicas(group, ids), "removing replicas")
        return {"ReplicationGroup": _describe(service, group)}


def modify_replication_group_shard_configuration(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse to change the number of shards."""
    service.group(parameters["ReplicationGroupId"])
    raise not_offered("Resharding (more or fewer shards, or other slots)")


def test_failover(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Let the primary of a node group fail."""
    with service.lock:
        group = _available(service, parameters["ReplicationGroupId"])
        node_group = parameters["NodeGroupId"].zfill(4)
        failover.check_test(service, group, node_group)
        _set_status(group, "modifying")
        failover.test(service, group, node_group)
        return {"ReplicationGroup": _describe(service, group)}


def delete_replication_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a group, after a final snapshot when one is asked for; or all of it but its primary."""
    final, retain = parameters.get("FinalSnapshotIdentifier"), parameters.get("RetainPrimaryCluster", False)
    with service.lock:
        group = service.group(parameters["ReplicationGroupId"])
        if retain:
            single_clusters.check_release(group)
        if final and retain:
            raise not_offered("A final snapshot of a group whose primary is retained")
        if group.status not in ("available", "create-failed"):
            raise _wrong_state(group)
        if final and group.status != "available":
            raise Fault(InvalidCombination, f"{group.id} is {group.status}: there is nothing to snapshot.")
        snapshot = None
        if final:
            name = service.snapshots.check_new(check_name(final, "FinalSnapshotIdentifier", 255))
            snapshot = service.snapshots.begin(name, group, group.savers, by_cluster=False)
        _set_status(group, "deleting")
        shown = _describe(service, group)
    service.in_background(lambda: single_clusters.release(service, group) if retain else _delete(service, group, snapshot))
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
    if {parameters.get("NetworkType", "ipv4"), parameters.get("IpDiscovery", "ipv4")} != {"ipv4"}:
        raise not_offered("IPv6")
    if parameters.get("LogDeliveryConfigurations"):
        raise not_offered("Log delivery")


def _layout(service: Service, parameters: dict[str, Any]) -> tuple[Shard, ...]:
    """Return the shards of a new group; none for one with cluster mode disabled."""
    with service.lock:
        named = parameters.get("CacheParameterGroupName")
        by_group = service.parameter_groups.get(named).cluster_enabled if named else None
        backup = parameters.get("SnapshotName")
        remembered = service.snapshots.ready(backup).shards if backup else []
    if shards.is_asked_for(parameters, by_parameter_group=by_group, by_snapshot=bool(remembered)):
        return shards.plan(parameters, service.region, remembered)
    if parameters.get("NodeGroupConfiguration"):
        raise not_offered("NodeGroupConfiguration without cluster mode")
    return ()


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


def _check_cluster_failover(options: dict[str, Any], replicas: list[int]) -> None:
    """Raise the service's error for cluster mode without failover, or zones for a shard without a replica."""
    if not options["AutomaticFailoverEnabled"]:
        raise Fault(InvalidCombination, "Cluster mode needs automatic failover to be enabled.")
    if options["MultiAZEnabled"] and 0 in replicas:
        raise Fault(InvalidCombination, "Multi-AZ needs at least one replica in each shard.")


def _check_subnet_group(service: Service, name: str) -> None:
    if name.lower() != "default" and name.lower() not in service.subnet_groups:
        raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {name} does not exist.")


def _note_failover(service: Service, group: Group, options: dict[str, Any]) -> None:
    for name, said in (("AutomaticFailoverEnabled", "Automatic failover"), ("MultiAZEnabled", "Multi-AZ")):
        if options[name] != group.options[name]:
            word = "on" if options[name] else "off"
            service.events.add(GROUP, group.id, f"{said} has been turned {word} for replication group {group.id}")


def _wanted_settings(
    service: Service, parameters: dict[str, Any], *, cluster_mode: bool = False
) -> tuple[Settings, ParameterGroup]:
    """Return what the nodes of a new group run with."""
    engine = catalogue.resolve(parameters.get("Engine", DEFAULT_ENGINE), parameters.get("EngineVersion"))
    node_type = catalogue.check_node_type(parameters.get("CacheNodeType", DEFAULT_NODE_TYPE))
    with service.lock:
        default = service.parameter_groups.default_of(engine.family, cluster_mode=cluster_mode).name
        name = parameters.get("CacheParameterGroupName", default)
        group = _parameter_group(service, name, engine, cluster_mode=cluster_mode)
    return Settings(engine, node_type, dict(group.values)), group


def _parameter_group(service: Service, name: str, engine: Engine, *, cluster_mode: bool) -> ParameterGroup:
    """Return a parameter group that fits an engine, or raise the service's error."""
    group = service.parameter_groups.get(name)
    if group.family != engine.family:
        raise Fault(
            InvalidCombination,
            f"Expected a parameter group of family {engine.family} but found one of family {group.family}",
        )
    if group.cluster_enabled != cluster_mode:
        raise Fault(
            InvalidCombination,
            f"Parameter group {group.name} is for groups with cluster mode {_enabled(group.cluster_enabled)}, "
            f"not {_enabled(cluster_mode)}.",
        )
    return group


def _enabled(on: bool) -> str:
    return "enabled" if on else "disabled"


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
    mode = group.cluster_mode
    if asked is not None:
        return _parameter_group(service, asked, engine, cluster_mode=mode)
    present = service.parameter_groups.get(group.pending.parameter_group or group.parameter_group)
    if present.family != engine.family and present.is_default:
        return service.parameter_groups.default_of(engine.family, cluster_mode=mode)
    # A custom group does not follow by itself: the request must name one of the new family.
    return _parameter_group(service, present.name, engine, cluster_mode=mode)


def _replica_change(service: Service, parameters: dict[str, Any]) -> tuple[Group, dict[str, int]]:
    """Return the group and the replicas asked for, by node group."""
    group = _available(service, parameters["ReplicationGroupId"])
    if not parameters["ApplyImmediately"]:
        raise Fault(InvalidValue, "ApplyImmediately must be true: AWS carries out replica changes at once only.")
    count, gone = parameters.get("NewReplicaCount"), parameters.get("ReplicasToRemove")
    if configured := parameters.get("ReplicaConfiguration"):
        if not group.cluster_mode or count is not None or gone:
            raise Fault(InvalidCombination, "ReplicaConfiguration is for cluster mode, and instead of other counts.")
        counts = {one["NodeGroupId"].zfill(4): one["NewReplicaCount"] for one in configured}
    elif count is not None:
        counts = dict.fromkeys(group.node_groups, count)
    else:
        present = {shard: {node.cluster_id for node in group.replicas_of(shard)} for shard in group.node_groups}
        counts = {shard: len(ids) - len(ids & set(gone or [])) for shard, ids in present.items() if ids & set(gone or [])}
    if unknown := set(counts) - set(group.node_groups):
        raise Fault("NodeGroupNotFoundFault", f"Node group {min(unknown)} is not one of {group.id}.")
    if not counts or not all(0 <= number < MOST_NODES for number in counts.values()):
        raise Fault(InvalidValue, f"NewReplicaCount must be between 0 and {MOST_NODES - 1}.")
    return group, counts


def _wrong_count(group: Group, shard: str, word: str) -> Fault:
    present = len(group.replicas_of(shard))
    return Fault(InvalidValue, f"NewReplicaCount must be {word} than the present {present} replicas.")


def _member_id(group: Group, shard: str, number: int) -> str:
    return shards.member_id(group.id, shard, number) if group.cluster_mode else f"{group.id}-{number:03d}"


def _replica_zones(
    service: Service, group: Group, shard: str, count: int, more: int, parameters: dict[str, Any]
) -> list[str]:
    """Return the zones of the replicas to add to a node group."""
    for one in parameters.get("ReplicaConfiguration") or []:
        if one["NodeGroupId"].zfill(4) == shard and (named := one.get("PreferredAvailabilityZones")):
            return _zones(service, named, count + 1)[-more:]
    if group.cluster_mode:
        return shards.zones_after(service.region, more, [node.zone for node in group.nodes_of(shard)])
    return _zones(service, None, count + 1)[-more:]


def _seed(
    service: Service, parameters: dict[str, Any], *, cluster_mode: bool = False
) -> list[Callable[[Path], None]]:
    """Return how to fetch the RDB files that a new group starts from; raises what the service refuses."""
    arns, name = parameters.get("SnapshotArns") or [], parameters.get("SnapshotName")
    if arns and name:
        raise Fault(InvalidCombination, "Give either SnapshotArns or SnapshotName, not both.")
    if len(arns) > 1 and not cluster_mode:
        raise Fault(InvalidCombination, "Several files are the shards of a cluster: they need cluster mode enabled.")
    if arns:
        if cluster_mode and not all(one.get("Slots") for one in parameters.get("NodeGroupConfiguration") or [{}]):
            # Source: AWS, CreateReplicationGroup (NodeGroupConfiguration).
            raise Fault(InvalidCombination, "Seeding a cluster from S3 needs NodeGroupConfiguration with each shard's Slots.")
        places = [service.storage.check_import(arn) for arn in arns]
        return [functools.partial(service.storage.download, bucket, key) for bucket, key in places]
    if name:
        with service.lock:
            snapshot = service.snapshots.ready(name)
            tiering.check_restore(snapshot, parameters.get("CacheNodeType", DEFAULT_NODE_TYPE))
        return [functools.partial(_copy, source) for source in snapshot.files]
    return []


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _create(service: Service, group: Group, seed: list[Callable[[Path], None]]) -> None:
    files = [service.nodes.directory / f"{group.id}.seed-{number}.rdb" for number in range(len(seed))]
    try:
        with group.work:
            service.nodes.directory.mkdir(parents=True, exist_ok=True)
            for fetch, file in zip(seed, files, strict=True):
                fetch(file)
            service.work_of(group).create(group, files)
    except Exception as error:  # noqa: BLE001  whatever went wrong is the group's outcome
        _create_failed(service, group, error, seeded=bool(seed))
        return
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    for node in group.nodes:
        service.events.add(CLUSTER, node.cluster_id, f"Added cache node 0001 in availability zone {node.zone}")
        service.events.add(CLUSTER, node.cluster_id, "Cache cluster created")
    if seed:
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

    _background(service, group, lambda: service.work_of(group).replace_nodes(group, wanted), "modifying the nodes", undo)


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
        service.work_of(group).delete(group)
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
    "ModifyReplicationGroupShardConfiguration": modify_replication_group_shard_configuration,
    "TestFailover": test_failover,
    "DeleteReplicationGroup": delete_replication_group,
    "ListAllowedNodeTypeModifications": list_allowed_node_type_modifications,
}
