"""Node types: how much memory Redis may use on them.

Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.NodeSpecific.html
"""

from __future__ import annotations

# maxmemory in bytes
MAXMEMORY = {
    "cache.t3.micro": 536_870_912, "cache.t3.small": 1_471_026_299, "cache.t3.medium": 3_317_862_236,
    "cache.t4g.micro": 536_870_912, "cache.t4g.small": 1_471_026_299, "cache.t4g.medium": 3_317_862_236,
    "cache.m6g.large": 6_854_542_746, "cache.m6g.xlarge": 13_891_921_715, "cache.m6g.2xlarge": 27_966_669_210,
    "cache.r6g.large": 14_037_181_030, "cache.r6g.xlarge": 28_261_849_702, "cache.r6g.2xlarge": 56_711_183_565,
    "cache.r7g.large": 14_037_181_030, "cache.r7g.xlarge": 28_261_849_702, "cache.r7g.2xlarge": 56_711_183_565,
}  # fmt: skip


def reserved_percent(node_type: str) -> int:
    """The default reserved-memory-percent: 50 on micro nodes, 30 on small ones, else 25."""
    return {"micro": 50, "small": 30}.get(node_type.rsplit(".", 1)[-1], 25)


def usable_memory(node_type: str) -> int | None:
    """Bytes for data after the reserve; None for a node type that is not in the table."""
    maximum = MAXMEMORY.get(node_type)
    return None if maximum is None else maximum * (100 - reserved_percent(node_type)) // 100
