"""The keys of the rehearsal: every type, with and without TTL, in two databases (a cluster has one), the same ones every time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from helpers.rehearsal.cluster_wire import ClusterWire, connect
from helpers.rehearsal.wire import Command, Wire
from helpers.rehearsal.workload import CACHED, USERS

# Written last, with what was asked for: a group that has it is filled.
MARKER = "rehearsal:dataset"
SECOND_DATABASE_SHARE = 20
TTL_S = (12 * 3600, 48 * 3600)
TIMEOUT_S = 20.0

# Kinds and their share of a hundred keys.
SHARES: dict[str, int] = {
    "session": 40,
    "text": 16,
    "cache": 12,
    "hash": 8,
    "list": 7,
    "set": 6,
    "sorted": 5,
    "bitmap": 2,
    "binary": 2,
    "stream": 1,
    "loglog": 1,
}


def fill(endpoint: str, keys: int, seed: int = 1, *, cluster: bool = False, **options: Any) -> int:
    """Fill a server with `keys` keys, and return how many it made; 0 where it is filled already.

    A server that was filled in part is filled anew: keys that are in the way are overwritten, others
    stay. The keys, their values and their TTLs (12 to 48 hours, on every second one) follow from `seed`.
    With `cluster` the endpoint is a configuration endpoint, and each key goes to its shard; `options` (tls,
    login) as for `Wire`. Raises `Refused` or `WireError`.
    """
    with connect(endpoint, cluster=cluster, timeout_s=TIMEOUT_S, **options) as wire:
        if wire.one("GET", MARKER) == _marker(keys, seed).encode():
            return 0
        partly = any(wire.each("DBSIZE"))
        in_second = 0 if cluster else keys // SECOND_DATABASE_SHARE
        made = _fill_database(wire, 1, in_second, seed, anew=partly) if in_second else 0
        made += _fill_database(wire, 0, keys - in_second - 1, seed, anew=partly)
        wire.one("SET", MARKER, _marker(keys, seed))
        return made + 1


def _marker(keys: int, seed: int) -> str:
    return f"{keys} keys of seed {seed}"


def _fill_database(wire: Wire | ClusterWire, database: int, keys: int, seed: int, *, anew: bool) -> int:
    if isinstance(wire, Wire):  # A cluster has database 0 only, and is in it.
        wire.one("SELECT", database)
    made = 0

    def commands() -> Iterator[Command]:
        nonlocal made
        for made, (key, making) in enumerate(_keys(keys, random.Random(f"{seed} {database}")), 1):
            if anew:
                yield ("UNLINK", key)
            yield from making

    wire.bulk(commands())
    return made


def _keys(count: int, chance: random.Random) -> Iterator[tuple[bytes | str, list[Command]]]:
    """Yield `count` keys, each with the commands that make it."""
    special = list(_special())[:count]
    yield from special
    rest = count - len(special)
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    chance.shuffle(kinds)
    makers = {kind: _MAKERS[kind] for kind in SHARES}
    for number in range(rest):
        key, making = makers[kinds[number % len(kinds)]](number, chance)
        if number % 2:
            making.append(("EXPIRE", key, chance.randint(*TTL_S)))
        yield key, making


def _special() -> Iterator[tuple[bytes | str, list[Command]]]:
    """Yield the keys that have a story, and those at the edges of what a type can hold."""
    rows = json.dumps([{"id": number, "name": name} for number, name in enumerate(USERS, 1)])
    for sql in (CACHED, "SELECT * FROM users ORDER BY name;", "SELECT count(*) FROM users;"):
        yield sql, [("SET", sql, rows if "*)" not in sql else "10")]
    scores = ("-inf", "Zoe", "-0.1", "bob", "0", "alice", "0.1", "charles", "0.30000000000000004", "donny", "1e300", "elie")
    yield "scores:edges", [("ZADD", "scores:edges", *scores, "+inf", "fabian")]
    yield b"binary\x00\xff\r\n\x80", [("SET", b"binary\x00\xff\r\n\x80", bytes(range(256)))]
    yield "", [("SET", "", "the key without a name")]
    yield "empty", [("SET", "empty", "")]
    yield "counter:edge", [("SET", "counter:edge", str(2**63 - 1))]
    yield "name:日本語 🗾", [("SET", "name:日本語 🗾", "こんにちは")]
    yield "text:large", [("SET", "text:large", b"0123456789abcdef" * 65_536)]
    yield "geo:offices", [
        ("GEOADD", "geo:offices", "139.6917", "35.6895", "Tokyo", "135.5023", "34.6937", "Osaka", "-0.1276", "51.5072", "London")
    ]
    # Above 512 elements each type keeps another encoding.
    members = [f"member-{number}" for number in range(2_000)]
    yield "set:large", [("SADD", "set:large", *members)]
    yield "set:integers", [("SADD", "set:integers", *range(-300, 300))]
    yield "hash:large", [("HSET", "hash:large", *(part for name in members for part in (name, name[::-1])))]
    yield "list:large", [("RPUSH", "list:large", *members)]
    yield "scores:large", [
        ("ZADD", "scores:large", *(part for number, name in enumerate(members) for part in (number / 7, name)))
    ]
    yield "events:orders", _orders()
    yield "events:quiet", [
        ("XADD", "events:quiet", "1-1", "only", "one"),
        ("XDEL", "events:quiet", "1-1"),
        ("XGROUP", "CREATE", "events:quiet", "nobody", "$"),
    ]


def _orders() -> list[Command]:
    """Return a stream of 300 orders, two groups, entries that are read and not acknowledged, and one deleted."""
    key = "events:orders"
    adds: list[Command] = [
        ("XADD", key, f"{1_700_000_000_000 + number}-{number % 3}", "user", USERS[number % 10], "total", number * 1.5)
        for number in range(300)
    ]
    return adds + [
        ("XGROUP", "CREATE", key, "billing", "0"),
        ("XGROUP", "CREATE", key, "shipping", f"{1_700_000_000_100}-1"),
        ("XREADGROUP", "GROUP", "billing", "billing-1", "COUNT", 40, "STREAMS", key, ">"),
        ("XREADGROUP", "GROUP", "billing", "billing-2", "COUNT", 10, "STREAMS", key, ">"),
        ("XACK", key, "billing", *(f"{1_700_000_000_000 + number}-{number % 3}" for number in range(25))),
        ("XDEL", key, f"{1_700_000_000_030}-0"),
    ]


Made = tuple[bytes | str, list[Command]]


def _session(number: int, chance: random.Random) -> Made:
    key = f"session:{chance.getrandbits(128):032x}"
    user = USERS[number % len(USERS)]
    return key, [("HSET", key, "user", user, "page", "cart", "cart", f"[{number}]", "csrf", f"{chance.getrandbits(64):x}")]


def _text(number: int, chance: random.Random) -> Made:
    key = f"text:{number}"
    value = str(number * 37) if number % 5 == 0 else "x" * chance.randint(1, 120)
    return key, [("SET", key, value)]


def _cache(number: int, chance: random.Random) -> Made:
    key = f"SELECT * FROM orders WHERE id = {number};"
    return key, [("SET", key, f'[{{"id": {number}, "user": "{USERS[number % 10]}", "total": {chance.random() * 100:.2f}}}]')]


def _hash(number: int, chance: random.Random) -> Made:
    key = f"hash:{number}"
    return key, [("HSET", key, "score", repr(chance.random()), "count", number, b"\x00bytes", b"\xff\xfe", "empty", "")]


def _list(number: int, chance: random.Random) -> Made:
    key = f"list:{number}"
    return key, [("RPUSH", key, *(f"item-{number}-{place}" for place in range(1 + number % 12)))]


def _set(number: int, chance: random.Random) -> Made:
    key = f"set:{number}"
    members = range(number, number + 1 + number % 9) if number % 2 else (f"tag-{place}" for place in range(1 + number % 9))
    return key, [("SADD", key, *members)]


def _sorted(number: int, chance: random.Random) -> Made:
    key = f"scores:{number}"
    edge = ("+inf", "top", "-inf", "bottom") if number % 10 == 0 else ("0.1", "tenth")
    return key, [("ZADD", key, *(part for user in USERS[: 1 + number % 10] for part in (repr(chance.random()), user)), *edge)]


def _bitmap(number: int, chance: random.Random) -> Made:
    key = f"bitmap:{number}"
    return key, [("SETBIT", key, chance.randrange(2_000), 1), ("SETBIT", key, chance.randrange(2_000), 1)]


def _binary(number: int, chance: random.Random) -> Made:
    key = b"binary:\x00\xff" + number.to_bytes(4, "big")
    return key, [("SET", key, chance.randbytes(64))]


def _stream(number: int, chance: random.Random) -> Made:
    key = f"stream:{number}"
    adds: list[Command] = [("XADD", key, f"{number + 1}-{place}", "place", place) for place in range(1, 4)]
    group: list[Command] = [
        ("XGROUP", "CREATE", key, "readers", "0"),
        ("XREADGROUP", "GROUP", "readers", "reader-1", "COUNT", 2, "STREAMS", key, ">"),
    ]
    return key, adds + group


def _loglog(number: int, chance: random.Random) -> Made:
    key = f"visitors:{number}"
    return key, [("PFADD", key, *(f"visitor-{chance.getrandbits(32)}" for _ in range(20)))]


_MAKERS: dict[str, Callable[[int, random.Random], Made]] = {
    "session": _session,
    "text": _text,
    "cache": _cache,
    "hash": _hash,
    "list": _list,
    "set": _set,
    "sorted": _sorted,
    "bitmap": _bitmap,
    "binary": _binary,
    "stream": _stream,
    "loglog": _loglog,
}
