"""The operations on parameter groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.rehearsal.elasticache.answers import page
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.events import PARAMETER_GROUP
from helpers.rehearsal.elasticache.group_operations import parameter_group_changed
from helpers.rehearsal.elasticache.parameter_groups import ParameterGroup

if TYPE_CHECKING:
    from helpers.rehearsal.elasticache.service import Service


def create_cache_parameter_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make a parameter group, with the defaults of its family."""
    with service.lock:
        group = service.parameter_groups.create(
            parameters["CacheParameterGroupName"],
            parameters["CacheParameterGroupFamily"],
            parameters["Description"],
        )
        tags = {tag["Key"]: tag.get("Value", "") for tag in parameters.get("Tags", [])}
        service.tags[service.arn("parametergroup", group.name)] = tags
        return {"CacheParameterGroup": _describe(service, group)}


def modify_cache_parameter_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Set parameters, and apply them to the groups that use them."""
    changes = {
        change["ParameterName"]: change.get("ParameterValue", "") for change in parameters["ParameterNameValues"]
    }
    with service.lock:
        group = service.parameter_groups.own(parameters["CacheParameterGroupName"])
        return _set_values(service, group, group.change(changes))


def reset_cache_parameter_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Bring some parameters, or all, back to the defaults of the family."""
    with service.lock:
        group = service.parameter_groups.own(parameters["CacheParameterGroupName"])
        if parameters.get("ResetAllParameters"):
            kept = {}
        else:
            named = {change["ParameterName"] for change in parameters.get("ParameterNameValues") or []}
            if not named:
                raise Fault("InvalidParameterCombinationException", "Give ResetAllParameters or ParameterNameValues.")
            kept = {name: value for name, value in group.values.items() if name not in named}
        return _set_values(service, group, kept)


def delete_cache_parameter_group(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Delete a parameter group that no replication group uses."""
    with service.lock:
        group = service.parameter_groups.own(parameters["CacheParameterGroupName"])
        if users := _users(service, group):
            raise Fault(
                "InvalidCacheParameterGroupStateFault",
                f"One or more cache clusters are still members of the parameter group {group.name}: "
                f"{', '.join(users)}.",
            )
        service.parameter_groups.delete(group.name)
        service.tags.pop(service.arn("parametergroup", group.name), None)
    return {}


def describe_cache_parameter_groups(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show one parameter group or all."""
    with service.lock:
        if name := parameters.get("CacheParameterGroupName"):
            groups = [service.parameter_groups.get(name)]
        else:
            groups = service.parameter_groups.all()
        return page("CacheParameterGroups", [_describe(service, group) for group in groups], parameters)


def describe_cache_parameters(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the parameters of a group and where their values come from."""
    source = parameters.get("Source")
    if source not in (None, "user", "system", "engine-default"):
        raise Fault("InvalidParameterValueException", f"Source must be user, system or engine-default, not {source}.")
    with service.lock:
        shown = service.parameter_groups.get(parameters["CacheParameterGroupName"]).parameters(
            "system" if source == "engine-default" else source
        )
    return page("Parameters", shown, parameters)


def describe_engine_default_parameters(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Show the defaults of a family."""
    family = parameters["CacheParameterGroupFamily"]
    with service.lock:
        group = service.parameter_groups.default_of(_family(service, family))
    answer = page("Parameters", group.parameters(None), parameters)
    return {"EngineDefaults": {"CacheParameterGroupFamily": family, **answer}}


def _family(service: Service, family: str) -> str:
    if family not in {group.family for group in service.parameter_groups.all()}:
        raise Fault("InvalidParameterValueException", f"CacheParameterGroupFamily {family} is not a valid family.")
    return family


def _users(service: Service, group: ParameterGroup) -> list[str]:
    """Return the replication groups that use a parameter group, or will."""
    return [
        user.id
        for user in service.all_groups()
        if group.name in (user.parameter_group, user.pending.parameter_group)
    ]


def _describe(service: Service, group: ParameterGroup) -> dict[str, Any]:
    return group.describe(service.arn("parametergroup", group.name))


def _set_values(service: Service, group: ParameterGroup, values: dict[str, str]) -> dict[str, Any]:
    changed = {name for name in {*values, *group.values} if values.get(name) != group.values.get(name)}
    if "cluster-enabled" in changed and (users := _users(service, group)):
        raise Fault(
            "InvalidCacheParameterGroupStateFault",
            f"cluster-enabled of {group.name} cannot change while a group uses it: {', '.join(users)}.",
        )
    group.values = values
    if changed:
        service.events.add(
            PARAMETER_GROUP, group.name, f"Updated parameter group {group.name}: {', '.join(sorted(changed))}"
        )
        parameter_group_changed(service, group)
    return {"CacheParameterGroupName": group.name}


OPERATIONS = {
    "CreateCacheParameterGroup": create_cache_parameter_group,
    "ModifyCacheParameterGroup": modify_cache_parameter_group,
    "ResetCacheParameterGroup": reset_cache_parameter_group,
    "DeleteCacheParameterGroup": delete_cache_parameter_group,
    "DescribeCacheParameterGroups": describe_cache_parameter_groups,
    "DescribeCacheParameters": describe_cache_parameters,
    "DescribeEngineDefaultParameters": describe_engine_default_parameters,
}
