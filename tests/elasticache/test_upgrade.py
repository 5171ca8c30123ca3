"""What an upgrade is asked to do: names, families, versions, and what is refused."""

from __future__ import annotations

import pytest

from helpers.aws import RunbookError
from helpers.elasticache.upgrade import from_parameters, is_downgrade, parameter_family

ASKED = {"strategy": "blue_green", "replication_group": "sessions", "engine": "valkey", "engine_version": "8.1", "bucket": "b", "switch_parameter": "/p"}


def test_names_derive_from_the_parameters_and_the_run() -> None:
    one, again, other = (from_parameters(run_id, ASKED) for run_id in ("r1", "r1", "r2"))
    assert one.new_group == again.new_group != other.new_group
    assert one.named("backup") == again.named("backup") != other.named("backup")


def test_long_names_stay_within_40_characters() -> None:
    upgrade = from_parameters("r", {**ASKED, "replication_group": "a" * 40})
    assert len(upgrade.new_group) <= 40
    assert all(len(upgrade.named(what)) <= 40 for what in ("watch", "backup", "final", upgrade.family))
    assert len({upgrade.named(what) for what in ("watch", "backup", "final")}) == 3


@pytest.mark.parametrize("length", range(5, 40))
def test_a_name_cut_at_a_hyphen_has_no_two_hyphens_in_a_row(length: int) -> None:
    upgrade = from_parameters("r", {**ASKED, "replication_group": f"{'a' * length}-b"})
    assert not [name for name in (upgrade.new_group, *map(upgrade.named, ("watch", "backup", "final", "group", upgrade.family))) if "--" in name]


@pytest.mark.parametrize(
    ("engine", "version", "family"),
    [("redis", "5.0.6", "redis5.0"), ("redis", "6.2", "redis6.x"), ("redis", "7.1", "redis7"), ("valkey", "7.2", "valkey7"), ("valkey", "8.1", "valkey8"), ("valkey", "9.0", "valkey9")],
)
def test_each_version_has_its_parameter_group_family(engine: str, version: str, family: str) -> None:
    assert parameter_family(engine, version) == family


@pytest.mark.parametrize(
    ("old", "new", "downgrade"),
    [
        (("redis", "6.2.14"), ("valkey", "8.1"), False),
        (("redis", "6.2.14"), ("redis", "7.1"), False),
        (("redis", "7.1.0"), ("redis", "6.2"), True),
        (("valkey", "8.1.8"), ("valkey", "7.2"), True),
        (("valkey", "7.2.6"), ("redis", "7.1"), True),
        (("redis", "7.1.0"), ("valkey", "7.2"), False),
        (("redis", "6.2.14"), ("redis", "6.2"), False),
        (("redis", "6.2.14"), ("redis", "6.10"), False),
    ],
)
def test_a_version_that_could_not_read_the_backup_is_a_downgrade(old: tuple[str, str], new: tuple[str, str], downgrade: bool) -> None:
    assert is_downgrade(*old, *new) is downgrade


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"engine_version": "6.x"}, "not pinned in full"),
        ({"engine_version": "8"}, "not pinned in full"),
        ({"engine_version": ""}, "not pinned in full"),
        ({"engine": "memcached"}, "Choose redis or valkey"),
        ({"strategy": "hope"}, "strategy is 'hope'"),
        ({"new_replication_group": "Has_Underscore"}, "cannot name a replication group"),
        ({"new_replication_group": "two--hyphens"}, "cannot name a replication group"),
        ({"new_replication_group": "a" * 41}, "cannot name a replication group"),
        ({"new_replication_group": "sessions"}, "has the old group's name"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(RunbookError, match=sentence):
        from_parameters("r", {**ASKED, **values})
