"""Queries: what they find, and what they say where they cannot be asked."""

from __future__ import annotations

from helpers.aws.errors import RunbookError
from helpers.fleet import query
from helpers.fleet.file import Entry, Fault, Query


class Account:
    """An account whose paginators answer with these pages."""

    def __init__(self, **pages):
        self.pages = pages

    def client(self, service):
        return self

    def get_paginator(self, name):
        pages = self.pages[name]
        return type("Paginator", (), {"paginate": lambda self: pages})()


def cluster(group: str | None, version: str, engine: str = "redis") -> dict:
    return {"CacheClusterId": "x", "Engine": engine, "EngineVersion": version, **({"ReplicationGroupId": group} if group else {})}


def test_file_systems_are_found_by_a_tags_key_or_by_its_value():
    tags = [("fs-1", {"team": "web"}), ("fs-2", {"team": "data"}), ("fs-3", {})]
    pages = [{"FileSystems": [{"FileSystemId": name, "Tags": [{"Key": key, "Value": value} for key, value in own.items()]}]} for name, own in tags]
    account = Account(describe_file_systems=pages)
    assert list(query.file_systems(account)) == ["fs-1", "fs-2", "fs-3"]
    assert list(query.file_systems(account, "team")) == ["fs-1", "fs-2"]
    assert list(query.file_systems(account, "team=web")) == ["fs-1"]


def test_replication_groups_are_compared_by_number_with_their_oldest_member():
    clusters = [cluster("a", "7.0.7"), cluster("b", "7.1.0"), cluster("b", "6.2.6"), cluster("c", "10.0.1"), cluster(None, "5.0.6"), cluster("v", "7.2.6", "valkey"), cluster(None, "1.6.22", "memcached")]
    account = Account(describe_cache_clusters=[{"CacheClusters": clusters}])
    assert list(query.replication_groups(account, below="7.1")) == ["a", "b"]
    assert list(query.replication_groups(account, below="10.0")) == ["a", "b", "v"]
    assert list(query.replication_groups(account, engine="valkey")) == ["v"]


def test_a_query_becomes_a_target_for_each_thing_in_each_place_and_names_the_places_that_refuse():
    def enter(region="", **_):
        if region == "eu-central-1":
            raise RunbookError("AssumeRole was refused with AccessDenied: no.")
        return Account(describe_file_systems=[{"FileSystems": [{"FileSystemId": f"fs-{region}"}]}])

    places = tuple(Entry(4 + n, "efs_mount", {"region": region}) for n, region in enumerate(("eu-west-1", "eu-central-1", "us-east-1")))
    entries, faults = query.find(Query(1, "file_systems", {}, places), enter)
    assert [(one.resource, one.line, one.place) for one in entries] == [("fs-eu-west-1", 4, {"region": "eu-west-1"}), ("fs-us-east-1", 6, {"region": "us-east-1"})]
    assert faults == [Fault(5, "AssumeRole was refused with AccessDenied: no.")]


def test_a_query_that_cannot_be_meant_is_refused_in_words():
    assert [fault.what for fault in query.faults_of(Query(1, "files", {}, ()))] == ["find is 'files': choose file_systems or replication_groups."]
    wrong = query.faults_of(Query(1, "replication_groups", {"tag": "x", "below": "new"}, ()))
    assert [fault.what for fault in wrong] == ["replication_groups are not chosen by tag, but by engine and below.", "below is 'new', which is no version."]
