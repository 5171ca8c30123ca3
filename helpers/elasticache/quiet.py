"""Whether anybody still uses a group: a client that is connected, a write, or the attempt of one."""

from __future__ import annotations

import time

import pandas as pd

from helpers.aws import Aws, RunbookError, wait
from helpers.elasticache import clients
from helpers.elasticache.connections import connected_clients, in_parallel, open_shards
from helpers.elasticache.groups import Group
from helpers.elasticache.upgrade import Upgrade

PATIENCE = 10.0  # how many times the asked quiet time is waited for


def await_quiet(aws: Aws, upgrade: Upgrade, old: Group, therefore: str) -> None:
    """Wait until the group had no client, write or attempted write for `quiet_seconds`; bounded.

    A job that connects for a moment is seen by its writes, also where the group refuses them. Raises `RunbookError`, which
    names the clients and says `therefore`.
    """
    with open_shards(aws, upgrade, old, "quiet") as shards:
        seen, since, who, tried = in_parallel(clients.write_attempts, shards), time.monotonic(), pd.DataFrame(), False

        def state() -> str:
            nonlocal seen, since, who, tried
            who, now = connected_clients(aws, upgrade, old), in_parallel(clients.write_attempts, shards)
            tried = now != seen
            if len(who) or tried:
                seen, since = now, time.monotonic()
            left = upgrade.quiet_seconds - (time.monotonic() - since)
            return "quiet" if left <= 0 else f"{len(who)} clients, {left:.0f} s of quiet to go"

        try:
            wait(f"{old.id} quiet", state, until=("quiet",), timeout=PATIENCE * max(upgrade.quiet_seconds, 1))
        except RunbookError as error:
            named = ", ".join(f"{row.address} {row.client}" for row in who.rename(columns={"name": "client"}).itertuples()) or "nobody is connected at this moment, but writes are tried"
            raise RunbookError(f"{old.id} is still used, {therefore}: {named}.", "Move these clients to the new endpoint, then go on.") from error
