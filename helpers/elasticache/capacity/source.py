"""Where the numbers of the report come from: an account, read at a price that is said first, or the made-up group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from helpers.aws import Aws, connect
from helpers.aws.metrics import Estimate
from helpers.elasticache.backup_keys import BackupKeys, backup_files, read_keys
from helpers.elasticache.capacity import metrics
from helpers.elasticache.capacity import sample as made_up
from helpers.elasticache.capacity.cluster import Cluster, describe_cluster
from helpers.elasticache.capacity.metrics import History
from helpers.elasticache.prices import TABLE_REGION, Prices, prices, table_prices

TOP = 10


@dataclass(frozen=True)
class Source:
    """A group and the prices of its region; `aws` is None for the made-up group, and `end` the end of the history, UTC."""

    aws: Aws | None
    cluster: Cluster
    prices: Prices
    end: datetime

    def __str__(self) -> str:
        where = f"account {self.aws.account}, {self.aws.region}" if self.aws else "made up"
        return f"{self.cluster}\n{where}, until {self.end:%Y-%m-%d %H:%M} UTC; prices: {self.prices}"

    def cost(self, days: float) -> Estimate:
        """What reading so many days will cost; the made-up group costs nothing, and the estimate says what an account would."""
        return metrics.estimate(len(self.cluster.nodes), days)

    def history(self, days: int) -> History:
        """The hourly metrics of the last days."""
        return metrics.read(self.aws, self.cluster.nodes, days, self.end) if self.aws else made_up.history(days)

    def backup(self, where: str = "") -> BackupKeys | None:
        """What a backup says of the keys: `s3://bucket/key` or a path; empty: the made-up one, and of an account none (None)."""
        if where:
            return read_keys(backup_files(where, self.aws, self.cluster.shards), TOP)
        return None if self.aws else read_keys([("the made-up backup", made_up.backup)], TOP)


def open_source(sample: bool = True, replication_group: str = "", **place: str) -> Source:
    """The made-up group, or a replication group of an account that is entered as by `helpers.aws.connect`. Raises `RunbookError` where there is none of that name."""
    if sample:
        return Source(None, made_up.GROUP, table_prices(TABLE_REGION), made_up.END)
    aws = connect(**place)
    return Source(aws, describe_cluster(aws, replication_group), prices(aws), datetime.now(timezone.utc))
