"""A row of a capacity report, the same for every service: what limits a resource, when that runs out, what to do, what it costs.

An analysis ends with `record`: its notebook shows the rows as a table, and the same output carries them for programs, so that
a report over many runs shows the numbers of the notebooks and works nothing out again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

# Whatever costs time to import is imported where it is used: every run of an analysis reads rows.
if TYPE_CHECKING:
    import pandas as pd

MIME = "application/vnd.runbook.capacity+json"

# The verdicts, the most urgent first.
AT_LIMIT = "at its limit"
RUNS_OUT = "runs out soon"
LITTLE_LEFT = "little headroom"
NO_ADVICE = "no advice"
SAVES = "can cost less"
FITS = "fits"
VERDICTS = (AT_LIMIT, RUNS_OUT, LITTLE_LEFT, NO_ADVICE, SAVES, FITS)
SOON = 30  # days: a limit that is probably reached within them runs out soon


@dataclass(frozen=True)
class Row:
    """What is known of one resource.

    `setting` is how it is set now. `limit` is what limits it: `measured` of `allowance` in `unit`, where `measured_as` says which peak
    or mean that is, and `headroom` how much is left of the allowance, in per cent; None where nothing limits it. `what_ends` is used up on `p10`,
    `p50` and `p90`, ISO dates, None for a quantile beyond `horizon` days; where no day is known `no_day` says why. `cost_now` and `cost_then`,
    after `recommended`, are a month's in `currency`, None where not known. `seen_until` is the last datapoint, ISO with its zone.
    """

    service: str
    resource: str
    verdict: str
    setting: str
    recommended: str
    account: str = ""
    region: str = ""
    made_up: bool = False
    limit: str = ""
    measured: float | None = None
    allowance: float | None = None
    unit: str = ""
    measured_as: str = ""
    headroom: float | None = None
    what_ends: str = ""
    p10: str | None = None
    p50: str | None = None
    p90: str | None = None
    horizon: int = 0
    no_day: str = ""
    cost_now: float | None = None
    cost_then: float | None = None
    currency: str = "USD"
    prices: str = ""
    note: str = ""
    seen_until: str = ""
    days: float = 0.0

    @property
    def uses(self) -> str:
        """What limits it, in words."""
        if self.measured is None:
            return self.limit
        amount = f"{number(self.measured)} {self.unit}" if self.allowance is None else f"{number(self.measured)} of {number(self.allowance)} {self.unit}"
        return f"{self.limit}: {amount}" + (f" ({self.measured_as})" if self.measured_as else "")

    @property
    def left(self) -> str:
        """The headroom in words."""
        return "" if self.headroom is None else f"{self.headroom:,.0f}%"

    @property
    def ends(self) -> str:
        """The day on which it runs out, in words."""
        if self.no_day:
            return self.no_day
        if not (self.p10 or self.p50):
            return f"not within {self.horizon} days"
        about = self.p50 or f"not before {self.p10}"
        return f"{about} (P10 {self.p10}, P90 {self.p90 or f'beyond {self.horizon} days'})"

    @property
    def saving(self) -> float:
        """What the advice saves a month, negative where it costs more; 0 where a price is not known."""
        return self.cost_now - self.cost_then if self.cost_now is not None and self.cost_then is not None else 0.0

    def order(self) -> tuple[int, str, float]:
        """The key by which rows are sorted: what is at its limit, what runs out first, then the money."""
        return VERDICTS.index(self.verdict), self.p50 or self.p10 or "9999", -abs(self.saving)


class Rows:
    """Rows as a cell shows them: a table, and the rows themselves under a MIME type of their own."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = sorted(rows, key=Row.order)

    def table(self) -> pd.DataFrame:
        """A row a resource, the most urgent first; of one resource its findings below each other, which a printed page has room for."""
        import pandas as pd

        told = [self._row(one) for one in self.rows]
        return pd.DataFrame(list(told[0].items())[1:], columns=["resource", self.rows[0].resource]) if len(told) == 1 else pd.DataFrame(told)

    def _row(self, one: Row) -> dict[str, str]:
        return {
            "resource": one.resource, "verdict": one.verdict, "what limits it": one.uses, "headroom": one.left, "runs out": one.ends,
            "what to do": one.recommended, f"{one.currency} a month now": money(one.cost_now), "then": money(one.cost_then),
        }  # fmt: skip

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        from helpers.aws.drawing import Sentences

        shown = Sentences(self.table())
        return {"text/html": shown._repr_html_(), "text/plain": repr(shown), MIME: [asdict(one) for one in self.rows]}


def record(rows: Iterable[Row]) -> Rows:
    """The rows, as what a notebook's last cell returns: shown, and kept in the run's result.json as `capacity`."""
    return Rows(rows)


def read(outputs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows in a cell's outputs, as JSON has them."""
    return [row for output in outputs for row in output.get("data", {}).get(MIME, ())]


def of_json(told: Mapping[str, Any]) -> Row:
    """A row of result.json; what a later version has added is left out."""
    known = {one.name for one in fields(Row)}
    return Row(**{name: value for name, value in told.items() if name in known})


def headroom(measured: float, allowance: float) -> float:
    """How much of an allowance is left, per cent; negative where more was measured."""
    return 100 * (1 - measured / allowance) if allowance else 0.0


def day(end: datetime, days: float) -> str | None:
    """The ISO date some days after `end`; None for one beyond the horizon, which is infinite."""
    return date.isoformat((end + timedelta(days=days)).date()) if math.isfinite(days) else None


def known(value: float | None) -> float | None:
    """A number that JSON has: None for one that is not known."""
    return None if value is None or math.isnan(value) else float(value)


def money(value: float | None) -> str:
    """Money a month in words: whole from ten on."""
    return "not known" if value is None else f"{value:,.0f}" if abs(value) >= 10 or not value else f"{value:,.2f}"


def number(value: float) -> str:
    """A number with as many digits as a reader wants."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 1 or not value else f"{value:,.2f}"
