"""Connections to a group's shards: with TLS and a login where the group asks for them, all shards at once."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import redis

from helpers.aws import Aws, RunbookError
from helpers.aws.errors import is_not_found
from helpers.elasticache import clients
from helpers.elasticache.groups import Group, Shard, describe_group
from helpers.elasticache.upgrade import Upgrade

OURS = "runbook"
SLOTS = 16384


def open_endpoint(aws: Aws, upgrade: Upgrade, group: Group, purpose: str) -> redis.Redis:
    """A connection to the group's primary (or configuration) endpoint, named so that it is known as ours."""
    return _connect(aws, upgrade, group, group.host, group.port, purpose)


@contextlib.contextmanager
def open_shards(aws: Aws, upgrade: Upgrade, group: Group, purpose: str, *, direct: bool = False) -> Iterator[list[redis.Redis]]:
    """Connections to the primary of every shard, in the order of `group.shards`.

    With cluster mode disabled that is the primary endpoint; `direct` takes the primary's own node, which saves a hop where
    much is read. Raises `RunbookError` where a shard has no primary at the moment.
    """
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(open_shard(aws, upgrade, group, shard, purpose, direct=direct)) for shard in group.shards]


@contextlib.contextmanager
def open_pairs(aws: Aws, upgrade: Upgrade, source: Group, target: Group, purpose: str, *, direct: bool = False) -> Iterator[list[tuple[redis.Redis, redis.Redis]]]:
    """Connections to the primaries of two groups, shard by shard. Raises `RunbookError` where their shards have other slots."""
    if [shard.slots for shard in source.shards] != [shard.slots for shard in target.shards]:
        raise RunbookError(f"{source.id} and {target.id} have other shards: they cannot be compared shard by shard.", "Give the new group the old one's slots.")
    with open_shards(aws, upgrade, source, purpose, direct=direct) as sources, open_shards(aws, upgrade, target, purpose, direct=direct) as targets:
        yield list(zip(sources, targets, strict=True))


def open_shard(aws: Aws, upgrade: Upgrade, group: Group, shard: Shard, purpose: str, *, direct: bool = False) -> redis.Redis:
    """A connection to the primary of one shard; see `open_shards`."""
    if direct or group.cluster_mode:
        for member in sorted(shard.members, key=lambda one: one.role == "replica"):
            node = _connect(aws, upgrade, group, member.host, member.port, purpose)
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                if node.info("replication")["role"] == "master":
                    return node
            node.close()
        if group.cluster_mode:
            raise RunbookError(f"Shard {shard.id} of {group.id} has no primary at the moment.", "Wait until its failover is over, then resume the run.")
    return open_endpoint(aws, upgrade, group, purpose)


def in_parallel(do: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """`do` of every row of the columns, each in a thread of its own; raises the first error."""
    rows = list(zip(*columns, strict=True))
    if len(rows) == 1:
        return [do(*rows[0])]
    with ThreadPoolExecutor(max(len(rows), 1)) as pool:
        return list(pool.map(lambda row: do(*row), rows))


def on_all(aws: Aws, upgrade: Upgrade, group: Group, do: Callable[[redis.Redis], Any], purpose: str = "switch") -> list[Any]:
    """`do` with a connection to the primary of every shard, at once; returns the answers."""
    with open_shards(aws, upgrade, group, purpose) as shards:
        return in_parallel(do, shards)


def connected_clients(aws: Aws, upgrade: Upgrade, group: Group) -> pd.DataFrame:
    """Who is connected to any of the group's nodes, ours excepted; the columns of `clients.connected_clients`."""
    nodes = group if group.cluster else describe_group(aws, group.id)
    with contextlib.ExitStack() as opened:
        members = [opened.enter_context(_connect(aws, upgrade, nodes, one.host, one.port, "who")) for one in nodes.members]
        return pd.concat(in_parallel(clients.connected_clients, members), ignore_index=True)


def key_of_shard(shard: Shard, name: str) -> str:
    """A key that begins with `name` and belongs to the shard's slots; with cluster mode disabled any does."""
    if not shard.slots:
        return name
    ours = {slot for part in shard.slots.split(",") for slot in _range(part)}
    return next(key for key in (f"{name}:{number}" for number in range(SLOTS * 20)) if redis.crc.key_slot(key.encode()) in ours)


def _range(part: str) -> range:
    first, _, last = part.strip().partition("-")
    return range(int(first), int(last or first) + 1)


def login_of(aws: Aws, upgrade: Upgrade, group: Group) -> dict[str, Any]:
    """What a connection to the group needs besides its address: `ssl`, `username`, `password`, as redis-py has them."""
    options: dict[str, Any] = {"ssl": True} if group.in_transit_encryption else {}
    return {**options, **_login(aws, upgrade.auth_secret)} if group.auth else options


def auth_token(aws: Aws, upgrade: Upgrade) -> str:
    """The AUTH token in the secret `auth_secret`. It is handed to AWS and to the servers, and shown nowhere."""
    return _login(aws, upgrade.auth_secret)["password"]


def forget_logins() -> None:
    """Read the secrets anew when they are needed next, as after a rotation."""
    _login.cache_clear()


@functools.cache
def _login(aws: Aws, secret: str) -> dict[str, str]:
    """The user and password in a secret: the AUTH token as it is, or JSON with `username` and `password`."""
    remedy = "Name in auth_secret the Secrets Manager secret that holds the AUTH token, or JSON with username and password."
    if not secret:
        raise RunbookError("The group asks for a login and auth_secret is empty.", remedy)
    try:
        text = aws.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
    except Exception as error:
        if is_not_found(error):
            raise RunbookError(f"There is no secret {secret!r} in {aws.region}.", remedy) from None
        raise
    try:
        found = json.loads(text)
    except ValueError:
        return {"password": text}
    if not isinstance(found, dict):
        return {"password": text}
    if not found.get("password"):
        raise RunbookError(f"The secret {secret!r} has no password in it.", remedy)
    return {"password": found["password"], **({"username": found["username"]} if found.get("username") else {})}


def _connect(aws: Aws, upgrade: Upgrade, group: Group, host: str, port: int | str, purpose: str) -> redis.Redis:
    return clients.connect(host, int(port), name=f"{OURS}-{purpose}", **login_of(aws, upgrade, group))
