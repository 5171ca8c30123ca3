"""What would make a mount fail or mislead, found before anything is mounted: the file system, its network, the hosts, the policy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.aws import Aws, Check, RunbookError
from helpers.aws.errors import error_code
from helpers.efs.hosts import HERE, run_here
from helpers.efs.mount import ACCESS_POINT, FILE_SYSTEM, HAS_HELPER, Target
from helpers.efs.mounts import find_mount
from helpers.efs.policy import access

NFS_PORT = 2049
CLIENT_SCRIPT = 'PATH="$PATH:/usr/sbin:/sbin"; grep -qw nfs4 /proc/filesystems || modprobe -n -q nfsv4'  # loads nothing
EVERYONE = {"0.0.0.0/0", "::/0"}


@dataclass(frozen=True)
class Job:
    """What a run is asked for: a file system and an access point by id or Name tag, the place, and the hosts (none: this machine)."""

    mode: str
    file_system: str
    directory: str
    mount_point: str
    access_point: str = ""
    iam: bool = False
    hosts: tuple[str, ...] = ()
    fstab: bool = True


@dataclass(frozen=True)
class Host:
    """Where it is to be mounted: an EC2 instance, its zone, security groups and private address."""

    id: str
    zone: str
    groups: tuple[str, ...]
    address: str
    state: str


@dataclass(frozen=True)
class MountTarget:
    """One mount target: its zone, address, state and security groups."""

    id: str
    zone: str
    address: str
    state: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """What was found: the target to mount, the path that it leads to on the server, the mount targets, why this machine cannot mount, the checks."""

    target: Target
    path: str
    mount_targets: tuple[MountTarget, ...]
    cannot: str
    checks: tuple[Check, ...]

    @property
    def address(self) -> str:
        """The address of the first mount target that is available, where DNS does not know the file system; empty without one."""
        return next((one.address for one in self.mount_targets if one.state == "available"), "")

    def table(self) -> pd.DataFrame:
        """A row a mount target: zone, address, state, security groups."""
        rows = [(one.zone, one.address, one.state, ", ".join(one.groups)) for one in self.mount_targets]
        return pd.DataFrame(rows, columns=["zone", "address", "state", "security groups"])


def job_of(parameters: dict[str, Any]) -> Job:
    """The job that the notebook's parameters ask for; `hosts` are ids with commas between them."""
    names = [name for name in Job.__dataclass_fields__ if name != "hosts"]
    hosts = tuple(part.strip() for part in parameters["hosts"].split(",") if part.strip())
    return Job(hosts=hosts, **{name: parameters[name] for name in names})


def survey(aws: Aws, job: Job) -> Survey:
    """Look at everything that the mount needs. Raises `RunbookError` where the file system, access point or a host does not exist."""
    found = _file_system(aws, job.file_system)
    identity = found["FileSystemId"]
    point = _access_point(aws, identity, job.access_point)
    target = Target(identity, job.mount_point, aws.region, job.directory, point.get("AccessPointId", ""), job.iam)
    root = point.get("RootDirectory", {}).get("Path", "/")
    path = "/" + "/".join(part for part in f"{root}/{job.directory}".split("/") if part)
    targets, hosts = tuple(_mount_targets(aws, identity)), _hosts(aws, job.hosts)
    cannot = "" if job.hosts else why_not_here(target, job.mode)
    checks = [
        Check("who is calling", "pass", aws.caller), _state(found), *_zones(targets, hosts), *_groups(aws, targets, hosts),
        *_reached(aws, hosts), _policy(aws, target, point), *_here(job, target, cannot),
    ]  # fmt: skip
    return Survey(target, path, targets, cannot, tuple(checks))


def why_not_here(target: Target, mode: str) -> str:
    """Why this machine cannot mount, or may not in a rehearsal; empty where nothing speaks against it."""
    if sys.platform != "linux":
        return "it does not run Linux"
    if run_here(CLIENT_SCRIPT, 5).exit_code:
        return "its kernel has no NFS client"
    if os.geteuid() != 0:
        return "only root can mount"
    if target.needs_tls and run_here(f"{HAS_HELPER}", 5).exit_code:
        return "amazon-efs-utils is not installed, and this mount needs TLS"
    return "a rehearsal leaves this machine as it is" if mode == "rehearse" else ""


# -- the account ------------------------------------------------------------------------------------------


def _file_system(aws: Aws, asked: str) -> dict[str, Any]:
    """The file system of an id or a Name tag."""
    efs = aws.client("efs")
    by_id = {"FileSystemId": asked} if FILE_SYSTEM.fullmatch(asked) else {}
    try:
        every = [one for page in efs.get_paginator("describe_file_systems").paginate(**by_id) for one in page["FileSystems"]]
    except Exception as error:
        if error_code(error) != "FileSystemNotFound":
            raise
        every = []
    named = [one for one in every if asked in (one["FileSystemId"], one.get("Name"))]
    if len(named) != 1:
        what = f"{len(named)} file systems are" if named else "There is no file system"
        raise RunbookError(f"{what} called {asked!r} in {aws.region}.", "Give an id (fs-…) of this region and account; `aws efs describe-file-systems` lists them.")
    return named[0]


def _access_point(aws: Aws, file_system: str, asked: str) -> dict[str, Any]:
    """The access point of an id or a Name tag, which must be of this file system; empty where none is asked for."""
    if not asked:
        return {}
    pages = aws.client("efs").get_paginator("describe_access_points").paginate(FileSystemId=file_system)
    every = [one for page in pages for one in page["AccessPoints"]]
    found = next((one for one in every if asked in (one["AccessPointId"], one.get("Name"))), None)
    if found is None:
        kind = "id" if ACCESS_POINT.fullmatch(asked) else "Name"
        raise RunbookError(f"{file_system} has no access point with the {kind} {asked!r}.", f"It has {', '.join(one['AccessPointId'] for one in every) or 'none'}.")
    return found


def _mount_targets(aws: Aws, file_system: str) -> Iterator[MountTarget]:
    efs = aws.client("efs")
    for page in efs.get_paginator("describe_mount_targets").paginate(FileSystemId=file_system):
        for one in page["MountTargets"]:
            groups = efs.describe_mount_target_security_groups(MountTargetId=one["MountTargetId"])["SecurityGroups"]
            yield MountTarget(one["MountTargetId"], one["AvailabilityZoneName"], one.get("IpAddress", ""), one["LifeCycleState"], tuple(groups))


def _hosts(aws: Aws, ids: tuple[str, ...]) -> list[Host]:
    if not ids:
        return []
    try:
        pages = list(aws.client("ec2").get_paginator("describe_instances").paginate(InstanceIds=list(ids)))
    except Exception as error:
        if not error_code(error).startswith("InvalidInstanceID"):
            raise
        raise RunbookError(f"Not every host is an instance in {aws.region}: {', '.join(ids)}.", "Give the ids (i-…) of EC2 instances of this region and account.") from error
    every = [one for page in pages for group in page["Reservations"] for one in group["Instances"]]
    return [
        Host(one["InstanceId"], one["Placement"]["AvailabilityZone"], tuple(group["GroupId"] for group in one.get("SecurityGroups", [])), one.get("PrivateIpAddress", ""), one["State"]["Name"])
        for one in every
    ]  # fmt: skip


# -- checks -----------------------------------------------------------------------------------------------


def _state(found: dict[str, Any]) -> Check:
    state, name = found["LifeCycleState"], found.get("Name") or found["FileSystemId"]
    shown = f"{name} is {found['FileSystemId']}, {state}, {found['ThroughputMode']}"
    return Check("the file system is available", "pass" if state == "available" else "fail", shown, "" if state == "available" else "Wait until it is available.")


def _zones(targets: Iterable[MountTarget], hosts: list[Host]) -> Iterator[Check]:
    """Whether there is a mount target in the zone of each host; for this machine, whose zone is not known, whether there is one."""
    name, zones = "a mount target in the zone", {one.zone for one in targets if one.state == "available"}
    remedy = "Create one: aws efs create-mount-target --file-system-id … --subnet-id … --security-groups …; a new name resolves after about 90 s."
    if not zones:
        yield Check(name, "fail", "the file system has no mount target that is available.", remedy)
        return
    if not hosts:
        yield Check(name, "pass", f"there is one in {', '.join(sorted(zones))}; mount in one of these zones")
        return
    found = [(host.zone in zones, f"{host.id} is in {host.zone}") for host in hosts]
    yield from _hosts_checked(name, found, f", mount targets are in {', '.join(sorted(zones))}", remedy)


def _groups(aws: Aws, targets: Iterable[MountTarget], hosts: list[Host]) -> Iterator[Check]:
    """Whether the security groups of the mount targets let TCP 2049 in: from the hosts, by security group rather than by address."""
    name = "TCP 2049 is let in"
    ids = sorted({group for one in targets for group in one.groups})
    described = aws.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"] if ids else []
    rules = [rule for group in described for rule in group.get("IpPermissions", []) if _is_nfs(rule)]
    sources = {pair["GroupId"] for rule in rules for pair in rule.get("UserIdGroupPairs", [])}
    ranges = {one.get("CidrIp") or one.get("CidrIpv6") for rule in rules for one in [*rule.get("IpRanges", []), *rule.get("Ipv6Ranges", [])]}
    remedy = f"Allow TCP 2049 in {', '.join(ids) or 'a security group of the mount target'} from the clients' security group, not from addresses."
    if not rules:
        yield Check(name, "fail", f"no rule of {', '.join(ids) or 'the mount targets'} allows it.", remedy)
        return
    if ranges & EVERYONE:
        yield Check("TCP 2049 is closed to the world", "warn", f"{', '.join(sorted(ranges & EVERYONE))} may connect", remedy)
    if not hosts:
        yield Check(name, "pass", f"from {', '.join(sorted(sources | ranges))}; whether this machine is among them the probe shows")
        return
    found = []
    for host in hosts:
        inside = sources & set(host.groups)
        let_in = bool(inside) or any(_within(host.address, one) for one in ranges)
        by = ", ".join(sorted(inside)) or f"its address {host.address}"
        found.append((let_in, f"from {host.id} by {by}" if let_in else f"not from {host.id} ({', '.join(host.groups)})"))
    yield from _hosts_checked(name, found, "", remedy)


def _hosts_checked(name: str, found: list[tuple[bool, str]], more: str, remedy: str) -> Iterator[Check]:
    """One check for the hosts that are good, and one for those that are not."""
    for outcome, end in (("pass", ""), ("fail", ".")):
        told = [text for good, text in found if good is (outcome == "pass")]
        if told:
            yield Check(name, outcome, "; ".join(told) + more + end, remedy if outcome == "fail" else "")


def _is_nfs(rule: dict[str, Any]) -> bool:
    if rule["IpProtocol"] == "-1":
        return True
    return rule["IpProtocol"] in ("tcp", "6") and rule["FromPort"] <= NFS_PORT <= rule["ToPort"]


def _within(address: str, network: str) -> bool:
    return bool(address) and ip_address(address) in ip_network(network, strict=False)


def _reached(aws: Aws, hosts: list[Host]) -> Iterator[Check]:
    """Whether each host runs, and its SSM agent answers."""
    name = "SSM reaches the host"
    if not hosts:
        return
    asked = [{"Key": "InstanceIds", "Values": [host.id for host in hosts]}]
    pages = aws.client("ssm").get_paginator("describe_instance_information").paginate(Filters=asked)
    status = {one["InstanceId"]: one["PingStatus"] for page in pages for one in page["InstanceInformationList"]}
    found = [
        (host.state == "running" and status.get(host.id) == "Online", f"{host.id} is {host.state}, its agent is {status.get(host.id, 'not registered')}")
        for host in hosts
    ]  # fmt: skip
    yield from _hosts_checked(name, found, "", "It must run, with the SSM agent and an instance profile with AmazonSSMManagedInstanceCore.")


def _policy(aws: Aws, target: Target, point: dict[str, Any]) -> Check:
    """What the file system policy lets an anonymous client over TLS do; with IAM its identity decides too, which is not known here."""
    name = "the file system policy"
    try:
        policy = aws.client("efs").describe_file_system_policy(FileSystemId=target.file_system)["Policy"]
    except Exception as error:
        if error_code(error) != "PolicyNotFound":
            raise
        remedy = "Add one that allows access through a mount target, and denies it without TLS."
        return Check(name, "warn", "there is none: whoever reaches a mount target has full access, as root too", remedy)
    if target.iam:
        return Check(name, "pass", "there is one; whether the host's role is allowed in, the mount shows")
    may = access(policy, {"tls": True, "access_point": point["AccessPointArn"]} if point else {"tls": True})
    if not may.mount:
        return Check(name, "fail", "it does not let an anonymous client mount.", "Mount with iam=True, or through the access point that it names.")
    plain = access(policy, {"tls": False}).mount
    able = ["mount"] + ["write"] * may.write + ["act as root"] * may.root
    found = f"an anonymous client may {', '.join(able)} over TLS" + ("" if plain else ", and nothing without it")
    return Check(name, "pass" if may.write else "warn", found, "" if may.write else "The proof writes: it will fail.")


def _here(job: Job, target: Target, cannot: str) -> Iterator[Check]:
    """Whether this machine can mount, and what is at the mount point."""
    if job.hosts:
        return
    name = "this machine can mount"
    remedy = "Name EC2 instances in `hosts`, or run this as root on Linux with an NFS client."
    if cannot:
        yield Check(name, "warn" if job.mode == "rehearse" else "fail", f"no: {cannot}.", "" if job.mode == "rehearse" else remedy)
    else:
        yield Check(name, "pass", "as root, with an NFS client")
    there, place = find_mount(job.mount_point) if Path("/proc/self/mountinfo").exists() else None, Path(job.mount_point)
    if there is not None:
        same = target.file_system in (there.file_system, there.source) or there.source.startswith(target.host)
        shown = f"{there.source} is mounted there"
        yield Check("the mount point", "pass", f"{shown} already, and stays on roll back") if same else Check("the mount point", "fail", f"{shown}.", "Choose another mount point.")
    elif place.is_dir() and any(place.iterdir()):
        yield Check("the mount point", "warn", f"{place} has files, which the mount hides", "Choose an empty directory.")


def where(job: Job) -> str:
    """The hosts of a job in words."""
    return ", ".join(job.hosts) or HERE
