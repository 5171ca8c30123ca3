"""A check's outcome, and many of them as one table with a remedy each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

Outcome = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at before a change: its name, the outcome, what was found, what to do."""

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""


def checks_table(checks: Iterable[Check]) -> pd.DataFrame:
    """The checks as a DataFrame: check, outcome, found, remedy; failures first, then warnings."""
    import pandas as pd  # costs a second, which the command line does not need

    order = {"fail": 0, "warn": 1, "pass": 2}
    ranked = sorted(checks, key=lambda check: order[check.outcome])
    rows = [(check.outcome, check.name, check.found, check.remedy) for check in ranked]
    return pd.DataFrame(rows, columns=["outcome", "check", "found", "remedy"])
