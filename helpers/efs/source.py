"""Where the numbers of a report come from: an account, read at a price that is said first, or the made-up fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from helpers.aws import Aws, connect
from helpers.efs import file_systems, metrics, sample
from helpers.efs.file_systems import FileSystem
from helpers.efs.metrics import HOUR, MINUTE, TRIAGE, WHOLE, Estimate, History
from helpers.efs.prices import Prices, prices, table_prices

SAMPLE_REGION = "us-east-1"
MINUTE_DAYS = 14  # CloudWatch keeps minutes for 15


@dataclass(frozen=True)
class Source:
    """File systems and their prices; `aws` is None for the made-up fleet, and `end` the end of every history, UTC."""

    aws: Aws | None
    file_systems: list[FileSystem]
    prices: Prices
    end: datetime

    def __str__(self) -> str:
        where = f"account {self.aws.account}, {self.aws.region}" if self.aws else "a made-up fleet"
        names = ", ".join(one.label for one in self.file_systems[:3]) + (f" and {len(self.file_systems) - 3} more" if len(self.file_systems) > 3 else "")
        return f"{names} of {where}, until {self.end:%Y-%m-%d %H:%M} UTC;\nprices: {self.prices}"

    def cost(self, ids: Sequence[str], days: float, step_seconds: int = HOUR, names: Sequence[str] = TRIAGE) -> Estimate:
        """What reading so much will cost; the made-up fleet costs nothing, and the estimate says what an account would."""
        return metrics.estimate(len(ids), days, step_seconds, names)

    def hours(self, days: int = sample.DAYS, names: Sequence[str] = TRIAGE) -> History:
        """The hourly metrics of all file systems."""
        return self._read([one.id for one in self.file_systems], days, HOUR, names)

    def minutes(self, ids: Sequence[str], days: int = MINUTE_DAYS) -> History:
        """The metrics of the file systems `ids` by the minute."""
        return self._read(ids, days, MINUTE, WHOLE)

    def _read(self, ids: Sequence[str], days: int, step_seconds: int, names: Sequence[str]) -> History:
        if self.aws:
            return metrics.read(self.aws, ids, days, self.end, step_seconds, names)
        whole = _made_up(step_seconds)
        steps = days * 86_400 // step_seconds
        columns = [whole.ids.index(one) for one in ids]
        values = {name: whole.values[name][-steps:, columns] for name in names}
        return History(tuple(ids), self.end - timedelta(days=days), step_seconds, values)


@lru_cache(maxsize=2)
def _made_up(step_seconds: int) -> History:
    """The made-up metrics, simulated once for the hours and once for the minutes."""
    return sample.fleet(step_seconds=step_seconds)[1]


def open_fleet(made_up: bool = True, only: Sequence[str] = (), **place: str) -> Source:
    """The made-up fleet, or the file systems of an account (all of the region, or `only` those by id or Name tag), entered as by `helpers.aws.connect`."""
    if made_up:
        return Source(None, sample.fleet()[0], table_prices(SAMPLE_REGION), sample.END)
    aws = connect(**place)
    return Source(aws, file_systems.describe_all(aws, tuple(only)), prices(aws), datetime.now(timezone.utc))


def open_one(file_system: str = "", **place: str) -> Source:
    """The file system of an id or a Name tag, or one of the made-up fleet where none is named."""
    if file_system:
        return open_fleet(False, [file_system], **place)
    fleet = open_fleet()
    return replace(fleet, file_systems=[one for one in fleet.file_systems if one.name == sample.HOME])

