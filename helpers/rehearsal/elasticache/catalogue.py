"""What the service offers: node types with their memory, engine versions, parameter group families."""

from __future__ import annotations

from helpers.rehearsal import engines
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.engines import Engine

_LARGE_M = (6854542746, 13891921715, 27966669210, 56116178125)
_LARGE_R = (14037181030, 28261849702, 56711183565, 113609865216)
_SMALL_T = (536870912, 1471026299, 3317862236)


def _sizes(family: str, names: str, memories: tuple[int, ...]) -> dict[str, int]:
    return {f"cache.{family}.{name}": size for name, size in zip(names.split(), memories, strict=True)}


# maxmemory in bytes of each node type, smallest first within a family.
# Source: AWS, "Valkey and Redis OSS node-type specific parameters".
NODE_TYPES: dict[str, int] = {
    **_sizes("t3", "micro small medium", _SMALL_T),
    **_sizes("t4g", "micro small medium", _SMALL_T),
    **_sizes("m5", "large xlarge 2xlarge 4xlarge", _LARGE_M),
    **_sizes("m6g", "large xlarge 2xlarge 4xlarge", _LARGE_M),
    **_sizes("m7g", "large xlarge 2xlarge 4xlarge", _LARGE_M),
    **_sizes("r5", "large xlarge 2xlarge 4xlarge", _LARGE_R),
    **_sizes("r6g", "large xlarge 2xlarge 4xlarge", _LARGE_R),
    # The memory only: data tiering adds an SSD to it.
    **_sizes("r6gd", "xlarge 2xlarge 4xlarge", _LARGE_R[1:]),
    **_sizes("r7g", "large xlarge 2xlarge 4xlarge", _LARGE_R),
}

# Per cent kept for the engine's own needs where the parameter group does not say otherwise.
# Source: AWS, "Managing reserved memory for Valkey and Redis OSS".
RESERVED_PERCENT = 25
RESERVED_PERCENT_OF = {"micro": 50, "small": 30}


def check_node_type(node_type: str) -> str:
    """Return the node type, or raise the service's error for one that it does not have."""
    if node_type not in NODE_TYPES:
        raise Fault("InvalidParameterValueException", f"Invalid Cache Node Type: {node_type}.")
    return node_type


def maxmemory(node_type: str, reserved_percent: int | None) -> int:
    """Return the bytes a node gives to data: its memory less the reserved part (None: the default)."""
    default = RESERVED_PERCENT_OF.get(node_type.rsplit(".", 1)[1], RESERVED_PERCENT)
    percent = default if reserved_percent is None else reserved_percent
    return NODE_TYPES[node_type] * (100 - percent) // 100


def node_type_changes(node_type: str) -> tuple[list[str], list[str]]:
    """Return the node types that one can be scaled up and down to."""
    size = NODE_TYPES[node_type]
    others = {name: other for name, other in NODE_TYPES.items() if tiered(name) == tiered(node_type)}
    up = [name for name, other in others.items() if other > size]
    down = [name for name, other in others.items() if other < size]
    return up, down


def tiered(node_type: str) -> bool:
    """Return whether nodes of a type have data tiering, which all of the r6gd family have and no others."""
    return node_type.startswith("cache.r6gd.")


def offered() -> list[Engine]:
    """Return the engine versions on offer: the newest patch of each minor version installed here."""
    newest = {(engine.name, engine.minor): engine for engine in engines.available()}
    return list(newest.values())


def resolve(name: str, version: str | None) -> Engine:
    """Return the engine that a name and version ("6.2", "6.2.14", "6.x", None: the newest) mean.

    Raises the service's error for a version that it does not have.
    """
    if name not in ("redis", "valkey"):
        raise Fault("InvalidParameterValueException", f"Unrecognized engine name: {name}.")
    matching = [engine for engine in engines.available() if engine.name == name and _means(version, engine)]
    if not matching:
        raise Fault("InvalidParameterCombinationException", f"Cannot find version {version} for {name}")
    return matching[-1]


def _means(version: str | None, engine: Engine) -> bool:
    if version is None:
        return True
    if version == "6.x":
        return engine.version.startswith("6.")
    return version in (engine.minor, engine.version)


def check_forward(current: Engine, wanted: Engine) -> None:
    """Raise the service's error where a change of engine is not an upgrade.

    Source: AWS, ModifyReplicationGroup (EngineVersion): "you cannot downgrade to an earlier
    engine version"; Redis OSS upgrades to Valkey, never back.
    """
    if current.name == "valkey" and wanted.name == "redis":
        raise Fault(
            "InvalidParameterCombinationException",
            f"Cannot change the engine from valkey to redis ({current.version} to {wanted.version}).",
        )
    if current.name == wanted.name and wanted.number < current.number:
        raise Fault(
            "InvalidParameterCombinationException",
            f"Cannot downgrade the engine version from {current.version} to {wanted.version}.",
        )


def families() -> list[str]:
    """Return the parameter group families of the engines on offer, oldest first."""
    return list(dict.fromkeys(engine.family for engine in offered()))
