"""Seed a local cloud with what runbooks/efs_mount.ipynb is rehearsed on: four file systems, one of them to be mounted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.rehearsal.efs.traces import FILE_SYSTEMS

if TYPE_CHECKING:
    from helpers.rehearsal.cloud import Cloud
    from helpers.rehearsal.scenario import Access

SERVED = "web-content"
FOLDERS = ("/site", "/site/uploads")
ACCESS_POINT = "uploads"
CLIENTS, TARGETS = "efs-clients", "efs-mount-targets"
DAYS_TO_IA = "AFTER_30_DAYS"


@dataclass(frozen=True)
class FileSystems:
    """What a cloud holds: the file systems' ids by name; `notes` are sentences about what the machine lacks."""

    ids: dict[str, str]
    access_point: str
    notes: tuple[str, ...] = ()


def ensure(cloud: Cloud, *, fresh: bool = False, minutes: bool = False) -> FileSystems:
    """Make the file systems, their mount targets, security groups, access point and metrics where they are not there.

    `fresh` changes nothing: a mount leaves the file systems as they are. `minutes`: the metrics of the last two weeks by the minute.
    """
    from helpers.rehearsal.scenario import Access

    access = Access(cloud.environment())
    efs = access.client("efs")
    ids = {one["Name"]: one["FileSystemId"] for one in efs.describe_file_systems()["FileSystems"] if one.get("Name") in FILE_SYSTEMS}
    if SERVED in ids:
        points = efs.describe_access_points(FileSystemId=ids[SERVED])["AccessPoints"]
        return FileSystems(ids, points[0]["AccessPointId"])
    ids = {name: _create(efs, name) for name in FILE_SYSTEMS}
    _connect(access, ids)
    point = efs.create_access_point(
        ClientToken=ACCESS_POINT, FileSystemId=ids[SERVED], PosixUser={"Uid": 1001, "Gid": 1001}, Tags=[{"Key": "Name", "Value": ACCESS_POINT}],
        RootDirectory={"Path": FOLDERS[-1], "CreationInfo": {"OwnerUid": 1001, "OwnerGid": 1001, "Permissions": "0755"}},
    )["AccessPointId"]  # fmt: skip
    done = cloud.seed_file_systems(ids, SERVED, FOLDERS, minutes=minutes)
    missing = f"No NFS server stands behind the mount target of {SERVED}, so the probe ends there. {done['missing']}"
    return FileSystems(ids, point, (missing,) if done["missing"] else ())


def _create(efs: Any, name: str) -> str:
    """Make a file system as its kind has it; returns its id."""
    kind = FILE_SYSTEMS[name]
    amount = {"ProvisionedThroughputInMibps": kind.provisioned_mibps} if kind.provisioned_mibps else {}
    tags = [{"Key": "Name", "Value": name}]
    made = efs.create_file_system(CreationToken=name, Encrypted=True, Backup=True, ThroughputMode=kind.mode, Tags=tags, **amount)
    identity = made["FileSystemId"]
    efs.put_backup_policy(FileSystemId=identity, BackupPolicy={"Status": "ENABLED"})
    if kind.infrequent:
        efs.put_lifecycle_configuration(FileSystemId=identity, LifecyclePolicies=[{"TransitionToIA": DAYS_TO_IA}])
    return str(identity)


def _connect(access: Access, ids: dict[str, str]) -> None:
    """Give each file system a mount target in two zones, which lets the clients' security group in, and the served one a policy."""
    ec2, efs = access.client("ec2"), access.client("efs")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "isDefault", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    clients, targets = (
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"] for name in (CLIENTS, TARGETS)
    )
    allow = {"IpProtocol": "tcp", "FromPort": 2049, "ToPort": 2049, "UserIdGroupPairs": [{"GroupId": clients}]}
    ec2.authorize_security_group_ingress(GroupId=targets, IpPermissions=[allow])
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][:2]
    for identity in ids.values():
        for subnet in subnets:
            efs.create_mount_target(FileSystemId=identity, SubnetId=subnet["SubnetId"], SecurityGroups=[targets])
    efs.put_file_system_policy(FileSystemId=ids[SERVED], Policy=json.dumps(_policy()))


def _policy() -> dict[str, Any]:
    """Clients may read and write through a mount target, over TLS only."""
    through = {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}}
    actions = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    allow = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": actions, "Condition": through}
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    return {"Version": "2012-10-17", "Statement": [allow, deny]}
