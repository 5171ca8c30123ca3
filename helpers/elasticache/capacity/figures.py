"""Figures of the capacity report: each title states the finding, and lines differ by style, so that they read in black and white."""

from __future__ import annotations

import textwrap
from datetime import timedelta

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.aws.drawing import GREY, dates, done, one_plot
from helpers.elasticache.backup_keys import MIB, BackupKeys
from helpers.elasticache.capacity.checks import LAG_S
from helpers.elasticache.capacity.metrics import PUBLISHED_S
from helpers.elasticache.capacity.review import GIB, SHAPED, Review, cpu_metric, cpu_threshold
from helpers.elasticache.capacity.sizing import Sizing
from helpers.elasticache.node_types import GBPS

AHEAD = 45  # days of the trend that are drawn
MOST_BARS = 8
ROLES = {"": {"color": "black", "lw": 0.9}, "primary": {"color": "black", "lw": 0.9}, "replica": {"color": "0.55", "lw": 0.9, "ls": ":"}}
NAMES = {"engine_cpu": "EngineCPUUtilization", "cpu": "CPUUtilization"}


def draw_memory(found: Review) -> Figure:
    """Memory in use next to what data may use and the node's memory, with the trend of the daily peaks and its band."""
    figure, axes = one_plot(3.8)
    cluster, most = found.cluster, found.cluster.type.maxmemory / GIB
    axes.plot(found.history.times, found.history.highest("memory") / GIB, color="black", lw=0.8, label="in use, fullest node")
    last = found.end
    if found.trend:
        last += timedelta(days=AHEAD)
        days = [found.end + timedelta(days=day) for day in range(1, AHEAD + 1)]
        low, middle, high = (band / GIB for band in found.trend.band(AHEAD))
        axes.fill_between(days, low, high, color=GREY, lw=0, label="daily peak to come, 80 % band")
        axes.plot(days, middle, color="black", ls="--", lw=1.2, label="median")
    span = (found.history.times[0], last)
    axes.plot(span, (most, most), color="black", lw=1.6, label=f"memory of a {cluster.type.name}, {most:.1f} GiB")
    axes.fill_between(span, cluster.usable / GIB, most, facecolor="none", edgecolor="0.55", hatch="///", lw=0, label=f"reserved ({cluster.reserved:.0%})")
    if found.full and 0 < found.full.p50 <= AHEAD:
        day = found.end + timedelta(days=found.full.p50)
        axes.annotate(f"full about {day:%d %b}", (day, cluster.usable / GIB), xytext=(0, -34), textcoords="offset points", ha="center", arrowprops={"arrowstyle": "->"})
    axes.set(ylabel="memory (GiB)", ylim=(0, 1.08 * most), xlim=span, title=_memory_title(found))
    dates(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return done(figure)


def _memory_title(found: Review) -> str:
    share = found.need.memory / found.cluster.usable
    full = found.full
    if full is None:
        return f"{found.cluster.name}: memory peaks at {share:.0%} of what data may use"
    if full.p50 == 0:
        return f"{found.cluster.name}: memory is full"
    when = f"is full about {found.day(full.p50)}" if np.isfinite(full.p50) else f"does {found.day(np.inf).replace('within', 'fill within')}"
    return f"{found.cluster.name}: memory peaks at {share:.0%} of what data may use, and {when}"


def draw_cpu(found: Review) -> Figure:
    """The CPU metric that counts on this node type, of each role's busiest node, next to what is full."""
    figure, axes = one_plot(3.0)
    kind = found.cluster.type
    metric, limit = cpu_metric(kind), cpu_threshold(kind)
    for role, style in ROLES.items():
        columns = [number for number, node in enumerate(found.history.nodes) if node.role == role]
        if columns:
            name = role or "node"
            axes.plot(found.history.times, np.fmax.reduce(found.history.values[metric][:, columns], axis=1), label=name if len(columns) == 1 else f"busiest {name}", **style)
    axes.axhline(limit, color="black", ls="--", lw=1.3, label=f"{limit:g} %: the core that runs commands is full")
    peak = found.history.peak(metric)
    told = "no CPU metric" if np.isnan(peak) else f"CPU peaks at {peak / limit:.0%} of a full core"
    axes.set(ylabel=f"{NAMES[metric]} (%)", ylim=(0, max(1.15 * limit, 1.1 * np.nan_to_num(peak))))
    axes.set_title(f"{found.cluster.name}: {told} ({kind.vcpus} vCPUs, so {NAMES[metric]} counts)")
    dates(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return done(figure)


def draw_network(found: Review) -> Figure:
    """The larger direction of the busiest node, hour's mean and highest minute, next to baseline and burst; crosses where packets were held back."""
    figure, axes = one_plot(3.4)
    history, kind, times = found.history, found.cluster.type, found.history.times
    mean = np.fmax.reduce(history.rates("bytes_in", "bytes_out"), axis=1) / GBPS
    minute = np.fmax(history.highest("peak_in"), history.highest("peak_out")) / PUBLISHED_S / GBPS
    axes.plot(times, _positive(minute), color="0.6", lw=0.8, label="highest minute of each hour")
    axes.plot(times, _positive(mean), color="black", lw=0.9, label="mean of each hour")
    axes.axhline(kind.network_baseline / GBPS, color="black", ls="--", lw=1.3, label=f"baseline, {kind.network_baseline / GBPS:g} Gbit/s")
    if kind.network_burst > kind.network_baseline:
        axes.axhline(kind.network_burst / GBPS, color="black", ls="-.", lw=1.0, label=f"burst, {kind.network_burst / GBPS:g} Gbit/s")
    held = np.any([history.highest(name) > 0 for name in SHAPED], axis=0)
    if held.any():
        axes.plot(times[held], minute[held], ls="", marker="x", color="black", ms=5, label="allowance exceeded")
    low = max(float(np.nanmin(_positive(mean), initial=kind.network_baseline / GBPS)), 1e-4)
    axes.set(ylabel="network, one way (Gbit/s)", yscale="log", ylim=(0.6 * low, 1.8 * max(kind.network_burst / GBPS, np.nanmax(minute, initial=0))), title=_network_title(found, int(held.sum())))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    dates(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return done(figure)


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A logarithmic axis has no zero."""
    return np.where(values > 0, values, np.nan)


def _network_title(found: Review, hours: int) -> str:
    need, kind = found.need, found.cluster.type
    told = f"{found.cluster.name}: the busiest hour takes {need.network / kind.network_baseline:.0%} of the baseline"
    return f"{told}; the allowance was exceeded in {hours:,} h" if hours else f"{told}; the allowance was never exceeded"


def draw_connections(found: Review) -> Figure:
    """Connections of each node next to what a node takes, where that is near."""
    figure, axes = one_plot(2.6)
    history, most = found.history, found.cluster.type.most_connections
    axes.plot(history.times, history.highest("connections"), color="black", lw=0.9, label="connections, busiest node")
    peak = found.need.connections
    if peak > most / 3:
        axes.axhline(most, color="black", ls="--", lw=1.3, label=f"most that a node takes, {most:,}")
    axes.set(ylabel="connections", ylim=(0, None), title=f"{found.cluster.name}: {peak:,.0f} connections at the peak, {peak / most:.1%} of the {most:,} that a node takes")
    dates(axes)
    return done(figure)


def draw_lag(found: Review) -> Figure:
    """The replicas' lag, the largest of each hour."""
    lag = found.history.highest("lag")
    known = lag[np.isfinite(lag)]
    if not len(known):
        figure, axes = one_plot(1.2)
        axes.axis("off")
        axes.set_title(f"{found.cluster.name}: no replication lag is known, {'though there is a replica' if found.cluster.has_replicas else 'because there is no replica'}")
        return done(figure)
    figure, axes = one_plot(2.6)
    often = (known > LAG_S).mean()
    axes.plot(found.history.times, lag, color="black", lw=0.8)
    axes.axhline(LAG_S, color="black", ls="--", lw=1.2, label=f"{LAG_S:g} s")
    axes.legend(loc="upper left", frameon=False)
    axes.set(ylabel="replication lag (s)", ylim=(0, None), title=f"{found.cluster.name}: the replicas lag {known.max():,.1f} s at most, and more than {LAG_S:g} s in {often:.1%} of the hours")
    dates(axes)
    return done(figure)


def draw_options(sizing: Sizing) -> Figure:
    """What the group costs a month on the type it has and on those that fit."""
    shown = [sizing.now, *[one for one in sizing.options if one.fits and one != sizing.now][: MOST_BARS - 1]]
    figure, axes = one_plot(0.42 * len(shown) + 1.4)
    place = np.arange(len(shown))
    engine = sizing.review.cluster.engine
    moves = engine != "valkey"
    axes.barh(place - 0.2 * moves, [one.monthly_cost for one in shown], 0.38 if moves else 0.6, color=GREY, edgecolor="black", label=f"on {engine}")
    if moves:
        axes.barh(place + 0.2, [np.nan if one.on_valkey is None else one.on_valkey for one in shown], 0.38, color="white", edgecolor="black", hatch="///", label="on valkey")
    names = [one.type.name + (" (now)" if one == sizing.now else "") + (" ←" if one == sizing.best else "") for one in shown]
    axes.set_yticks(place, names)
    axes.invert_yaxis()
    for row, one in zip(place, shown, strict=True):
        told = f"lacks {', '.join(one.lacks)}" if one.lacks else f"{one.usable / GIB:,.0f} GiB"
        axes.annotate(told, (np.nan_to_num(one.monthly_cost), row - 0.2 * moves), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xlabel=f"{sizing.prices.currency} a month for {len(sizing.review.cluster.nodes)} nodes", ylabel="node type")
    axes.set_title("\n".join(textwrap.wrap(sizing.finding, 95)))
    axes.margins(x=0.12)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return done(figure)


def draw_prefixes(keys: BackupKeys) -> Figure:
    """Estimated memory by prefix; what has no TTL is hatched."""
    ranked = sorted(keys.prefixes.items(), key=lambda one: -one[1].memory)[:MOST_BARS]
    figure, axes = one_plot(0.36 * max(len(ranked), 1) + 1.3)
    memory = [one.memory / MIB for _, one in ranked]
    bars = axes.barh(range(len(ranked)), memory, 0.66, color=GREY, edgecolor="black")
    for bar, (_, one) in zip(bars, ranked, strict=True):
        if one.lasting > one.keys / 2:
            bar.set(hatch="///", facecolor="white")
    for row, (size, (_, one)) in enumerate(zip(memory, ranked, strict=True)):
        ends = "no TTL" if one.lasting == one.keys else "all with a TTL" if not one.lasting else f"{one.lasting / one.keys:.0%} without TTL"
        axes.annotate(f"{one.keys:,} {'key' if one.keys == 1 else 'keys'}, {ends}", (size, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(ranked)), [name for name, _ in ranked])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set(xlabel="memory (MiB), estimated; hatched: most keys have no TTL", ylabel="prefix", title=_prefix_title(keys))
    return done(figure)


def _prefix_title(keys: BackupKeys) -> str:
    if not keys.keys:
        return "The backup holds no keys"
    name, most = max(keys.prefixes.items(), key=lambda one: one[1].memory)
    lasting = sum(one.memory * one.lasting / one.keys for one in keys.prefixes.values())
    return f"“{name}” holds {most.memory / keys.memory:.0%} of the memory; about {lasting / keys.memory:.0%} of it is in keys that never end"


def draw_ttls(keys: BackupKeys) -> Figure:
    """How long keys still lived when the backup was saved."""
    figure, axes = one_plot(2.9)
    frame = keys.by_ttl()
    counts = [keys.ttls[name] for name in frame["time to live"]]
    bars = axes.bar(range(len(counts)), counts, 0.7, color=GREY, edgecolor="black")
    bars[0].set(hatch="///", facecolor="white")
    axes.bar_label(bars, labels=list(frame["share"]), padding=3, fontsize=9)
    axes.set_xticks(range(len(counts)), frame["time to live"], fontsize=9)
    axes.margins(y=0.18)
    axes.set(xlabel="time to live when the backup was saved", ylabel="keys", title=f"{keys.lasting / max(keys.keys, 1):.0%} of the {keys.keys:,} keys have no TTL")
    return done(figure)
