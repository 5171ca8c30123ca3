"""A query in place of targets: all that match, in each place that the file names, found when the fleet begins.

    query:
      find: file_systems              # those with a tag: its key, or key=value
      tag: team=web
      in: [{account: 012345678901, role: ..., region: eu-west-1}, {region: eu-central-1, profile: ops}]

`find: replication_groups` takes `engine: redis` and `below: 7.1`, which is compared by number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from helpers.aws import Aws, connect
from helpers.aws.errors import RunbookError, explain
from helpers.fleet.file import PLACE, Entry, Fault, Query

VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


def file_systems(aws: Aws, tag: str = "") -> Iterator[str]:
    """Ids of the file systems that carry a tag. https://docs.aws.amazon.com/efs/latest/ug/API_DescribeFileSystems.html"""
    key, equals, value = tag.partition("=")
    for page in aws.client("efs").get_paginator("describe_file_systems").paginate():
        for one in page["FileSystems"]:
            tags = {item["Key"]: item["Value"] for item in one.get("Tags", [])}
            if not tag or key in tags and (not equals or tags[key] == value):
                yield one["FileSystemId"]


def replication_groups(aws: Aws, engine: str = "", below: str = "") -> Iterator[str]:
    """Ids of the replication groups of an engine with a version below one.

    The version is told by a group's member clusters alone.
    https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference/API_DescribeCacheClusters.html
    """
    found: dict[str, tuple[int, ...]] = {}
    for page in aws.client("elasticache").get_paginator("describe_cache_clusters").paginate():
        for one in page["CacheClusters"]:
            group = one.get("ReplicationGroupId")
            if group and one["Engine"] in ((engine,) if engine else ("redis", "valkey")):
                version = _numbers(one["EngineVersion"])
                found[group] = min(found.get(group, version), version)
    yield from sorted(group for group, version in found.items() if not below or version < _numbers(below))


FINDERS: dict[str, tuple[Callable[..., Iterator[str]], tuple[str, ...]]] = {
    "file_systems": (file_systems, ("tag",)),
    "replication_groups": (replication_groups, ("engine", "below")),
}


def faults_of(query: Query) -> list[Fault]:
    """What is wrong with a query, as far as it can be seen without asking."""
    if query.find not in FINDERS:
        return [Fault(query.line, f"find is {query.find!r}: choose {' or '.join(FINDERS)}.")]
    allowed = FINDERS[query.find][1]
    faults = [Fault(query.line, f"{query.find} are not chosen by {name}, but by {' and '.join(allowed)}.") for name in query.conditions if name not in allowed]
    if "below" in query.conditions and not VERSION.fullmatch(query.conditions["below"]):
        faults.append(Fault(query.line, f"below is {query.conditions['below']!r}, which is no version."))
    return faults


def find(query: Query, enter: Callable[..., Aws] = connect) -> tuple[list[Entry], list[Fault]]:
    """The entries that a query stands for, and the places that could not be asked."""
    entries: list[Entry] = []
    faults = faults_of(query)
    for place in query.places if not faults else ():
        try:
            aws = enter(**{PLACE[key]: text for key, text in place.place.items()})
            entries += [replace(place, resource=name) for name in FINDERS[query.find][0](aws, **query.conditions)]
        except Exception as error:
            faults.append(Fault(place.line, str(error if isinstance(error, RunbookError) else explain(error))))
    return entries, faults


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))
