"""What the rehearsal's web application writes and reads: sessions, tokens, query cache, visits and events.

Every value carries a stamp, "sequence:check", so that what a key holds says by which write it was
made. Every write returns, in the same transaction, the stamp that the key held before.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from helpers.rehearsal.cluster_wire import ClusterWire
from helpers.rehearsal.ledger import Ledger, Look
from helpers.rehearsal.wire import Command, Refused, Wire as ServerWire, WireError

Wire = ServerWire | ClusterWire

USERS = ("alice", "bob", "charles", "donny", "elie", "fabian", "gabriel", "harold", "Ignatius", "jonny")
PAGES = ("home", "search", "cart", "checkout", "account", "help", "news", "offers")

# Longer than any rehearsal: a key that expired would look lost.
TTL_S = 6 * 3600
HISTORY = 20
QUERIES = 100
# The query that the scenario's data set has an answer to.
CACHED = "SELECT * FROM users;"
VISITED = 40
HISTORIES = 100
# Deleted sessions that are still watched for coming back.
DELETED = 5_000
EVENTS = "events:live"
EVENTS_GROUP, CONSUMER = "mailer", "mailer-1"
EVENTS_KEPT = 2_000
# The events that were acknowledged, and how many of them are remembered.
PROCESSED, PROCESSED_KEPT = f"{EVENTS} {EVENTS_GROUP}", 5_000
_GROUP_STATE = (("XINFO", "GROUPS", EVENTS), ("XPENDING", EVENTS, EVENTS_GROUP, "-", "+", EVENTS_KEPT))
CHUNK = 100
# Keys looked at until one belongs to the shard whose turn it is.
DRAWS = 200

# Operations in a hundred writes.
MIX = {"update": 55, "token": 14, "query": 12, "visit": 9, "history": 6, "logout": 2, "event": 1, "process": 1}


class Workload:
    """The web application's operations over one ledger; `sessions` users are logged in at any time.

    `mix` weighs the operations. `write` is for one thread; `read` and `audit` may run in others.
    """

    def __init__(self, ledger: Ledger, sessions: int, seed: int = 0, mix: Mapping[str, int] = MIX) -> None:
        self.ledger = ledger
        self._count = sessions
        self._random = random.Random(f"{seed} {ledger.start}")
        self._sessions: list[str] = []
        self._deleted: dict[str, None] = {}
        self._touched: dict[str, dict[str, None]] = {"text": {}, "list": {}, "visits": {}, "stream": {}}
        self._processed: deque[tuple[int, ...]] = deque(maxlen=PROCESSED_KEPT)
        names, weights = list(mix), list(mix.values())
        self._next: Callable[[], str] = lambda: self._random.choices(names, weights)[0]
        self._turn = 0
        self._reading = ""
        # The key that was written last, or is being written.
        self.key = ""

    @property
    def sessions(self) -> int:
        """Return how many users are logged in."""
        return len(self._sessions)

    def write(self, wire: Wire) -> int:
        """Do the next write and return how many acknowledged writes it was.

        The shards of a cluster take turns, so that none goes unwritten for long while it takes writes.
        Raises `WireError` or `Refused`; what was sent is then unknown to the ledger.
        """
        wanted = self._wanted(wire)
        try:
            if len(self._sessions) < self._count:
                return self._log_in(wire)
            return int(getattr(self, f"_{self._next()}")(wire))
        finally:
            # The stream of events has its own shard, whose turn it may not be.
            self._turn += self._wanted(wire) == wanted == wire.shard_of(self.key)

    def read(self, wire: Wire) -> tuple[bool, bool]:
        """Read a session and the query cache, as a page view does.

        Returns whether the session was older than what had been acknowledged before, and whether the
        cache had the rows of `CACHED`.
        """
        # One that had no answer is asked for again, so that a shard's outage is not passed over.
        self._reading = self._reading or random.choice(list(self._sessions))
        look = self.ledger.look([self._reading])[0]
        stamp, rows = map(_raised, wire.ask(("HGET", look.key, "stamp"), ("GET", CACHED)))
        self._reading = ""
        return self.ledger.lost(look, stored_of(look.key, stamp)) > 0, rows is not None

    def audit(self, wire: Wire, current: Callable[[], bool]) -> bool:
        """Compare everything acknowledged with what the server holds; return whether it was finished.

        It stops when `current` says that the application has left the server. Raises `WireError` or
        `Refused`.
        """
        checks = (
            self._audit_sessions,
            self._audit_texts,
            self._audit_lists,
            self._audit_deleted,
            self._audit_events,
        )
        for check in checks:
            for judge in check(wire):
                # The ledger was looked at before this moment: what it holds was acknowledged here.
                if not current():
                    return False
                judge()
        return True

    def _log_in(self, wire: Wire) -> int:
        key = self._drawn(wire, lambda: f"session:{self._random.getrandbits(128):032x}")
        # Known before it is written: an answer that is lost may still be a session that is stored.
        try:
            return self._store_session(wire, key)
        finally:
            self._sessions.append(key)

    def _update(self, wire: Wire) -> int:
        return self._store_session(wire, self._drawn(wire, lambda: self._random.choice(self._sessions)))

    def _store_session(self, wire: Wire, key: str) -> int:
        page, user = self._random.choice(PAGES), USERS[zlib.crc32(key.encode()) % len(USERS)]

        def commands(stamp: str) -> list[Command]:
            fields = ("stamp", stamp, "user", user, "page", page, "cart", f'{{"items": [{stamp[-6:-9:-1]}]}}')
            return [("HGET", key, "stamp"), ("HSET", key, *fields), ("EXPIRE", key, TTL_S)]

        return self._send(wire, key, commands)

    def _logout(self, wire: Wire) -> int:
        key = self._drawn(wire, lambda: self._random.choice(self._sessions))
        self._sessions.remove(key)
        self._deleted[key] = None
        while len(self._deleted) > DELETED:
            oldest = next(iter(self._deleted))
            del self._deleted[oldest]
            self.ledger.forget(oldest)
        return self._send(wire, key, lambda _: [("HGET", key, "stamp"), ("DEL", key)], delete=True)

    def _token(self, wire: Wire) -> int:
        key = self._drawn(wire, lambda: f"token:live:{self._random.randrange(self._count):04d}")
        return self._store_text(wire, key, "csrf " + "x" * 40)

    def _query(self, wire: Wire) -> int:
        def sql() -> str:
            user, page = self._random.choice(USERS), self._random.randrange(QUERIES // len(USERS))
            return f"SELECT * FROM orders WHERE user = '{user}' AND page = {page};"

        return self._store_text(wire, self._drawn(wire, sql), '[{"id": 1, "item": "book"}, {"id": 2, "item": "lamp"}]')

    def _store_text(self, wire: Wire, key: str, text: str) -> int:
        self._touched["text"][key] = None
        return self._send(wire, key, lambda stamp: [("SET", key, f"{stamp} {text}", "EX", TTL_S, "GET")])

    def _history(self, wire: Wire) -> int:
        key = self._drawn(wire, lambda: f"history:live:{self._random.randrange(HISTORIES):04d}")
        self._touched["list"][key] = None

        def commands(stamp: str) -> list[Command]:
            push = ("RPUSH", key, f"{stamp} {self._random.choice(PAGES)}")
            return [("LINDEX", key, -1), push, ("LTRIM", key, -HISTORY, -1), ("EXPIRE", key, TTL_S)]

        return self._send(wire, key, commands)

    def _visit(self, wire: Wire) -> int:
        self.key = key = self._drawn(wire, lambda: f"visits:live:{self._random.randrange(VISITED):02d}")
        self._touched["visits"][key] = None
        try:
            value = wire.one("INCR", key)
        except (WireError, Refused):
            self.ledger.unanswered()
            raise
        self.ledger.counted(key, value)
        return 1

    def _event(self, wire: Wire) -> int:
        self._touched["stream"][EVENTS] = None

        def commands(stamp: str) -> list[Command]:
            add = ("XADD", EVENTS, "MAXLEN", "~", EVENTS_KEPT, "*", "stamp", stamp, "mail", "order confirmed")
            return [("XREVRANGE", EVENTS, "+", "-", "COUNT", 1), add]

        return self._send(wire, EVENTS, commands)

    def _process(self, wire: Wire) -> int:
        """Read the consumer group's next events and acknowledge them: one write an event."""
        self.key = EVENTS
        self._settle_events(wire.ask(*_GROUP_STATE))
        try:
            entries = self._delivered(wire, "0") or self._delivered(wire, ">")
        except Refused as error:
            if not str(error).startswith("NOGROUP"):
                raise
            wire.one("XGROUP", "CREATE", EVENTS, EVENTS_GROUP, "0", "MKSTREAM")
            entries = self._delivered(wire, ">")
        return self._acknowledge_events(wire, entries) if entries else 0

    def _delivered(self, wire: Wire, after: str) -> list[bytes]:
        reply = wire.one("XREADGROUP", "GROUP", EVENTS_GROUP, CONSUMER, "COUNT", CHUNK, "STREAMS", EVENTS, after)
        return [name for name, _ in reply[0][1]] if reply else []

    def _acknowledge_events(self, wire: Wire, names: list[bytes]) -> int:
        try:
            accepted = int(wire.one("XACK", EVENTS, EVENTS_GROUP, *names))
        except (WireError, Refused):
            self.ledger.unanswered()
            raise
        if accepted < len(names):
            # Some were not waiting any more, as after a move between reading and acknowledging:
            # which ones is not said, so none counts as stored.
            return 0
        self._processed.extend(map(_event_id, names))
        self.ledger.acknowledge_more(accepted)
        return accepted

    def _settle_events(self, state: list[Any]) -> None:
        """Settle the acknowledgements of events that the group does not remember, before it is used again."""
        undone = _undone(self._processed, state)
        if undone:
            self.ledger.settle(PROCESSED, len(undone))
            kept = [event for event in self._processed if event not in undone]
            self._processed = deque(kept, PROCESSED_KEPT)

    def _send(self, wire: Wire, key: str, commands: Callable[[str], list[Command]], *, delete: bool = False) -> int:
        self.key = key
        write = self.ledger.begin(key, delete=delete)
        sent = commands(stamp_of(key, write.sequence))
        try:
            before = (wire.transaction(*sent) if len(sent) > 1 else [wire.one(*sent[0])])[0]
        except (WireError, Refused):
            self.ledger.fail(write)
            raise
        self.ledger.acknowledge(write, stored_of(key, before))
        return 1

    def _wanted(self, wire: Wire) -> str:
        """Return the name of the shard whose turn it is."""
        return wire.shards[self._turn % len(wire.shards)]

    def _drawn(self, wire: Wire, draw: Callable[[], str]) -> str:
        """Return a key of the shard whose turn it is; where there is hardly one, of any."""
        wanted = self._wanted(wire)
        for _ in range(DRAWS):
            key = draw()
            if wire.shard_of(key) == wanted:
                break
        return key

    def _audit_sessions(self, wire: Wire) -> Iterator[Callable[[], None]]:
        for looks in self._looks(list(self._sessions)):
            replies = wire.ask(*(("HGET", look.key, "stamp") for look in looks))
            yield lambda looks=looks, replies=replies: self._judge(looks, replies)

    def _audit_texts(self, wire: Wire) -> Iterator[Callable[[], None]]:
        for looks in self._looks([*self._touched["text"], *self._touched["visits"]]):
            replies = wire.one("MGET", *(look.key for look in looks))
            yield lambda looks=looks, replies=replies: self._judge(looks, replies)

    def _audit_lists(self, wire: Wire) -> Iterator[Callable[[], None]]:
        for looks in self._looks([*self._touched["list"], *self._touched["stream"]]):
            replies = wire.ask(*(_tail_of(look.key) for look in looks))
            yield lambda looks=looks, replies=replies: self._judge_lists(looks, replies)

    def _audit_deleted(self, wire: Wire) -> Iterator[Callable[[], None]]:
        for looks in self._looks(list(self._deleted)):
            # One question for a hundred keys: they are gone, unless something went wrong.
            if wire.one("EXISTS", *(look.key for look in looks)):
                replies = wire.ask(*(("HGET", look.key, "stamp") for look in looks))
            else:
                replies = [None] * len(looks)
            yield lambda looks=looks, replies=replies: self._judge(looks, replies)

    def _audit_events(self, wire: Wire) -> Iterator[Callable[[], None]]:
        settled, processed = self.ledger.settled(PROCESSED), list(self._processed)
        undone = _undone(processed, wire.ask(*_GROUP_STATE)) if processed else set()
        yield lambda: self.ledger.judge_count(PROCESSED, len(undone), settled)

    def _looks(self, keys: list[str]) -> Iterator[list[Look]]:
        for first in range(0, len(keys), CHUNK):
            yield self.ledger.look(keys[first : first + CHUNK])

    def _judge(self, looks: list[Look], replies: list[Any]) -> None:
        for look, reply in zip(looks, replies, strict=True):
            self.ledger.judge(look, stored_of(look.key, _raised(reply)))

    def _judge_lists(self, looks: list[Look], replies: list[Any]) -> None:
        for look, reply in zip(looks, replies, strict=True):
            numbers = [stored_of(look.key, one) or 0 for one in _raised(reply)]
            if look.key == EVENTS:
                numbers.reverse()
            limit = EVENTS_KEPT if look.key == EVENTS else HISTORY
            self.ledger.judge_list(look, numbers, whole=len(numbers) < min(limit, CHUNK))


def stamp_of(key: str, sequence: int) -> str:
    """Return the stamp that a write puts into its value: its sequence number and a check of number and key."""
    return f"{sequence}:{zlib.crc32(f'{key} {sequence}'.encode()):08x}"


def stored_of(key: str, reply: Any) -> int | None:
    """Return the sequence number that a reply holds: a stamp at its start, a counter's value, None for no key.

    A stamp that does not fit its number is a damaged write: the number before it, so that it counts as lost.
    """
    if not reply:
        return None
    if key.startswith("visits:"):
        return int(reply)
    if isinstance(reply, list):
        # A stream's entries, newest first: [[id, [field, value, ...]], ...], or one entry.
        entry = reply[0] if isinstance(reply[0], list) else reply
        reply = entry[1][1]
    stamp = bytes(reply).split(b" ", 1)[0].decode(errors="replace")
    number = int(stamp.split(":")[0]) if stamp.split(":")[0].isdigit() else 0
    return number if stamp == stamp_of(key, number) else number - 1


def _undone(processed: Iterable[tuple[int, ...]], state: Sequence[Any]) -> set[tuple[int, ...]]:
    """Return the acknowledged events that a group would deliver, or has delivered, as if they never were.

    `state` are the replies to XINFO GROUPS and XPENDING; errors where there is no stream or group.
    """
    groups, pending = state
    delivered, waiting = (0, 0), set()
    if not isinstance(groups, Refused):
        facts = [dict(zip(one[::2], one[1::2], strict=True)) for one in groups]
        ours = [one[b"last-delivered-id"] for one in facts if one[b"name"] == EVENTS_GROUP.encode()]
        delivered = _event_id(ours[0]) if ours else (0, 0)
    elif "no such key" not in str(groups):
        raise groups
    if not isinstance(pending, Refused):
        waiting = {_event_id(one[0]) for one in pending}
    return {event for event in processed if event > delivered or event in waiting}


def _event_id(name: bytes) -> tuple[int, ...]:
    return tuple(map(int, name.split(b"-")))


def _tail_of(key: str) -> Command:
    return ("XREVRANGE", key, "+", "-", "COUNT", CHUNK) if key == EVENTS else ("LRANGE", key, 0, -1)


def _raised(reply: Any) -> Any:
    if isinstance(reply, Refused):
        raise reply
    return reply
