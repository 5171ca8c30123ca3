"""Peaks, verdicts and node types of groups with known metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.aws.errors import RunbookError
from helpers.elasticache.capacity import figures, review, sample, size, verdicts
from helpers.elasticache.capacity.metrics import METRICS, History, Node
from helpers.elasticache.capacity.review import Review, cpu_metric, cpu_threshold
from helpers.elasticache.capacity.sizing import lacks
from helpers.elasticache.node_types import GBPS, NODE_TYPES, node_type
from helpers.elasticache.prices import table_prices

GIB = 2**30
PRICES = table_prices("us-east-1")
HISTORY = sample.history(28)
FOUND = review(sample.GROUP, HISTORY)
QUIET = {"memory": 2 * GIB, "cpu": 10.0, "mean_cpu": 5.0, "engine_cpu": 12.0, "connections": 100.0, "lag": 0.1, "freeable": 4 * GIB}
QUIET |= {"bytes_in": 1e9, "bytes_out": 1e9, "peak_in": 5e7, "peak_out": 5e7, "credits": 100.0}


def history(days: int = 28, nodes: tuple[Node, ...] = sample.NODES, **values: Any) -> History:
    """Metrics that stay as they are: a quiet group's, or those given (numbers, or arrays of steps)."""
    steps = days * 24
    known = {name: 0.0 for name in METRICS} | QUIET | values
    spread = {name: np.repeat(np.broadcast_to(np.asarray(one, dtype=float).reshape(-1, 1), (steps, 1)), len(nodes), axis=1) for name, one in known.items()}
    return History(nodes, sample.END, 3600, spread)


def of(kind: str = "cache.r6g.large", **values: Any) -> Review:
    cluster = replace(sample.GROUP, type=node_type(kind))
    return review(cluster, history(**values))


def outcomes(found: Review) -> dict[str, str]:
    table = verdicts(found)
    return dict(zip(table["check"], table["outcome"], strict=True))


def remedies(found: Review) -> dict[str, str]:
    table = verdicts(found)
    return dict(zip(table["check"], table["found"], strict=True))


# -- the review ----------------------------------------------------------------------------------------


def test_the_made_up_group_fills_up_and_its_network_allowance_is_exceeded() -> None:
    told = outcomes(FOUND)
    assert {name for name, outcome in told.items() if outcome == "fail"} == {"memory", "network allowance"}
    assert told["CPU"] == told["evictions"] == "pass"
    assert "Memory is full about 2026-11-1" in FOUND.finding


def test_a_quiet_group_passes_everything() -> None:
    assert set(outcomes(of()).values()) == {"pass"}


@pytest.mark.parametrize(("kind", "metric", "threshold"), [("cache.t4g.micro", "cpu", 45), ("cache.r6g.large", "cpu", 45), ("cache.r6g.xlarge", "engine_cpu", 90), ("cache.m7g.16xlarge", "engine_cpu", 90)])
def test_the_cpu_metric_that_counts_follows_from_the_vcpus(kind: str, metric: str, threshold: float) -> None:
    assert (cpu_metric(node_type(kind)), cpu_threshold(node_type(kind))) == (metric, threshold)


@pytest.mark.parametrize(
    ("kind", "values", "outcome"),
    [
        ("cache.r6g.large", {"cpu": 46.0}, "fail"),  # the host's two cores at 46 %: one is full
        ("cache.r6g.large", {"cpu": 20.0, "engine_cpu": 95.0}, "pass"),  # not the metric that counts on two vCPUs
        ("cache.r6g.xlarge", {"cpu": 46.0, "engine_cpu": 50.0}, "pass"),
        ("cache.r6g.xlarge", {"cpu": 30.0, "engine_cpu": 91.0}, "fail"),
        ("cache.r6g.xlarge", {"engine_cpu": 75.0}, "warn"),
    ],
)
def test_cpu_is_judged_by_that_metric(kind: str, values: dict[str, float], outcome: str) -> None:
    assert outcomes(of(kind, **values))["CPU"] == outcome


@pytest.mark.parametrize(
    ("check", "values", "outcome"),
    [
        ("memory", {"memory": 8.2 * GIB}, "warn"),
        ("memory", {"memory": 9.9 * GIB}, "fail"),
        ("evictions", {"evictions": 1.0}, "fail"),
        ("memory pressure on the host", {"freeable": 90e6}, "fail"),
        ("memory pressure on the host", {"freeable": 1e9, "swap": 1.1e9}, "fail"),
        ("network", {"bytes_out": 0.8 * GBPS * 3600}, "warn"),
        ("network", {"peak_out": 9 * GBPS * 60}, "warn"),
        ("network allowance", {"shaped_packets": 3.0}, "fail"),
        ("connections", {"connections": 60_000}, "warn"),
        ("connections", {"connections": 65_000}, "fail"),
        ("replication lag", {"lag": 1.5}, "warn"),
        ("replication lag", {"lag": 11.0}, "fail"),
        ("traffic management", {"managed": 1.0}, "warn"),
        ("connections grow", {"connections": 100 + np.arange(28 * 24) / 3}, "warn"),
    ],
)
def test_each_limit_has_its_verdict_and_a_remedy(check: str, values: dict[str, Any], outcome: str) -> None:
    found = of(**values)
    table = verdicts(found).set_index("check")
    assert table.loc[check, "outcome"] == outcome
    assert table.loc[check, "remedy"]


def test_a_node_type_that_changed_within_the_history_is_noticed() -> None:
    before = np.arange(28 * 24) < 10 * 24
    percent = np.where(before, 2.0, 1.0) * 100 * 2 * GIB / sample.GROUP.usable
    assert outcomes(of(memory_percent=percent))["memory limit"] == "warn"
    assert "4.9 to 9.8 GiB" in remedies(of(memory_percent=percent))["memory limit"]
    assert outcomes(FOUND)["memory limit"] == "pass"


def test_too_small_a_reserve_is_told_and_the_advice_is_by_size() -> None:
    small = review(replace(sample.GROUP, reserved=0.10), history())
    assert outcomes(small)["reserved memory"] == "warn"
    micro = review(replace(sample.GROUP, type=node_type("cache.t4g.micro")), history(memory=0.1 * GIB))
    assert "advises 50 %" in remedies(micro)["reserved memory"]


def test_a_burstable_node_must_live_on_what_it_earns() -> None:
    assert outcomes(of("cache.t4g.medium", memory=GIB, mean_cpu=25.0))["CPU credits"] == "fail"
    assert outcomes(of("cache.t4g.medium", memory=GIB, mean_cpu=15.0))["CPU credits"] == "pass"
    assert outcomes(of("cache.t4g.medium", memory=GIB, mean_cpu=15.0, credits=0.0))["CPU credits"] == "warn"


def test_a_group_without_a_replica_is_warned() -> None:
    alone = sample.NODES[:1]
    found = review(replace(sample.GROUP, nodes=alone), history(nodes=alone, lag=np.nan))
    assert outcomes(found)["replication lag"] == "warn"


def test_with_cluster_mode_enabled_a_replica_is_one_though_aws_tells_no_roles() -> None:
    nodes = tuple(Node(f"s-000{shard}-00{node}", f"000{shard}", "") for shard in (1, 2) for node in (1, 2))
    found = review(replace(sample.GROUP, nodes=nodes, cluster_mode=True), history(nodes=nodes))
    assert outcomes(found)["replication lag"] == "pass"
    assert "busiest node" in [line.get_label() for line in figures.draw_cpu(found).axes[0].lines]


def test_a_node_without_metrics_is_named_and_a_group_without_any_is_refused() -> None:
    one_silent = history()
    one_silent.values["memory"][:, 1] = np.nan
    assert "sessions-002" in remedies(review(sample.GROUP, one_silent))["history"]
    with pytest.raises(RunbookError, match="no metrics of sessions"):
        review(sample.GROUP, history(memory=np.nan))


def test_a_short_history_has_verdicts_but_no_day() -> None:
    found = of(days=4)
    assert found.full is None and "No day can be named" in found.finding
    assert outcomes(found)["history"] == "warn"
    assert figures.draw_memory(found).axes[0].get_title() == "sessions: memory peaks at 20% of what data may use"


def test_the_fullest_shard_counts() -> None:
    nodes = tuple(Node(f"s-{shard}-001", f"000{shard}", "primary") for shard in (1, 2, 3))
    values = history(nodes=nodes)
    values.values["memory"][:, 1] = 9 * GIB
    found = review(replace(sample.GROUP, nodes=nodes, cluster_mode=True), values)
    assert found.need.memory == 9 * GIB and "s-2-001" in remedies(found)["memory"]


# -- node types ----------------------------------------------------------------------------------------


def test_the_cheapest_type_that_carries_the_peak_with_headroom_is_advised() -> None:
    sizing = size(FOUND, PRICES, 0.2)
    assert sizing.best is not None and sizing.best.type.name == "cache.r6g.xlarge"
    cheaper = [one for one in sizing.options if one.monthly_cost < sizing.best.monthly_cost]
    assert cheaper and all(one.lacks for one in cheaper)
    assert sizing.best.usable >= 1.2 * FOUND.need.memory
    assert sizing.best.monthly_cost == pytest.approx(0.411 * 730 * 2)
    assert "cache.r6g.large lacks memory, network baseline" in sizing.finding


def test_where_packets_were_held_back_the_advice_is_a_lower_bound_with_a_larger_baseline() -> None:
    sizing = size(FOUND, PRICES)
    assert any("held back" in one for one in sizing.reasons) and any("least that fits" in one for one in sizing.reasons)
    assert all(one.type.network_baseline > sample.GROUP.type.network_baseline for one in sizing.options if one.fits)


def test_a_group_that_is_too_large_is_made_smaller_and_one_that_fits_is_left() -> None:
    smaller = size(of("cache.r6g.2xlarge", engine_cpu=10.0, cpu=4.0, mean_cpu=2.0), PRICES)
    assert smaller.changes and smaller.best is not None and smaller.best.monthly_cost < smaller.now.monthly_cost
    assert "it is cheaper" in smaller.finding
    kept = size(of(smaller.best.type.name, engine_cpu=10.0, cpu=4.0, mean_cpu=2.0), PRICES)
    assert not kept.changes and "no cheaper type does" in kept.finding


def test_a_type_that_carries_the_peak_but_not_for_long_is_told() -> None:
    growing = of(memory=np.linspace(2 * GIB, 8 * GIB, 28 * 24))
    assert any("lasts until 2026-12-" in one for one in size(growing, PRICES, 0.2).reasons)


def test_only_types_that_the_group_may_be_changed_to_are_offered() -> None:
    allowed = replace(sample.GROUP, allowed=frozenset({"cache.r6g.large", "cache.m7g.2xlarge"}))
    sizing = size(review(allowed, HISTORY), PRICES)
    assert {one.type.name for one in sizing.options} == {"cache.r6g.large", "cache.m7g.2xlarge"}
    assert sizing.best is not None and sizing.best.type.name == "cache.m7g.2xlarge"


def test_types_that_run_valkey_alone_are_for_groups_on_valkey() -> None:
    families = {engine: {one.type.family for one in size(review(replace(sample.GROUP, engine=engine), HISTORY), PRICES).options} for engine in ("redis", "valkey")}
    assert families["valkey"] - families["redis"] == {"m8g", "r8g"}


def test_what_no_node_carries_needs_shards() -> None:
    full_core = size(of("cache.r6g.xlarge", engine_cpu=95.0, cpu=40.0), PRICES)
    assert full_core.best is None and "more shards" in full_core.finding
    assert full_core.table().iloc[0]["lacks"] == "CPU"
    assert "lacks CPU" in [text.get_text() for text in figures.draw_options(full_core).axes[0].texts]


def need(**values: float) -> Any:
    return replace(FOUND.need, **{"memory": GIB, "core": 10.0, "cores": 10.0, "mean_cores": 5.0, "network": 1e6, "network_minute": 1e6, "connections": 10.0, "more_network_than": 0.0} | values)


@pytest.mark.parametrize(
    ("kind", "values", "missing"),
    [
        ("cache.r6g.large", {}, ()),
        ("cache.r6g.large", {"cores": 80.0}, ("CPU",)),  # other work on two vCPUs counts against the one core
        ("cache.r6g.xlarge", {"cores": 80.0}, ()),
        ("cache.r6g.xlarge", {"core": 80.0}, ("CPU",)),
        ("cache.t4g.medium", {"mean_cores": 35.0}, ("CPU credits",)),
        ("cache.r6g.large", {"network": 0.7 * GBPS}, ("network baseline",)),
        ("cache.r6g.large", {"network_minute": 9 * GBPS}, ("network burst",)),
        ("cache.r6g.large", {"more_network_than": 0.75 * GBPS}, ("network baseline",)),
        ("cache.t4g.micro", {"memory": 0.1 * GIB, "connections": 17_000.0}, ("connections",)),
    ],
)
def test_a_type_lacks_what_the_peak_with_a_fifth_more_does_not_fit(kind: str, values: dict[str, float], missing: tuple[str, ...]) -> None:
    one = NODE_TYPES[kind]
    assert lacks(one, one.maxmemory * 0.75, need(**values), 0.2) == missing


def test_the_reserve_of_a_small_type_is_the_one_that_aws_advises_there() -> None:
    assert sample.GROUP.reserve_on(node_type("cache.t4g.micro")) == 0.5
    assert replace(sample.GROUP, reserved=0.4).reserve_on(node_type("cache.r7g.large")) == 0.4


def test_a_node_type_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(RunbookError, match=r"cache\.r6gd\.xlarge") as caught:
        node_type("cache.r6gd.xlarge")
    assert "r7g" in caught.value.remedy and "data tiering" in caught.value.remedy


# -- figures -------------------------------------------------------------------------------------------


def test_figures_state_their_findings_and_label_both_axes() -> None:
    drawn = [draw(FOUND) for draw in (figures.draw_memory, figures.draw_cpu, figures.draw_network, figures.draw_connections, figures.draw_lag)]
    drawn.append(figures.draw_options(size(FOUND, PRICES)))
    for figure in drawn:
        axes = figure.axes[0]
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
    titles = [figure.axes[0].get_title() for figure in drawn]
    assert "is full about 2026-11-1" in titles[0] and "CPUUtilization counts" in titles[1] and "exceeded in 9 h" in titles[2]


def test_figures_are_drawn_where_metrics_are_missing() -> None:
    nothing = of(cpu=np.nan, engine_cpu=np.nan, lag=np.nan, bytes_in=np.nan, bytes_out=np.nan, peak_in=np.nan, peak_out=np.nan, connections=np.nan)
    for draw in (figures.draw_memory, figures.draw_cpu, figures.draw_network, figures.draw_connections, figures.draw_lag):
        assert draw(nothing).axes[0].get_title()
    assert outcomes(nothing)["CPU"] == "warn"
