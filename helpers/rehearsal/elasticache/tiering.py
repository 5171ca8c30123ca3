"""Refuse what AWS refuses around data tiering (node types r6gd).

The local cloud keeps all values of such a group in memory, where AWS keeps those that are used
least on an SSD: what clients read and write is the same, how long it takes is not, and a group
holds no more than its memory. Source of the rules: AWS, "Data tiering in ElastiCache", limitations.
"""

from __future__ import annotations

from typing import Any

from helpers.rehearsal.elasticache import catalogue
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.elasticache.nodes import Settings
from helpers.rehearsal.elasticache.snapshots import Snapshot

POLICIES = ("volatile-lru", "allkeys-lru", "volatile-lfu", "allkeys-lfu", "noeviction")
DEFAULT_POLICY = "volatile-lru"

InvalidCombination = "InvalidParameterCombinationException"


def check_new(parameters: dict[str, Any], settings: Settings) -> None:
    """Raise the service's error for r6gd without DataTieringEnabled, and for DataTieringEnabled without r6gd."""
    tiered, asked = catalogue.tiered(settings.node_type), bool(parameters.get("DataTieringEnabled"))
    if tiered and not asked:
        raise Fault(InvalidCombination, f"DataTieringEnabled must be true with node type {settings.node_type}.")
    if asked and not tiered:
        raise Fault(InvalidCombination, f"Data tiering is not supported for node type {settings.node_type}: use r6gd.")
    if tiered:
        check_policy(settings)


def check_policy(settings: Settings) -> None:
    """Raise the service's error where nodes with data tiering would evict in a way that they cannot."""
    policy = settings.values.get("maxmemory-policy", DEFAULT_POLICY)
    if catalogue.tiered(settings.node_type) and policy not in POLICIES:
        raise Fault(InvalidCombination, f"Data tiering does not support the maxmemory-policy {policy}.")


def check_change(current: Settings, wanted: Settings) -> None:
    """Raise the service's error where nodes would be scaled into data tiering, or out of it."""
    if catalogue.tiered(current.node_type) != catalogue.tiered(wanted.node_type):
        raise Fault(
            InvalidCombination,
            f"Cannot scale from {current.node_type} to {wanted.node_type}: one has data tiering, the other has not.",
        )
    check_policy(wanted)


def check_restore(snapshot: Snapshot, node_type: str) -> None:
    """Raise the service's error where the backup of a group with data tiering would be restored to one without."""
    if is_tiered(snapshot) and not catalogue.tiered(node_type):
        raise Fault(
            InvalidCombination,
            f"Snapshot {snapshot.name} is of nodes with data tiering: it can be restored to r6gd only, "
            f"not to {node_type}.",
        )


def check_export(snapshot: Snapshot) -> None:
    """Raise the service's error where the backup of a group with data tiering would be exported."""
    if is_tiered(snapshot):
        raise Fault(
            InvalidCombination,
            f"Snapshot {snapshot.name} is of nodes with data tiering: it cannot be exported to Amazon S3.",
        )


def is_tiered(snapshot: Snapshot) -> bool:
    """Return whether a snapshot is of nodes with data tiering."""
    return snapshot.origin["DataTiering"] == "enabled"
