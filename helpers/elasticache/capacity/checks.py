"""A verdict on each limit of a group's nodes, with the remedy: memory, CPU, network, connections, replication.

Where AWS names a threshold it is AWS's, with the page in the docstring; the others are this report's own and stand here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.aws import Check, RunbookError, checks_table
from helpers.aws.checks import Outcome
from helpers.elasticache.capacity.metrics import History
from helpers.elasticache.capacity.review import GIB, Review, cpu_metric, cpu_threshold
from helpers.elasticache.capacity.trend import trend
from helpers.elasticache.node_types import GBPS, reserved_percent

SOON, LATER = 14, 60  # days until memory is full
HIGH = 0.8  # of a limit
LITTLE_FREE = 100e6  # bytes; AWS's 100 MB
LAG_S, LONG_LAG_S, SELDOM = 1.0, 10.0, 0.01  # seconds, and the share of the hours that may be above the first
GROWS = 0.10  # connections a week
SHORT = 14  # days of history
LEAST_PERCENT, AGREES = 5.0, 0.03
MIB = 2**20


def verdicts(found: Review) -> pd.DataFrame:
    """Every verdict as a table, failures first."""
    return checks_table(look(found))


def look(found: Review) -> list[Check]:
    """The verdicts on a review."""
    checks = [_known(found), _agrees(found), _memory(found), _evictions(found), _reserve(found), _swap(found), _cpu(found), _credits(found), _managed(found)]
    checks += [_network(found), _shaped(found), _connections(found), _connections_grow(found), _lag(found)]
    return [one for one in checks if one is not None]


def _known(found: Review) -> Check:
    name, history = "history", found.history
    if silent := history.silent():
        return Check(name, "warn", f"CloudWatch has no metrics of {', '.join(silent)}", "New nodes have none yet; look again in a week.")
    if history.days < SHORT:
        return Check(name, "warn", f"{history.days:,.0f} days", "Give four weeks: weekdays differ.")
    return Check(name, "pass", f"{history.days:,.0f} days of {len(history.nodes)} nodes, by the hour")


def _agrees(found: Review) -> Check | None:
    """The limit that the nodes' own percentage stands for is that of type and reserve: DatabaseMemoryUsagePercentage is used memory / maxmemory.

    https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
    """
    memory, percent = found.history.values["memory"], found.history.values["memory_percent"]
    told = np.isfinite(memory) & (percent > LEAST_PERCENT)  # a small percentage is too coarse to divide by
    if not told.any():
        return None
    limits = 100 * memory[told] / percent[told]
    usable = found.cluster.usable
    if np.abs(limits / usable - 1).max() <= AGREES:
        return Check("memory limit", "pass", f"{usable / GIB:,.1f} GiB by type and reserve, and by the nodes' own percentage")
    seen = f"{usable / GIB:,.1f} GiB by type and reserve, but {limits.min() / GIB:,.1f} to {limits.max() / GIB:,.1f} GiB by the nodes' own percentage"
    return Check("memory limit", "warn", seen, "The node type or the reserve was changed within this history: set `days` to the time since, and trust no trend across it.")


def _memory(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (Memory)"""
    share = found.need.memory / found.cluster.usable
    until = found.full.p50 if found.full else np.inf
    outcome: Outcome = "fail" if share >= 1 or until <= SOON else "warn" if share >= HIGH or until <= LATER else "pass"
    told = f"peak {found.need.memory / GIB:,.1f} of {found.cluster.usable / GIB:,.1f} GiB ({share:.0%}) on {found.history.busiest('memory').id}. {found.fills}"
    then = "writes are refused" if found.cluster.policy == "noeviction" else f"{found.cluster.policy} evicts keys"
    return Check("memory", outcome, told, "" if outcome == "pass" else f"When it is full {then}: take a larger node type, or give keys a shorter TTL (see the backup's prefixes).")


def _evictions(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (Evictions)"""
    evicted = found.history.total("evictions")
    if not evicted:
        return Check("evictions", "pass", "none")
    hours = int((found.history.highest("evictions") > 0).sum())
    return Check("evictions", "fail", f"{evicted:,.0f} keys in {hours:,} h", "An evicted session is a user who is logged out: take a larger node type. A pure cache may evict.")


def _reserve(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/redis-memory-management.html"""
    has, advised = 100 * found.cluster.reserved, reserved_percent(found.cluster.type.name)
    told = f"{has:,.0f} %, {found.cluster.type.maxmemory * found.cluster.reserved / GIB:,.1f} GiB"
    if has < advised:
        return Check("reserved memory", "warn", f"{told}; AWS advises {advised} % on {found.cluster.type.size}", "Set reserved-memory-percent: without room a backup or a replica's sync swaps or fails.")
    return Check("reserved memory", "pass", told)


def _swap(found: Review) -> Check | None:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (SwapUsage)"""
    swap, free = found.history.values["swap"], found.history.values["freeable"]
    if not np.isfinite(free).any():
        return None
    least, most = float(np.fmin.reduce(free, axis=None)), float(np.nan_to_num(np.fmax.reduce(swap, axis=None)))
    told = f"at least {least / MIB:,.0f} MiB free, at most {most / MIB:,.0f} MiB swapped"
    if least < LITTLE_FREE or (swap > free).any():
        return Check("memory pressure on the host", "fail", told, "Raise reserved-memory-percent, or take a larger node type.")
    return Check("memory pressure on the host", "pass", told)


def _cpu(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (CPUUtilization)"""
    kind = found.cluster.type
    metric, limit = cpu_metric(kind), cpu_threshold(kind)
    shown = "EngineCPUUtilization" if metric == "engine_cpu" else "CPUUtilization"
    values = found.history.values[metric]
    if not np.isfinite(values).any():
        return Check("CPU", "warn", f"CloudWatch has no {shown}", "Look at the metric's name and the node's type.")
    peak, hours = found.history.peak(metric), int((found.history.highest(metric) > limit).sum())
    told = f"peak {peak:,.0f} % {shown} on {found.history.busiest(metric).id}; {limit:g} % is full on {kind.vcpus} vCPUs"
    outcome: Outcome = "fail" if hours else "warn" if peak > HIGH * limit else "pass"
    more = "more shards" if found.cluster.cluster_mode else "a type with faster cores, or cluster mode with shards"
    return Check("CPU", outcome, told + (f"; above it in {hours:,} h" if hours else ""), "" if outcome == "pass" else f"Mostly reads: read from replicas. Mostly writes: {more}. More vCPUs alone do not help: commands run on one core.")


def _credits(found: Review) -> Check | None:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheNodes.SupportedTypes.html (burstable)"""
    if not found.cluster.type.burstable:
        return None
    lowest, used = float(np.fmin.reduce(found.history.values["credits"], axis=None)), found.need.mean_cores / found.cluster.type.vcpus
    told = f"average {used:,.0f} % CPU, {100 * found.cluster.type.cpu_baseline:.0f} % is earned; lowest balance {'not known' if np.isnan(lowest) else f'{lowest:,.0f} credits'}"
    if used > 100 * found.cluster.type.cpu_baseline:
        return Check("CPU credits", "fail", told, "It lives beyond what it earns: surplus is billed. Take an m or r type.")
    return Check("CPU credits", "warn" if lowest == 0 else "pass", told, "Take an m or r type if this happens often." if lowest == 0 else "")


def _managed(found: Review) -> Check | None:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (Traffic Management)"""
    hours = int((found.history.highest("managed") > 0).sum())
    if not hours:
        return None
    return Check("traffic management", "warn", f"ElastiCache slowed clients down in {hours:,} h", "More commands came than the node can do: scale up or out.")


def _network(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheNodes.SupportedTypes.html (baseline and burst)"""
    kind, need = found.cluster.type, found.need
    told = f"busiest hour {need.network / GBPS:,.2f}, busiest minute {need.network_minute / GBPS:,.2f} Gbit/s; baseline {kind.network_baseline / GBPS:g}, burst {kind.network_burst / GBPS:g}"
    hours = int((found.history.rates("bytes_in", "bytes_out") > kind.network_baseline).any(axis=1).sum())
    if hours:
        return Check("network", "warn", f"{told}; above the baseline in {hours:,} h", "Above the baseline a node spends credits, and is held to it when they are gone. Take a type with more, or read from replicas.")
    return Check("network", "warn" if need.network_minute > HIGH * kind.network_burst else "pass", told, "Take a type with more bandwidth." if need.network_minute > HIGH * kind.network_burst else "")


def _shaped(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.HostLevel.html (...AllowanceExceeded)"""
    kinds = {"bandwidth in": "shaped_in", "bandwidth out": "shaped_out", "packets": "shaped_packets", "connection tracking": "shaped_tracking"}
    held = {name: found.history.total(metric) for name, metric in kinds.items()}
    if not any(held.values()):
        return Check("network allowance", "pass", "never exceeded")
    hours = int(np.any([found.history.highest(metric) > 0 for metric in kinds.values()], axis=0).sum())
    told = ", ".join(f"{name}: {count:,.0f} packets" for name, count in held.items() if count)
    return Check("network allowance", "fail", f"exceeded in {hours:,} h ({told})", "Packets waited or were dropped: take a type with a larger allowance, spread big reads over time, or make values smaller.")


def _connections(found: Review) -> Check:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/BestPractices.Clients.Redis.Connections.html"""
    most, peak = found.cluster.type.most_connections, found.need.connections
    new = float(np.nan_to_num(found.history.rates("new_connections")).max())
    told = f"peak {peak:,.0f} of {most:,}; at most {new:,.1f} new ones a second"
    outcome: Outcome = "fail" if peak >= most else "warn" if peak > HIGH * most else "pass"
    return Check("connections", outcome, told, "" if outcome == "pass" else "Keep connections in a pool, and read from replicas.")


def _connections_grow(found: Review) -> Check | None:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (CurrConnections)"""
    try:
        grows = trend(found.history.daily_peaks("connections"))
    except RunbookError:
        return None
    weekly = 7 * grows.growth / max(grows.level, 1)
    if weekly < GROWS:
        return None
    return Check("connections grow", "warn", f"by {weekly:.0%} of them a week", "Look for a client that opens connections and does not close them.")


def _lag(found: Review) -> Check | None:
    """https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.WhichShouldIMonitor.html (Replication)"""
    if not found.cluster.has_replicas:
        return Check("replication lag", "warn", "there is no replica", "When a node fails its keys are lost: set one replica in another zone.")
    history: History = found.history
    lag = history.values["lag"]
    if not np.isfinite(lag).any():
        return Check("replication lag", "warn", "CloudWatch has no ReplicationLag", "Look whether the replicas are in sync.")
    peak, often = history.peak("lag"), float((history.highest("lag") > LAG_S).mean())
    told = f"peak {peak:,.1f} s on {history.busiest('lag').id}; above {LAG_S:g} s in {often:.1%} of the hours"
    if peak > LONG_LAG_S or often > SELDOM:
        return Check("replication lag", "fail" if peak > LONG_LAG_S and often > SELDOM else "warn", told, "A failover loses what a replica has not got. Look at big keys and at the network in those hours.")
    return Check("replication lag", "pass", told)
