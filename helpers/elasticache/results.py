"""The numbers that an upgrade is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.aws import Aws
from helpers.elasticache.application import Report
from helpers.elasticache.cutover import Switched
from helpers.elasticache.preflight import Survey
from helpers.elasticache.prices import MONTH_H, Prices, prices
from helpers.elasticache.stages import Verified
from helpers.elasticache.upgrade import Upgrade


def side_by_side(results: list[dict[str, Any]]) -> pd.DataFrame:
    """Runs of different strategies next to each other, this one first: what each measured."""
    if not results:
        return pd.DataFrame({"measured": ["by the apply"]})
    columns = ["strategy", "write gap (ms)", "acknowledged writes", "of them lost", "keys different at the end", "run"]
    names = ("write_gap_ms", "acknowledged_writes", "acknowledged_writes_lost", "keys_different")
    rows = [(one["parameters"].get("strategy"), *(one["metrics"].get(name) for name in names), one["run_id"]) for one in results]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def measured(application: Report, switched: Switched, verified: Verified) -> dict[str, Any]:
    """write_gap_ms, acknowledged_writes, acknowledged_writes_lost, keys_compared, keys_different; None: not measured.

    The gap is the application's own where it reports one, else the time that writes were frozen.
    """
    said, last = application.values, switched.comparison if not switched.comparison.note else verified
    compared = not last.note
    return {
        "write_gap_ms": round(said["write_gap_ms"], 1) if "write_gap_ms" in said else round(switched.freeze_ms, 1) or None,
        "acknowledged_writes": said.get("acknowledged_writes"),
        "acknowledged_writes_lost": said.get("acknowledged_writes_lost"),
        "keys_compared": last.keys_compared if compared else None,
        "keys_different": last.keys_different if compared else None,
        "freeze_ms": round(switched.freeze_ms, 1),
    }


@dataclass(frozen=True)
class Costs:
    """What the group's nodes cost a month before the upgrade and after it, on demand; None where a price is not known."""

    before: float | None
    after: float | None
    what: tuple[str, str]
    prices: Prices

    @property
    def metrics(self) -> dict[str, Any]:
        """cost_a_month_before_usd and cost_a_month_after_usd, where the prices are in USD."""
        return {f"cost_a_month_{name}_{self.prices.currency.lower()}": None if cost is None else round(cost, 2) for name, cost in (("before", self.before), ("after", self.after))}

    @property
    def second_group(self) -> str:
        """What a group beside the old one costs while it is there."""
        return "" if self.after is None else f", {self.after / MONTH_H:,.2f} {self.prices.currency} an hour"

    def table(self) -> pd.DataFrame:
        """Before and after: nodes, and what they cost a month."""
        money = f"{self.prices.currency} a month"
        rows = [(name, what, "not known" if cost is None else f"{cost:,.2f}", self.prices.source) for name, what, cost in zip(("before", "after"), self.what, (self.before, self.after), strict=True)]
        return pd.DataFrame(rows, columns=["", "nodes", money, "prices"])


def costs(aws: Aws, upgrade: Upgrade, found: Survey) -> Costs:
    """What the nodes cost a month, now and on the new engine and node type; nodes of data tiering have no price here.

    Source: https://aws.amazon.com/elasticache/pricing/
    """
    asked, old, nodes = prices(aws), found.old, len(found.old.members)
    new_type = upgrade.node_type or old.node_type
    what = tuple(f"{nodes} × {kind} on {engine}" for engine, kind in ((old.engine, old.node_type), (upgrade.engine, new_type)))
    return Costs(asked.monthly(old.engine, old.node_type, nodes), asked.monthly(upgrade.engine, new_type, nodes), what, asked)
