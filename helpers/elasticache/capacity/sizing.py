"""Which node types carry the measured peak with headroom, what each costs a month, and the one to take.

Memory: peak x (1 + headroom) <= maxmemory x (1 - reserve). CPU: the core that runs commands at no more than 90 %; on types of one
or two vCPUs, all cores together no more than 90 % of one, which is AWS's rule for them; of burstable types the average no more than
their baseline. Network: the busiest hour within the baseline, the busiest minute within the burst, and where packets were held
back a larger baseline than that which was not enough. A core is taken to do
as much on every type: newer ones do more, older ones less. Sources: those of helpers.elasticache.node_types and
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheNodes.SelectSize.html
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.aws import capacity
from helpers.elasticache.capacity.cluster import Cluster
from helpers.elasticache.capacity.review import FULL_CORE, GIB, OWN_METRIC_FROM, Need, Review
from helpers.elasticache.capacity.trend import Reached
from helpers.elasticache.node_types import GBPS, NODE_TYPES, NodeType
from helpers.elasticache.prices import Prices

WORTH_IT = 0.03  # a smaller saving is not worth a change of nodes
VALKEY = "valkey"
SOON = 60  # days: memory that lasts no longer is told


@dataclass(frozen=True)
class Option:
    """A node type for the group: usable bytes, cost a month, what it lacks (nothing: it fits), how long its memory lasts."""

    type: NodeType
    usable: float
    monthly_cost: float
    on_valkey: float | None
    lacks: tuple[str, ...]
    lasts: Reached | None

    @property
    def fits(self) -> bool:
        """True where it carries the peak with headroom."""
        return not self.lacks


@dataclass(frozen=True)
class Sizing:
    """All options, cheapest first, the present type, the one to take (None: no single node is enough), and why."""

    review: Review
    options: list[Option]
    now: Option
    best: Option | None
    headroom: float
    prices: Prices
    reasons: list[str]

    @property
    def changes(self) -> bool:
        """True where another type is advised."""
        return self.best is None or self.best.type != self.now.type

    @property
    def tightest(self) -> Limit:
        """The limit of the present type that the need comes nearest to."""
        return min(limits(self.now.type, self.now.usable, self.review.need), key=lambda one: one.headroom)

    @property
    def to_do(self) -> str:
        """What to do about the node type, in a few words."""
        if self.best is None:
            return "spread the keys over more shards"
        return f"take {self.best.type.name}" if self.changes else f"stay on {self.now.type.name}"

    @property
    def finding(self) -> str:
        """What to do about the node type, in a sentence."""
        money = self.prices.currency
        if self.best is None:
            return "No node type carries the peak: spread the keys over more shards."
        if not self.changes:
            return f"{self.now.type.name} fits; no cheaper type does."
        why = "it is cheaper" if self.now.fits else f"{self.now.type.name} lacks {', '.join(self.now.lacks)}"
        return f"Take {self.best.type.name}: {why}. {self.best.monthly_cost:,.0f} {money} a month{self._than_now}."

    @property
    def _than_now(self) -> str:
        cost = self.best.monthly_cost - self.now.monthly_cost if self.best else np.nan
        return "" if np.isnan(cost) else f", {abs(cost):,.0f} {'more' if cost > 0 else 'less'} than now"

    def table(self, most: int = 8) -> pd.DataFrame:
        """The type now, and the cheapest that fit: family, vCPUs, memory, network, cost, when the memory is full (P50), what it lacks."""
        fitting = [one for one in self.options if one.fits and one.type != self.now.type][:most]
        shown = (self.now, *fitting)
        names = [("→ " if one == self.best else "") + one.type.name + (" (now)" if one == self.now else "") for one in shown]
        return pd.DataFrame([self._row(one) for one in shown], index=names).rename_axis(columns="node type")

    def _row(self, one: Option) -> dict[str, object]:
        return {
            "family": one.type.family,
            "vCPUs": one.type.vcpus,
            "usable GiB": f"{one.usable / GIB:,.1f}",
            "Gbit/s (burst)": _gbps(one.type),
            f"{self.prices.currency} a month": "not known" if np.isnan(one.monthly_cost) else f"{one.monthly_cost:,.0f}",
            "full about": "" if one.lasts is None else "now" if one.lasts.p50 == 0 else self.review.day(one.lasts.p50) if np.isfinite(one.lasts.p50) else "beyond a year",
            "lacks": ", ".join(one.lacks) or "nothing",
        }


def _gbps(kind: NodeType) -> str:
    burst = f" ({kind.network_burst / GBPS:g})" if kind.network_burst > kind.network_baseline else ""
    return f"{kind.network_baseline / GBPS:g}{burst}"


@dataclass(frozen=True)
class Limit:
    """A measured peak next to what a node type allows, in one unit; `held_back` says that more was wanted than was measured."""

    name: str
    measured: float
    allowance: float
    unit: str
    measured_as: str
    held_back: bool = False

    @property
    def headroom(self) -> float:
        """Per cent of the allowance that is left: none where something was held back."""
        return min(capacity.headroom(self.measured, self.allowance), 0.0 if self.held_back else np.inf)

    def holds(self, headroom: float) -> bool:
        """True where the peak with `headroom` (0.2: a fifth more) stays within the allowance."""
        return self.measured * (1 + headroom) <= self.allowance and not self.held_back


def limits(kind: NodeType, usable: float, need: Need) -> list[Limit]:
    """Every limit of a node type next to the need: GiB of memory, per cent of a core, Gbit/s, connections."""
    found = [Limit("memory", need.memory / GIB, usable / GIB, "GiB", "peak"), Limit("CPU", need.core, FULL_CORE, "% of a core", "peak")]
    if kind.vcpus < OWN_METRIC_FROM:
        found.append(Limit("CPU", need.cores, FULL_CORE, "% of a core", "peak of all cores"))
    if kind.burstable:
        found.append(Limit("CPU credits", need.mean_cores, 100 * kind.vcpus * kind.cpu_baseline, "% of a core", "mean"))
    held = kind.network_baseline <= need.more_network_than
    return [
        *found,
        Limit("network baseline", need.network / GBPS, kind.network_baseline / GBPS, "Gbit/s", "busiest hour, and packets were held back" if held else "busiest hour", held),
        Limit("network burst", need.network_minute / GBPS, kind.network_burst / GBPS, "Gbit/s", "busiest minute"),
        Limit("connections", need.connections, kind.most_connections, "", "peak"),
    ]


def lacks(kind: NodeType, usable: float, need: Need, headroom: float) -> tuple[str, ...]:
    """What a type has too little of for the peak with `headroom` (0.2: a fifth more)."""
    short = list(dict.fromkeys(one.name for one in limits(kind, usable, need) if not one.holds(headroom)))
    return tuple(one for one in short if one != "CPU credits" or "CPU" not in short)


def size(found: Review, prices: Prices, headroom: float = 0.2) -> Sizing:
    """The node types for a review's peak with `headroom`, and the cheapest that fits.

    Types that the group cannot be changed to, do not run its engine, or have no price are left out.
    """
    cluster = found.cluster
    kinds = [one for one in NODE_TYPES.values() if one == cluster.type or _possible(one, cluster)]
    options = [option for one in kinds if (option := _option(one, found, prices, headroom)) is not None]
    options.sort(key=lambda one: (np.nan_to_num(one.monthly_cost, nan=np.inf), -one.usable))
    now = next(one for one in options if one.type == cluster.type)
    best = next((one for one in options if one.fits), None)
    if best and now.fits and now.monthly_cost - best.monthly_cost < WORTH_IT * now.monthly_cost:
        best = now
    return Sizing(found, options, now, best, headroom, prices, _reasons(found, now, best, prices))


def _possible(kind: NodeType, cluster: Cluster) -> bool:
    return kind.current and cluster.engine in kind.engines and (cluster.allowed is None or kind.name in cluster.allowed)


def _option(kind: NodeType, found: Review, prices: Prices, headroom: float) -> Option | None:
    cluster = found.cluster
    cost = prices.monthly(cluster.engine, kind.name, len(cluster.nodes))
    here = kind == cluster.type
    if cost is None and not here:
        return None
    usable = cluster.usable if here else kind.maxmemory * (1 - cluster.reserve_on(kind))
    on_valkey = prices.monthly(VALKEY, kind.name, len(cluster.nodes))
    return Option(kind, usable, np.nan if cost is None else cost, on_valkey, lacks(kind, usable, found.need, headroom), found.lasts(usable))


def _reasons(found: Review, now: Option, best: Option | None, prices: Prices) -> list[str]:
    told = [*found.need.at_least]
    if best is None:
        told.append("The commands of one shard run on one core, and its keys lie on one node: more shards divide both." if "CPU" in now.lacks else "The keys of one shard lie on one node: more shards divide them.")
    elif best.type != now.type and found.need.at_least:
        told.append("So this is the least that fits: look again when nothing is held back any more.")
    if best and best.lasts and best.lasts.p50 <= SOON:
        told.append(f"As the data grows its memory lasts until {found.day(best.lasts.p50)} only: plan the next size, or shorter TTLs.")
    if best and found.cluster.engine != VALKEY and best.on_valkey is not None:
        told.append(f"On Valkey the same nodes cost {best.on_valkey:,.0f} {prices.currency} a month: `redis_upgrade` moves the group there.")
    return told
