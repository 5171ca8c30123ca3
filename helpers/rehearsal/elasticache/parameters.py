"""The parameters of each family, and what they are called in the servers' own configuration.

Source: AWS, "Valkey and Redis OSS parameters" (names, defaults, when a change takes effect).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helpers.rehearsal.elasticache import catalogue
from helpers.rehearsal.elasticache.answers import not_offered
from helpers.rehearsal.elasticache.api import Fault
from helpers.rehearsal.engines import Engine

IMMEDIATE = "immediate"
REBOOT = "requires-reboot"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a family.

    `directive` is the server's name for it; "" for a part of another directive; None where only
    the real service has it, so that the local cloud refuses to change it.
    """

    name: str
    default: str
    allowed: str
    directive: str | None
    data_type: str = "string"
    modifiable: bool = True
    change: str = IMMEDIATE
    since: str = "2.8.6"

    def check(self, value: str) -> None:
        """Raise the service's error for a value that it does not take."""
        if not self.modifiable:
            raise Fault("InvalidParameterValueException", f"The parameter {self.name} cannot be modified.")
        if self.directive is None:
            raise not_offered(f"Changing the parameter {self.name}")
        if not self._takes(value):
            raise Fault(
                "InvalidParameterValueException",
                f"Invalid parameter value {value!r} for {self.name}: allowed values are {self.allowed}.",
            )

    def _takes(self, value: str) -> bool:
        if self.name == "notify-keyspace-events":
            return re.fullmatch(f"[{self.allowed}]*", value) is not None
        if self.data_type != "integer":
            return value in self.allowed.split(",")
        low, high = (int(bound) for bound in re.fullmatch(r"(-?\d+)-(-?\d+)", self.allowed).groups())  # type: ignore[union-attr]
        return re.fullmatch(r"-?\d+", value) is not None and low <= int(value) <= high

    def describe(self, value: str | None, source: str) -> dict[str, Any]:
        """Return the parameter as the service shows it; `value` None is the default."""
        return {
            "ParameterName": self.name,
            "ParameterValue": self.default if value is None else value,
            "Source": source,
            "DataType": self.data_type,
            "AllowedValues": self.allowed,
            "IsModifiable": self.modifiable,
            "MinimumEngineVersion": self.since,
            "ChangeType": self.change,
        }


_POLICIES = "volatile-lru,allkeys-lru,volatile-lfu,allkeys-lfu,volatile-random,allkeys-random,volatile-ttl,noeviction"
_MAX = "2147483647"
_BYTES = "9223372036854775807"


def _number(name: str, default: int, allowed: str = f"0-{_MAX}", **more: Any) -> Parameter:
    return Parameter(name, str(default), allowed, more.pop("directive", name), "integer", **more)


def _switch(name: str, default: str, **more: Any) -> Parameter:
    return Parameter(name, default, "yes,no", more.pop("directive", name), **more)


def _output_buffer(kind: str, hard: int, soft: int, seconds: int) -> list[Parameter]:
    """Return the three parameters that together are one directive, see `directives`."""
    stem = f"client-output-buffer-limit-{kind}"
    return [
        _number(f"{stem}-hard-limit", hard, f"0-{_BYTES}", directive=""),
        _number(f"{stem}-soft-limit", soft, f"0-{_BYTES}", directive=""),
        _number(f"{stem}-soft-seconds", seconds, directive=""),
    ]


def _common(lazy: str) -> list[Parameter]:
    return [
        _switch("activedefrag", "no", directive=None, since="5.0.0"),
        _switch("activerehashing", "yes", change=REBOOT),
        _switch("appendonly", "no", directive=None, modifiable=False),
        *_output_buffer("normal", 0, 0, 0),
        *_output_buffer("pubsub", 33554432, 8388608, 60),
        _switch("close-on-replica-write", "yes", directive=None, since="5.0.0"),
        _switch("cluster-allow-reads-when-down", "no", since="6.0.0"),
        # The service starts a node of a cluster as such: it is no directive of the user's.
        _switch("cluster-enabled", "no", directive="", change=REBOOT, since="3.2.4"),
        _switch("cluster-require-full-coverage", "no", since="3.2.4"),
        _number("databases", 16, "1-1200000", change=REBOOT),
        _number("hll-sparse-max-bytes", 3000, "1-16000"),
        _switch("lazyfree-lazy-eviction", lazy, since="4.0.10"),
        _switch("lazyfree-lazy-expire", lazy, since="4.0.10"),
        _switch("lazyfree-lazy-server-del", lazy, since="4.0.10"),
        _switch("lazyfree-lazy-user-del", lazy, since="6.0.0"),
        _number("lfu-decay-time", 1, since="4.0.10"),
        _number("lfu-log-factor", 10, f"1-{_MAX}", since="4.0.10"),
        _number("list-compress-depth", 0),
        _number("maxclients", 65000, "1-65000", directive=None, modifiable=False),
        Parameter("maxmemory-policy", "volatile-lru", _POLICIES, "maxmemory-policy"),
        _number("maxmemory-samples", 3, f"1-{_MAX}"),
        _number("min-replicas-max-lag", 10),
        _number("min-replicas-to-write", 0),
        _number("proto-max-bulk-len", 536870912, "1048576-536870912", since="5.0.0"),
        _number("repl-backlog-size", 1048576, f"16384-{_BYTES}"),
        _number("repl-backlog-ttl", 3600),
        _switch("replica-allow-chaining", "no", directive=None, modifiable=False),
        _number("reserved-memory", 0, f"0-{_BYTES}", directive=""),
        _number("reserved-memory-percent", 25, "0-100", directive=""),
        _number("set-max-intset-entries", 512),
        _number("slowlog-log-slower-than", 10000, f"-1-{_MAX}"),
        _number("slowlog-max-len", 128),
        _number("stream-node-max-bytes", 4096, since="5.0.0"),
        _number("stream-node-max-entries", 100, since="5.0.0"),
        _number("tcp-keepalive", 300),
        _number("timeout", 0),
        _number("tracking-table-max-keys", 1000000, "1-100000000", since="6.0.0"),
    ]


def _compact(encoding: str) -> list[Parameter]:
    """Return the sizes of small collections, which Redis 7 renamed from ziplist to listpack."""
    return [
        _number(f"hash-max-{encoding}-entries", 512),
        _number(f"hash-max-{encoding}-value", 64),
        _number(f"list-max-{encoding}-size", -2, f"-5-{_MAX}"),
        _number(f"zset-max-{encoding}-entries", 128),
        _number(f"zset-max-{encoding}-value", 64),
    ]


def of_family(family: str) -> dict[str, Parameter]:
    """Return the parameters of a family by name, in alphabetical order."""
    name, major = re.fullmatch(r"(redis|valkey)(\d+)(?:\.x)?", family).groups()  # type: ignore[union-attr]
    old = name == "redis" and int(major) < 7
    events = "KEg$lshzxeAtmd" if old else "KEg$lshzxeAtmdn"
    parameters = [
        *_common("yes" if name == "valkey" and int(major) >= 8 else "no"),
        *_compact("ziplist" if old else "listpack"),
        Parameter("notify-keyspace-events", "", events, "notify-keyspace-events"),
    ]
    if old:
        parameters.append(_switch("lua-replicate-commands", "yes", directive=None, modifiable=False))
    return {parameter.name: parameter for parameter in sorted(parameters, key=lambda p: p.name)}


def directives(engine: Engine, node_type: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the server's configuration for a node: `values` are the parameters set by the user."""
    known = of_family(engine.family)
    effective = {name: values.get(name, parameter.default) for name, parameter in known.items()}
    configured = {p.directive: effective[p.name] for p in known.values() if p.directive}
    configured["client-output-buffer-limit"] = " ".join(
        _buffer_limit(kind, effective) for kind in ("normal", "pubsub")
    )
    configured["maxmemory"] = str(memory_limit(node_type, values))
    return configured


def memory_limit(node_type: str, values: Mapping[str, str]) -> int:
    """Return the bytes that a node gives to data under these parameters."""
    percent = values.get("reserved-memory-percent")
    limit = catalogue.maxmemory(node_type, None if percent is None else int(percent))
    return limit - int(values.get("reserved-memory", 0))


def needs_reboot(family: str, changed: set[str]) -> bool:
    """Return whether one of these parameters takes effect only when the server starts."""
    known = of_family(family)
    return any(known[name].change == REBOOT for name in changed if name in known)


def _buffer_limit(kind: str, values: Mapping[str, str]) -> str:
    stem = f"client-output-buffer-limit-{kind}"
    return f"{kind} {values[f'{stem}-hard-limit']} {values[f'{stem}-soft-limit']} {values[f'{stem}-soft-seconds']}"
