"""Talk to a cluster mode enabled group: each command once, to the primary of its key's slot.

The layout is learnt from the configuration endpoint with CLUSTER SLOTS, which every version has. A reply
MOVED or ASK says that the command was not executed, so it is sent to the node that the reply names; a lost
connection stays unknown, as on one server, and nothing is repeated.
Source: Redis cluster specification, "Redirection and resharding"; AWS, ElastiCache user guide, "Finding
connection endpoints" (clients of cluster mode use the configuration endpoint).
"""

from __future__ import annotations

import binascii
import bisect
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from helpers.rehearsal.wire import Command, Refused, Wire, WireError, executed

SLOTS = 16_384
REDIRECTIONS = 5
BULK_COMMANDS = 2_000
# Commands of many keys, each with the one that asks for a single key.
_OF_MANY = {"MGET": "GET", "EXISTS": "EXISTS"}
# Where the key is not the first argument.
_KEY_SECOND = {"XGROUP", "XINFO"}


class _Range(NamedTuple):
    first: int
    last: int
    address: str


class ClusterWire:
    """Connections to the primaries of a cluster, with the methods of `Wire`; `options` are those of `Wire`.

    `shards` are the names of the shards, each its lowest slot. Raises `WireError` where the configuration
    endpoint or a node cannot be reached, and `Refused` where the server has cluster mode disabled.
    """

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.endpoint = endpoint
        self._open: Callable[[str], Wire] = lambda address: Wire(address, **options)
        self._nodes: dict[str, Wire] = {}
        with self._open(endpoint) as wire:
            self._learn(wire)

    def shard_of(self, key: str | bytes) -> str:
        """Return the name of the shard that a key belongs to by the layout known now."""
        return self._names[self._address(slot_of(key))]

    def ask(self, *commands: Command) -> list[Any]:
        """Send commands, those of a node in one packet; replies and errors as `Wire.ask`.

        MGET and EXISTS of many keys are asked key by key: a node refuses keys of different slots in one command.
        """
        parts = [_parts(command) for command in commands]
        replies = iter(self._ask([part for several in parts for part in several]))
        return [
            _joined(command, [next(replies) for _ in several]) for command, several in zip(commands, parts, strict=True)
        ]

    def one(self, *command: Any) -> Any:
        """Send one command and return its reply. Raises `Refused` for an error reply, `WireError` for none."""
        reply = self.ask(command)[0]
        if isinstance(reply, Refused):
            raise reply
        return reply

    def transaction(self, *commands: Command) -> list[Any]:
        """Send commands on keys of one slot as one MULTI ... EXEC and return their replies. Raises like `one`."""
        slot = slot_of(key_of(commands[0]))
        return executed(self._redirected(self._address(slot), (("MULTI",), *commands, ("EXEC",))))

    def each(self, *command: Any) -> list[Any]:
        """Send one command without a key to every primary and return the replies. Raises like `one`."""
        return [self._node(address).one(*command) for address in self._names]

    def bulk(self, commands: Iterable[Command]) -> int:
        """Send any number of commands, each key's in order, and return how many. Raises like `one`."""
        count = 0
        waiting: dict[str, list[Command]] = {address: [] for address in self._names}
        for count, command in enumerate(commands, 1):
            address = self._address(slot_of(key_of(command)))
            waiting[address].append(command)
            if len(waiting[address]) == BULK_COMMANDS:
                self._node(address).bulk(waiting[address])
                waiting[address] = []
        for address, rest in waiting.items():
            self._node(address).bulk(rest)
        return count

    def close(self) -> None:
        """Close the connections. Harmless when they are closed."""
        for wire in self._nodes.values():
            wire.close()

    def __enter__(self) -> ClusterWire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, commands: list[Command]) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        by_node: dict[str, list[int]] = {}
        for number, command in enumerate(commands):
            by_node.setdefault(self._address(slot_of(key_of(command))), []).append(number)
        for address, numbers in by_node.items():
            answers = self._node(address).ask(*(commands[number] for number in numbers))
            for number, reply in zip(numbers, answers, strict=True):
                replies[number] = reply
        for number, reply in enumerate(replies):
            if _is_redirection(reply):
                replies[number] = self._redirected(self._follow(reply), (commands[number],), asking=_asks(reply))[0]
        return replies

    def _redirected(self, address: str, packet: Sequence[Command], *, asking: bool = False) -> list[Any]:
        """Send a packet whose commands belong together to a node, and on to where it is redirected."""
        replies: list[Any] = []
        for _ in range(REDIRECTIONS):
            # ASKING holds for the next command, and for a transaction that begins with it.
            sent = (("ASKING",), *packet) if asking else packet
            replies = self._node(address).ask(*sent)[len(sent) - len(packet) :]
            # Where one command of a transaction is redirected, none of it was executed.
            redirection = next(filter(_is_redirection, replies), None)
            if redirection is None:
                break
            asking = _asks(redirection)
            address = self._follow(redirection)
        return replies

    def _follow(self, redirection: Refused) -> str:
        """Return the address that a redirection names; where a slot has moved for good the layout is learnt anew."""
        host, _, port = str(redirection).split()[2].rpartition(":")
        address = f"{host or self.endpoint.rpartition(':')[0]}:{port}"
        if not _asks(redirection):
            self._learn(self._node(address))
        return address

    def _learn(self, wire: Wire) -> None:
        host = wire.endpoint.rpartition(":")[0]
        ranges = []
        for first, last, primary, *_ in wire.one("CLUSTER", "SLOTS"):
            # A node that does not know its own address leaves it out: it is the one that was asked.
            known = (primary[0] or b"").decode()
            ranges.append(_Range(first, last, f"{known if known not in ('', '?') else host}:{primary[1]}"))
        self._ranges = sorted(ranges)
        self._names: dict[str, str] = {}
        for one in self._ranges:
            self._names.setdefault(one.address, str(one.first))
        self.shards = tuple(self._names.values())

    def _address(self, slot: int) -> str:
        place = bisect.bisect_right(self._ranges, slot, key=lambda one: one.first) - 1
        if place < 0 or slot > self._ranges[place].last:
            raise WireError("no node has the key's slot")
        return self._ranges[place].address

    def _node(self, address: str) -> Wire:
        if address not in self._nodes:
            self._nodes[address] = self._open(address)
        return self._nodes[address]


def connect(endpoint: str, *, cluster: bool = False, **options: Any) -> Wire | ClusterWire:
    """Return a connection to a server, or with `cluster` to the cluster of a configuration endpoint.

    `options` as for `Wire`. Raises `WireError`, `LoginRefused` or `Refused`.
    """
    return ClusterWire(endpoint, **options) if cluster else Wire(endpoint, **options)


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key: CRC16 (XMODEM) of it, or of what stands in its first pair of braces.

    Source: Redis cluster specification, "Key distribution model" and "Hash tags".
    """
    raw = key if isinstance(key, bytes) else key.encode()
    begin = raw.find(b"{")
    end = raw.find(b"}", begin + 1)
    if begin >= 0 and end > begin + 1:
        raw = raw[begin + 1 : end]
    return binascii.crc_hqx(raw, 0) % SLOTS


def key_of(command: Command) -> str | bytes:
    """Return the first key of a command."""
    name = str(command[0]).upper()
    if name == "XREADGROUP":
        return command[command.index("STREAMS") + 1]
    return command[2 if name in _KEY_SECOND else 1]


def _parts(command: Command) -> list[Command]:
    single = _OF_MANY.get(command[0])
    return [(single, key) for key in command[1:]] if single else [command]


def _joined(command: Command, replies: list[Any]) -> Any:
    if command[0] not in _OF_MANY:
        return replies[0]
    refused = next((reply for reply in replies if isinstance(reply, Refused)), None)
    return refused or (replies if command[0] == "MGET" else sum(replies))


def _is_redirection(reply: Any) -> bool:
    return isinstance(reply, Refused) and str(reply).startswith(("MOVED ", "ASK "))


def _asks(redirection: Refused) -> bool:
    return str(redirection).startswith("ASK ")
