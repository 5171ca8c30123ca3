"""The endpoint in a Secrets Manager secret, `secretsmanager:ID#key`: a true compare-and-set by staging labels.

The new version is stored beside the current one under a label of our own; then AWSCURRENT is moved from the very
version that was read, which Secrets Manager refuses where it is not there any more.
Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from botocore.exceptions import ClientError

from helpers.aws import UNKNOWN, Aws, Check, explain
from helpers.aws.calls import unguarded
from helpers.aws.errors import is_not_found
from helpers.aws.planned import CHANGE, PlannedWorld, rule
from helpers.elasticache.adapters.document import endpoint_in, with_endpoint
from helpers.elasticache.adapters.setting import Setting, await_seen, changed_meanwhile

SERVICE, NOUN = "secretsmanager", "secret"
CURRENT, LABEL = "AWSCURRENT", "runbook-switch"
SHORTEST_TOKEN = 32  # characters
SLOWEST = 10.0  # seconds


def read(aws: Aws, where: str) -> Setting:
    """The secret's current version; an empty version where there is none."""
    secret, key = _parts(where)
    try:
        found = _current(aws, secret)
    except Exception as error:
        if is_not_found(error):
            return Setting(where, "", "")
        raise
    return Setting(where, endpoint_in(found.get("SecretString", ""), key), found["VersionId"])


def put(aws: Aws, before: Setting, expected: str, value: str) -> None:
    """Make a version with `value` current instead of the one that `before` was read from; all else in it stays.

    The version's id derives from what it is made of, so that a repeated call finds the one it stored before
    (PutSecretValue with the same id and content does nothing). A version that could not become current loses its
    label, and Secrets Manager deletes it. Raises `RunbookError` where somebody changed the secret.
    Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
    """
    client, (secret, key) = aws.client(SERVICE), _parts(before.where)
    now = _current(aws, secret)
    held = endpoint_in(now.get("SecretString", ""), key)
    if now["VersionId"] != before.version or held != before.value:
        raise changed_meanwhile(before.where, held, expected)
    new = _version_id(now["ARN"], before.version, value)
    client.put_secret_value(SecretId=secret, ClientRequestToken=new, SecretString=with_endpoint(now["SecretString"], key, value), VersionStages=[LABEL])
    try:
        client.update_secret_version_stage(SecretId=secret, VersionStage=CURRENT, MoveToVersionId=new, RemoveFromVersionId=before.version)
    except ClientError as error:
        now = _current(aws, secret)
        if now["VersionId"] != new:  # else: moved by this very request, which was sent twice
            with unguarded(), contextlib.suppress(ClientError):  # the failure itself is what has to be told
                _drop_label(aws, secret, new)
            if now["VersionId"] == before.version:
                raise explain(error) from error
            raise changed_meanwhile(before.where, endpoint_in(now.get("SecretString", ""), key), expected) from error
    _drop_label(aws, secret, new)
    await_seen(aws, before, value, read)


def checks(aws: Aws, where: str) -> list[Check]:
    """Whether the secret can be written here, and whether its rotation might undo the switch."""
    found = aws.client(SERVICE).describe_secret(SecretId=_parts(where)[0])
    written, rotation = "the secret can be written here", "nothing else writes the secret"
    primary = found.get("PrimaryRegion", aws.region)
    if primary != aws.region:
        first = Check(written, "fail", f"it is a replica; its primary is in {primary}", "Run the runbook in that region, or name the primary secret's own copy.")
    elif found.get("OwningService"):
        first = Check(written, "fail", f"it is managed by {found['OwningService']}", "Keep the endpoint in a secret of your own.")
    else:
        first = Check(written, "pass", "it is the primary secret, managed by no service")
    if found.get("RotationEnabled"):
        lambda_arn = found.get("RotationLambdaARN", "Secrets Manager")
        return [first, Check(rotation, "warn", f"rotation is enabled ({lambda_arn}) and may write an endpoint of its own", "See that the rotation keeps the other keys, or switch it off until the old group is deleted.")]
    return [first, Check(rotation, "pass", "rotation is off")]


def _parts(where: str) -> tuple[str, str]:
    secret, _, key = where.partition(":")[2].partition("#")
    return secret, key


def _current(aws: Aws, secret: str) -> dict[str, Any]:
    return aws.client(SERVICE).get_secret_value(SecretId=secret)


def _drop_label(aws: Aws, secret: str, version: str) -> None:
    """Take our label off; where it is not on that version any more, there is nothing to do."""
    client = aws.client(SERVICE)
    with contextlib.suppress(client.exceptions.InvalidParameterException, client.exceptions.ResourceNotFoundException):
        client.update_secret_version_stage(SecretId=secret, VersionStage=LABEL, RemoveFromVersionId=version)


def _version_id(*made_of: str) -> str:
    text = "\n".join(made_of)
    return UNKNOWN.ljust(SHORTEST_TOKEN, ".") if UNKNOWN in text else str(uuid.uuid5(uuid.NAMESPACE_URL, text))


@rule(SERVICE, "PutSecretValue")
def _planned_version(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """A version is read only once it is current."""
    stored = next(thing for thing in world.things if thing.is_about("SecretValue", asked))
    stored.kind = CHANGE
    if CURRENT in asked.get("VersionStages", [CURRENT]):
        _planned_current(world, asked["SecretId"], asked)


@rule(SERVICE, "UpdateSecretVersionStage")
def _planned_stage(world: PlannedWorld, asked: dict[str, Any]) -> None:
    stored = next((thing for thing in world.things if thing.is_about("SecretValue", asked)), None)
    if stored and asked["VersionStage"] == CURRENT and stored.fields.get("ClientRequestToken") == asked.get("MoveToVersionId"):
        _planned_current(world, asked["SecretId"], stored.fields)


def _planned_current(world: PlannedWorld, secret: str, fields: dict[str, Any]) -> None:
    named = {"ARN" if secret.startswith("arn:") else "Name": secret}
    world.put(SERVICE, "GetSecretValueResponse", named, CHANGE, {"SecretString": fields.get("SecretString"), "VersionId": fields.get("ClientRequestToken", UNKNOWN)})
