"""Settings: what is wanted, what is there, the verdict on each difference, and which tags may not move."""

from __future__ import annotations

import pytest

from helpers.aws import RunbookError
from helpers.ecr.ensure_repository import ensure_repository, registry_scanning, restore_repository
from helpers.ecr.repository import CREATE, NEVER, REGISTRY, SCAN, TAGS, Drift, Repository, Settings, compare, describe, drift_checks, is_fixed, scanning
from tests.ecr.conftest import Account

THERE = Repository("app", "registry/app")


def verdicts(rows: list[Drift]) -> dict[str, tuple[str, str]]:
    return {one.setting: (one.verdict, one.operation) for one in rows}


def test_what_is_as_wanted_or_not_asked_for_is_left() -> None:
    rows = verdicts(compare(Settings(), THERE))
    assert {operation for _, operation in rows.values()} == {""}
    assert rows["tag immutability"][0] == rows["encryption"][0] == "left as it is"


def test_what_can_change_names_the_operation_that_changes_it() -> None:
    rows = verdicts(compare(Settings(tag_immutability="immutable", exclusions=("dev-*",), scan="basic"), THERE))
    assert (rows["tag immutability"], rows["scan on push"]) == (("will be changed", TAGS), ("will be changed", SCAN))


def test_encryption_can_never_change_and_is_warned_of() -> None:
    rows = compare(Settings(encryption="KMS", kms_key="arn:aws:kms:eu-west-1:1:key/a"), THERE)
    assert verdicts(rows)["encryption"] == (NEVER, "")
    (warning,) = drift_checks(rows)
    assert warning.outcome == "warn" and "for life" in warning.remedy
    assert verdicts(compare(Settings(encryption="KMS", kms_key="a"), Repository("app", "", encryption="KMS", kms_key="arn:aws:kms:eu-west-1:1:key/a")))["encryption"] == ("as wanted", "")


def test_a_repository_that_is_not_there_is_made_with_all_that_is_wanted() -> None:
    rows = verdicts(compare(Settings(tag_immutability="immutable", scan="basic"), None))
    assert {operation for _, operation in rows.values() if operation} == {CREATE}


def test_enhanced_scans_are_the_registrys_setting() -> None:
    rows = verdicts(compare(Settings(scan="enhanced"), THERE))
    assert rows["scan on push"] == ("will be changed, for the whole registry", REGISTRY)
    enhanced = Repository("app", "", scan_type="ENHANCED", rules=("SCAN_ON_PUSH",))
    assert verdicts(compare(Settings(scan="enhanced"), enhanced))["scan on push"] == ("as wanted", "")
    assert "left to it" in verdicts(compare(Settings(scan="basic"), enhanced))["scan on push"][0]


@pytest.mark.parametrize(
    ("mutability", "exclusions", "tag", "fixed"),
    [
        ("IMMUTABLE", (), "1.0.0", True), ("MUTABLE", (), "1.0.0", False),
        ("IMMUTABLE_WITH_EXCLUSION", ("dev-*",), "dev-1", False), ("IMMUTABLE_WITH_EXCLUSION", ("dev-*",), "1.0.0", True),
        ("MUTABLE_WITH_EXCLUSION", ("v*",), "v1", True), ("MUTABLE_WITH_EXCLUSION", ("v*",), "dev", False),
        ("IMMUTABLE_WITH_EXCLUSION", ("de?-1",), "dev-1", True),
    ],
)  # fmt: skip
def test_which_tags_may_not_move_follows_from_mutability_and_its_exclusions(mutability: str, exclusions: tuple[str, ...], tag: str, fixed: bool) -> None:
    assert is_fixed(mutability, exclusions, tag) is fixed


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Settings(exclusions=("a",)), "tag_immutability is as_is"),
        (Settings(tag_immutability="immutable", exclusions=tuple("abcdef")), "6 tag_exclusions"),
        (Settings(kms_key="k"), "kms_key is given"),
        (Settings("public", tag_immutability="immutable"), "A public repository has no immutability"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wanted: Settings, told: str) -> None:
    with pytest.raises(RunbookError, match=told) as failure:
        compare(wanted, THERE)
    assert failure.value.remedy


def test_settings_are_brought_there_and_put_back(account: Account) -> None:
    before = describe(account.aws, account.repository)
    wanted = Settings(tag_immutability="immutable", exclusions=("dev-*",), scan="basic")
    rows = tuple(compare(wanted, before))
    ensure_repository(account.aws, account.repository, wanted, rows)
    now = describe(account.aws, account.repository)
    assert now is not None and (now.mutability, now.exclusions, now.scans) == ("IMMUTABLE_WITH_EXCLUSION", ("dev-*",), "basic")
    assert not any(one.operation for one in compare(wanted, now))
    restore_repository(account.aws, account.repository, wanted, rows, before, {})
    assert describe(account.aws, account.repository) == before


def test_a_repository_with_a_key_of_its_own_is_made_once(account: Account) -> None:
    key = account.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    wanted = Settings(encryption="KMS", kms_key=key, tag_immutability="immutable", scan="basic")
    name = f"{account.repository}-kms"
    rows = tuple(compare(wanted, None))
    for _ in range(2):
        ensure_repository(account.aws, name, wanted, rows)
    made = describe(account.aws, name)
    assert made is not None and (made.encryption, made.kms_key, made.mutability, made.scans) == ("KMS", key, "IMMUTABLE", "basic")
    assert restore_repository(account.aws, name, wanted, rows, None, {}) == [f"{name} deleted"]
    assert describe(account.aws, name) is None


def test_enhanced_scans_are_chosen_beside_the_registrys_other_rules_and_put_back(account: Account) -> None:
    other = {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "other", "filterType": "WILDCARD"}]}
    account.ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[other])
    try:
        before, wanted = registry_scanning(account.aws), Settings(scan="enhanced")
        there = describe(account.aws, account.repository)
        rows = tuple(compare(wanted, there))
        ensure_repository(account.aws, account.repository, wanted, rows)
        assert scanning(account.ecr, account.repository) == ("ENHANCED", ("SCAN_ON_PUSH",))
        assert scanning(account.ecr, "other")[1] == ("SCAN_ON_PUSH",)
        restore_repository(account.aws, account.repository, wanted, rows, there, before)
        assert registry_scanning(account.aws) == before
    finally:
        account.ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])


def test_a_public_repository_is_made_in_the_public_registry(account: Account) -> None:
    wanted = Settings("public")
    rows = tuple(compare(wanted, describe(account.aws, account.repository, "public")))
    ensure_repository(account.aws, account.repository, wanted, rows)
    made = describe(account.aws, account.repository, "public")
    assert made is not None and made.uri.startswith("public.ecr.aws/") and made.visibility == "public"
    restore_repository(account.aws, account.repository, wanted, rows, None, {})
    assert describe(account.aws, account.repository, "public") is None
