"""The way into a group: checked node by node, told as redis-cli would be typed, and never with its token."""

from __future__ import annotations

import dataclasses
import json

import boto3
import pytest
from botocore.stub import Stubber

from helpers.aws import RunbookError
from helpers.elasticache import access as accesses
from helpers.elasticache.access import check_access, command_line, open_group
from helpers.rehearsal import engines
from helpers.rehearsal.servers import Server

TOKEN = "s3cret-token-of-the-group"


class Secrets:
    """Stands for `Aws` with Secrets Manager's client, whose answers are checked against AWS's model."""

    def __init__(self, text: str | None) -> None:
        self.secrets = boto3.client("secretsmanager", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")
        self.stub = Stubber(self.secrets)
        if text is None:
            self.stub.add_client_error("get_secret_value", "ResourceNotFoundException")
        else:
            self.stub.add_response("get_secret_value", {"SecretString": text}, {"SecretId": "the/secret"})
        self.stub.activate()

    def client(self, service: str) -> object:
        return self.secrets


@pytest.fixture
def locked(tmp_path):
    """A server that asks for a token, and knows a user with the same one."""
    with Server(engines.pair()[1], tmp_path, config={"requirepass": TOKEN}, user="default", password=TOKEN) as server:
        server.command("ACL", "SETUSER", "shop", "on", f">{TOKEN}", "~*", "&*", "+@all")
        yield server


@pytest.mark.parametrize("text", [TOKEN, json.dumps({"password": TOKEN}), json.dumps({"username": "shop", "password": TOKEN})])
def test_the_token_of_the_secret_opens_the_group_and_is_shown_nowhere(locked, access_to, text):
    group = access_to(locked, auth_token=True).group
    way = open_group(Secrets(text), group, "the/secret")
    assert way.client().ping() and way.primaries[0].ping()
    assert [check.outcome for check in check_access(way)] == ["pass", "pass"]
    commands = way.command_lines().to_string()
    assert "--askpass" in commands and ("--user shop" in commands) == ("shop" in text)
    assert TOKEN not in f"{way!r} {commands} {check_access(way)} {way.primaries!r}"


def test_a_wrong_or_missing_token_is_told_with_its_remedy_and_not_with_itself(locked, access_to):
    group = access_to(locked, auth_token=True).group
    for way in (open_group(Secrets("wrong-token-entirely"), group, "the/secret"), dataclasses.replace(access_to(locked))):
        node = check_access(way)[1]
        assert (node.outcome, "auth_secret" in node.remedy) == ("fail", True)
        assert "wrong-token-entirely" not in str(node)
        with pytest.raises(RunbookError, match="does not let us in"):
            way.client()


def test_a_secret_that_cannot_be_read_or_is_not_named_is_one_sentence(access_to, old_server):
    group = access_to(old_server, auth_token=True).group
    with pytest.raises(RunbookError, match=r"the secret the/secret cannot be read \(ResourceNotFoundException\)"):
        open_group(Secrets(None), group, "the/secret")
    with pytest.raises(RunbookError, match="wants an AUTH token"):
        open_group(Secrets(TOKEN), group, "")


def test_a_group_without_auth_asks_for_no_secret(access_to, old_server):
    assert open_group(Secrets(None), access_to(old_server).group, "the/secret").login == {}


def test_a_node_that_does_not_answer_and_a_group_that_is_not_ready_are_found(tmp_path, access_to):
    with Server(engines.pair()[0], tmp_path) as server:
        way = access_to(server, status="creating")
        assert [check.outcome for check in check_access(way)] == ["fail", "pass"]
    gone = check_access(way)[1]
    assert gone.outcome == "fail" and "inside its VPC only" in gone.remedy


def test_the_command_line_is_what_one_would_type(access_to, old_server):
    plain = access_to(old_server).group
    assert command_line(plain, "sessions.abc.cache.amazonaws.com") == "redis-cli -c -h sessions.abc.cache.amazonaws.com -p 6379"
    closed = dataclasses.replace(plain, in_transit_encryption=True, auth_token=True)
    assert command_line(closed, "h", 6380, user="shop") == "redis-cli -c -h h -p 6380 --tls --user shop --askpass"
    assert accesses.Access(closed).command_lines()["to reach the"].tolist() == ["primary endpoint", "node g-001"]
