"""Parameter groups: what differs from the family's defaults, and custom groups with changed values."""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.aws import Aws
from helpers.aws.errors import is_not_found

CLUSTER = "cluster-enabled"
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
    defaults = {name: one.get("ParameterValue", "") for name, one in defaults_of(aws, family_of(aws, group)).items()}
    return {name: one["ParameterValue"] for name, one in parameters_of(aws, group, "user").items() if one.get("ParameterValue", "") != defaults.get(name, "")}


def defaults_of(aws: Aws, family: str) -> dict[str, dict]:
    """The default parameters of a family by name, as DescribeEngineDefaultParameters gives them."""
    pages = aws.client("elasticache").get_paginator("describe_engine_default_parameters")
    return {one["ParameterName"]: one for page in pages.paginate(CacheParameterGroupFamily=family) for one in page["EngineDefaults"]["Parameters"]}


@dataclass(frozen=True)
class Carried:
    """Changed parameters on their way to another family: the values it takes, those it does not (with why), those that need a restart."""

    values: dict[str, str]
    left: dict[str, str]
    static: tuple[str, ...]


def carried(changed: dict[str, str], defaults: dict[str, dict]) -> Carried:
    """What becomes of `changed` values in a family with these `defaults`; a name of old (`slave-...`) takes its new one.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html
    """
    values, left, static = {}, {}, []
    for old_name, value in changed.items():
        name = old_name if old_name in defaults else old_name.replace("slave", "replica")
        known = defaults.get(name)
        if known is None:
            left[old_name] = "the new family does not know it"
        elif not known.get("IsModifiable", True):
            left[old_name] = "the new family does not let it be changed"
        elif not _allowed(value, known.get("AllowedValues", "")):
            left[old_name] = f"the new family allows {known['AllowedValues']}, not {value}"
        else:
            values[name] = value
            static += [name] if known.get("ChangeType") == "requires-reboot" else []
    return Carried(values, left, tuple(static))


def _allowed(value: str, allowed: str) -> bool:
    """True unless the value is outside a range (`0-100`) or a list (`yes,no`)."""
    bounds = re.fullmatch(r"(-?\d+)-(\d+)", allowed)
    if bounds and re.fullmatch(r"-?\d+", value):
        return int(bounds[1]) <= int(value) <= int(bounds[2])
    return value in allowed.split(",") if re.fullmatch(r"[\w-]+(,[\w-]+)+", allowed) else True


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


def set_parameters(aws: Aws, name: str, values: dict[str, str], *, always: bool = False) -> None:
    """Give parameters of a custom group these values, where they have others (at most 20 a call); `always`: without a look."""
    now = {} if always else parameters_of(aws, name)
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
