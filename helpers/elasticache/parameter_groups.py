"""Parameter groups: what differs from the family's defaults, and custom groups with changed values."""

from __future__ import annotations

from helpers.aws import Aws
from helpers.aws.errors import is_not_found

NOTIFY = "notify-keyspace-events"
ALL_KEY_EVENTS = "AE"  # E: keyevent channels, A: all classes; https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/
WRITE_FENCE = ("min-replicas-to-write", "min-slaves-to-write")  # above the number of replicas the primary refuses every write
MORE_REPLICAS_THAN_ANY = "6"  # a shard has at most 5 replicas


def parameters_of(aws: Aws, group: str, source: str = "") -> dict[str, dict]:
    """The parameters of a group by name, as DescribeCacheParameters gives them; `source` user: the changed ones."""
    pages = aws.client("elasticache").get_paginator("describe_cache_parameters")
    asked = {"CacheParameterGroupName": group, **({"Source": source} if source else {})}
    return {one["ParameterName"]: one for page in pages.paginate(**asked) for one in page["Parameters"]}


def changed_parameters(aws: Aws, group: str) -> dict[str, str]:
    """The values of a custom group that differ from its family's defaults; empty for a `default.` group.

    A value set back to its default is no difference.
    """
    if group.startswith("default."):
        return {}
    family = family_of(aws, group)
    pages = aws.client("elasticache").get_paginator("describe_engine_default_parameters")
    defaults = {one["ParameterName"]: one.get("ParameterValue", "") for page in pages.paginate(CacheParameterGroupFamily=family) for one in page["EngineDefaults"]["Parameters"]}
    return {name: one["ParameterValue"] for name, one in parameters_of(aws, group, "user").items() if one.get("ParameterValue", "") != defaults.get(name, "")}


def family_of(aws: Aws, group: str) -> str:
    """The family of a parameter group."""
    return aws.client("elasticache").describe_cache_parameter_groups(CacheParameterGroupName=group)["CacheParameterGroups"][0]["CacheParameterGroupFamily"]


def fence_parameter(parameters: dict[str, dict]) -> str:
    """The modifiable parameter by which a primary can be made to refuse writes, or the empty string."""
    return next((name for name in WRITE_FENCE if parameters.get(name, {}).get("IsModifiable")), "")


def ensure_parameter_group(aws: Aws, name: str, family: str, values: dict[str, str], description: str) -> None:
    """Create the group if it is not there, and give it `values` where they differ."""
    client = aws.client("elasticache")
    try:
        client.describe_cache_parameter_groups(CacheParameterGroupName=name)
    except Exception as error:
        if not is_not_found(error):
            raise
        client.create_cache_parameter_group(CacheParameterGroupName=name, CacheParameterGroupFamily=family, Description=description)
    set_parameters(aws, name, values)


def set_parameters(aws: Aws, name: str, values: dict[str, str]) -> None:
    """Give parameters of a custom group these values, where they have others (at most 20 a call)."""
    now = parameters_of(aws, name)
    wanted = [{"ParameterName": key, "ParameterValue": value} for key, value in sorted(values.items()) if now.get(key, {}).get("ParameterValue") != value]
    for first in range(0, len(wanted), 20):
        aws.client("elasticache").modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=wanted[first : first + 20])


def delete_parameter_group(aws: Aws, name: str) -> None:
    """Delete a custom parameter group if it is there."""
    client = aws.client("elasticache")
    try:
        client.describe_cache_parameter_groups(CacheParameterGroupName=name)
    except Exception as error:
        if is_not_found(error):
            return
        raise
    client.delete_cache_parameter_group(CacheParameterGroupName=name)
