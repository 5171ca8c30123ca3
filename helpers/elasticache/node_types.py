"""Node types: vCPUs, memory for Redis, network baseline and burst, and the CPU share that a burstable one may use for ever.

Sources, read November 2026: maxmemory https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html
(node-type specific parameters); bandwidth https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheNodes.SupportedTypes.html,
and where it has none (c7gn, m8g, r8g, the largest of m5, r4 and r5) that of the EC2 instance type of the same name; burstable
baselines https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html
"""

from __future__ import annotations

from dataclasses import dataclass

from helpers.aws.errors import RunbookError

GBPS = 1e9 / 8  # bytes/s


@dataclass(frozen=True)
class NodeType:
    """A node type: `maxmemory` bytes before the reserve, network in bytes/s each way.

    `cpu_baseline` is the share of all vCPUs that a burstable type may use for ever, 1 for the others; `engines` says
    which engines run on it, `current` whether AWS still advises it.
    """

    name: str
    vcpus: int
    maxmemory: int
    network_baseline: float
    network_burst: float
    cpu_baseline: float = 1.0
    engines: tuple[str, ...] = ("redis", "valkey")
    current: bool = True

    @property
    def family(self) -> str:
        """`r7g` of cache.r7g.large."""
        return self.name.split(".")[1]

    @property
    def size(self) -> str:
        """`large` of cache.r7g.large."""
        return self.name.split(".")[2]

    @property
    def burstable(self) -> bool:
        """True where CPU above the baseline costs credits."""
        return self.cpu_baseline < 1

    @property
    def most_connections(self) -> int:
        """The maxclients of a node.

        Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/ParameterGroups.Engine.html (maxclients)
        """
        return FEWER_CONNECTIONS.get(self.name, 65_000)


FEWER_CONNECTIONS = {"cache.t3.micro": 20_000, "cache.t4g.micro": 20_000, "cache.t3.small": 46_000, "cache.t3.medium": 46_000}
VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "10xlarge": 40, "12xlarge": 48, "16xlarge": 64, "24xlarge": 96}
_SIZES_G = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge")
_SIZES_5 = ("large", "xlarge", "2xlarge", "4xlarge", "12xlarge", "24xlarge")
_SIZES_M4 = ("large", "xlarge", "2xlarge", "4xlarge", "10xlarge")
_SIZES_R4 = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
_M = (6_854_542_746, 13_891_921_715, 27_966_669_210, 56_116_178_125, 111_325_552_312, 168_715_971_994, 225_000_375_228)
_R = (14_037_181_030, 28_261_849_702, 56_711_183_565, 113_609_865_216, 225_000_375_228, 341_206_346_547, 450_000_750_456)
_M5 = (*_M[:4], 168_715_971_994, 337_500_562_842)
_R5 = (*_R[:4], 341_206_346_547, 682_485_973_811)
_M4 = (6_892_593_152, 15_328_501_760, 31_889_126_359, 65_257_290_629, 166_047_614_239)
_R4 = (13_201_781_556, 26_898_228_839, 54_197_537_997, 108_858_546_586, 218_255_432_090, 437_021_573_120)
_M8 = (7_294_178_820, 15_222_495_510, 31_866_224_640, 65_856_864_256, 133_838_143_488, 201_819_422_720, 269_800_701_952)
_R8 = (15_222_495_510, 31_866_224_640, 65_856_864_256, 133_838_143_488, 269_800_701_952, 405_763_260_416, 541_725_818_880)
_C7 = (3_317_862_236, 6_854_542_746, 13_891_921_715, 27_966_669_210, 56_116_178_125, 84_357_985_997, 113_609_865_216)
# Gbit/s: baseline, and burst where there is one
_NET_M4 = ((0.45, 1.2), (0.75, 2.8), (1, 10), (2, 10), (5, 10))
_NET_R4 = ((0.75, 10), (1.25, 10), (2.5, 10), (5, 10), (10,), (25,))
_NET_5 = ((0.75, 10), (1.25, 10), (2.5, 10), (5, 10), (12,), (25,))
_NET_6 = ((0.75, 10), (1.25, 10), (2.5, 10), (5, 10), (12,), (20,), (25,))
_NET_7 = ((0.937, 12.5), (1.876, 12.5), (3.75, 15), (7.5, 15), (15,), (22.5,), (30,))
_NET_C7 = ((6.25, 30), (12.5, 40), (25, 50), (50,), (100,), (150,), (200,))
_VALKEY = ("valkey",)


def _family(name: str, sizes: tuple[str, ...], memory: tuple[int, ...], network: tuple[tuple[float, ...], ...], engines: tuple[str, ...] = ("redis", "valkey"), current: bool = True) -> list[NodeType]:
    rows = zip(sizes, memory, network, strict=True)
    return [NodeType(f"cache.{name}.{size}", VCPUS[size], most, gbps[0] * GBPS, gbps[-1] * GBPS, engines=engines, current=current) for size, most, gbps in rows]


def _burstable(name: str) -> list[NodeType]:
    rows = (("micro", 536_870_912, 0.064, 0.10), ("small", 1_471_026_299, 0.128, 0.20), ("medium", 3_317_862_236, 0.256, 0.20))
    return [NodeType(f"cache.{name}.{size}", 2, most, gbps * GBPS, 5 * GBPS, share) for size, most, gbps, share in rows]


NODE_TYPES = {
    one.name: one
    for one in (
        *_burstable("t3"), *_burstable("t4g"),
        *_family("m4", _SIZES_M4, _M4, _NET_M4, current=False), *_family("r4", _SIZES_R4, _R4, _NET_R4, current=False),
        *_family("m5", _SIZES_5, _M5, _NET_5, current=False), *_family("r5", _SIZES_5, _R5, _NET_5, current=False),
        *_family("m6g", _SIZES_G, _M, _NET_6), *_family("r6g", _SIZES_G, _R, _NET_6),
        *_family("m7g", _SIZES_G, _M, _NET_7), *_family("r7g", _SIZES_G, _R, _NET_7),
        *_family("m8g", _SIZES_G, _M8, _NET_7, _VALKEY), *_family("r8g", _SIZES_G, _R8, _NET_7, _VALKEY),
        *_family("c7gn", _SIZES_G, _C7, _NET_C7),
    )
}  # fmt: skip

# maxmemory in bytes
MAXMEMORY = {name: one.maxmemory for name, one in NODE_TYPES.items()}


def node_type(name: str) -> NodeType:
    """The node type of that name. Raises `RunbookError` for one that is not in the table."""
    if name not in NODE_TYPES:
        families = ", ".join(sorted({one.family for one in NODE_TYPES.values()}))
        remedy = f"It has {families}; types with data tiering are sized by memory and SSD together, which is not done here."
        raise RunbookError(f"The node type {name!r} is not in the table of node types.", remedy)
    return NODE_TYPES[name]


def reserved_percent(name: str) -> int:
    """The reserved-memory-percent that AWS advises: 50 on micro nodes, 30 on small ones, else 25, which is the default on all.

    Source: https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/redis-memory-management.html
    """
    return {"micro": 50, "small": 30}.get(name.rsplit(".", 1)[-1], 25)


def usable_memory(name: str) -> int | None:
    """Bytes for data after the reserve; None for a node type that is not in the table."""
    maximum = MAXMEMORY.get(name)
    return None if maximum is None else maximum * (100 - reserved_percent(name)) // 100
