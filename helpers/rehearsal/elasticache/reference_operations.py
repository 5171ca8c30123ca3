"""The operations around the groups: engine versions, events, subnet groups, tags, service updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from helpers.rehearsal.elasticache import catalogue
from helpers.rehearsal.elasticache.answers import page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import SUBNET_GROUP

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service

# Source: AWS, AddTagsToResource: at most 50 tags a resource.
MOST_TAGS = 50


def describe_cache_engine_versions(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the engine versions on offer."""
    engines = catalogue.offered()
    if parameters.get("DefaultOnly"):
        engines = list({engine.name: engine for engine in engines}.values())
    shown = [
        {
            "Engine": engine.name,
            "EngineVersion": engine.minor,
            "CacheParameterGroupFamily": engine.family,
            "CacheEngineDescription": engine.name.capitalize(),
            "CacheEngineVersionDescription": f"{engine.name} version {engine.version}",
        }
        for engine in engines
        if parameters.get("EngineVersion") in (None, engine.minor, engine.version)
    ]
    for member in ("Engine", "CacheParameterGroupFamily"):
        if wanted := parameters.get(member):
            shown = [version for version in shown if version[member] == wanted]
    return page("CacheEngineVersions", shown, parameters)


def describe_events(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show what happened lately."""
    found = service.events.find(
        parameters.get("SourceIdentifier"),
        parameters.get("SourceType"),
        parameters.get("StartTime"),
        parameters.get("EndTime"),
        parameters.get("Duration"),
    )
    return page("Events", found, parameters)


def describe_nothing(member: str) -> Any:
    """Return an operation that shows an empty list: there are no such things on the local cloud."""

    def operation(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
        return page(member, [], parameters)

    return operation


def create_cache_subnet_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make a subnet group of subnets that EC2 knows."""
    name = parameters["CacheSubnetGroupName"].lower()
    subnets = _subnets(service, SubnetIds=parameters["SubnetIds"])
    vpcs = {subnet["VpcId"] for subnet in subnets}
    if len(vpcs) != 1:
        raise Fault("InvalidSubnet", "The subnets of a subnet group must be in one VPC.")
    with service.lock:
        if name in service.subnet_groups or name == "default":
            raise Fault("CacheSubnetGroupAlreadyExistsFault", f"Cache subnet group {name} already exists.")
        group = _subnet_group(service, name, parameters["CacheSubnetGroupDescription"], subnets)
        service.subnet_groups[name] = group
        tags = {tag["Key"]: tag.get("Value", "") for tag in parameters.get("Tags", [])}
        service.tags[group["ARN"]] = tags
    service.events.add(SUBNET_GROUP, name, f"Created subnet group {name}")
    return {"CacheSubnetGroup": group}


def describe_cache_subnet_groups(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show one subnet group or all; "default" has the subnets of the default VPC."""
    default = _subnets(service, Filters=[{"Name": "default-for-az", "Values": ["true"]}])
    with service.lock:
        groups = dict(service.subnet_groups)
    if default:
        groups["default"] = _subnet_group(service, "default", "Default CacheSubnetGroup", default)
    if wanted := parameters.get("CacheSubnetGroupName"):
        if wanted.lower() not in groups:
            raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {wanted} does not exist.")
        groups = {wanted: groups[wanted.lower()]}
    return page("CacheSubnetGroups", [groups[name] for name in sorted(groups)], parameters)


def delete_cache_subnet_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a subnet group that no replication group is in."""
    name = parameters["CacheSubnetGroupName"].lower()
    with service.lock:
        if name not in service.subnet_groups:
            raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {name} does not exist.")
        if any(group.options["CacheSubnetGroupName"].lower() == name for group in service.all_groups()):
            raise Fault("CacheSubnetGroupInUse", f"Cache subnet group {name} is currently in use.")
        service.tags.pop(service.subnet_groups.pop(name)["ARN"], None)
    return {}


def add_tags_to_resource(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Add tags, or replace the values of those that exist."""
    with service.lock:
        tags = dict(_tags_of(service, parameters["ResourceName"]))
        tags |= {tag["Key"]: tag.get("Value", "") for tag in parameters["Tags"]}
        if len(tags) > MOST_TAGS:
            raise Fault("TagQuotaPerResourceExceeded", f"A resource has at most {MOST_TAGS} tags.")
        service.tags[parameters["ResourceName"]] = tags
        return _tag_list(tags)


def remove_tags_from_resource(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Remove tags by key."""
    with service.lock:
        tags = dict(_tags_of(service, parameters["ResourceName"]))
        for key in parameters["TagKeys"]:
            if key not in tags:
                raise Fault("TagNotFoundFault", f"Tag {key} not found.")
            del tags[key]
        service.tags[parameters["ResourceName"]] = tags
        return _tag_list(tags)


def list_tags_for_resource(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the tags of a resource."""
    with service.lock:
        return _tag_list(_tags_of(service, parameters["ResourceName"]))


def _tags_of(service: Service, arn: str) -> dict[str, str]:
    """Return the tags of a resource that exists, or raise the service's error for its kind."""
    prefix = service.arn("", "").removesuffix(":")
    kind, _, name = arn.removeprefix(prefix).partition(":")
    if not arn.startswith(prefix) or not name:
        raise Fault("InvalidARNFault", f"{arn} is not the ARN of a resource of this account and region.")
    clusters = service.cluster_ids()
    known = {
        "replicationgroup": (service.groups, "ReplicationGroupNotFoundFault"),
        "cluster": (clusters, "CacheClusterNotFoundFault"),
        "snapshot": ({snapshot.name for snapshot in service.snapshots.all()}, "SnapshotNotFoundFault"),
        "parametergroup": ({g.name for g in service.parameter_groups.all()}, "CacheParameterGroupNotFoundFault"),
        "user": (service.users.users, "UserNotFoundFault"),
        "usergroup": (service.users.groups, "UserGroupNotFoundFault"),
        "subnetgroup": (service.subnet_groups, "CacheSubnetGroupNotFoundFault"),
    }
    names, missing = known.get(kind, ((), "InvalidARNFault"))
    if name not in names:
        raise Fault(missing, f"{arn} does not exist.")
    return service.tags.get(arn, {})


def _tag_list(tags: dict[str, str]) -> dict[str, Any]:
    return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _subnets(service: Service, **query: Any) -> list[dict[str, Any]]:
    try:
        return list(service.storage.client("ec2").describe_subnets(**query)["Subnets"])
    except ClientError as error:
        raise Fault("InvalidSubnet", f"EC2 does not know these subnets: {error}") from error


def _subnet_group(service: Service, name: str, description: str, subnets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "CacheSubnetGroupName": name,
        "CacheSubnetGroupDescription": description,
        "VpcId": subnets[0]["VpcId"],
        "Subnets": [
            {
                "SubnetIdentifier": subnet["SubnetId"],
                "SubnetAvailabilityZone": {"Name": subnet["AvailabilityZone"]},
                "SupportedNetworkTypes": ["ipv4"],
            }
            for subnet in subnets
        ],
        "ARN": service.arn("subnetgroup", name),
        "SupportedNetworkTypes": ["ipv4"],
    }


OPERATIONS = {
    "DescribeCacheEngineVersions": describe_cache_engine_versions,
    "DescribeEvents": describe_events,
    "DescribeServiceUpdates": describe_nothing("ServiceUpdates"),
    "DescribeUpdateActions": describe_nothing("UpdateActions"),
    "DescribeReservedCacheNodes": describe_nothing("ReservedCacheNodes"),
    "DescribeServerlessCaches": describe_nothing("ServerlessCaches"),
    "DescribeGlobalReplicationGroups": describe_nothing("GlobalReplicationGroups"),
    "CreateCacheSubnetGroup": create_cache_subnet_group,
    "DescribeCacheSubnetGroups": describe_cache_subnet_groups,
    "DeleteCacheSubnetGroup": delete_cache_subnet_group,
    "AddTagsToResource": add_tags_to_resource,
    "RemoveTagsFromResource": remove_tags_from_resource,
    "ListTagsForResource": list_tags_for_resource,
}
