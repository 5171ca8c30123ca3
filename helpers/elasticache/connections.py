"""Connections to a group's shards: with TLS and a login where the group asks for them, all shards at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd
import redis

from helpers.aws import Aws, RunbookError, planning
from helpers.elasticache import clients
from helpers.elasticache.access import open_group, read_login
from helpers.elasticache.groups import Group, Shard, describe_group
from helpers.elasticache.upgrade import Upgrade
from helpers.elasticache.wire import together

OURS = "runbook"
SLOTS = 16384

Key = tuple[int, bytes]


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
    """A connection to the primary of one shard, named so that it is known as ours; see `open_shards`."""
    access, name = open_group(aws, group, upgrade.auth_secret), f"{OURS}-{purpose}"
    if direct:
        with contextlib.suppress(RunbookError):  # the nodes were replaced: the primary endpoint leads to those that took their place
            return access.primary(shard, name)
    return access.shard(shard, name)


def in_parallel(do: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """`do` of every row of the columns, each in a thread of its own; raises the error of the first that fails."""
    return together([functools.partial(do, *row) for row in zip(*columns, strict=True)])


def on_all(aws: Aws, upgrade: Upgrade, group: Group, do: Callable[[redis.Redis], Any], purpose: str = "switch") -> list[Any]:
    """`do` with a connection to the primary of every shard, at once; returns the answers."""
    with open_shards(aws, upgrade, group, purpose) as shards:
        return in_parallel(do, shards)


def connected_clients(aws: Aws, upgrade: Upgrade, group: Group) -> pd.DataFrame:
    """Who is connected to any of the group's nodes, ours excepted; the columns of `clients.connected_clients`."""
    nodes = group if group.cluster else describe_group(aws, group.id)
    access = open_group(aws, nodes, upgrade.auth_secret)
    with contextlib.ExitStack() as opened:
        members = [opened.enter_context(access.node(one, f"{OURS}-who")) for one in nodes.members]
        return pd.concat(in_parallel(clients.connected_clients, members), ignore_index=True)


def key_of_shard(shard: Shard, name: str) -> str:
    """A key that begins with `name` and belongs to the shard's slots; with cluster mode disabled any does."""
    if not shard.slots:
        return name
    return next(key for key in (f"{name}:{number}" for number in range(SLOTS * 20)) if _holds(shard, key.encode()))


def by_shard(group: Group, keys: Iterable[Key]) -> list[set[Key]]:
    """The keys of every shard, in the order of `group.shards`."""
    if not group.cluster_mode:
        return [set(keys)]
    left = set(keys)
    return [{key for key in left if _holds(shard, key[1])} for shard in group.shards]


def _holds(shard: Shard, key: bytes) -> bool:
    """True where the key's slot is one of the shard's: `0-8191`, or several ranges with commas."""
    slot = redis.crc.key_slot(key)
    ranges = [part.strip().partition("-") for part in shard.slots.split(",")]
    return any(int(first) <= slot <= int(last or first) for first, _, last in ranges)


def check_logins(aws: Aws, upgrade: Upgrade, *groups: Group) -> None:
    """Log in to every group with what the secret holds now. Raises `RunbookError` where one refuses it, as after a rotation."""
    if planning() or not any(group.auth for group in groups):
        return
    read_login.cache_clear()
    for group in groups:
        try:
            on_all(aws, upgrade, group, lambda shard: shard.ping(), "login")
        except (redis.AuthenticationError, RunbookError) as error:
            raise RunbookError(f"{group.id} refuses the login that {upgrade.auth_secret} holds now: {error}", f"It was rotated meanwhile: rotate it on {group.id}, too, then resume the run.") from error


def auth_token(aws: Aws, upgrade: Upgrade) -> str:
    """The AUTH token in the secret `auth_secret`. It is handed to AWS and to the servers, and shown nowhere."""
    return read_login(aws, upgrade.auth_secret)["password"]
