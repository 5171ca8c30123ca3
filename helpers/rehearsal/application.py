"""A web application that lives through an upgrade: it writes sessions, counts every acknowledged write, and reports.

    python -m helpers.rehearsal.application --bucket sessions-backup --ledger application-report.json

It reads its Redis endpoint from an SSM parameter, or another place that --parameter names (see
`helpers.rehearsal.endpoint_source`), and moves when that changes; it makes no write before the time in
an SSM parameter (read-only until, ISO 8601). Writes are sent once, without retries: one without an
answer is unknown, and the key's next write is a new one with a new number. It ends on SIGTERM, or when
the control plane has been unreachable for 10 s. It needs the standard AWS settings and the permissions
ssm:GetParameters and s3:PutObject, and those of the place and the secret: secretsmanager:GetSecretValue,
appconfig:StartConfigurationSession and GetLatestConfiguration, route53:ListResourceRecordSets (and, where the
zone is named, ListHostedZonesByName).

    --tls             encrypted connections; certificates are checked against the usual CAs, or SSL_CERT_FILE
    --login-secret    the secret with the AUTH token or user and password; read again when a login is refused
    --cluster         the endpoint is a configuration endpoint of a group with cluster mode enabled

Twice a second, and at once after an audit, a change of endpoint or the beginning of a read-only time,
it writes its report to s3://BUCKET/application/report.json (and to the file --ledger when it ends).
With --cluster the shards take turns to be written, and a write gap is the longest of any shard.
Times are Unix milliseconds unless they say otherwise:

    started, now, pid          when the application began, when the report was made, its process
    endpoint                   "host:port" in use
    read_only                  true while a read-only time keeps it from writing
    read_only_since            since when nothing has been under way because of that, null else
    acknowledged_writes        writes the server said it had stored
    acknowledged_writes_lost   of them, those found missing: by a later write of the key, or by the last audit
    lost_keys                  up to 20 of them: key, acknowledged (number), found (number or null), lost (writes)
    unacknowledged_writes      writes without an answer or refused: unknown, never counted as lost
    reads, stale_reads         reads answered, and those older than what was acknowledged before them
    cache_hits, cache_misses   reads for which the query cache had "SELECT * FROM users;", and had not
    sessions                   users logged in
    sessions_missing           users who were logged out by the loss of their session
    longest_write_gap_ms       the longest time from one acknowledged write of a shard to its next
    write_gap_ms, gap_started  the longest gap within 5 s of the last change of endpoint; without one, of all
    gaps                       the 20 longest gaps: [started, milliseconds]
    longest_read_gap_ms        the longest time from one answered read to the next
    errors                     text of an error -> how often
    audits                     audits finished
    audited_at                 when the last finished audit began, Unix seconds; null before the first
    audited_endpoint           what it audited
    endpoints                  [{endpoint, since, first_acknowledged_write, write_gap_ms, gap_started}], oldest first
    timeline                   [time, acknowledged writes in the 10 ms from it], 5 s to each side of the last
                               change of endpoint; without one, of the longest gap
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import logging
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import orjson
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from helpers.rehearsal.cluster_wire import ClusterWire, connect
from helpers.rehearsal.endpoint_source import source
from helpers.rehearsal.ledger import Ledger
from helpers.rehearsal.login import Login, NoLogin
from helpers.rehearsal.meter import Meter, now_ms
from helpers.rehearsal.wire import LoginRefused, Refused, Wire, WireError
from helpers.rehearsal.workload import Workload

log = logging.getLogger("application")

REPORT_KEY = "application/report.json"
PARAMETER = "/sessions/redis/endpoint"
READ_ONLY_PARAMETER = "/sessions/redis/read-only-until"
NAME = "web-application"
# Refusals after which a connection is of no use: to no primary, or not logged in.
GIVEN_UP = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH")

POLL_S = 0.05
# While writes stand still the parameter is read more often, for as long as a switch may take.
STALLED_POLL_S, STALLED_MS = 0.01, (30.0, 2_000.0)
REPORT_EVERY_S, AUDIT_EVERY_S, READ_EVERY_S = 0.5, 1.0, 0.02
PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.05
UNREACHABLE_S = 10.0
JOIN_S = 3.0

# One attempt a call: the next poll is the retry.
_AWS = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=2)
_clients: dict[str, Any] = {}


class Endpoint(NamedTuple):
    """Where the application is connected, and how many endpoints it has had."""

    address: str
    number: int


class Application:
    """The application's threads: one that writes, one each that reads, audits, follows the parameters, reports."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._ssm, self._s3 = _client("ssm"), _client("s3")
        self._source = source(options.parameter, _client, options.port)
        self._tls = ssl.create_default_context() if options.tls else None
        self._login = Login(options.login_secret, _client) if options.login_secret else NoLogin()
        self._started = now_ms()
        self._ledger = Ledger(int(self._started))
        self._workload = Workload(self._ledger, options.sessions)
        self._meter = Meter(1000 / options.rate)
        self._endpoint = Endpoint("", 0)
        self._read_only_until = 0.0
        self._urgent_at = 0.0
        self._read_only_since: float | None = None
        self._audits, self._audited_at, self._audited_endpoint = 0, None, ""
        self._stopping, self._poll_now, self._polled = threading.Event(), threading.Event(), threading.Event()
        self._publish_now, self._changed = threading.Event(), threading.Condition()

    def run(self) -> None:
        """Work until `stop` is called or the control plane is gone; then make a last audit and report."""
        tasks = (self._follow, self._write, self._read, self._audit, self._publish)
        threads = [threading.Thread(target=self._guarded, args=(task,), daemon=True) for task in tasks]
        for thread in threads:
            thread.start()
        self._stopping.wait()
        self._meter.end()
        self._wake()
        self._poll_now.set()
        self._publish_now.set()
        deadline = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._finish()

    def stop(self) -> None:
        """End the application."""
        self._stopping.set()

    def report(self) -> dict[str, Any]:
        """Return the report, as the module describes it."""
        counts = self._ledger.summary()
        return {
            "started": round(self._started),
            "now": round(now_ms()),
            "pid": os.getpid(),
            "endpoint": self._endpoint.address,
            "read_only": self._read_only_since is not None,
            "read_only_since": self._read_only_since and round(self._read_only_since),
            **counts,
            "sessions": self._workload.sessions,
            **self._meter.summary(),
            "audits": self._audits,
            "audited_at": self._audited_at,
            "audited_endpoint": self._audited_endpoint,
        }

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception:
            log.exception("%s failed; the application ends", task.__name__)
            self._stopping.set()

    # Following the parameters

    def _follow(self) -> None:
        reached = time.monotonic()
        while not self._stopping.is_set():
            self._poll_now.clear()
            try:
                self._apply(*self._settings())
                reached = time.monotonic()
            except (BotoCoreError, ClientError) as error:
                log.warning("the parameters cannot be read: %s", error)
                if time.monotonic() - reached > self._options.unreachable:
                    log.error("the control plane has been unreachable for %g s", self._options.unreachable)
                    self._stopping.set()
            self._polled.set()
            stalled = STALLED_MS[0] < self._meter.stalled_ms() < STALLED_MS[1]
            self._poll_now.wait(STALLED_POLL_S if stalled else POLL_S)

    def _settings(self) -> tuple[str, str]:
        """Return the endpoint and until when there are no writes, "" where there is none."""
        names = [*self._source.parameters, self._options.read_only_parameter]
        found = self._ssm.get_parameters(Names=names, WithDecryption=True)["Parameters"]
        values = {one["Name"]: one["Value"] for one in found}
        read_only = values.get(self._options.read_only_parameter, "")
        # The endpoint is looked up after a read-only time was seen lifted, and then at once: it may have changed before.
        lifted = _unix_seconds(read_only) != self._read_only_until
        stalled = self._meter.stalled_ms() > STALLED_MS[0] and time.monotonic() > self._urgent_at + POLL_S
        if lifted or stalled:
            self._urgent_at = time.monotonic()
        return self._source.endpoint(values, urgent=lifted or stalled), read_only

    def _apply(self, address: str, read_only: str) -> None:
        # The endpoint first: a read-only time that is lifted with a switch must not let a write go to the old one.
        if address and address != self._endpoint.address:
            log.info("endpoint %s", address)
            self._meter.moved(address)
            self._endpoint = Endpoint(address, self._endpoint.number + 1)
            self._publish_now.set()
            self._wake()
        until = _unix_seconds(read_only)
        if until != self._read_only_until:
            log.info("read only until %s", read_only or "nothing")
            self._read_only_until = until
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # Writing and reading

    def _write(self) -> None:
        due = time.monotonic()
        pause = PAUSE_S
        wire: Wire | ClusterWire | None = None
        while not self._stopping.is_set():
            if not self._may_write():
                due = time.monotonic()
                continue
            try:
                wire = self._connected(wire)
                if written := self._workload.write(wire):
                    self._meter.wrote(written, wire.endpoint, wire.shard_of(self._workload.key), wire.shards)
                pause = PAUSE_S
            except (WireError, Refused) as error:
                left = wire is not None and wire.endpoint != self._endpoint.address
                wire = self._failed(error, wire)
                if not left:
                    self._stopping.wait(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
            due = self._pace(due, 1 / self._options.rate)

    def _may_write(self) -> bool:
        """Return whether a write may be sent now; waits a moment where it may not."""
        with self._changed:
            left = self._read_only_until - time.time()
            if left <= 0 and self._endpoint.number:
                self._read_only_since = None
                return True
            if left > 0 and self._read_only_since is None:
                self._read_only_since = now_ms()
                self._publish_now.set()
            self._changed.wait(min(max(left, 0.001), POLL_S) if left > 0 else POLL_S)
        return False

    def _connected(self, wire: Wire | ClusterWire | None) -> Wire | ClusterWire:
        """Return a connection to the endpoint of this moment: the one there is, or a new one."""
        endpoint = self._endpoint
        if wire is not None and wire.endpoint == endpoint.address:
            return wire
        if wire is not None:
            wire.close()
        return self._open(endpoint.address, lambda: self._has_left(endpoint))

    def _open(self, address: str, abandon: Callable[[], bool] = lambda: False) -> Wire | ClusterWire:
        """Return a new connection; a login that is refused is read again, as it may have been rotated."""
        login = self._login.words()
        options: dict[str, Any] = {"cluster": self._options.cluster, "tls": self._tls, "name": NAME, "abandon": abandon}
        try:
            return connect(address, login=login, **options)
        except LoginRefused:
            if not self._login.renewed(login):
                raise
        return connect(address, login=self._login.words(), **options)

    def _has_left(self, endpoint: Endpoint) -> bool:
        return self._stopping.is_set() or self._endpoint.address != endpoint.address

    def _failed(self, error: Exception, wire: Wire | ClusterWire | None) -> Wire | ClusterWire | None:
        """Count an error; a lost connection, or one to a server that is no primary any more, is given up."""
        self._meter.failed(error)
        if type(error) is Refused and not str(error).startswith(GIVEN_UP):
            return wire
        if wire is not None:
            wire.close()
            if wire.endpoint != self._endpoint.address:
                return None
        # The endpoint may have changed: look before connecting again.
        self._polled.clear()
        self._poll_now.set()
        self._polled.wait(2 * POLL_S)
        return None

    def _pace(self, due: float, every_s: float) -> float:
        """Wait until the next is due and return when; what was missed is not made up for."""
        now = time.monotonic()
        due = max(due + every_s, now - 20 * every_s)
        if due > now:
            time.sleep(due - now)
        return due

    def _read(self) -> None:
        due = time.monotonic()
        wire: Wire | ClusterWire | None = None
        while not self._stopping.is_set():
            due = self._pace(due, READ_EVERY_S)
            if not self._workload.sessions:
                continue
            endpoint = self._endpoint
            try:
                wire = self._connected(wire)
                stale, hit = self._workload.read(wire)
                # A read of the endpoint that was left meanwhile says nothing about the new one.
                self._meter.read(stale=stale and self._endpoint is endpoint, hit=hit)
            except (WireError, Refused) as error:
                wire = self._failed(error, wire)

    # Auditing and reporting

    def _audit(self) -> None:
        wire: Wire | ClusterWire | None = None
        while not self._stopping.wait(AUDIT_EVERY_S):
            if not self._endpoint.number:
                continue
            try:
                wire = self._connected(wire)
                if self._audit_once(wire):
                    self._publish_now.set()
            except (WireError, Refused) as error:
                log.info("audit not finished: %s", error)
                if wire is not None:
                    wire.close()
                wire = None

    def _audit_once(self, wire: Wire | ClusterWire) -> bool:
        endpoint, began = self._endpoint, time.time()
        if wire.endpoint != endpoint.address:
            return False
        if not self._workload.audit(wire, lambda: self._endpoint is endpoint):
            return False
        self._audits, self._audited_at, self._audited_endpoint = self._audits + 1, began, endpoint.address
        return True

    def _publish(self) -> None:
        while not self._stopping.is_set():
            self._publish_now.wait(REPORT_EVERY_S)
            self._publish_now.clear()
            self._put(self.report())

    def _put(self, report: dict[str, Any]) -> None:
        try:
            body = orjson.dumps(report)
            self._s3.put_object(
                Bucket=self._options.bucket, Key=self._options.report_key, Body=body, ContentType="application/json"
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("the report cannot be written: %s", error)

    def _finish(self) -> None:
        with contextlib.suppress(WireError, Refused), self._open(self._endpoint.address) as wire:
            self._audit_once(wire)
        report = self.report()
        if self._options.ledger:
            partial = self._options.ledger.with_suffix(".partial")
            partial.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
            os.replace(partial, self._options.ledger)
        self._put(report)


def _client(service: str) -> Any:
    """Return a boto3 client, made once."""
    if service not in _clients:
        _clients[service] = boto3.client(service, config=_AWS)
    return _clients[service]


def _unix_seconds(text: str) -> float:
    """Return an ISO 8601 time as Unix seconds; without a zone it is UTC; 0 for none. A time that cannot be read: for ever."""
    if not text.strip():
        return 0.0
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        # Somebody wants no writes and mistyped until when: the careful reading is not to write.
        return float("inf")
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="application", description="The rehearsal's web application.")
    parser.add_argument("--bucket", required=True, help="where the report goes")
    parser.add_argument("--report-key", default=REPORT_KEY, help="the report's key in the bucket")
    parser.add_argument("--parameter", default=PARAMETER, help="where host:port is found: an SSM parameter or another place")
    parser.add_argument("--port", type=int, default=0, help="the endpoint's port, where a DNS record leads to it")
    parser.add_argument("--tls", action="store_true", help="encrypt connections to Redis")
    parser.add_argument("--cluster", action="store_true", help="the group has cluster mode enabled")
    parser.add_argument("--login-secret", default="", help="the secret with the AUTH token, or user and password")
    parser.add_argument("--read-only-parameter", default=READ_ONLY_PARAMETER)
    parser.add_argument("--ledger", type=Path, help="a local file for the last report")
    parser.add_argument("--lock", type=Path, help="a file that only one application holds, with its process id")
    parser.add_argument("--rate", type=float, default=400.0, help="writes a second")
    parser.add_argument("--sessions", type=int, default=300, help="users logged in")
    parser.add_argument("--unreachable", type=float, default=UNREACHABLE_S, help="seconds without AWS until it ends")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the application until SIGTERM or SIGINT. Returns the exit code: 0, or 3 where the lock is held by another."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    options = _options(arguments)
    with contextlib.ExitStack() as stack:
        if options.lock:
            lock = stack.enter_context(options.lock.open("a"))  # not "w": the holder's number stays
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.error("another application holds %s", options.lock)
                return 3
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        # A thread that computes lets the writing one go on after 1 ms, not 5.
        sys.setswitchinterval(0.001)
        application = Application(options)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: application.stop())
        application.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
