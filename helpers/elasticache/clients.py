"""Look at a Redis or Valkey server and its clients, freeze its writes, and tell whether anybody still writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from helpers.aws.errors import RunbookError
from helpers.elasticache.tls import TlsConnection
from helpers.elasticache.wire import OURS, Wire, databases

COLUMNS = {
    "id": int,
    "address": str,
    "name": str,
    "age_seconds": int,
    "idle_seconds": int,
    "db": int,
    "last_command": str,
    "user": str,
}
# CLIENT PAUSE has no upper bound of its own; a forgotten pause must end by itself.
LONGEST_PAUSE_MS = 15 * 60_000


class PauseRefused(RunbookError):
    """The server does not let us pause writes; the message says what to use instead."""


class ServerReplaced(RunbookError):
    """The server was restarted or replaced since a mark was taken, so its counters say nothing."""


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself.

    `engine` is "redis" or "valkey", `role` "master" or "slave", `replicas` the connected ones,
    `used_memory` and `maxmemory` bytes (0: no limit), `databases` the keys of each database that has
    any, `keys` those of all, `clients` the connections.
    """

    engine: str
    version: str
    run_id: str
    role: str
    replicas: int
    used_memory: int
    maxmemory: int
    maxmemory_policy: str
    databases: dict[int, int]
    keys: int
    clients: int
    uptime_seconds: int


def connect(
    host: str, port: int, *, name: str = OURS, db: int = 0, timeout: float | None = 10.0, **options: Any
) -> redis.Redis:
    """Return a client that hides nothing: no retries, RESP2, its name set for CLIENT LIST.

    redis-py 8 retries by itself and gives up after 5 s by default, which hides an outage from whoever
    measures it. `timeout` (seconds, None to wait for ever) holds for connecting and for each reply. With
    `ssl=True` the server's certificate and name are verified against the usual authorities.
    """
    settings: dict[str, Any] = {
        "protocol": 2,
        "client_name": name,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        **options,
    }
    if not settings.pop("ssl", False):
        return redis.Redis(host=host, port=port, db=db, **settings)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=TlsConnection, host=host, port=port, db=db, **settings))


def connected_clients(client: redis.Redis, *, ours: str | tuple[str, ...] = OURS) -> pd.DataFrame:
    """Return who is connected, but for replicas and for connections whose name begins with `ours`.

    One row a connection: id, address, name, age_seconds, idle_seconds, db, last_command, user.
    A connection sets its name with CLIENT SETNAME; `connect` does.
    """
    rows = [_row(each) for each in client.client_list() if _application(each, ours)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def disconnect_clients(client: redis.Redis, *, ours: str | tuple[str, ...] = OURS) -> int:
    """Disconnect all clients that are not ours, replicas excepted; return how many.

    Under CLIENT PAUSE the commands that wait for its end are dropped with their connection: they are
    never executed, and the application sees an error instead of a reply that is lost later.
    """
    ids = [each["id"] for each in client.client_list() if _application(each, ours)]
    return sum(int(client.execute_command("CLIENT", "KILL", "ID", each)) for each in ids)


def pause_writes(client: redis.Redis, milliseconds: int) -> None:
    """Make write commands of all clients wait, for at most `milliseconds`; reads go on.

    EVAL and PUBLISH wait too, and no key expires meanwhile. Raises PauseRefused, as ElastiCache may.
    Source: https://valkey.io/commands/client-pause/ (WRITE since 6.2).
    """
    if not 0 < milliseconds <= LONGEST_PAUSE_MS:
        raise ValueError(f"A pause lasts 1 to {LONGEST_PAUSE_MS} ms, not {milliseconds}.")
    try:
        client.execute_command("CLIENT", "PAUSE", milliseconds, "WRITE")
    except redis.ResponseError as error:
        raise PauseRefused(
            f"The server refuses CLIENT PAUSE ({error}).",
            "Freeze writes in the application (its read-only flag) or with the permissions of its user group.",
        ) from error


def resume_writes(client: redis.Redis) -> None:
    """End a pause of writes; harmless when there is none."""
    client.execute_command("CLIENT", "UNPAUSE")


def pause_allowed(client: redis.Redis) -> bool:
    """Return whether the server lets us pause writes, found out without pausing anything.

    It is asked to pause for no number of milliseconds. Permissions are checked before arguments, so a
    server that would pause complains of the number, one that refuses of the command. Works from 6.2
    on, where ACL DRYRUN (7.0 on) would not. CLIENT UNPAUSE has to be allowed as well.
    """
    for command, accepted in ((("PAUSE", "never", "WRITE"), "timeout"), (("UNPAUSE", "now"), "argument")):
        try:
            client.execute_command("CLIENT", *command)
        except redis.ResponseError as error:
            refused = isinstance(error, redis.exceptions.NoPermissionError) or "NOPERM" in str(error)
            known = accepted in str(error).lower() or "syntax" in str(error).lower()
            if refused or not known:
                return False
    return True


def write_attempts(client: redis.Redis) -> int:
    """Return how many write commands the server has executed or refused (NOREPLICAS, READONLY ...) since it began to count."""
    return _write_calls(client, "calls", "rejected_calls")


def try_subscribing(client: redis.Redis) -> None:
    """Subscribe to key events for a moment. Raises redis.NoPermissionError where the user may not."""
    with client.pubsub() as listening:
        listening.psubscribe("__keyevent@*__:*")
        listening.get_message(timeout=5.0)


def write_mark(client: redis.Redis) -> str:
    """Return the server's run id and count of executed write commands, as text for `writes_since`."""
    return f"{client.info('server')['run_id']} {_write_calls(client)}"


def writes_since(client: redis.Redis, mark: str) -> int:
    """Return how many write commands the server has executed since `mark`, ours included.

    It sums the calls of all commands flagged "write" in INFO commandstats. Those in scripts and
    transactions count; reads, expiry, eviction and commands that wait for the end of a pause do not.
    The other counters are not exact: rdb_changes_since_last_save starts again with every snapshot,
    and master_repl_offset also grows by the pings to replicas, or stands still without any. A write
    that changes nothing (DEL of no key) counts, so 0 means that nobody wrote.

    Raises ServerReplaced after a restart, a failover to another node or CONFIG RESETSTAT.
    """
    run_id, calls = mark.split()
    run_id_now, calls_now = write_mark(client).split()
    if run_id_now != run_id or int(calls_now) < int(calls):
        raise ServerReplaced(
            "The server was restarted, replaced or its statistics reset, so its writes since then are unknown.",
            "Take a new mark and watch again.",
        )
    return int(calls_now) - int(calls)


def server_facts(client: redis.Redis) -> ServerFacts:
    """Return what the server says of itself (INFO)."""
    facts = {key: value for part in _SECTIONS for key, value in client.info(part).items()}
    engine = "valkey" if "valkey_version" in facts else "redis"
    numbers = databases(client)
    return ServerFacts(
        engine=engine,
        version=str(facts[f"{engine}_version"]),
        run_id=str(facts["run_id"]),
        role=str(facts["role"]),
        replicas=int(facts.get("connected_slaves", 0)),
        used_memory=int(facts["used_memory"]),
        maxmemory=int(facts.get("maxmemory", 0)),
        maxmemory_policy=str(facts.get("maxmemory_policy", "")),
        databases=numbers,
        keys=sum(numbers.values()),
        clients=int(facts["connected_clients"]),
        uptime_seconds=int(facts["uptime_in_seconds"]),
    )


_SECTIONS = ("server", "replication", "memory", "clients")


def _application(facts: dict[str, Any], ours: str | tuple[str, ...]) -> bool:
    """Return whether a line of CLIENT LIST is a client of the data: not a replica, not ours."""
    flags = str(facts.get("flags", ""))
    return not ("S" in flags or "M" in flags or str(facts.get("name", "")).startswith(ours))


def _row(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": facts["id"],
        "address": facts["addr"],
        "name": facts.get("name", ""),
        "age_seconds": facts["age"],
        "idle_seconds": facts["idle"],
        "db": facts["db"],
        "last_command": facts.get("cmd", ""),
        "user": facts.get("user", ""),
    }


def _write_calls(client: redis.Redis, *counted: str) -> int:
    """Return what is `counted` of all write commands together: their calls, unless others are named."""
    with Wire(client) as wire:
        writing = set(_writing(wire.call("COMMAND")))
    statistics = client.info("commandstats").items()
    ours = [facts for name, facts in statistics if name.removeprefix("cmdstat_") in writing]
    return sum(int(facts.get(name, 0)) for facts in ours for name in counted or ("calls",))


def _writing(commands: list[Any]) -> Iterator[str]:
    """Yield the names of write commands as INFO commandstats has them: "set", and from 7.0 on "xgroup|create"."""
    for name, _, flags, *rest in commands:
        if b"write" in flags:
            yield name.decode().lower()
        # From 7.0 on the tenth part of a command's description describes its subcommands.
        yield from _writing(rest[6] if len(rest) > 6 else [])
