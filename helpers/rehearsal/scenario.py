"""Seed a local cloud with what a runbook is rehearsed on: a Redis group with data, a bucket, and an application."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from helpers.rehearsal import dataset
from helpers.rehearsal.application import PARAMETER, REPORT_KEY
from helpers.rehearsal.wire import Wire

if TYPE_CHECKING:
    from helpers.rehearsal.cloud import Cloud

GROUP = "sessions"
BUCKET = "sessions-backup"
KEYS = 100_000
ENGINE_VERSION = "6.2"
NODE_TYPE = "cache.r6g.large"
AVAILABLE_TIMEOUT_S = 120.0
REPORT_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
POLL_S = 0.05
FAILED = ("create-failed", "restore-failed", "deleting", "incompatible-network", "incompatible-parameters")

APPLICATION_FILE = "application.json"
LOCK_FILE = "application.lock"
LOG_FILE = "application.log"
LEDGER_FILE = "application-report.json"

# What the service needs to export to a bucket and to import from it.
# Source: AWS, ElastiCache user guide, "Exporting a backup".
SNAPSHOT_ACTIONS = (
    "s3:PutObject",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:GetBucketAcl",
    "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads",
)


class ScenarioFailed(RuntimeError):
    """The scenario could not be made; the message says what stood in the way and what to do."""


@dataclass(frozen=True)
class Scenario:
    """What a cloud holds for the Redis upgrade.

    `endpoint` is where the application is pointed; `keys_made` is 0 where they were there before;
    `application` is the process id, None where none was asked for; `pristine` says that the group is
    as seeded and in use; `notes` are sentences about what differs from the default scenario.
    """

    replication_group: str
    engine: str
    endpoint: str
    bucket: str
    parameter: str
    keys_made: int
    application: int | None
    pristine: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Access:
    """The way into a cloud by AWS variables alone: no profile, configuration file or proxy of the user counts."""

    variables: Mapping[str, str] = field(repr=False)
    # Making a client costs a tenth of a second: one a service is enough.
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def region(self) -> str:
        """Return the region of the variables."""
        return self.variables.get("AWS_REGION") or self.variables["AWS_DEFAULT_REGION"]

    def client(self, service: str) -> Any:
        """Return a boto3 client of the cloud, made once."""
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service, endpoint_url=self.variables["AWS_ENDPOINT_URL"], config=Config(proxies={})
            )
        return self._clients[service]

    @functools.cached_property
    def _session(self) -> boto3.Session:
        nothing, no_file = (None, None, None, None), (None, None, os.devnull, None)
        core = botocore.session.Session(
            session_vars={"profile": nothing, "config_file": no_file, "credentials_file": no_file}  # type: ignore[arg-type]
        )
        return boto3.Session(
            botocore_session=core,
            region_name=self.region,
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
        )


def seed(
    endpoint_environment: Mapping[str, str],
    *,
    replication_group: str = GROUP,
    bucket: str = BUCKET,
    keys: int = KEYS,
    replicas: int = 1,
    engine_version: str = ENGINE_VERSION,
    node_type: str = NODE_TYPE,
    parameter: str = PARAMETER,
    directory: Path | None = None,
    rate: float | None = None,
) -> Scenario:
    """Make the scenario in the cloud that the AWS variables lead to, and return it; what is there already stays.

    `directory` is the cloud's: with it the application is started (`rate` writes a second). Where
    Redis `engine_version` is not offered the oldest engine is taken, and a note says so. Raises
    `ScenarioFailed` when the group does not become available in 120 s.
    """
    access = Access(endpoint_environment)
    if directory is not None:
        # It takes a moment to start, and waits for the parameter.
        start_application(endpoint_environment, directory, bucket=bucket, parameter=parameter, rate=rate)
    ensure_bucket(access, bucket)
    notes = _ensure_group(access, replication_group, replicas, engine_version, node_type)
    endpoint = _wait_available(access, replication_group)
    made = dataset.fill(endpoint, keys)
    _put_if_absent(access, parameter, endpoint)
    if directory is not None:
        wait_for_application(access, directory, bucket)
    return _scenario(access, replication_group, bucket, parameter, engine_version, made, directory, notes)


def ensure(
    endpoint_environment: Mapping[str, str],
    *,
    replication_group: str = GROUP,
    bucket: str = BUCKET,
    engine_version: str = ENGINE_VERSION,
    parameter: str = PARAMETER,
    directory: Path | None = None,
    fresh: bool = False,
    **options: Any,
) -> Scenario:
    """Return the scenario: seeded where it never was (`options` as for `seed`), else as it stands now.

    The parameter is written last, so a cloud that has it was seeded. From then on a run may have
    changed anything: nothing is put back, only an application that has ended is started again. `fresh`
    says that a new run begins, which needs the group as seeded: where an earlier run has retired it, it is
    made anew and the application starts over; where it was changed, raises `ScenarioFailed`.
    """
    names: dict[str, Any] = {
        "replication_group": replication_group,
        "bucket": bucket,
        "engine_version": engine_version,
        "parameter": parameter,
        "directory": directory,
    }
    access = Access(endpoint_environment)
    if not _parameter(access, parameter):
        return seed(endpoint_environment, **names, **options)
    current = _scenario(access, replication_group, bucket, parameter, engine_version, 0, directory, ())
    if fresh and not current.pristine:
        _begin_again(access, current, directory)
        return seed(endpoint_environment, **names, **options)
    if directory is None or current.application is not None:
        return current
    rate = options.get("rate")
    start_application(endpoint_environment, directory, bucket=bucket, parameter=parameter, rate=rate)
    wait_for_application(access, directory, bucket)
    return _scenario(access, replication_group, bucket, parameter, engine_version, 0, directory, ())


def redis_upgrade(cloud: Cloud, **options: Any) -> Scenario:
    """Ensure the scenario of runbooks/redis_upgrade.ipynb in a cloud; `options` as for `ensure`."""
    return ensure(cloud.environment(), directory=cloud.directory, **options)


def redis_operations(cloud: Cloud, *, fresh: bool = False, keys: int = 40_000, **options: Any) -> Scenario:
    """Ensure what notebooks/redis_operations.ipynb looks at: the same group as it stands, made anew only where it is gone."""
    found = ensure(cloud.environment(), directory=cloud.directory, keys=keys, **options)
    gone = fresh and not found.engine
    return ensure(cloud.environment(), directory=cloud.directory, fresh=True, keys=keys, **options) if gone else found


# The scenario of each runbook that has one, by the runbook's name.
SCENARIOS: dict[str, Callable[..., Scenario]] = {"redis_upgrade": redis_upgrade, "redis_operations": redis_operations}


# The application


def start_application(
    endpoint_environment: Mapping[str, str],
    directory: Path,
    *,
    bucket: str = BUCKET,
    parameter: str = PARAMETER,
    rate: float | None = None,
    sessions: int | None = None,
) -> int:
    """Start the application of a cloud directory, where none runs, and return its process id.

    It outlives this process, and ends with `stop_application` or 10 s after its cloud.
    """
    directory = Path(directory).resolve()
    running = application_pid(directory)
    if running is not None:
        return running
    command = [sys.executable, "-m", "helpers.rehearsal.application", "--bucket", bucket, "--parameter", parameter]
    command += ["--ledger", str(directory / LEDGER_FILE), "--lock", str(directory / LOCK_FILE)]
    command += ["--rate", str(rate)] if rate else []
    command += ["--sessions", str(sessions)] if sessions else []
    with (directory / LOG_FILE).open("ab") as output:
        process = subprocess.Popen(
            command,
            env=application_environment(endpoint_environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _write_private(directory / APPLICATION_FILE, {"pid": process.pid, "started_at": time.time(), "bucket": bucket})
    return process.pid


def application_pid(directory: Path) -> int | None:
    """Return the process id of the application of a cloud directory, None where none runs.

    The one that runs holds the lock with its number in it; one that was just started comes to that.
    """
    facts = _read_json(Path(directory) / APPLICATION_FILE)
    holder, held = _lock(Path(directory) / LOCK_FILE)
    if held:
        return holder or (facts and int(facts["pid"]))
    starting = facts and facts["pid"] != holder and time.time() - facts["started_at"] < REPORT_TIMEOUT_S
    return int(facts["pid"]) if facts and starting and _exists(int(facts["pid"])) else None


def stop_application(directory: Path) -> bool:
    """End the application of a cloud directory, which writes its last report; return whether one ran."""
    directory = Path(directory)
    pid = application_pid(directory)
    if pid is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if _poll(lambda: application_pid(directory) is None, STOP_TIMEOUT_S):
            break
    (directory / APPLICATION_FILE).unlink(missing_ok=True)
    return True


def wait_for_application(access: Access, directory: Path, bucket: str = BUCKET) -> dict[str, Any]:
    """Wait until the application of a cloud directory writes, and return its report.

    Raises `ScenarioFailed`, with the last line of its log, when it ends or does not write within 30 s.
    """
    report: dict[str, Any] = {}

    def writes() -> bool:
        nonlocal report
        report = read_report(access, bucket)
        pid = application_pid(directory)
        return pid is None or (report.get("pid") == pid and bool(report["acknowledged_writes"]))

    if not _poll(writes, REPORT_TIMEOUT_S) or application_pid(directory) is None:
        raise ScenarioFailed(f"The rehearsal's application does not write: {_last_line(Path(directory) / LOG_FILE)}")
    return report


def read_report(access: Access, bucket: str = BUCKET) -> dict[str, Any]:
    """Return the application's report, as `helpers.rehearsal.application` describes it; empty where there is none."""
    try:
        return dict(json.load(access.client("s3").get_object(Bucket=bucket, Key=REPORT_KEY)["Body"]))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket"):
            return {}
        raise


def application_environment(endpoint_environment: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment for the application, with these AWS variables in place of all others."""
    root = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    around = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1,localhost"]))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "NO_PROXY": around, "no_proxy": around, **endpoint_environment}


# What stands around the group


def ensure_bucket(access: Access, bucket: str, *, grant: bool = True) -> None:
    """Make a bucket in the variables' region; `grant` lets ElastiCache of that region export to it and import from it."""
    s3 = access.client("s3")
    region = access.region
    # us-east-1 is the one region that must not be named.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    if grant:
        s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(snapshot_policy(bucket, region)))


def snapshot_policy(bucket: str, region: str) -> dict[str, Any]:
    """Return the bucket policy that lets ElastiCache of a region use a bucket for backups.

    Source: AWS, ElastiCache user guide, "Exporting a backup".
    """
    statement = {
        "Sid": "ElastiCacheBackups",
        "Effect": "Allow",
        "Principal": {"Service": f"{region}.elasticache-snapshot.amazonaws.com"},
        "Action": list(SNAPSHOT_ACTIONS),
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


# What goes wrong: each makes one thing that a runbook has to refuse


def bucket_without_grant(endpoint_environment: Mapping[str, str], bucket: str) -> str:
    """Make a bucket that ElastiCache may not use, and return its name."""
    ensure_bucket(Access(endpoint_environment), bucket, grant=False)
    return bucket


def bucket_elsewhere(endpoint_environment: Mapping[str, str], bucket: str, region: str = "us-west-2") -> str:
    """Make a bucket in another region, with the grant of that region, and return its name."""
    ensure_bucket(Access({**endpoint_environment, "AWS_REGION": region}), bucket)
    return bucket


def truncated_object(endpoint_environment: Mapping[str, str], bucket: str, key: str, keep: float = 0.5) -> int:
    """Cut an object, such as an exported RDB file, to its first part; return the bytes that are left."""
    s3 = Access(endpoint_environment).client("s3")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    left = body[: int(len(body) * keep)]
    s3.put_object(Bucket=bucket, Key=key, Body=left)
    return len(left)


def parameter_changed(endpoint_environment: Mapping[str, str], value: str, parameter: str = PARAMETER) -> str:
    """Set the application's endpoint behind the runbook's back, and return what it was."""
    access = Access(endpoint_environment)
    before = _parameter(access, parameter)
    access.client("ssm").put_parameter(Name=parameter, Value=value, Type="String", Overwrite=True)
    return before


def grown(endpoint: str, mebibytes: int) -> int:
    """Store that much data more, in keys of 1 MiB named ballast:N, and return the bytes that the server now uses."""
    with Wire(endpoint, timeout_s=dataset.TIMEOUT_S) as wire:
        wire.bulk(("SET", f"ballast:{number}", bytes(1 << 20)) for number in range(mebibytes))
        memory: bytes = wire.one("INFO", "memory")
    return int(memory.split(b"used_memory:")[1].split()[0])


# Making it


def _ensure_group(
    access: Access, group: str, replicas: int, version: str, node_type: str
) -> tuple[str, ...]:
    """Create the group where it does not exist; return the notes about it."""
    elasticache = access.client("elasticache")
    if _describe(elasticache, group):
        return ()
    engine, notes = _offered(elasticache, version)
    elasticache.create_replication_group(
        ReplicationGroupId=group,
        ReplicationGroupDescription="Sessions and query cache of the web application",
        Engine=engine["Engine"],
        EngineVersion=engine["EngineVersion"],
        CacheNodeType=node_type,
        CacheParameterGroupName=f"default.{engine['CacheParameterGroupFamily']}",
        NumCacheClusters=1 + replicas,
        AutomaticFailoverEnabled=replicas > 0,
        MultiAZEnabled=replicas > 0,
        AutoMinorVersionUpgrade=False,
        SnapshotRetentionLimit=0,
    )
    return notes


def _offered(elasticache: Any, version: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the engine version to create: Redis `version`, or the oldest on offer with a note."""
    found = elasticache.describe_cache_engine_versions()["CacheEngineVersions"]
    for one in found:
        if (one["Engine"], one["EngineVersion"]) == ("redis", version):
            return one, ()
    if not found:
        raise ScenarioFailed("No engine is installed here. Install the rehearsal extra: `uv sync --all-extras`.")
    oldest = min(found, key=lambda one: (one["Engine"] != "redis", _numbers(one["EngineVersion"])))
    name = f"{oldest['Engine']} {oldest['EngineVersion']}"
    return oldest, (f"Redis {version} has no wheel for this machine: the rehearsal begins with {name}.",)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _describe(elasticache: Any, group: str) -> dict[str, Any]:
    try:
        return dict(elasticache.describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ReplicationGroupNotFoundFault":
            return {}
        raise


def _wait_available(access: Access, group: str) -> str:
    """Wait until the group takes connections, and return its primary endpoint as "host:port"."""
    elasticache = access.client("elasticache")
    found: dict[str, Any] = {}

    def settled() -> bool:
        found.update(_describe(elasticache, group))
        return found.get("Status") in ("available", None, *FAILED)

    if not _poll(settled, AVAILABLE_TIMEOUT_S) or found.get("Status") != "available":
        raise ScenarioFailed(f"The replication group {group} is {found.get('Status', 'gone')}, not available.")
    return _endpoint_of(found)


def _endpoint_of(group: dict[str, Any]) -> str:
    primary = group["NodeGroups"][0]["PrimaryEndpoint"]
    return f"{primary['Address']}:{primary['Port']}"


def _parameter(access: Access, name: str) -> str:
    found = access.client("ssm").get_parameters(Names=[name])["Parameters"]
    return str(found[0]["Value"]) if found else ""


def _put_if_absent(access: Access, name: str, value: str) -> None:
    ssm = access.client("ssm")
    with contextlib.suppress(ssm.exceptions.ParameterAlreadyExists):
        ssm.put_parameter(Name=name, Value=value, Type="String", Description="Where the application finds Redis")


def _begin_again(access: Access, found: Scenario, directory: Path | None) -> None:
    """Take away what an earlier run left in the way of the group's return: the application and its parameter."""
    if _describe(access.client("elasticache"), found.replication_group):
        raise ScenarioFailed(
            f"The replication group {found.replication_group} of this cloud is no longer as seeded "
            f"({found.engine}, the application uses {found.endpoint}). End the cloud with `runbook cloud down`, "
            "and start again."
        )
    if directory is not None:
        stop_application(directory)
    access.client("ssm").delete_parameter(Name=found.parameter)


def _scenario(
    access: Access,
    group: str,
    bucket: str,
    parameter: str,
    version: str,
    made: int,
    directory: Path | None,
    notes: tuple[str, ...],
) -> Scenario:
    """Return the scenario as it stands."""
    elasticache = access.client("elasticache")
    found = _describe(elasticache, group)
    endpoint = _parameter(access, parameter)
    engine = _engine_of(elasticache, found)
    expected, _ = _offered(elasticache, version)
    pristine = (
        found.get("Status") == "available"
        and engine == f"{expected['Engine']} {expected['EngineVersion']}"
        and endpoint == _endpoint_of(found)
    )
    pid = None if directory is None else application_pid(directory)
    return Scenario(group, engine, endpoint, bucket, parameter, made, pid, pristine, notes)


def _engine_of(elasticache: Any, group: dict[str, Any]) -> str:
    """Return "redis 6.2": a group's description has no version, its members' have."""
    if not group.get("MemberClusters"):
        return ""
    member = elasticache.describe_cache_clusters(CacheClusterId=group["MemberClusters"][0])["CacheClusters"][0]
    return f"{member['Engine']} {'.'.join(member['EngineVersion'].split('.')[:2])}"


# Processes and files


def _lock(path: Path) -> tuple[int | None, bool]:
    """Return the process id that a lock file names, and whether its lock is held."""
    if not path.exists():
        return None, False
    with path.open("a+") as lock:
        lock.seek(0)
        text = lock.read().strip()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return (int(text) if text else None), True
    return (int(text) if text else None), False


def _exists(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        # Where this process started it, it stays a zombie until it is asked for.
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # Somebody else's: the number has been given away.
        return False
    return True


def _poll(done: Callable[[], bool], timeout_s: float) -> bool:
    """Return whether it was done in time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _write_private(path: Path, facts: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(facts, file)
    os.replace(partial, path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "(its log is empty)"
