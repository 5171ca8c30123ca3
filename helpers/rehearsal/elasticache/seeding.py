"""Put the keys of RDB files into the shards of a cluster, each by its slot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from helpers.rehearsal.elasticache.nodes import Node, NodeFailed, Nodes
from helpers.rehearsal.elasticache.shards import Shard, slot_of, slots_in
from helpers.rehearsal.servers import COMMAND_TIMEOUT_S, HOST
from helpers.rehearsal.wire import Command, Refused, Wire

PAGE = 500


def distribute(nodes: Nodes, files: Iterable[Path], primaries: Mapping[str, Node], shards: Iterable[Shard]) -> None:
    """Copy the keys of files to the shards whose slots they are in; `primaries` are by shard id.

    Each file is loaded by a server without cluster mode. Raises NodeFailed for a file with keys in
    another database than 0, which a cluster does not have, and for a key that a shard refuses.
    """
    home = {slot: shard.id for shard in shards for slot in slots_in(shard.slots)}
    for node in primaries.values():
        # Data that does not fit must be seen as such: a limit meanwhile could evict it.
        node.command("CONFIG", "SET", "maxmemory", "0")
    targets = {shard_id: _connected(node) for shard_id, node in primaries.items()}
    try:
        for file in files:
            some = next(iter(primaries.values()))
            loader = nodes.start(f"{some.cluster_id}.seed", some.zone, some.settings, rdb=file)
            try:
                _check_database(loader)
                with _connected(loader) as source:
                    _copy_functions(source, targets, loader)
                    _copy_keys(source, targets, home)
            finally:
                nodes.stop(loader)
    except Refused as error:
        raise NodeFailed(f"A key of the backup could not be restored to its shard: {error}") from error
    finally:
        for target in targets.values():
            target.close()


def _connected(node: Node) -> Wire:
    wire = Wire(f"{HOST}:{node.server.port}", timeout_s=COMMAND_TIMEOUT_S)
    if node.server.login is not None:
        wire.one("AUTH", *node.server.login)
    return wire


def _check_database(loader: Node) -> None:
    others = [name for name in loader.info("keyspace") if name.startswith("db") and name != "db0"]
    if others:
        raise NodeFailed(f"The backup has keys in {', '.join(others)}: cluster mode has database 0 only.")


def _copy_functions(source: Wire, targets: Mapping[str, Wire], loader: Node) -> None:
    """Copy the functions, which every shard has; Redis 6 has none."""
    if loader.engine.number < (7, 0):
        return
    payload = source.one("FUNCTION", "DUMP")
    for target in targets.values():
        target.one("FUNCTION", "RESTORE", payload, "REPLACE")


def _copy_keys(source: Wire, targets: Mapping[str, Wire], home: Mapping[int, str]) -> None:
    cursor = b"0"
    while True:
        cursor, keys = source.one("SCAN", cursor, "COUNT", PAGE)
        _copy_page(source, targets, home, keys)
        if cursor == b"0":
            return


def _copy_page(source: Wire, targets: Mapping[str, Wire], home: Mapping[int, str], keys: list[bytes]) -> None:
    now_ms = int(time.time() * 1000)
    replies = source.ask(*(command for key in keys for command in (("PTTL", key), ("DUMP", key))))
    restores: dict[str, list[Command]] = {}
    for key, left_ms, payload in zip(keys, replies[::2], replies[1::2], strict=True):
        if payload is not None:  # it has not expired meanwhile
            expiry = ("0",) if left_ms < 0 else (now_ms + left_ms, "ABSTTL")
            restores.setdefault(home[slot_of(key)], []).append(
                ("RESTORE", key, expiry[0], payload, "REPLACE", *expiry[1:])
            )
    for shard_id, commands in restores.items():
        for reply in targets[shard_id].ask(*commands):
            if isinstance(reply, Refused):
                raise reply
