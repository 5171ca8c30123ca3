"""A file system's settings, each with a verdict and a remedy: modes, lifecycle, policy, backups, encryption, network.

https://docs.aws.amazon.com/efs/latest/ug/whatisefs.html; reads only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws import Aws, Check, RunbookError, checks_table, explain
from helpers.aws.errors import error_code, is_not_found
from helpers.efs.credits import FLOOR, GIB, MIB, burst_rates
from helpers.efs.file_systems import FileSystem, describe
from helpers.efs.modes import BURSTING, ELASTIC, PROVISIONED
from helpers.efs.policy import access

NFS = 2049
AUTOMATIC_PLAN = "aws/efs/automatic-backup-plan"


@dataclass(frozen=True)
class Clients:
    """Who mounts the file system: their availability zones and their security groups."""

    zones: frozenset[str] = frozenset()
    security_groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MountTarget:
    """A mount target: its id, zone, subnet, state, and the inbound rules of its security groups."""

    id: str
    zone: str
    subnet: str
    state: str
    security_groups: tuple[str, ...]
    rules: list[dict[str, Any]] = field(default_factory=list)


def settings(aws: Aws, file_system: str, instances: Sequence[str] = ()) -> pd.DataFrame:
    """All settings of a file system as a table, failures first; `instances` are the EC2 instances that mount it.

    Raises `RunbookError` for a file system or an instance that does not exist.
    """
    return checks_table(look(aws, file_system, clients_of(aws, instances)))


def look(aws: Aws, file_system: str, clients: Clients = Clients()) -> list[Check]:  # noqa: B008 (frozen)
    """The verdicts on a file system. Raises `RunbookError` where there is none of that id."""
    one = describe(aws, file_system)
    targets = mount_targets(aws, one.id)
    network = [zones(targets, clients, one.zone), *(security_groups(target, clients) for target in targets)]
    return [performance(one), throughput(one), *lifecycle(aws, one), policy(aws, one), backups(aws, one), encryption(one), *network]


def clients_of(aws: Aws, instances: Sequence[str]) -> Clients:
    """The zones and security groups of EC2 instances. Raises `RunbookError` for an id that EC2 does not know."""
    if not instances:
        return Clients()
    try:
        found = aws.client("ec2").describe_instances(InstanceIds=list(instances))["Reservations"]
    except ClientError as error:
        raise explain(error) from error
    hosts = [host for reservation in found for host in reservation["Instances"]]
    groups = frozenset(group["GroupId"] for host in hosts for group in host.get("SecurityGroups", []))
    return Clients(frozenset(host["Placement"]["AvailabilityZone"] for host in hosts), groups)


def performance(one: FileSystem) -> Check:
    """General Purpose; Max I/O is of an earlier generation, slower an operation, and cannot be changed afterwards."""
    if one.performance_mode == "generalPurpose":
        return Check("performance mode", "pass", "General Purpose")
    return Check("performance mode", "warn", "Max I/O: each operation takes longer", "It cannot be changed: copy to a new file system, General Purpose and elastic.")


def throughput(one: FileSystem) -> Check:
    """The throughput mode, with what the size earns; provisioned below that is paid for nothing."""
    earned = burst_rates(one.standard_bytes).baseline / MIB
    if one.throughput_mode == ELASTIC:
        return Check("throughput mode", "pass", "elastic: billed by the bytes moved", "The fleet report compares it with provisioned.")
    if one.throughput_mode == PROVISIONED:
        rate = one.provisioned_mibps or 0.0
        found = f"provisioned, {rate:,.0f} MiB/s; the size includes {earned:,.1f}"
        return Check("throughput mode", "pass", found) if rate > earned else Check("throughput mode", "warn", found, "Choose bursting: it gives as much.")
    found = f"bursting: {earned:,.1f} MiB/s earned by {one.standard_bytes / GIB:,.0f} GiB in Standard"
    if earned * MIB < FLOOR:
        return Check("throughput mode", "warn", f"{found}, and 1 MiB/s without credits", "Watch BurstCreditBalance; elastic fits small and lively file systems.")
    return Check("throughput mode", "pass", found, "Watch BurstCreditBalance.")


def lifecycle(aws: Aws, one: FileSystem) -> list[Check]:
    """After how long without a request files move to Infrequent Access and to Archive."""
    try:
        found = aws.client("efs").describe_lifecycle_configuration(FileSystemId=one.id)["LifecyclePolicies"]
    except ClientError as error:
        raise explain(error) from error
    rules = {name: value for each in found for name, value in each.items()}
    kept = f"{one.standard_bytes / GIB:,.0f} GiB in Standard, {one.ia_bytes / GIB:,.0f} in IA, {one.archive_bytes / GIB:,.0f} in Archive"
    return [_infrequent(one, rules, kept), _archive(one, rules)]


def _infrequent(one: FileSystem, rules: dict[str, str], kept: str) -> Check:
    if "TransitionToIA" in rules:
        return Check("lifecycle to Infrequent Access", "pass", f"{_after(rules['TransitionToIA'])}; {kept}")
    remedy = "Set TransitionToIA to AFTER_30_DAYS"
    remedy += "; what moves earns no credits any more, so look at both together." if one.throughput_mode == BURSTING else "."
    return Check("lifecycle to Infrequent Access", "warn", f"none, so that only Standard is used; {kept}", remedy)


def _archive(one: FileSystem, rules: dict[str, str]) -> Check:
    if "TransitionToArchive" in rules:
        return Check("lifecycle to Archive", "pass", _after(rules["TransitionToArchive"]))
    if one.throughput_mode != ELASTIC:
        return Check("lifecycle to Archive", "pass", "none; Archive is for elastic throughput")
    return Check("lifecycle to Archive", "warn", "none", "Set TransitionToArchive to AFTER_90_DAYS for data read a few times a year.")


def _after(rule: str) -> str:
    return rule.lower().replace("_", " ")


def policy(aws: Aws, one: FileSystem) -> Check:
    """The file system policy, by what an anonymous client may do under it, with TLS and without."""
    name = "file system policy"
    try:
        document = json.loads(aws.client("efs").describe_file_system_policy(FileSystemId=one.id)["Policy"])
    except ClientError as error:
        if not (is_not_found(error) or error_code(error) == "PolicyNotFound"):
            raise explain(error) from error
        return Check(name, "warn", "none: whoever reaches a mount target is root", "Allow via mount targets, deny aws:SecureTransport false, grant no ClientRootAccess.")
    try:
        plain, safe = (access(document, {"tls": tls, "file_system": one.arn}) for tls in (False, True))
    except RunbookError as error:
        return Check(name, "warn", f"not understood: {error.what}", error.remedy)
    if plain.mount:
        return Check(name, "fail", "anonymous clients may mount without TLS", "Deny where aws:SecureTransport is false.")
    if safe.root:
        return Check(name, "warn", "TLS is required, but anonymous clients are root", "Leave ClientRootAccess out; use access points with an enforced user.")
    what = "write" if safe.write else "read" if safe.mount else "not mount"
    return Check(name, "pass", f"TLS is required; anonymous clients may {what}, and are not root")


def backups(aws: Aws, one: FileSystem) -> Check:
    """Whether automatic backups are on, by which plan, and when the last backup was made."""
    name = "automatic backups"
    try:
        status = aws.client("efs").describe_backup_policy(FileSystemId=one.id)["BackupPolicy"]["Status"]
    except ClientError as error:
        if not is_not_found(error):
            raise explain(error) from error
        status = "DISABLED"
    plan = _plan(aws, one)
    if status in ("ENABLED", "ENABLING"):
        return Check(name, "pass", f"{status.lower()}; {plan}")
    return Check(name, "warn", f"{status.lower()}; {plan}", "Turn automatic backups on, unless an own AWS Backup plan covers the file system.")


def _plan(aws: Aws, one: FileSystem) -> str:
    """The automatic plan and the last backup, or why they are not known: the caller may lack AWS Backup's actions."""
    client = aws.client("backup")
    try:
        plans = [each for page in client.get_paginator("list_backup_plans").paginate() for each in page["BackupPlansList"]]
        ids = [each["BackupPlanId"] for each in plans if each["BackupPlanName"] == AUTOMATIC_PLAN]
        told = _rules(client.get_backup_plan(BackupPlanId=ids[0])["BackupPlan"]["Rules"]) if ids else "there is no automatic plan"
    except (ClientError, BotoCoreError, KeyError) as error:
        return f"the plan was not read: {explain(error).what}"
    try:
        last = client.describe_protected_resource(ResourceArn=one.arn)["LastBackupTime"]
    except (ClientError, BotoCoreError, KeyError):  # never backed up, or not to be read
        return f"{told}; no backup of it is known"
    return f"{told}; last backup {last:%Y-%m-%d}"


def _rules(rules: Sequence[dict[str, Any]]) -> str:
    kept = [f"{each.get('ScheduleExpression', 'daily')}, kept {each.get('Lifecycle', {}).get('DeleteAfterDays', 'for ever')} days" for each in rules]
    return f"plan {AUTOMATIC_PLAN}: {'; '.join(kept)}"


def encryption(one: FileSystem) -> Check:
    """Encryption at rest, which is chosen when a file system is made."""
    if one.encrypted:
        return Check("encryption at rest", "pass", one.kms_key or "on")
    return Check("encryption at rest", "warn", "off", "It cannot be turned on: copy to a new, encrypted file system, or restore a backup into one.")


def mount_targets(aws: Aws, file_system: str) -> list[MountTarget]:
    """The mount targets with their security groups' inbound rules, by zone."""
    efs = aws.client("efs")
    try:
        pages = efs.get_paginator("describe_mount_targets").paginate(FileSystemId=file_system)
        found = [each for page in pages for each in page["MountTargets"]]
        groups = {each["MountTargetId"]: efs.describe_mount_target_security_groups(MountTargetId=each["MountTargetId"])["SecurityGroups"] for each in found}
        wanted = sorted({one for each in groups.values() for one in each})
        described = aws.client("ec2").describe_security_groups(GroupIds=wanted)["SecurityGroups"] if wanted else []
    except ClientError as error:
        raise explain(error) from error
    rules = {each["GroupId"]: each.get("IpPermissions", []) for each in described}
    made = []
    for each in found:
        own = groups[each["MountTargetId"]]
        inbound = [rule for group in own for rule in rules.get(group, [])]
        made.append(MountTarget(each["MountTargetId"], each.get("AvailabilityZoneName", ""), each["SubnetId"], each["LifeCycleState"], tuple(own), inbound))
    return sorted(made, key=lambda target: target.zone)


def zones(targets: Sequence[MountTarget], clients: Clients, one_zone: str = "") -> Check:
    """A mount target, available, in each zone that the clients use: across zones is slower, and billed."""
    name = "mount target in each zone"
    ready = {target.zone for target in targets if target.state == "available"}
    told = f"available in {', '.join(sorted(ready))}" if ready else "none is available"
    if not targets:
        return Check(name, "fail", "there is no mount target: nothing can mount the file system", "Make one in a subnet of each zone that clients use.")
    missing = sorted(clients.zones - ready)
    if missing and one_zone:
        return Check(name, "warn", f"One Zone, in {one_zone}; clients are in {', '.join(missing)} too", "Move the clients into its zone, or copy to a regional file system.")
    if missing:
        return Check(name, "fail", f"{told}; none in {', '.join(missing)}", f"Make a mount target in {', '.join(missing)}; its DNS name takes about 90 s.")
    if not ready:
        return Check(name, "fail", told, "Wait until it is, or make it again.")
    return Check(name, "pass", told + ("" if clients.zones else "; clients are not named, so their zones are not compared"))


def security_groups(target: MountTarget, clients: Clients) -> Check:
    """TCP 2049 from the clients' security group, and not from addresses, which let in whoever has one."""
    name = f"security group in {target.zone or target.subnet}"
    remedy = "Allow TCP 2049 from the clients' security group."
    rules = [rule for rule in target.rules if _is_nfs(rule)]
    groups = {pair["GroupId"] for rule in rules for pair in rule.get("UserIdGroupPairs", [])}
    addresses = sorted(each[key] for rule in rules for kind, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")) for each in rule.get(kind, []))
    if not groups and not addresses:
        return Check(name, "fail", f"{', '.join(target.security_groups) or 'no group'}: TCP 2049 is closed", remedy)
    if {"0.0.0.0/0", "::/0"} & set(addresses):
        return Check(name, "fail", "TCP 2049 is open to every address", f"{remedy} Take the addresses out.")
    if clients.security_groups and not clients.security_groups & groups and not addresses:
        return Check(name, "fail", f"TCP 2049 from {', '.join(sorted(groups))}, none of which the clients have", remedy)
    if addresses:
        return Check(name, "warn", f"TCP 2049 from addresses: {', '.join(addresses)}", f"{remedy} Take the addresses out.")
    return Check(name, "pass", f"TCP 2049 from {', '.join(sorted(groups))}")


def _is_nfs(rule: dict[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= NFS <= rule.get("ToPort", 65535)
