"""Keep the parameter groups: the default ones, which nobody can modify, and the user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from helpers.rehearsal.elasticache import catalogue, parameters
from helpers.rehearsal.elasticache.api import Fault

# Source: AWS, ModifyCacheParameterGroup: "a maximum of 20 parameters may be modified in a single request".
MOST_CHANGES = 20


@dataclass
class ParameterGroup:
    """One parameter group: `values` are the parameters that its owner set."""

    name: str
    family: str
    description: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        """Return whether AWS owns the group."""
        return self.name.startswith("default.")

    @property
    def cluster_enabled(self) -> bool:
        """Return whether the group is for cluster mode."""
        return self.values.get("cluster-enabled") == "yes"

    def describe(self, arn: str) -> dict[str, Any]:
        """Return the group as the service shows it."""
        return {
            "CacheParameterGroupName": self.name,
            "CacheParameterGroupFamily": self.family,
            "Description": self.description,
            "IsGlobal": False,
            "ARN": arn,
        }

    def parameters(self, source: str | None) -> list[dict[str, Any]]:
        """Return the parameters from one source ("user", "system", None: all) as the service shows them."""
        shown = []
        for name, parameter in parameters.of_family(self.family).items():
            own = "user" if name in self.values and not self.is_default else "system"
            if source in (None, own):
                shown.append(parameter.describe(self.values.get(name), own))
        return shown

    def change(self, changes: dict[str, str]) -> dict[str, str]:
        """Return the values that the group would have after some changes; raises for one it does not take."""
        if not 1 <= len(changes) <= MOST_CHANGES:
            raise Fault("InvalidParameterValueException", f"Give between 1 and {MOST_CHANGES} parameters.")
        known = parameters.of_family(self.family)
        for name, value in changes.items():
            if name not in known:
                raise Fault("InvalidParameterValueException", f"The parameter {name} is not in family {self.family}.")
            known[name].check(value)
        return {**self.values, **changes}


class ParameterGroups:
    """All parameter groups of the account, by name."""

    def __init__(self) -> None:
        self._groups: dict[str, ParameterGroup] = {}
        for family in catalogue.families():
            self._add_default(f"default.{family}", family)
            self._add_default(f"default.{family}.cluster.on", family)

    def all(self) -> list[ParameterGroup]:
        """Return the groups in alphabetical order."""
        return [self._groups[name] for name in sorted(self._groups)]

    def get(self, name: str) -> ParameterGroup:
        """Return a group, or raise the service's error."""
        if name.lower() not in self._groups:
            raise Fault("CacheParameterGroupNotFoundFault", f"CacheParameterGroup not found: {name}")
        return self._groups[name.lower()]

    def own(self, name: str) -> ParameterGroup:
        """Return a group that may be changed, or raise the service's error."""
        group = self.get(name)
        if group.is_default:
            raise Fault(
                "InvalidCacheParameterGroupStateFault",
                f"Default CacheParameterGroup {group.name} cannot be modified or deleted.",
            )
        return group

    def create(self, name: str, family: str, description: str) -> ParameterGroup:
        """Make a group, or raise the service's error for its name or family."""
        check_name(name, "CacheParameterGroupName", 255)
        if name.lower().startswith("default."):
            raise Fault("InvalidParameterValueException", "CacheParameterGroupName must not begin with 'default.'.")
        if family not in catalogue.families():
            raise Fault(
                "InvalidParameterValueException", f"CacheParameterGroupFamily {family} is not a valid family."
            )
        if name.lower() in self._groups:
            raise Fault("CacheParameterGroupAlreadyExistsFault", f"CacheParameterGroup {name} already exists.")
        group = ParameterGroup(name.lower(), family, description)
        self._groups[group.name] = group
        return group

    def delete(self, name: str) -> None:
        """Forget a group; whether somebody uses it is the caller's to know."""
        del self._groups[self.own(name).name]

    def default_of(self, family: str, *, cluster_mode: bool = False) -> ParameterGroup:
        """Return the default group of a family."""
        return self.get(f"default.{family}.cluster.on" if cluster_mode else f"default.{family}")

    def _add_default(self, name: str, family: str) -> None:
        on = name.endswith(".cluster.on")
        kind = " with cluster mode on" if on else ""
        values = {"cluster-enabled": "yes"} if on else {}
        self._groups[name] = ParameterGroup(name, family, f"Default parameter group for {family}{kind}", values)


def check_name(name: str, field_name: str, longest: int) -> str:
    """Return a name in lower case, as the service keeps it, or raise its error.

    Source: AWS, CreateReplicationGroup (ReplicationGroupId): letters, digits and hyphens; first a
    letter; no hyphen at the end, no two in a row. Parameter groups may also have dots.
    """
    allowed = "[A-Za-z0-9.-]" if field_name == "CacheParameterGroupName" else "[A-Za-z0-9-]"
    good = re.fullmatch(f"[A-Za-z]{allowed}*", name) and "--" not in name and not name.endswith("-")
    if not good or not 1 <= len(name) <= longest:
        raise Fault(
            "InvalidParameterValueException",
            f"The parameter {field_name} is not a valid identifier: {name!r}. Identifiers must begin with a letter; "
            "must contain only ASCII letters, digits, and hyphens; and must not end with a hyphen or contain two "
            f"consecutive hyphens; 1 to {longest} characters.",
        )
    return name.lower()
