"""Compare and catch up a million keys, Redis 6.2 against Valkey 8.1, next to what people use today.

    ./run python benchmarks/redis_compare.py [--keys 1000000] [--shape NAME]...

Prints a table for each shape of data and writes it to its part of benchmarks/results/redis_compare.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import redis

from redis_data import FILL, PLAIN, twin
from helpers.elasticache.changes import Capture
from helpers.elasticache.compare import compare
from helpers.elasticache.copying import catch_up, resync
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server
from helpers.rehearsal.wire import Wire

RESULTS = Path(__file__).parent / "results" / "redis_compare.md"
CONFIG = {"notify-keyspace-events": "AE", "slowlog-log-slower-than": "500", "slowlog-max-len": "100000"}
PIPELINE = 200
PROBE_EVERY_S = 0.0015
CATCH_UP_SHARE = 5

Key = tuple[int, bytes]


@dataclass
class Block:
    """How long servers kept others waiting: the times of a PING and a GET, and of the servers' own slow commands."""

    latencies_ms: np.ndarray[Any, Any]
    slow_ms: list[float]
    commands: int

    def columns(self) -> dict[str, float]:
        """Return the columns of a table: milliseconds."""
        p50, p99, longest = np.percentile(self.latencies_ms, [50, 99, 100])
        slowest = sorted(self.slow_ms)
        # Commands that are not in the slow log took less than its threshold.
        above = int(self.commands * 0.01)
        p99_command = slowest[-above - 1] if above < len(slowest) else 0.5
        return {
            "wait p50": p50,
            "wait p99": p99,
            "wait max": longest,
            "command p99 <=": p99_command,
            "command max <=": slowest[-1] if slowest else 0.5,
        }


def _probe(ports: list[int], ready: Any, stop: Any, results: Any) -> None:
    """Ask each server for a PING and a GET every 1.5 ms until told to stop, in a process of its own."""
    wires = [Wire(f"127.0.0.1:{port}") for port in ports]
    taken: list[list[float]] = [[] for _ in wires]
    ready.set()
    while not stop.is_set():
        for wire, times in zip(wires, taken, strict=True):
            began = time.perf_counter()
            wire.ask(("PING",), ("GET", "probe"))
            times.append((time.perf_counter() - began) * 1000)
        time.sleep(PROBE_EVERY_S)
    results.put(taken)


@contextmanager
def watched(servers: list[Server]) -> Iterator[list[Block]]:
    """Measure how long the servers keep others waiting while the block runs; the list is filled at its end."""
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=_probe, args=([server.port for server in servers], ready, stop, results))
    process.start()
    ready.wait()
    blocks: list[Block] = []
    clients = [server.client() for server in servers]
    for client in clients:
        client.slowlog_reset()
    before = [client.info("stats")["total_commands_processed"] for client in clients]
    try:
        yield blocks
    finally:
        stop.set()
        latencies = results.get()
        process.join()
    for client, count, times in zip(clients, before, latencies, strict=True):
        slow = [entry["duration"] / 1000 for entry in client.slowlog_get(100_000)]
        blocks.append(Block(np.array(times), slow, client.info("stats")["total_commands_processed"] - count))


def scan_batches(client: redis.Redis) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the keys of each database in pieces, as scripts on the web do."""
    for name in client.info("keyspace"):
        client.select(int(name[2:]))
        cursor = 0
        while True:
            cursor, keys = client.scan(cursor, count=PIPELINE)
            yield int(name[2:]), keys
            if not cursor:
                break


def by_dump(cut: int) -> Callable[[redis.Redis, redis.Redis], set[Key]]:
    """Return a comparison of DUMP payloads less their last `cut` bytes, over redis-py pipelines."""

    def differing(source: redis.Redis, target: redis.Redis) -> set[Key]:
        found: set[Key] = set()
        for number, keys in scan_batches(source):
            target.select(number)
            ours, theirs = (_pipelined(client, [("DUMP", key) for key in keys]) for client in (source, target))
            found |= {
                (number, key)
                for key, one, other in zip(keys, ours, theirs, strict=True)
                if (one or b"")[: -cut or None] != (other or b"")[: -cut or None]
            }
        return found

    return differing


READ = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XRANGE", "-", "+"),
}


def by_type(source: redis.Redis, target: redis.Redis) -> set[Key]:
    """Return what differs by TYPE, PTTL and a full read by type, over redis-py pipelines."""
    found: set[Key] = set()
    for number, keys in scan_batches(source):
        target.select(number)
        facts = []
        for client in (source, target):
            replies = _pipelined(client, [(name, key) for key in keys for name in ("TYPE", "PTTL")])
            kinds = replies[::2]
            values = _pipelined(client, [(READ[k][0], key, *READ[k][1:]) for key, k in zip(keys, kinds, strict=True) if k in READ])
            facts.append(list(zip(kinds, replies[1::2], _filled(kinds, values), strict=True)))
        for key, (kind, ttl, value), (its_kind, its_ttl, its_value) in zip(keys, *facts, strict=True):
            ttl_differs = (ttl < 0 or its_ttl < 0) and ttl != its_ttl or abs(ttl - its_ttl) > 2000
            if kind != its_kind or ttl_differs or _plain(kind, value) != _plain(kind, its_value):
                found.add((number, key))
    return found


def _filled(kinds: list[bytes], values: list[Any]) -> list[Any]:
    left = iter(values)
    return [next(left) if kind in READ else None for kind in kinds]


def _plain(kind: bytes, value: Any) -> Any:
    if kind == b"set":
        return frozenset(value)
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == b"zset":
        return [(value[place], float(value[place + 1])) for place in range(0, len(value), 2)]
    return value


def _pipelined(client: redis.Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
    """Return the replies to commands as the server gave them."""
    pipe = client.pipeline(transaction=False)
    pipe.response_callbacks = {}
    for command in commands:
        pipe.execute_command(*command)
    return pipe.execute(raise_on_error=False)


def by_us(latency_ms: float) -> Callable[[redis.Redis, redis.Redis], set[Key]]:
    """Return the comparison of this project."""
    return lambda source, target: compare(source, target, progress=False, latency_ms=latency_ms).keys()


METHODS: dict[str, Callable[[redis.Redis, redis.Redis], set[Key]]] = {
    "compare()": by_us(5),
    "compare(latency_ms=1)": by_us(1),
    "raw DUMP": by_dump(0),
    "DUMP without its trailer": by_dump(10),
    "typed read, redis-py": by_type,
}


def plant(source: redis.Redis, target: redis.Redis, chance: random.Random) -> set[Key]:
    """Make differences of every kind between the servers and return the keys that differ."""
    for client in (source, target):
        client.set("planted:type", 1)
        client.rpush("planted:list", "a", "b", "c")
        client.zadd("planted:score", {"a": 0.1})
        client.set("planted:ttl", 1, ex=5000)
        client.xadd("planted:group", {"a": 1}, id="1-1")
        client.xadd("planted:group", {"a": 1}, id="2-1")
        client.xgroup_create("planted:group", "g", "0")
        client.copy("planted:group", "planted:owner")
        client.xreadgroup("g", "anna", {"planted:owner": ">"})
        client.set("probe", 1)
        with client.client() as five:
            five.select(5)
            five.set(b"planted:\xff\x00", 1)
    for client in (source, target):
        client.hset("planted:hash", mapping={"a": 1, "b": 2})
    hashes = [key for _, keys in _some(source) for key in keys if source.type(key) == b"hash"] or [b"planted:hash"]
    field = chance.choice(hashes)
    target.hset(field, chance.choice(sorted(target.hkeys(field))), "x")
    target.delete("planted:type")
    target.rpush("planted:type", 1)
    target.lset("planted:list", 0, "b")
    target.lset("planted:list", 1, "a")
    target.zadd("planted:score", {"a": 0.1 + 2**-56})
    target.persist("planted:ttl")
    target.xgroup_setid("planted:group", "g", "1-1")
    target.xclaim("planted:owner", "g", "bert", 0, ["1-1"])
    source.set("planted:missing", 1)
    target.set("planted:extra", 1)
    with target.client() as five:
        five.select(5)
        five.set(b"planted:\xff\x00", 2)
    names = ("type", "list", "score", "ttl", "group", "owner", "missing", "extra")
    return {(0, field), (5, b"planted:\xff\x00"), *((0, f"planted:{name}".encode()) for name in names)}


def _some(client: redis.Redis) -> Iterator[tuple[int, list[bytes]]]:
    for _, batch in zip(range(5), scan_batches(client), strict=False):
        yield batch


def measure(shape: str, keys: int, only: list[str]) -> tuple[pd.DataFrame, str]:
    """Return the table of a shape of data, and a sentence on catching up with it."""
    old, new = engines.pair()
    with tempfile.TemporaryDirectory() as directory, Server(old, Path(directory, "old"), config=CONFIG) as one:
        FILL[shape](one, keys)
        with twin(one, new, Path(directory, "new"), **CONFIG) as other:
            source, target = (_client(server) for server in (one, other))
            planted = plant(source, target, random.Random(1))
            count = sum(each["keys"] for each in source.info("keyspace").values())
            rows = [_idle([one, other])]
            for name in only or METHODS:
                rows.append(_row(name, METHODS[name], count, planted, [one, other]))
                print(pd.DataFrame(rows).round(2).to_string(index=False), flush=True)
            return pd.DataFrame(rows).round(2), _catch_up(one, other, count)


def _client(server: Server) -> redis.Redis:
    # One connection: SELECT holds for all that follows.
    return server.client(single_connection_client=True, protocol=2)


def _idle(servers: list[Server]) -> dict[str, Any]:
    with watched(servers) as blocks:
        time.sleep(3)
    return {"method": "(nothing)", **_worst(blocks)}


def _worst(blocks: list[Block]) -> dict[str, float]:
    columns = [block.columns() for block in blocks]
    return {name: max(each[name] for each in columns) for name in columns[0]}


def _row(
    name: str, method: Callable[[redis.Redis, redis.Redis], set[Key]], count: int, planted: set[Key], servers: list[Server]
) -> dict[str, Any]:
    clients = [_client(server) for server in servers]
    before, machine, began = [_cpu(client) for client in clients], _machine_cpu(), time.perf_counter()
    own = time.process_time()
    found = method(*clients)
    own, seconds = time.process_time() - own, time.perf_counter() - began
    used = [*(_cpu(client) - earlier for client, earlier in zip(clients, before, strict=True)), own]
    others = (_machine_cpu() - machine - sum(used)) / seconds / (os.cpu_count() or 1)
    with watched(servers) as blocks:
        began = time.perf_counter()
        method(*clients)
        watched_seconds = time.perf_counter() - began
    return {
        "method": name,
        "keys/s": f"{count / seconds:,.0f}",
        "watched": f"{count / watched_seconds:,.0f}",
        "false": f"{len(found - planted):,}",
        "planted": f"{len(found & planted)} of {len(planted)}",
        **_worst(blocks),
        "CPU us/key": " + ".join(f"{each / count * 1e6:.1f}" for each in used),
        "others": f"{others:.0%}",
    }


def _cpu(client: redis.Redis) -> float:
    facts = client.info("cpu")
    return float(facts["used_cpu_user"] + facts["used_cpu_sys"])


def _machine_cpu() -> float:
    """Return the seconds that all processes of the machine have worked (Linux; nan elsewhere)."""
    path = Path("/proc/stat")
    if not path.exists():
        return float("nan")
    user, nice, system, _, _, irq, softirq = map(int, path.read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _catch_up(one: Server, other: Server, count: int) -> str:
    """Change every fifth key while a capture listens, copy the changes and say how fast that was."""
    source, target = one.client(), other.client()
    resync(source, target, progress=False)
    with Capture(source).start() as capture, watched([one, other]) as blocks:
        with Wire(f"127.0.0.1:{one.port}", timeout_s=60) as wire:
            for _, keys in scan_batches(_client(one)):
                wire.bulk(("EXPIRE", key, 90_000) for key in keys[::CATCH_UP_SHARE])
        capture.barrier(60)
        caught = catch_up(capture, source, target, until_pending=0)
    seconds = sum(each.seconds for each in caught.rounds)
    equal = compare(source, target, progress=False).equal
    wait = _worst(blocks)
    return (
        f"Catch-up (DUMP, PTTL -> RESTORE): {caught.keys:,} changed keys of {count:,} in {seconds:.2f} s, "
        f"{caught.keys / seconds:,.0f} keys/s; wait p50 {wait['wait p50']:.2f}, p99 {wait['wait p99']:.2f}, "
        f"max {wait['wait max']:.2f} ms; equal after it: {equal}."
    )


def about() -> str:
    """Return where and when this was measured."""
    old, new = engines.pair()
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return (
        f"{date.today()}, {os.cpu_count()} cores ({model}) shared by both servers, the comparison and the probe; "
        f"{old}, {new}, Python {platform.python_version()}, redis-py {redis.__version__}."
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


LEGEND = """\
Each method runs twice: alone, for `keys/s`, and `watched` by a probe that takes a tenth of a core. `wait` is what a
PING and a GET of the probe wait for their answers, every 1.5 ms, on the worse of the two servers, in ms; its first row
is the same without any comparison. `command` is the duration of the servers' own commands (SLOWLOG, above 0.5 ms; 0.5
stands for less). `false` are equal keys reported as different. `CPU` is that of source + target + comparing process;
`others` is the share of all cores that went to anything else meanwhile."""


def main() -> None:
    """Measure all shapes, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--shape", action="append", choices=FILL, help="all of them when none is named")
    parser.add_argument("--method", action="append", choices=METHODS, help="nothing is written then")
    options = parser.parse_args()
    for shape in options.shape or FILL:
        print(f"\n{shape}: {options.keys:,} keys", flush=True)
        table, sentence = measure(shape, options.keys, options.method or (["compare()"] if shape in PLAIN else []))
        print(sentence, flush=True)
        if not options.method:
            _write(shape, f"{options.keys:,} keys. {about()}\n\n{_markdown(table)}\n\n{sentence}")


def _write(shape: str, text: str) -> None:
    """Write what was measured on a shape to its part of the results, and leave those of other shapes."""
    _, *parts = (RESULTS.read_text() if RESULTS.exists() else "").split("\n## ")
    known = dict(part.strip().split("\n\n", 1) for part in parts) | {shape: text}
    written = [f"## {name}\n\n{known[name]}" for name in FILL if name in known]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n\n".join(["# Comparing two servers, and catching up", LEGEND, *written]) + "\n")


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(object).where(table.notna(), "").to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


if __name__ == "__main__":
    main()
