"""Start, find and end a local cloud: MiniStack, and ElastiCache on real servers, in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
REGION = "ap-northeast-1"
MAX_HOURS = 12.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
FACTS_FILE = "cloud.json"
LOG_FILE = "cloud.log"
# What a client of this cloud trusts: its own certificate authority, and the usual ones.
BUNDLE_FILE = "certificates.pem"
# What a scenario made to be pushed: an OCI layout `image` and a Helm chart `chart`.
SAMPLES = "samples"
# Asked for by every control request, so that no web page open on this machine can send one.
TOKEN_HEADER = "x-rehearsal-token"


# The clouds that this very process started: each stays a zombie until it is asked for.
_started: dict[int, subprocess.Popen[bytes]] = {}


class CloudFailed(RuntimeError):
    """The local cloud did not start or does not answer."""


@dataclass(frozen=True)
class Cloud:
    """A running local cloud."""

    directory: Path
    endpoint: str
    pid: int
    region: str
    account: str
    started_at: str
    token: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """Return the standard variables that lead any SDK here, and away from the user's own profiles.

        SSL_CERT_FILE makes clients of encrypted groups trust them, beside all that they trust otherwise.
        """
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "SSL_CERT_FILE": str(self.directory / BUNDLE_FILE),
        }

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings of the cloud and return all of them.

        refuse_client_pause: bool; fail_next: list of the outcomes of `fail_next` that are still to come;
        deploy_every_s: float, how often Amplify deploys by itself, in seconds (0: never).
        """
        return self._ask("settings", changes)

    def fail_next(self, *outcomes: str) -> None:
        """Make creations of replication groups fail, each outcome once; no outcome takes back what was ordered.

        "create-failed" is how the next one ends; "restore-failed" is how the members of the next one
        that starts from a backup end (the group is create-failed, as on AWS). An event says why.
        """
        self.settings(fail_next=list(outcomes))

    def status(self) -> dict[str, Any]:
        """Return pid, endpoint, settings, replication groups and lone cache clusters with their servers."""
        return self._ask("status", {})

    def emit(self, events: Sequence[Mapping[str, Any]], *, bus: str = "default", past: bool = False) -> None:
        """Put whole events on a bus as AWS services do, whatever their source; `past` ones go to its archives alone.

        An event needs source, detail-type and detail. Raises CloudFailed where one has not.
        """
        self._ask("emit", {"events": [dict(event) for event in events], "bus": bus, "past": past})

    def seed_file_systems(self, ids: Mapping[str, str], served: str, folders: Sequence[str], *, minutes: bool = False) -> dict[str, str]:
        """Give file systems (name: id) sizes and metrics, those of two weeks by the minute where that is asked for, and the one called `served` an NFS server with these folders where it can be had.

        Returns its address, and under "missing" why there is none.
        """
        return self._ask("file-systems", {"file_systems": dict(ids), "served": served, "folders": list(folders), "minutes": minutes}, 60.0)

    def seed_cache_metrics(self, series: Sequence[Mapping[str, Any]]) -> None:
        """Give nodes of a cache their CloudWatch metrics, as `helpers.rehearsal.elasticache.metrics.series` makes them."""
        self._ask("cache-metrics", {"series": [dict(one) for one in series]}, 60.0)

    def registry(self, **orders: Any) -> dict[str, Any]:
        """Order what ECR does from now on, and return how it stands: its endpoint, settings and the faults still to come.

        cut: {"after_bytes": int, "times": int}, the connection of a layer breaks after so many of its bytes; deny: [action, ...]
        ("ecr:PutImage"); kms_error: [repository, ...] whose key cannot be used; throttle: how many of the next requests are too
        many; vanish: {"repository": str, "after_bytes": int} deletes it while layers come in. An empty value takes an order back.
        token_lifetime_s: of the next tokens; expire_tokens: True, those given out; scan_s: how long scans take; remove: a repository;
        seed: see `helpers.rehearsal.ecr.seeding`; expire_images: {"repository": str, "now": ISO 8601}, applies its lifecycle policy.
        Raises CloudFailed for anything else.
        """
        return self._ask("registry", orders, 60.0)

    def fail(self, node: str) -> int:
        """Kill the process of a node ("sessions-001"), as a failing machine does, and return its id.

        Raises CloudFailed where the cloud has no such node.
        """
        return int(self._ask("fail", {"node": node})["pid"])

    def _ask(self, what: str, body: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.endpoint}/_rehearsal/{what}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json", TOKEN_HEADER: self.token},
            method="POST",
        )
        # A proxy of the user's environment must not see what stays on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise CloudFailed(_refusal(error)) from error
        except (OSError, ValueError) as error:
            raise CloudFailed(f"The local cloud at {self.endpoint} does not answer: {error}.") from error


def _refusal(error: urllib.error.HTTPError) -> str:
    """Return the cloud's own words for an error answer, which may be somebody else's."""
    try:
        return f"{json.load(error)['error']} ({error.code})"
    except (ValueError, KeyError, TypeError):
        return f"The local cloud does not answer, but something else does: {error}."


def up(
    directory: Path | str,
    *,
    port: int = 0,
    refuse_client_pause: bool = False,
    max_hours: float = MAX_HOURS,
) -> Cloud:
    """Return the cloud of a directory: the one that runs, or a new one.

    The process outlives this one (a killed kernel finds its cloud again), binds 127.0.0.1 only,
    ends by itself after `max_hours`, and its servers end with it. Raises CloudFailed when it does
    not answer in 30 s.
    """
    directory = Path(directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with _only_one(directory):
        running = attach(directory)
        if running is not None:
            if refuse_client_pause:
                running.settings(refuse_client_pause=True)
            return running
        (directory / FACTS_FILE).unlink(missing_ok=True)
        options = {"port": port, "refuse_client_pause": refuse_client_pause, "max_hours": max_hours}
        return _wait_for(directory, _start(directory, options))


def attach(directory: Path | str) -> Cloud | None:
    """Return the running cloud of a directory, None when there is none."""
    facts = _facts(Path(directory))
    if facts is None:
        return None
    cloud = Cloud(directory=Path(directory).resolve(), **facts)
    try:
        return cloud if cloud.status()["pid"] == cloud.pid else None
    except CloudFailed:
        return None


def status(directory: Path | str) -> dict[str, Any]:
    """Return {"running": bool} with what the cloud says of itself when it runs."""
    cloud = attach(directory)
    return {"running": False} if cloud is None else {"running": True, **cloud.status()}


def down(directory: Path | str) -> bool:
    """End the cloud of a directory and all its servers; return whether one was running."""
    directory = Path(directory).resolve()
    cloud = attach(directory)
    if cloud is None:
        (directory / FACTS_FILE).unlink(missing_ok=True)
        return False
    cloud._ask("stop", {})
    if not _ended(cloud.pid, STOP_TIMEOUT_S):
        # It answered a moment ago, so the number is still its own.
        os.kill(cloud.pid, signal.SIGKILL)
        _ended(cloud.pid, STOP_TIMEOUT_S)
    (directory / FACTS_FILE).unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the directory while a cloud is looked for or started, so that two callers share one."""
    with (directory / "cloud.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _facts(directory: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads((directory / FACTS_FILE).read_text())
        return {name: facts[name] for name in ("endpoint", "pid", "region", "account", "started_at", "token")}
    except (OSError, ValueError, KeyError):
        return None


def _start(directory: Path, options: dict[str, Any]) -> subprocess.Popen[bytes]:
    # The package may run from a checkout: its process must find it from any working directory.
    root = str(Path(__file__).resolve().parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with (directory / LOG_FILE).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.rehearsal.cloud_process", str(directory), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=directory,
            # A session of its own: neither Ctrl-C nor the end of a kernel or terminal reaches it.
            start_new_session=True,
        )
    _started[process.pid] = process
    return process


def _wait_for(directory: Path, process: subprocess.Popen[bytes]) -> Cloud:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        cloud = attach(directory)
        if cloud is not None:
            return cloud
        if process.poll() is not None:
            break
        time.sleep(POLL_S)
    process.kill()
    process.wait()
    raise CloudFailed(f"The local cloud did not start; its log is {directory / LOG_FILE}: {_last_line(directory)}")


def _last_line(directory: Path) -> str:
    lines = (directory / LOG_FILE).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(empty)"


def _ended(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if pid in _started and _started[pid].poll() is not None:
            del _started[pid]
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(POLL_S)
    return False
