"""A session on AWS: profile, region, role and identity, with the account checked before anything else."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from helpers.aws.errors import RunbookError, explain
from helpers.aws.models import PlainFiles

RETRIES = Config(retries={"mode": "standard", "total_max_attempts": 5}, user_agent_extra="aws-runbooks")


@dataclass(frozen=True)
class Aws:
    """A session and who it is: account id, region and the caller's ARN."""

    session: boto3.Session = field(repr=False)
    account: str
    region: str
    caller: str

    @functools.cached_property
    def alias(self) -> str:
        """The account's alias, empty where it has none. Asked for when it is shown: IAM's client costs a script 30 ms and 5 MB."""
        try:
            return next(iter(self.client("iam").list_account_aliases()["AccountAliases"]), "")
        except Exception:  # a courtesy: a caller without iam:ListAccountAliases loses nothing else
            return ""

    def client(self, service: str) -> Any:
        """The boto3 client of `service` in the session's region, made once."""
        return _client(self.session, service)

    def _repr_html_(self) -> str:
        alias = f" ({self.alias})" if self.alias else ""
        return f"<b>Account</b> {self.account}{alias} &nbsp; <b>Region</b> {self.region} &nbsp; <b>Caller</b> <code>{self.caller}</code>"


def connect(*, profile: str = "", region: str = "", role_arn: str = "", expected_account: str = "") -> Aws:
    """Open a session and say who it is.

    `AWS_ENDPOINT_URL` and the other standard settings are honoured by boto3 itself. Raises `RunbookError` where
    there are no credentials or no region, or where the account is not `expected_account` (12 digits).
    """
    try:
        session = _session(profile_name=profile or None, region_name=region or None)
        if not session.region_name:
            raise RunbookError("No region is set.", "Set the parameter `region`, AWS_DEFAULT_REGION, or a region in the profile.")
        if role_arn:
            session = _assume(session, role_arn)
        caller = session.client("sts", config=RETRIES).get_caller_identity()
    except Exception as error:
        raise explain(error) from error
    if expected_account and caller["Account"] != expected_account:
        raise RunbookError(
            f"These credentials are of account {caller['Account']}, but {expected_account} is expected: nothing was done.",
            "Choose the profile or role of the expected account.",
        )
    return Aws(session, caller["Account"], session.region_name, caller["Arn"])


def _assume(session: boto3.Session, role_arn: str) -> boto3.Session:
    granted = session.client("sts", config=RETRIES).assume_role(RoleArn=role_arn, RoleSessionName="aws-runbooks")["Credentials"]
    return _session(
        aws_access_key_id=granted["AccessKeyId"],
        aws_secret_access_key=granted["SecretAccessKey"],
        aws_session_token=granted["SessionToken"],
        region_name=session.region_name,
    )


def _session(**settings: Any) -> boto3.Session:
    core = botocore.session.get_session()
    session = boto3.Session(botocore_session=core, **settings)
    core.get_component("data_loader").file_loader = PlainFiles()
    return session


@functools.cache
def _client(session: boto3.Session, service: str) -> Any:
    return session.client(service, config=RETRIES)
