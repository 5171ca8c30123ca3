"""A bounded look at what a server is asked, by MONITOR: seconds and commands are limited, values never shown.

MONITOR sends every command of every client to whoever watches, with all values. One watcher alone can halve a
server's throughput (https://valkey.io/commands/monitor/), so it is watched for seconds, on one node, and never left
on: the connection is closed whatever happens.
"""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import redis
from matplotlib.figure import Figure

from helpers.aws import RunbookError
from helpers.elasticache.clients import connected_clients
from helpers.elasticache.keys import prefix_of, shown
from helpers.elasticache.wire import Wire

LINE = re.compile(rb"(\d+\.\d+) \[(\d+) ([^\]]*)\] (.*)", re.DOTALL)
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
LOOK_UP_S = 0.2
COLUMNS = ["ms", "client", "command", "key", "arguments"]


@dataclass(frozen=True)
class Monitored:
    """A sample of commands: `frame` has ms (since the first), client, command, key, arguments (never their values)."""

    frame: pd.DataFrame
    prefixes: pd.Series = field(repr=False)
    seconds: float = 0.0
    ended_by: str = ""

    def table(self, rows: int = 12) -> pd.DataFrame:
        """The first commands."""
        return self.frame.head(rows)

    @property
    def finding(self) -> str:
        """How many commands came, how fast, and which most."""
        if self.frame.empty:
            return f"No command in {self.seconds:.1f} s"
        most = self.frame["command"].value_counts()
        return f"{len(self.frame):,} commands in {self.seconds:.1f} s ({len(self.frame) / max(self.seconds, 1e-3):,.0f} a second), most of them {most.index[0]}; ended by the bound in {self.ended_by}"

    def counts(self) -> Counts:
        """The commands counted by name and by prefix."""
        by = [("command", self.frame["command"]), ("prefix", self.prefixes[self.prefixes != ""])]
        rows = [(what, name, number, f"{number / max(len(self.frame), 1):.0%}") for what, column in by for name, number in column.value_counts().head(10).items()]
        return Counts(pd.DataFrame(rows, columns=["counted by", "name", "commands", "share"]), self.finding)


@dataclass(frozen=True)
class Counts:
    """Commands counted by name and by prefix of their key."""

    frame: pd.DataFrame
    finding: str

    def table(self) -> pd.DataFrame:
        """The ten most frequent of each."""
        return self.frame

    def figure(self) -> Figure:
        """Both as bars, next to each other."""
        drawing = Figure(figsize=(9, 0.6 + 0.3 * max(self.frame["counted by"].value_counts().max() if len(self.frame) else 1, 3)), layout="constrained")
        for axes, what in zip(drawing.subplots(1, 2), ("command", "prefix"), strict=True):
            mine = self.frame[self.frame["counted by"] == what]
            bars = axes.barh(range(len(mine)), mine["commands"], color="0.78", edgecolor="0.2")
            axes.bar_label(bars, labels=[f" {one}" for one in mine["share"]], fontsize=8)
            axes.set_yticks(range(len(mine)), mine["name"], fontsize=9)
            axes.invert_yaxis()
            axes.margins(x=0.15)
            axes.set_xlabel("commands in the sample")
            axes.set_ylabel(what)
            axes.spines[["top", "right"]].set_visible(False)
        drawing.axes[0].set_title(self.finding, loc="left", fontsize=10)
        return drawing


def watch(client: redis.Redis, *, seconds: float = 2.0, commands: int = 500) -> Monitored:
    """Watch one server for at most `seconds` and `commands`. Raises `RunbookError` where MONITOR is refused.

    Keys are shown with their ids cut, other arguments as their number and size only.
    """
    positions, names, lines = key_positions(client), _names(client), []
    with Wire(client) as wire:
        started = time.monotonic()
        try:
            wire.call("MONITOR")
        except redis.ResponseError as error:
            raise RunbookError(f"The server refuses MONITOR: {error}.", "Allow it to this user, or read the slow log instead.") from error
        lines = _watch(wire, started + seconds, commands)
        took = time.monotonic() - started
    names |= _names(client)
    rows = [_row(line, positions, names) for line in lines]
    frame = pd.DataFrame([row[:-1] for row in rows], columns=COLUMNS)
    if len(frame):
        frame["ms"] = ((frame["ms"] - frame["ms"].iloc[0]) * 1000).map("{:,.1f}".format)
    return Monitored(frame, pd.Series([row[-1] for row in rows], dtype=object), took, "commands" if len(lines) >= commands else "seconds")


def _watch(wire: Wire, end: float, commands: int) -> list[bytes]:
    """The lines that arrive until `end` (monotonic seconds), `commands` at most."""
    lines: list[bytes] = []
    while len(lines) < commands and (left := end - time.monotonic()) > 0:
        wire.socket.settimeout(min(left, LOOK_UP_S))  # an interrupt waits for no longer
        with contextlib.suppress(redis.TimeoutError):
            lines += wire.receive(1)
    return lines


def parse(line: bytes) -> tuple[float, int, str, list[bytes]]:
    """A MONITOR line: Unix time, database, client's address (or `lua`), and the command with its arguments."""
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"This is no line of MONITOR: {line[:40]!r}")
    moment, database, client, rest = found.groups()
    return float(moment), int(database), client.decode(errors="replace"), [_unescaped(word) for word in WORD.findall(rest)]


def _unescaped(word: bytes) -> bytes:
    return ESCAPE.sub(lambda one: bytes([int(one[1][1:], 16)]) if one[1][:1] == b"x" and len(one[1]) == 3 else PLAIN.get(one[1], one[1]), word)


def _row(line: bytes, positions: dict[str, int], names: dict[str, str]) -> tuple[Any, ...]:
    moment, database, client, words = parse(line)
    name = words[0].decode(errors="replace").lower() if words else ""
    first = 1
    if len(words) > 1 and (longer := f"{name}|{words[1].decode(errors='replace').lower()}") in positions:
        name, first = longer, 2
    place = positions.get(name, 0)
    key = words[place] if 0 < place < len(words) else None
    others = [word for number, word in enumerate(words) if number >= first and number != place]
    told = f"{len(others)} ({sum(map(len, others)):,} bytes)" if others else ""
    known = positions.keys() & {name}
    who = names.get(client, "a script" if client == "lua" else client)
    return moment, who, name.replace("|", " ").upper() if known else "(unknown)", "" if key is None else shown(key), told, "" if key is None else prefix_of(key)


def _names(client: redis.Redis) -> dict[str, str]:
    """What clients call themselves, by address; the runbook's own too."""
    found = connected_clients(client, ours=())
    return {row.address: f"{row.name} ({row.address})" if row.name else row.address for row in found.itertuples()}


def key_positions(client: redis.Redis) -> dict[str, int]:
    """Where each command has its (first) key, by lower-case name ("xgroup|create" for subcommands); 0: none.

    EVAL and its like carry theirs after their number: 3.
    """
    with Wire(client) as wire:
        found = _positions(wire.call("COMMAND"))
    return found | {name: 3 for name in ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro") if name in found} | OBJECT_FIRST


# Redis 6.2 describes no subcommands
OBJECT_FIRST = {"object|encoding": 2, "object|idletime": 2, "object|freq": 2, "object|refcount": 2, "memory|usage": 2, "xinfo|stream": 2, "xinfo|groups": 2, "xinfo|consumers": 2, "xgroup|create": 2}
OBJECT_FIRST |= {f"client|{name}": 0 for name in ("list", "setname", "setinfo", "id", "kill", "pause", "unpause", "info", "no-evict", "no-touch")}


def _positions(commands: list[Any]) -> dict[str, int]:
    positions = {}
    for name, _, _, first, *rest in commands:
        positions[name.decode().lower()] = max(first, 0)
        positions |= _positions(rest[5] if len(rest) > 5 else [])
    return positions
