"""A query cache: rows are asked of Redis first, under the SQL, and of the database only where Redis has none."""

from __future__ import annotations

import datetime
import decimal
import json
import random
import sqlite3
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import redis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from helpers.aws import act, planning
from helpers.elasticache.demo import PREFIX, TTL_S

HIT, MISS, PLANNED = "*** cache hit ***", "*** no cache ***", "*** (known after apply) ***"
NAMES = ("alice", "bob", "charles", "donny", "elie", "fabian", "gabriel", "harold", "Ignatius", "jonny")
ORDERS = 200_000
USERS_SQL = "SELECT * FROM users;"
REPORT_SQL = "SELECT name, COUNT(*) AS orders, ROUND(SUM(total), 2) AS total FROM users JOIN orders ON user_id = users.id GROUP BY name ORDER BY total DESC;"


@dataclass(frozen=True)
class Answer:
    """What a query gave: column names and rows, where they came from, and how many milliseconds each part took."""

    sql: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    source: str
    ms: float
    database_ms: float = 0.0
    store_ms: float = 0.0

    @property
    def finding(self) -> str:
        """`*** cache hit *** SELECT * FROM users; in 0.21 ms`."""
        return f"{self.source} {self.sql} in {self.ms:.2f} ms"

    def table(self) -> pd.DataFrame:
        """The rows."""
        return pd.DataFrame(self.rows, columns=list(self.columns))


class QueryCache:
    """A database with its answers kept in Redis: a key for each SQL text with its parameters, for `ttl_s` seconds."""

    def __init__(self, client: redis.Redis | redis.RedisCluster, database: sqlite3.Connection, ttl_s: float = TTL_S, prefix: str = f"{PREFIX}query:") -> None:
        self.client, self.database, self.ttl_s, self.prefix = client, database, ttl_s, prefix
        self.written: set[str] = set()

    def key(self, sql: str, parameters: Sequence[Any] = ()) -> str:
        """The SQL itself, and behind it the parameters as JSON: other parameters are another key."""
        return self.prefix + sql + (" " + json.dumps(list(parameters), ensure_ascii=False, default=_as_text) if parameters else "")

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> Answer:
        """The rows, from Redis where it has them, else from the database, and then kept in Redis."""
        key, started = self.key(sql, parameters), time.perf_counter()
        known = self.client.get(key)
        if known is not None:
            columns, rows = json.loads(known)
            return Answer(sql, tuple(columns), rows, HIT, _ms(started))
        looked_ms, asked = _ms(started), time.perf_counter()
        columns, rows = self._query(sql, parameters)
        database_ms = _ms(asked)
        planned = planning() and key in self.written
        store_ms = 0.0 if planned else self._store(key, columns, rows)
        return Answer(sql, columns, rows, PLANNED if planned else MISS, looked_ms + database_ms + store_ms, database_ms, store_ms)

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Change the database, and nothing else; returns how many rows were changed."""
        with self.database:
            return self.database.execute(sql, parameters).rowcount

    def invalidate(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Forget one answer: the next one to ask gets the database's."""
        key = self.key(sql, parameters)
        act("redis", "DEL", key, lambda: self.client.delete(key))
        self.written.discard(key)

    def _query(self, sql: str, parameters: Sequence[Any]) -> tuple[tuple[str, ...], list[list[Any]]]:
        cursor = self.database.execute(sql, parameters)
        return tuple(column[0] for column in cursor.description), [list(row) for row in cursor]

    def _store(self, key: str, columns: Sequence[str], rows: list[list[Any]]) -> float:
        """Keep an answer; returns the milliseconds that took, 0 in a plan."""
        text = json.dumps([list(columns), rows], ensure_ascii=False, separators=(",", ":"), default=_as_text)

        def store() -> float:
            started = time.perf_counter()
            self.client.set(key, text, px=round(self.ttl_s * 1000))
            return _ms(started)

        self.written.add(key)
        return act("redis", "SET", key, store, ttl_s=self.ttl_s) or 0.0


def _as_text(value: Any) -> Any:
    """What JSON has no type for, as text: exact decimals, dates."""
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.datetime, datetime.time)):
        return str(value)
    raise TypeError(f"A {type(value).__name__} cannot be kept in the query cache.")


def _ms(since: float) -> float:
    return (time.perf_counter() - since) * 1000


def sample_database(path: Path, orders: int = ORDERS) -> sqlite3.Connection:
    """A SQLite database with the ten users and their orders, made anew; it stands in for RDS."""
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path)
    chance = random.Random(1)
    with database:
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, total REAL NOT NULL)")
        database.executemany("INSERT INTO users VALUES (?, ?)", enumerate(NAMES, 1))
        database.executemany("INSERT INTO orders (user_id, total) VALUES (?, ?)", ((chance.randint(1, 10), round(chance.uniform(1, 500), 2)) for _ in range(orders)))
    return database


def stale(cache: QueryCache, name: str = "Ignatia", number: int = 9) -> pd.DataFrame:
    """Rename a user in the database, ask, invalidate, ask again: what the database and the application say each time."""
    sql = "SELECT name FROM users WHERE id = ?;"
    rows = [_said("the first time", cache.ask(sql, [number]), cache, number)]
    cache.write("UPDATE users SET name = ? WHERE id = ?;", [name, number])
    rows.append(_said("after the UPDATE", cache.ask(sql, [number]), cache, number))
    cache.invalidate(sql, [number])
    rows.append(_said("after the invalidation", cache.ask(sql, [number]), cache, number))
    return pd.DataFrame(rows, columns=["asked", "source", "the application says", "the database has", "stale"])


def _said(when: str, answer: Answer, cache: QueryCache, number: int) -> tuple[Any, ...]:
    truth = cache.database.execute("SELECT name FROM users WHERE id = ?;", [number]).fetchone()[0]
    said = answer.rows[0][0]
    return when, answer.source, said, truth, "yes" if said != truth else "no"


# -- what it gains -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """Measured times (ms) of queries: `times` has query, source (database or Redis) and ms of every repetition."""

    frame: pd.DataFrame
    times: pd.DataFrame = field(repr=False)

    def table(self) -> pd.DataFrame:
        """A row a query: rows, bytes kept, medians, how much faster, and the hit rate from which the cache saves time."""
        return self.frame

    @property
    def finding(self) -> str:
        """For which query the cache was faster, by how much."""
        if "the cache is" not in self.frame:
            return "A plan stores nothing, so that only the database was measured"
        return "; ".join(f"{query}: the cache is {ratio}" for query, ratio in zip(self.frame["query"], self.frame["the cache is"], strict=True))

    def figure(self) -> Figure:
        """Every repetition as a mark on a logarithmic axis, the medians as lines."""
        queries = list(self.frame["query"])
        drawing = Figure(figsize=(9, 1.2 + 0.75 * len(queries)))
        axes = drawing.subplots()
        for row, query in enumerate(queries):
            for source, mark, offset in (("database", "o", -0.16), ("Redis", "x", 0.16)):
                mine = self.times[(self.times["query"] == query) & (self.times["source"] == source)]["ms"]
                if len(mine):
                    axes.plot(mine, [row + offset] * len(mine), mark, color="0.35", alpha=0.6, fillstyle="none", markersize=5, label=source if row == 0 else None)
                    axes.vlines(mine.median(), row + offset - 0.14, row + offset + 0.14, color="black", linewidth=2.5)
                    axes.annotate(f"{mine.median():.3g} ms", (mine.median(), row + offset - 0.15), (0, 1), textcoords="offset points", ha="center", va="bottom", fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_yticks(range(len(queries)), queries, fontsize=9)
        axes.set_ylim(len(queries) - 0.45, -0.6)
        axes.margins(x=0.12)
        axes.set_xlabel("milliseconds (logarithmic); the thick line is the median")
        axes.set_ylabel("query")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8.5, frameon=False)
        axes.set_title(self.finding.replace("; ", "\n"), loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        return drawing


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times faster" if ratio >= 10 else f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"


def measure(cache: QueryCache, queries: dict[str, str], repeats: int = 30) -> Gain:
    """The time of each query (name to SQL) from the database and from Redis, `repeats` times in turn.

    A miss costs a look into Redis and the storing besides the query. With the times of a query d, of a hit c and of
    the storing s, the cache saves time from a hit rate of (c + s) / (d + s) on.
    """
    rows, times = [], []
    for name, sql in queries.items():
        first = cache.ask(sql)
        stored = first if first.source == MISS else _stored_again(cache, sql)
        for _ in range(repeats):
            started = time.perf_counter()
            cache._query(sql, ())
            times.append((name, "database", _ms(started)))
            if not planning():
                times.append((name, "Redis", cache.ask(sql).ms))
        median = {source: statistics.median(ms for query, place, ms in times if (query, place) == (name, source)) for source in {place for query, place, _ in times if query == name}}
        rows.append((name, len(first.rows), _size(cache, sql), *_compared(median, stored.store_ms)))
    columns = ["query", "rows", "bytes in Redis", "database (ms)", "Redis (ms)", "the cache is", "saves time from a hit rate of"]
    frame = pd.DataFrame(rows, columns=columns if not planning() else columns[:4])
    return Gain(frame, pd.DataFrame(times, columns=["query", "source", "ms"]))


def _stored_again(cache: QueryCache, sql: str) -> Answer:
    cache.invalidate(sql)
    return cache.ask(sql)


def _size(cache: QueryCache, sql: str) -> int:
    return cache.client.strlen(cache.key(sql))


def _compared(median: dict[str, float], store_ms: float) -> tuple[Any, ...]:
    database = round(median["database"], 3)
    if "Redis" not in median:
        return (database,)
    hit = median["Redis"]
    rate = (hit + store_ms) / (median["database"] + store_ms)
    return database, round(hit, 3), _times(median["database"] / hit), f"{rate:.1%}" if rate < 1 else "never"
