"""The keys of the benchmarks: a session store with its query cache, the rehearsal's mix of every type, and plain shapes of one type."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from helpers.rehearsal import dataset
from helpers.rehearsal.engines import Engine
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Command, Wire

TTL_S = (3600, 48 * 3600)
TIMEOUT_S = 300.0
# Kinds and their share of a thousand keys of a session store. One in a thousand is large.
SHARES = {"session": 450, "query": 310, "token": 120, "pages": 40, "roles": 40, "scores": 34, "stream": 5, "large": 1}
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()


Made = tuple[str, list[Command]]


def fill_cache(server: Server, keys: int, seed: int = 1) -> None:
    """Fill a server like the cache of an application: sessions, query cache, tokens; a TTL on every second key."""
    chance = random.Random(seed)
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    chance.shuffle(kinds)
    with Wire(f"127.0.0.1:{server.port}", timeout_s=TIMEOUT_S) as wire:
        wire.bulk(_commands(keys - len(_GIANTS), kinds, chance))
        wire.bulk(command for make in _GIANTS for command in make(chance))


def fill_mixed(server: Server, keys: int, seed: int = 1) -> None:
    """Fill a server with the rehearsal's keys: every type, small, in two databases."""
    dataset.fill(f"127.0.0.1:{server.port}", keys, seed)


def fill_plain(server: Server, keys: int, make: Callable[[int, random.Random], Made], seed: int = 1) -> None:
    """Fill a server with keys of one kind, three in four with a TTL."""
    chance = random.Random(seed)
    with Wire(f"127.0.0.1:{server.port}", timeout_s=TIMEOUT_S) as wire:
        wire.bulk(command for number in range(keys) for command in _plain(number, chance, make))


def _plain(number: int, chance: random.Random, make: Callable[[int, random.Random], Made]) -> Iterator[Command]:
    key, making = make(number, chance)
    yield from making
    if number % 4:
        yield ("EXPIRE", key, chance.randint(*TTL_S))




def twin(server: Server, engine: Engine, directory: Path, **config: str) -> Server:
    """Return a new server of `engine` with the same keys, loaded from an RDB file of `server`."""
    server.command("SAVE")
    return Server(engine, directory, rdb=server.rdb_path, config=config)


def _commands(keys: int, kinds: list[str], chance: random.Random) -> Iterator[Command]:
    for number in range(keys):
        key, making = _MAKERS[kinds[number % len(kinds)]](number, chance)
        yield from making
        if number % 2:
            yield ("EXPIRE", key, chance.randint(*TTL_S))


def _session(number: int, chance: random.Random) -> Made:
    key = f"session:{chance.getrandbits(128):032x}"
    cart = json.dumps([{"item": chance.randrange(10**6), "n": chance.randrange(1, 5)} for _ in range(chance.randrange(6))])
    about = ("user", number, "csrf", f"{chance.getrandbits(128):x}", "seen", 1_790_000_000 + number, "locale", "ja_JP")
    return key, [("HSET", key, *about, "cart", cart)]


def _query(number: int, chance: random.Random) -> Made:
    key = f"SELECT * FROM orders WHERE user_id = {number} ORDER BY id LIMIT 10;"
    rows = [{"id": number + n, "user": WORDS[n % 16], "total": round(chance.random() * 100, 2)} for n in range(chance.randrange(1, 10))]
    return key, [("SET", key, json.dumps(rows))]


def _token(number: int, chance: random.Random) -> Made:
    key = f"token:{number}"
    return key, [("SET", key, f"{chance.getrandbits(256):x}")]


def _pages(number: int, chance: random.Random) -> Made:
    key = f"pages:{number}"
    return key, [("RPUSH", key, *(f"/{chance.choice(WORDS)}/{n}" for n in range(chance.randrange(2, 30))))]


def _roles(number: int, chance: random.Random) -> Made:
    key = f"roles:{number}"
    members = chance.sample(WORDS, chance.randrange(1, 12)) if number % 3 else chance.sample(range(10**6), 12)
    return key, [("SADD", key, *members)]


def _scores(number: int, chance: random.Random) -> Made:
    key = f"scores:{number}"
    return key, [("ZADD", key, *(part for n in range(chance.randrange(2, 20)) for part in (repr(chance.random() * 100), f"user:{n}")))]


def _stream(number: int, chance: random.Random) -> Made:
    key = f"stream:{number}"
    return key, [
        *(("XADD", key, f"{number + 1}-{n}", "event", chance.choice(WORDS), "n", n) for n in range(1, 6)),
        ("XGROUP", "CREATE", key, "readers", "0"),
        ("XREADGROUP", "GROUP", "readers", "anna", "COUNT", 3, "STREAMS", key, ">"),
        ("XACK", key, "readers", f"{number + 1}-1"),
    ]


def _serialized(number: int, chance: random.Random) -> Made:
    key = f"session:{chance.getrandbits(128):032x}"
    return key, [("SET", key, chance.randbytes(chance.randrange(300, 701)))]


def _small(number: int, chance: random.Random) -> Made:
    key = f"user:{number}:seen"
    return key, [("SET", key, f"{chance.getrandbits(32 + number % 96):x}")]


def _kilobyte(number: int, chance: random.Random) -> Made:
    key = f"page:{number}"
    return key, [("SET", key, chance.randbytes(1000))]


def _fields(number: int, chance: random.Random) -> Made:
    key = f"session:{chance.getrandbits(128):032x}"
    return key, [("HSET", key, *(part for place in range(8) for part in (f"field:{place}", f"{chance.getrandbits(64):x}")))]


def _large(number: int, chance: random.Random) -> Made:
    key = f"export:{number}"
    return key, [("SET", key, chance.randbytes(chance.randrange(4_000, 120_000)))]


_MAKERS: dict[str, Callable[[int, random.Random], Made]] = {
    "session": _session,
    "query": _query,
    "token": _token,
    "pages": _pages,
    "roles": _roles,
    "scores": _scores,
    "stream": _stream,
    "large": _large,
}
# A few keys that would block a server if they were read at once.
_GIANTS: tuple[Callable[[random.Random], list[Command]], ...] = (
    lambda chance: [("SET", "giant:text", chance.randbytes(5_000_000))],
    lambda chance: [("SADD", "giant:set", *(f"member {n}" for n in range(start, start + 1000))) for start in range(0, 50_000, 1000)],
    lambda chance: [("HSET", "giant:hash", *(part for n in range(start, start + 1000) for part in (f"field {n}", n))) for start in range(0, 50_000, 1000)],
    lambda chance: [("ZADD", "giant:scores", *(part for n in range(start, start + 1000) for part in (repr(chance.random()), f"m{n}"))) for start in range(0, 50_000, 1000)],
    lambda chance: [("RPUSH", "giant:list", *(f"item {n}" for n in range(start, start + 1000))) for start in range(0, 50_000, 1000)],
)

# Keys of one kind, on which this project alone is measured.
PLAIN: dict[str, Callable[[Server, int], None]] = {
    "strings of 300 to 700 bytes": partial(fill_plain, make=_serialized),
    "strings of 1,000 bytes": partial(fill_plain, make=_kilobyte),
    "small strings": partial(fill_plain, make=_small),
    "hashes of 8 fields": partial(fill_plain, make=_fields),
}
FILL: dict[str, Callable[[Server, int], None]] = {"sessions and query cache": fill_cache, "all types mixed": fill_mixed, **PLAIN}
