"""Seed a local cloud with what a runbook is rehearsed on: a Redis group with data, a bucket, and an application.

What kind of group it is, `rehearse_on` says; where the application finds it, `parameter` does in the forms
of `helpers.rehearsal.endpoint_source`. A cloud may hold several groups, each with an application of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from helpers.rehearsal import dataset, settings
from helpers.rehearsal.application import PARAMETER, READ_ONLY_PARAMETER, REPORT_KEY
from helpers.rehearsal.login import words_of

if TYPE_CHECKING:
    from helpers.rehearsal.cloud import Cloud
    from helpers.rehearsal.ecr.scenario import ContainerImages
    from helpers.rehearsal.efs.scenario import FileSystems
    from helpers.rehearsal.eventbridge.scenario import EventScenario

GROUP = "sessions"
BUCKET = "sessions-backup"
DESCRIPTIONS = create_loader()  # the descriptions of services, read once: each session would parse its own
KEYS = 100_000
SHARDS = 2
ENGINE_VERSION = "6.2"
NODE_TYPE = "cache.r6g.large"
AVAILABLE_TIMEOUT_S = 120.0
REPORT_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 8.0
POLL_S = 0.05
FAILED = ("create-failed", "restore-failed", "deleting", "incompatible-network", "incompatible-parameters")

AUTH_SECRET = "sessions/redis/auth"
# The user of the application where the group has users, and how many bytes of chance are in a password.
USER, TOKEN_BYTES = "application", 32

APPLICATIONS = "applications"
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
class Kind:
    """A kind of group: in a replication group or `alone`, cluster mode, encryption in transit, AUTH token or users."""

    alone: bool = False
    cluster: bool = False
    tls: bool = False
    users: bool = False


KINDS = {
    "replica": Kind(),
    "alone": Kind(alone=True),
    "cluster": Kind(cluster=True),
    "tls": Kind(tls=True),
    "cluster_tls": Kind(cluster=True, tls=True),
    "users": Kind(tls=True, users=True),
}


@dataclass(frozen=True)
class Scenario:
    """What a cloud holds for the Redis upgrade.

    `endpoint` is where the application is pointed; `keys_made` is 0 where they were there before;
    `application` is the process id, None where none was asked for; `pristine` says that the group is
    as seeded and in use; `notes` are sentences about what differs from the default scenario;
    `rehearse_on` is the kind that was asked for.
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
    rehearse_on: str = "replica"


@dataclass(frozen=True)
class Plan:
    """What is to be seeded: the names of a run, and what its group is made of.

    `report` is where the application's report goes, "s3://bucket/key".
    """

    replication_group: str = GROUP
    bucket: str = BUCKET
    parameter: str = PARAMETER
    rehearse_on: str = "replica"
    auth_secret: str = AUTH_SECRET
    read_only_parameter: str = READ_ONLY_PARAMETER
    report: str = ""
    keys: int = KEYS
    replicas: int = 1
    engine_version: str = ENGINE_VERSION
    node_type: str = NODE_TYPE
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.rehearse_on not in KINDS:
            raise ScenarioFailed(f"There is no group to rehearse on that is called {self.rehearse_on!r}: choose {', '.join(KINDS)}.")

    @property
    def kind(self) -> Kind:
        """Return what kind of group it is."""
        return KINDS[self.rehearse_on]

    @property
    def report_bucket(self) -> str:
        """Return the bucket of the application's report."""
        return self.report.removeprefix("s3://").partition("/")[0] or self.bucket

    @property
    def report_key(self) -> str:
        """Return the key of the application's report in its bucket."""
        return self.report.removeprefix("s3://").partition("/")[2] or REPORT_KEY


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
        core.register_component("data_loader", DESCRIPTIONS)
        return boto3.Session(
            botocore_session=core,
            region_name=self.region,
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
        )


def seed(endpoint_environment: Mapping[str, str], *, directory: Path | None = None, **options: Any) -> Scenario:
    """Make the scenario in the cloud that the AWS variables lead to, and return it; what is there already stays.

    `options` are the fields of `Plan`. `directory` is the cloud's: with it the application is started
    (`rate` writes a second). Where Redis `engine_version` is not offered the oldest engine is taken, and a
    note says so. Raises `ScenarioFailed` when the group does not become available in 120 s, or the setting
    or the report is another group's.
    """
    access, plan = Access(endpoint_environment), Plan(**options)
    with contextlib.ExitStack() as undo:
        if directory is not None:
            _refuse_shared(directory, plan)
            # It takes a moment to start, and waits for the setting.
            if _start(endpoint_environment, directory, plan):
                undo.callback(stop_application, application_directory(directory, plan.replication_group))
        for bucket in dict.fromkeys((plan.bucket, plan.report_bucket)):
            ensure_bucket(access, bucket)
        login = _ensure_secret(access, plan)
        notes = _ensure_group(access, plan, login)
        endpoint = _wait_available(access, plan)
        made = dataset.fill(endpoint, plan.keys, cluster=plan.kind.cluster, tls=tls_of(access, plan.kind), login=login)
        if not _setting(access, plan):
            _write_setting(access, plan, endpoint)
        if directory is not None:
            _wait_for(access, directory, plan)
        undo.pop_all()
    return _scenario(access, plan, made, directory, notes)


def ensure(
    endpoint_environment: Mapping[str, str], *, directory: Path | None = None, fresh: bool = False, **options: Any
) -> Scenario:
    """Return the scenario: seeded where it never was (`options` as for `seed`), else as it stands now.

    The setting is written last, so a cloud that has it was seeded. From then on a run may have
    changed anything: nothing is put back, only an application that has ended is started again. `fresh`
    says that a new run begins, which needs the group as seeded: where an earlier run has retired it, it is
    made anew and the application starts over; where it was changed, raises `ScenarioFailed`.
    """
    access, plan = Access(endpoint_environment), Plan(**options)
    if directory is not None:
        _refuse_shared(directory, plan)
    if not _setting(access, plan):
        return seed(endpoint_environment, directory=directory, **options)
    current = _scenario(access, plan, 0, directory, ())
    if fresh and not current.pristine:
        _begin_again(access, plan, current, directory)
        return seed(endpoint_environment, directory=directory, **options)
    if fresh:
        _ensure_buckets(access, plan)
    if directory is None or (current.application is not None and (not fresh or _runs_as(directory, plan))):
        return current
    _start(endpoint_environment, directory, plan)
    _wait_for(access, directory, plan)
    return _scenario(access, plan, 0, directory, ())


def redis_upgrade(cloud: Cloud, **options: Any) -> Scenario:
    """Ensure the scenario of runbooks/redis_upgrade.ipynb in a cloud; `options` as for `ensure`."""
    return ensure(cloud.environment(), directory=cloud.directory, **options)


def redis_operations(cloud: Cloud, *, fresh: bool = False, keys: int = 40_000, **options: Any) -> Scenario:
    """Ensure what notebooks/redis_operations.ipynb looks at: the same group as it stands, made anew only where it is gone."""
    found = ensure(cloud.environment(), directory=cloud.directory, keys=keys, **options)
    gone = fresh and not found.engine
    return ensure(cloud.environment(), directory=cloud.directory, fresh=True, keys=keys, **options) if gone else found


def redis_capacity(cloud: Cloud, *, fresh: bool = False, keys: int = 40_000, **options: Any) -> Scenario:
    """Ensure what notebooks/redis_capacity.ipynb looks at: that group with four weeks of metrics, and its backup in the bucket."""
    from helpers.rehearsal.elasticache import metrics

    found = redis_operations(cloud, fresh=fresh, keys=keys, **options)
    access, group = Access(cloud.environment()), found.replication_group
    shards = access.client("elasticache").describe_replication_groups(ReplicationGroupId=group)["ReplicationGroups"][0]["NodeGroups"]
    nodes = [(one["CacheClusterId"], one.get("CurrentRole", "primary") == "primary") for shard in shards for one in shard["NodeGroupMembers"]]
    known = access.client("cloudwatch").list_metrics(Namespace=metrics.NAMESPACE, Dimensions=[{"Name": "CacheClusterId", "Value": nodes[0][0]}])
    if not known["Metrics"]:
        cloud.seed_cache_metrics(list(metrics.series(nodes, int(time.time()) // metrics.HOUR_S - 1)))
        _export(access.client("elasticache"), group, found.bucket)
    return found


def _export(elasticache: Any, group: str, bucket: str) -> None:
    """Take a snapshot and copy it to the bucket, as `<group>-capacity-0001.rdb` and so on."""
    name = f"{group}-capacity"
    elasticache.create_snapshot(SnapshotName=f"{name}-snapshot", ReplicationGroupId=group)
    _settle(lambda: _snapshot_status(elasticache, f"{name}-snapshot"), "available", f"the snapshot of {group}")
    elasticache.copy_snapshot(SourceSnapshotName=f"{name}-snapshot", TargetSnapshotName=name, TargetBucket=bucket)
    _settle(lambda: _snapshot_status(elasticache, f"{name}-snapshot"), "available", f"the export of {group}")


def _snapshot_status(elasticache: Any, name: str) -> str:
    return str(elasticache.describe_snapshots(SnapshotName=name)["Snapshots"][0]["SnapshotStatus"])


def eventbridge_debug(cloud: Cloud, **options: Any) -> EventScenario:
    """Ensure the scenario of runbooks/eventbridge_debug.ipynb in a cloud; `options` as for `eventbridge.scenario.ensure`."""
    from helpers.rehearsal.eventbridge import scenario

    return scenario.ensure(cloud, **options)


def file_systems(cloud: Cloud, *, fresh: bool = False, **_: Any) -> FileSystems:
    """Ensure the file systems that runbooks/efs_mount.ipynb mounts."""
    from helpers.rehearsal.efs import scenario

    return scenario.ensure(cloud, fresh=fresh)


def metered_file_systems(cloud: Cloud, *, fresh: bool = False, **_: Any) -> FileSystems:
    """Ensure the same file systems for the notebooks on EFS, which read their metrics by the minute too."""
    from helpers.rehearsal.efs import scenario

    return scenario.ensure(cloud, fresh=fresh, minutes=True)


def container_images(cloud: Cloud, *, fresh: bool = False, **_: Any) -> ContainerImages:
    """Ensure the repositories and images that the runbooks and the notebook on ECR look at."""
    from helpers.rehearsal.ecr import scenario

    return scenario.ensure(cloud, fresh=fresh)


# The scenario of each runbook that has one, by the runbook's name.
SCENARIOS: dict[str, Callable[..., Scenario | EventScenario | FileSystems | ContainerImages]] = {
    "ecr_lifecycle": container_images,
    "ecr_push": container_images,
    "ecr_storage": container_images,
    "efs_credits": metered_file_systems,
    "efs_fleet": metered_file_systems,
    "efs_mount": file_systems,
    "eventbridge_debug": eventbridge_debug,
    "redis_upgrade": redis_upgrade,
    "redis_operations": redis_operations,
    "redis_capacity": redis_capacity,
}

# What a scenario takes over from the parameters of a run, by the parameters' names.
PARAMETERS = {
    "replication_group": "replication_group",
    "bucket": "bucket",
    "switch_parameter": "parameter",
    "rehearse_on": "rehearse_on",
    "auth_secret": "auth_secret",
    "read_only_parameter": "read_only_parameter",
    "application_report": "report",
}
EVENT_PARAMETERS = ("event_bus", "rule", "archive")


def options_of(parameters: Mapping[str, Any], scenario: str = "redis_upgrade") -> dict[str, str]:
    """Return the options of a scenario that a run with these parameters needs; what is empty stays the default."""
    if SCENARIOS.get(scenario) in (container_images, file_systems, metered_file_systems):
        return {}
    if scenario == "eventbridge_debug":
        return {name: str(parameters[name]) for name in EVENT_PARAMETERS if parameters.get(name)}
    given = {option: str(parameters[name]) for name, option in PARAMETERS.items() if parameters.get(name)}
    # Where a run is not told of a report it looks for it in the default bucket, whatever bucket it exports to.
    return given if "application_report" in parameters else {"report": f"s3://{BUCKET}/{REPORT_KEY}", **given}


# The application


def application_directory(directory: Path, group: str = GROUP) -> Path:
    """Return the folder that the application of a group keeps its files in: the cloud's own, or one within it."""
    return Path(directory) if group == GROUP else Path(directory) / APPLICATIONS / group


def start_application(
    endpoint_environment: Mapping[str, str],
    directory: Path,
    *,
    bucket: str = BUCKET,
    parameter: str = PARAMETER,
    rate: float | None = None,
    arguments: Sequence[str] = (),
) -> int:
    """Start the application of a directory, where none runs, and return its process id.

    `arguments` are further options of its command line. It outlives this process, and ends with
    `stop_application` or 10 s after its cloud.
    """
    directory = Path(directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    running = application_pid(directory)
    if running is not None:
        return running
    command = [sys.executable, "-m", "helpers.rehearsal.application", "--bucket", bucket, "--parameter", parameter]
    command += ["--ledger", str(directory / LEDGER_FILE), "--lock", str(directory / LOCK_FILE)]
    command += ["--rate", str(rate)] if rate else []
    with (directory / LOG_FILE).open("ab") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            env=application_environment(endpoint_environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    facts = {"pid": process.pid, "started_at": time.time(), "bucket": bucket, "parameter": parameter}
    _write_private(directory / APPLICATION_FILE, {**facts, "arguments": list(arguments)})
    return process.pid


def application_pid(directory: Path) -> int | None:
    """Return the process id of the application of a directory, None where none runs.

    The one that runs holds the lock with its number in it; one that was just started comes to that.
    """
    facts = _read_json(Path(directory) / APPLICATION_FILE)
    holder, held = _lock(Path(directory) / LOCK_FILE)
    if held:
        return holder or (facts and int(facts["pid"]))
    starting = facts and facts["pid"] != holder and time.time() - facts["started_at"] < REPORT_TIMEOUT_S
    return int(facts["pid"]) if facts and starting and _exists(int(facts["pid"])) else None


def stop_application(directory: Path) -> bool:
    """End the application of a directory, which writes its last report; return whether one ran."""
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


def stop_applications(directory: Path) -> None:
    """End the applications of all groups of a cloud's directory."""
    for one in _application_directories(directory):
        stop_application(one)


def wait_for_application(
    access: Access, directory: Path, bucket: str = BUCKET, key: str = REPORT_KEY
) -> dict[str, Any]:
    """Wait until the application of a directory writes, and return its report.

    Raises `ScenarioFailed`, with the last line of its log, when it ends or does not write within 30 s.
    """
    report: dict[str, Any] = {}

    def writes() -> bool:
        nonlocal report
        report = read_report(access, bucket, key)
        pid = application_pid(directory)
        return pid is None or (report.get("pid") == pid and bool(report["acknowledged_writes"]))

    if not _poll(writes, REPORT_TIMEOUT_S) or application_pid(directory) is None:
        raise ScenarioFailed(f"The rehearsal's application does not write: {_last_line(Path(directory) / LOG_FILE)}")
    return report


def read_report(access: Access, bucket: str = BUCKET, key: str = REPORT_KEY) -> dict[str, Any]:
    """Return the application's report, as `helpers.rehearsal.application` describes it; empty where there is none."""
    try:
        return dict(json.load(access.client("s3").get_object(Bucket=bucket, Key=key)["Body"]))
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


def tls_of(access: Access, kind: Kind) -> ssl.SSLContext | None:
    """Return how a connection to a group of this kind is encrypted; None where it is not."""
    return ssl.create_default_context(cafile=access.variables.get("SSL_CERT_FILE")) if kind.tls else None


def _arguments(plan: Plan) -> list[str]:
    """Return the options of the application's command line that follow from what kind of group it uses."""
    arguments = ["--read-only-parameter", plan.read_only_parameter, "--report-key", plan.report_key]
    arguments += ["--cluster"] if plan.kind.cluster else []
    # The secret's name goes on the command line, what it holds never does.
    arguments += ["--tls", "--login-secret", plan.auth_secret] if plan.kind.tls else []
    port = settings.port_of(plan.parameter)
    return [*arguments, "--port", str(port)] if port else arguments


def _start(endpoint_environment: Mapping[str, str], directory: Path, plan: Plan) -> bool:
    """Start the group's application, anew where it runs otherwise than the plan needs it; return whether it was started."""
    where = application_directory(directory, plan.replication_group)
    if application_pid(where) is not None:
        if _runs_as(directory, plan):
            return False
        stop_application(where)
    names = {"bucket": plan.report_bucket, "parameter": plan.parameter}
    start_application(endpoint_environment, where, **names, rate=plan.rate, arguments=_arguments(plan))
    return True


def _runs_as(directory: Path, plan: Plan) -> bool:
    """Return whether the application was started as this plan needs it."""
    facts = _read_json(application_directory(directory, plan.replication_group) / APPLICATION_FILE) or {}
    wanted = {"bucket": plan.report_bucket, "parameter": plan.parameter, "arguments": _arguments(plan)}
    return {name: facts.get(name) for name in wanted} == wanted


def _wait_for(access: Access, directory: Path, plan: Plan) -> None:
    where = application_directory(directory, plan.replication_group)
    wait_for_application(access, where, plan.report_bucket, plan.report_key)


def _application_directories(directory: Path) -> list[Path]:
    return [Path(directory), *sorted((Path(directory) / APPLICATIONS).glob("*"))]


def _refuse_shared(directory: Path, plan: Plan) -> None:
    """Raise `ScenarioFailed` where the application of another group uses what this one's is to use."""
    own = application_directory(directory, plan.replication_group)
    for other in _application_directories(directory):
        facts = _read_json(other / APPLICATION_FILE) or {}
        if other == own or application_pid(other) is None:
            continue
        group = GROUP if other == Path(directory) else other.name
        report = (facts["bucket"], _argument(facts.get("arguments", ()), "--report-key"))
        if facts["parameter"] == plan.parameter:
            what = f"finds its endpoint in {plan.parameter}"
            remedy = "switch_parameter"
        elif report == (plan.report_bucket, plan.report_key):
            what = f"writes its report to s3://{plan.report_bucket}/{plan.report_key}"
            remedy = "application_report"
        else:
            continue
        raise ScenarioFailed(
            f"The application of the group {group} in this cloud {what}: choose another {remedy} "
            f"for {plan.replication_group}, or end the cloud with `runbook cloud down`."
        )


def _argument(arguments: Sequence[str], name: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else ""


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


def _ensure_buckets(access: Access, plan: Plan) -> None:
    """Make the buckets of the export and of the report where they do not exist."""
    there = {one["Name"] for one in access.client("s3").list_buckets()["Buckets"]}
    for bucket in {plan.bucket, plan.report_bucket} - there:
        ensure_bucket(access, bucket)


# What goes wrong: each makes one thing that a runbook has to refuse


def bucket_without_grant(endpoint_environment: Mapping[str, str], bucket: str) -> str:
    """Make a bucket that ElastiCache may not use, and return its name."""
    ensure_bucket(Access(endpoint_environment), bucket, grant=False)
    return bucket


def bucket_elsewhere(endpoint_environment: Mapping[str, str], bucket: str, region: str = "us-west-2") -> str:
    """Make a bucket in another region, with the grant of that region, and return its name."""
    ensure_bucket(Access({**endpoint_environment, "AWS_REGION": region}), bucket)
    return bucket


# Making it


def _ensure_secret(access: Access, plan: Plan) -> tuple[str, ...]:
    """Make the secret with the group's login where there is none; return the words for AUTH, none for a group without."""
    if not plan.kind.tls:
        return ()
    client = access.client("secretsmanager")
    try:
        text = str(client.get_secret_value(SecretId=plan.auth_secret)["SecretString"])
    except client.exceptions.ResourceNotFoundException:
        password = secrets.token_hex(TOKEN_BYTES)
        text = json.dumps({"username": USER, "password": password}) if plan.kind.users else password
        client.create_secret(Name=plan.auth_secret, SecretString=text, Description="How the application logs in to Redis")
    words = words_of(text)
    if len(words) != (2 if plan.kind.users else 1):
        wanted = "username and password" if plan.kind.users else "an AUTH token alone"
        raise ScenarioFailed(f"The secret {plan.auth_secret} of this cloud does not hold {wanted}: choose another auth_secret.")
    return words


def _ensure_group(access: Access, plan: Plan, login: tuple[str, ...]) -> tuple[str, ...]:
    """Create the group where it does not exist; return the notes about it."""
    elasticache = access.client("elasticache")
    if _describe(elasticache, plan.replication_group, alone=plan.kind.alone):
        return ()
    engine, notes = _offered(elasticache, plan.engine_version)
    cluster = ".cluster.on" if plan.kind.cluster else ""
    request: dict[str, Any] = {
        "Engine": engine["Engine"],
        "EngineVersion": engine["EngineVersion"],
        "CacheNodeType": plan.node_type,
        "CacheParameterGroupName": f"default.{engine['CacheParameterGroupFamily']}{cluster}",
        "AutoMinorVersionUpgrade": False,
        "SnapshotRetentionLimit": 0,
    }
    if port := settings.port_of(plan.parameter):
        request["Port"] = port
    if plan.kind.alone:
        elasticache.create_cache_cluster(CacheClusterId=plan.replication_group, NumCacheNodes=1, **request)
        return notes
    request |= {"AutomaticFailoverEnabled": plan.replicas > 0, "MultiAZEnabled": plan.replicas > 0}
    if plan.kind.cluster:
        # With cluster mode enabled automatic failover is on, whether there are replicas or not.
        request |= {"NumNodeGroups": SHARDS, "ReplicasPerNodeGroup": plan.replicas, "AutomaticFailoverEnabled": True}
    else:
        request["NumCacheClusters"] = 1 + plan.replicas
    if plan.kind.tls:
        request["TransitEncryptionEnabled"] = True
        if plan.kind.users:
            request["UserGroupIds"] = [_ensure_users(elasticache, plan.replication_group, *login)]
        else:
            request["AuthToken"] = login[0]
    elasticache.create_replication_group(
        ReplicationGroupId=plan.replication_group,
        ReplicationGroupDescription="Sessions and query cache of the web application",
        **request,
    )
    return notes


def _ensure_users(elasticache: Any, group: str, name: str, password: str) -> str:
    """Make the group's users, the application's and a default user who may nothing; return their user group's id.

    Source: AWS, ElastiCache user guide, "Role-Based Access Control (RBAC)": a user group needs a user
    named default, and a default user of one's own keeps out who gives no name.
    """
    off = {"UserId": f"{group}-default", "UserName": "default", "AccessString": "off ~keys* -@all"}
    on = {"UserId": f"{group}-{USER}", "UserName": name, "AccessString": "on ~* &* +@all"}
    _ensure_user(elasticache, off, secrets.token_hex(TOKEN_BYTES))
    _ensure_user(elasticache, on, password)
    user_group = f"{group}-users"
    with contextlib.suppress(elasticache.exceptions.UserGroupAlreadyExistsFault):
        elasticache.create_user_group(UserGroupId=user_group, Engine="redis", UserIds=[off["UserId"], on["UserId"]])
    _settle(lambda: elasticache.describe_user_groups(UserGroupId=user_group)["UserGroups"][0]["Status"], "active", user_group)
    return user_group


def _ensure_user(elasticache: Any, user: dict[str, str], password: str) -> None:
    try:
        elasticache.create_user(Engine="redis", Passwords=[password], **user)
    except elasticache.exceptions.UserAlreadyExistsFault:
        elasticache.modify_user(UserId=user["UserId"], Passwords=[password])
    _settle(lambda: elasticache.describe_users(UserId=user["UserId"])["Users"][0]["Status"], "active", user["UserId"])


def _settle(status: Callable[[], str], wanted: str, what: str) -> None:
    if not _poll(lambda: status() == wanted, AVAILABLE_TIMEOUT_S):
        raise ScenarioFailed(f"{what} is {status()}, not {wanted}.")


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


def _describe(elasticache: Any, name: str, *, alone: bool = False) -> dict[str, Any]:
    """Return the group, or the cache cluster that is alone, as it is described; {} where there is none."""
    try:
        if alone:
            return dict(elasticache.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])
        return dict(elasticache.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ReplicationGroupNotFoundFault", "CacheClusterNotFound"):
            return {}
        raise


def _status(found: dict[str, Any]) -> str | None:
    return found.get("Status") or found.get("CacheClusterStatus")


def _wait_available(access: Access, plan: Plan) -> str:
    """Wait until the group takes connections, and return the endpoint that applications use as "host:port"."""
    elasticache = access.client("elasticache")
    found: dict[str, Any] = {}

    def settled() -> bool:
        found.update(_describe(elasticache, plan.replication_group, alone=plan.kind.alone))
        return _status(found) in ("available", None, *FAILED)

    if not _poll(settled, AVAILABLE_TIMEOUT_S) or _status(found) != "available":
        raise ScenarioFailed(f"The replication group {plan.replication_group} is {_status(found) or 'gone'}, not available.")
    return _endpoint_of(found)


def _endpoint_of(found: dict[str, Any]) -> str:
    """Return the configuration endpoint of a cluster, the node's of a cache cluster, else the primary endpoint."""
    if "CacheNodes" in found:
        endpoint = found["CacheNodes"][0]["Endpoint"]
    else:
        endpoint = found.get("ConfigurationEndpoint") or found["NodeGroups"][0]["PrimaryEndpoint"]
    return f"{endpoint['Address']}:{endpoint['Port']}"


def _is_of(kind: Kind, found: dict[str, Any]) -> bool:
    """Return whether a group is of a kind."""
    if kind.alone:
        return not found.get("ReplicationGroupId")
    token = bool(found.get("AuthTokenEnabled"))
    return (
        bool(found.get("ClusterEnabled")) == kind.cluster
        and bool(found.get("TransitEncryptionEnabled")) == kind.tls
        and bool(found.get("UserGroupIds")) == kind.users
        and token == (kind.tls and not kind.users)
    )


def _setting(access: Access, plan: Plan) -> str:
    try:
        return settings.read(access.client, plan.parameter)
    except settings.SettingRefused as error:
        raise ScenarioFailed(str(error)) from error


def _write_setting(access: Access, plan: Plan, endpoint: str) -> None:
    try:
        settings.write(access.client, plan.parameter, endpoint)
    except settings.SettingRefused as error:
        raise ScenarioFailed(str(error)) from error


def _begin_again(access: Access, plan: Plan, found: Scenario, directory: Path | None) -> None:
    """Take away what an earlier run left in the way of the group's return: the application and its setting."""
    there = _describe(access.client("elasticache"), plan.replication_group, alone=plan.kind.alone)
    if there and not _is_of(plan.kind, there):
        raise ScenarioFailed(
            f"The replication group {plan.replication_group} of this cloud is no group to rehearse on {plan.rehearse_on!r}: "
            "choose another replication_group with a switch_parameter and application_report of its own, "
            "or end the cloud with `runbook cloud down`, and start again."
        )
    if there:
        raise ScenarioFailed(
            f"The replication group {plan.replication_group} of this cloud is no longer as seeded "
            f"({found.engine}, the application uses {found.endpoint}). End the cloud with `runbook cloud down`, "
            "and start again."
        )
    if directory is not None:
        stop_application(application_directory(directory, plan.replication_group))
    settings.remove(access.client, plan.parameter)


def _scenario(access: Access, plan: Plan, made: int, directory: Path | None, notes: tuple[str, ...]) -> Scenario:
    """Return the scenario as it stands."""
    elasticache = access.client("elasticache")
    found = _describe(elasticache, plan.replication_group, alone=plan.kind.alone)
    endpoint = _setting(access, plan)
    engine = _engine_of(elasticache, found)
    expected, _ = _offered(elasticache, plan.engine_version)
    pristine = (
        _status(found) == "available"
        and _is_of(plan.kind, found)
        and engine == f"{expected['Engine']} {expected['EngineVersion']}"
        and endpoint == _endpoint_of(found)
    )
    pid = None if directory is None else application_pid(application_directory(directory, plan.replication_group))
    names = (plan.replication_group, engine, endpoint, plan.bucket, plan.parameter)
    return Scenario(*names, made, pid, pristine, notes, plan.rehearse_on)


def _engine_of(elasticache: Any, found: dict[str, Any]) -> str:
    """Return "redis 6.2": a group's description has no version, its members' have."""
    if found.get("MemberClusters"):
        found = elasticache.describe_cache_clusters(CacheClusterId=found["MemberClusters"][0])["CacheClusters"][0]
    return f"{found['Engine']} {'.'.join(found['EngineVersion'].split('.')[:2])}" if "EngineVersion" in found else ""


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
