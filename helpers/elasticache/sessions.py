"""Sessions outside the servers: any instance of an application knows a user, and a release logs nobody out."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import redis
from matplotlib.figure import Figure

from helpers.aws import UNKNOWN, act, planning
from helpers.elasticache.access import Access
from helpers.elasticache.demo import PREFIX, TTL_S, remove

ID_BYTES = 24  # OWASP asks for 8 bytes of randomness at least
LOGGED_OUT = "(logged out)"
LOOK_S = 0.04


class Sessions:
    """Sessions in Redis: a key a session, which holds the user and expires `ttl_s` seconds after the last request."""

    def __init__(self, client: redis.Redis | redis.RedisCluster, ttl_s: float = TTL_S, prefix: str = f"{PREFIX}session:") -> None:
        self.client, self.ttl_s, self.prefix = client, ttl_s, prefix
        self.written: set[str] = set()

    def log_in(self, user: str) -> str:
        """A new session's id: random, because whoever knows it is that user."""
        session = secrets.token_urlsafe(ID_BYTES)
        self.written.add(self.prefix + session)
        self._act("SET", lambda: self.client.set(self.prefix + session, user, px=self._milliseconds), user=user)
        return session

    def user(self, session: str) -> str | None:
        """The user of a session, whose time to live begins anew; None where nobody is logged in."""
        self._act("PEXPIRE", lambda: self.client.pexpire(self.prefix + session, self._milliseconds))
        if planning():
            return UNKNOWN
        found = self.client.get(self.prefix + session)
        return None if found is None else found.decode()

    def log_out(self, session: str) -> None:
        """End a session for all instances."""
        self._act("DEL", lambda: self.client.delete(self.prefix + session))

    def ttl(self, session: str) -> float:
        """The seconds a session still lives without a request; 0 where it has ended."""
        return max(self.client.pttl(self.prefix + session), 0) / 1000

    @property
    def _milliseconds(self) -> int:
        return round(self.ttl_s * 1000)

    def _act(self, command: str, do: Callable[[], Any], **parameters: Any) -> None:
        # the id is a secret, and another one in each run: plans and journals name the prefix
        act("redis", command, f"{self.prefix}*", do, **parameters, ttl_s=self.ttl_s)


class ProcessSessions:
    """Sessions in the memory of one process, for contrast."""

    def __init__(self) -> None:
        self._users: dict[str, str] = {}

    def keep(self, session: str, user: str) -> None:
        """Remember a session."""
        self._users[session] = user

    def user(self, session: str) -> str | None:
        """The session's user; None where this process does not know it."""
        return self._users.get(session)


@dataclass
class Instance:
    """One instance of the application, with a connection of its own: sessions in Redis, and for contrast its own."""

    name: str
    sessions: Sessions = field(repr=False)
    own: ProcessSessions = field(default_factory=ProcessSessions, repr=False)

    def log_in(self, user: str) -> str:
        """Log a user in; returns the session's id, which the browser gets as a cookie."""
        session = self.sessions.log_in(user)
        self.own.keep(session, user)
        return session


def start_instances(access: Access, count: int = 2, release: int = 1, ttl_s: float = TTL_S) -> list[Instance]:
    """`count` instances of one release of the application, which know nothing of each other."""
    names = [f"instance {number} of release {release}" for number in range(1, count + 1)]
    return [Instance(name, Sessions(access.client(f"runbook-demo-{number}"), ttl_s)) for number, name in enumerate(names, 1)]


def release(access: Access, instances: Sequence[Instance], release: int = 2) -> list[Instance]:
    """Replace all instances by new ones, as a release does: processes end, and what they held with them."""
    new = start_instances(access, len(instances), release, instances[0].sessions.ttl_s)
    for old, one in zip(instances, new, strict=True):
        one.sessions.written |= old.sessions.written
        old.sessions.client.close()
    return new


def who(session: str, instances: Sequence[Instance]) -> pd.DataFrame:
    """Who the browser with this session is, asked of each instance: by sessions in Redis and by its own memory."""
    rows = [(one.name, f"{session[:4]}…", one.sessions.user(session) or LOGGED_OUT, one.own.user(session) or LOGGED_OUT) for one in instances]
    return pd.DataFrame(rows, columns=["asked", "cookie", "sessions in Redis say", "sessions in the process say"])


@dataclass(frozen=True)
class Sliding:
    """A session's time to live (s) over time (s), and when requests came."""

    frame: pd.DataFrame
    requests: tuple[float, ...]
    ttl_s: float

    def table(self) -> pd.DataFrame:
        """For each request the time to live before and after it, and when the session ended."""
        if self.frame.empty:
            return pd.DataFrame({"measured": ["by the apply"]})
        rows = [(f"request {number}", round(at, 2), self._at(at, before=True), self._at(at, before=False)) for number, at in enumerate(self.requests, 1)]
        return pd.DataFrame([*rows, ("no more requests: logged out", round(self.ended, 2), 0.0, 0.0)], columns=["event", "second", "TTL before (s)", "TTL after (s)"])

    def _at(self, moment: float, *, before: bool) -> float:
        mine = self.frame[self.frame["second"] < moment] if before else self.frame[self.frame["second"] >= moment]
        return round(mine["ttl"].iloc[-1 if before else 0], 2) if len(mine) else self.ttl_s

    @property
    def ended(self) -> float:
        """The second in which the session was gone."""
        return float(self.frame["second"].iloc[-1])

    def figure(self) -> Figure | None:
        """The time to live as a line, requests as marks."""
        if self.frame.empty:
            return None
        drawing = Figure(figsize=(9, 2.8))
        axes = drawing.subplots()
        axes.plot(self.frame["second"], self.frame["ttl"], color="0.15", linewidth=1.4)
        axes.plot(self.requests, [self.ttl_s] * len(self.requests), "kv", markersize=7, label="a request")
        axes.axvline(self.ended, color="0.4", linestyle=":", linewidth=1.2)
        axes.annotate("logged out ", (self.ended, self.ttl_s / 2), ha="right", fontsize=9)
        axes.set_xlabel("seconds since the log-in")
        axes.set_ylabel("time to live (s)")
        axes.set_ylim(0, self.ttl_s * 1.15)
        axes.legend(loc="lower left", fontsize=8, frameon=False)
        axes.set_title(f"Each request gives the session {self.ttl_s:g} s again; {self.ended - self.requests[-1]:.1f} s after the last one it is gone", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        return drawing


def watch_expiry(access: Access, user: str = "bob", *, ttl_s: float = 2.0, requests: int = 4, every_s: float = 0.6) -> Sliding:
    """Log a user in with a short time to live, make requests, stop, and look on until the session is gone.

    It takes about `requests` x `every_s` + `ttl_s` seconds; in a plan nothing is waited for.
    """
    sessions = Sessions(access.client(), ttl_s)
    session, came, seen, started = sessions.log_in(user), [], [], time.monotonic()
    for _ in range(requests):
        seen += _look(sessions, session, started, every_s)
        came.append(time.monotonic() - started)
        sessions.user(session)
        seen += _look(sessions, session, started, 0.0)
    seen += _look(sessions, session, started, ttl_s + 5)
    remove(sessions)
    return Sliding(pd.DataFrame(seen, columns=["second", "ttl"]), tuple(came), ttl_s)


def _look(sessions: Sessions, session: str, started: float, seconds: float) -> list[tuple[float, float]]:
    """The session's time to live every few ms for some seconds, or until it has none."""
    seen: list[tuple[float, float]] = []
    until = time.monotonic() + seconds
    while not planning():
        seen.append((time.monotonic() - started, sessions.ttl(session)))
        left = until - time.monotonic()
        if not seen[-1][1] or left <= 0:
            break
        time.sleep(min(LOOK_S, left))
    return seen
