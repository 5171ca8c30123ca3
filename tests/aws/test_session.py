"""A session: who it is, and what it costs."""

from __future__ import annotations

from pathlib import Path

import botocore
import pytest
from botocore.loaders import JSONFileLoader

from helpers.aws import calls, connect
from helpers.aws.models import PlainFiles
from helpers.rehearsal import cloud as clouds

DATA = Path(botocore.__file__).parent / "data"


@pytest.fixture
def settings(cloud: clouds.Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the local cloud."""
    for name, value in {**cloud.environment(), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", ["endpoints", "ecr/2015-09-21/service-2", "ecr/2015-09-21/paginators-1"])
def test_descriptions_of_services_are_read_as_botocore_reads_them(name: str) -> None:
    path = str(DATA / name)
    assert PlainFiles().exists(path)
    assert PlainFiles().load_file(path) == JSONFileLoader().load_file(path)


def test_a_description_that_is_not_there_is_none() -> None:
    assert (PlainFiles().exists(str(DATA / "nothing")), PlainFiles().load_file(str(DATA / "nothing"))) == (False, None)


def test_the_account_s_alias_is_asked_for_when_it_is_shown_and_once(settings: None) -> None:
    made: list[calls.Call] = []
    calls.watch(calls.Watch(made.append))
    try:
        aws = connect()
        assert [call.operation for call in made] == ["GetCallerIdentity"]
        aws.client("iam").create_account_alias(AccountAlias="shop-production")
        assert "(shop-production)" in aws._repr_html_() and aws.alias == "shop-production"
        assert [call.operation for call in made].count("ListAccountAliases") == 1
        aws.client("iam").delete_account_alias(AccountAlias="shop-production")
    finally:
        calls.watch(None)
