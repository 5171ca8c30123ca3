"""What AWS refuses and MiniStack 1.5.33 does not, where a compare-and-set rests on it: thin wrappers of its handlers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

Answer = tuple[int, dict[str, str], Any]
Handler = Callable[..., Awaitable[Answer]]
VERSIONS = re.compile(r"/applications/([^/]+)/configurationprofiles/([^/]+)/hostedconfigurationversions")
DEPLOYMENTS = re.compile(r"/applications/([^/]+)/environments/([^/]+)/deployments")
PAGE = 50
CURRENT = "AWSCURRENT"


def install(handlers: dict[str, Handler]) -> None:
    """Put the wrappers in the place of MiniStack's own handlers."""
    for service, wrap in (("secretsmanager", _secrets_manager), ("appconfig", _appconfig), ("route53", _route53), ("ssm", _ssm)):
        handlers[service] = wrap(handlers[service])


def _secrets_manager(inner: Handler) -> Handler:
    """A version is never overwritten, and a staging label is on one version only.

    Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html
    """
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        from ministack.services import secretsmanager as service

        if not headers.get("x-amz-target", "").endswith(".PutSecretValue"):
            return await inner(method, path, headers, body, query)
        asked = json.loads(body)
        _, secret = service._resolve(asked.get("SecretId"))
        token = asked.get("ClientRequestToken", "")
        there = secret["Versions"].get(token) if secret else None
        if there is not None:
            if any(there.get(part) != asked.get(part) for part in ("SecretString", "SecretBinary")):
                return refuse("ResourceExistsException", f"A resource with the ID {token} already exists.", 400)
            return reply({"ARN": secret["ARN"], "Name": secret["Name"], "VersionId": token, "VersionStages": there["Stages"]})
        answer = await inner(method, path, headers, body, query)
        if answer[0] == 200:
            for label in set(asked.get("VersionStages", [])) - {CURRENT}:
                service._remove_stage_everywhere(secret, label, except_version_id=token)
        return answer

    return handle


def _appconfig(inner: Handler) -> Handler:
    """Hosted versions are locked by Latest-Version-Number, deployments need a version that exists, lists are paged, the newest first.

    Source: https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_CreateHostedConfigurationVersion.html
    """
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        from ministack.services import appconfig as service

        versions, deployments = VERSIONS.fullmatch(path), DEPLOYMENTS.fullmatch(path)
        if versions and method == "POST" and (known := headers.get("latest-version-number")):
            latest = service._latest_hosted_version_number(*versions.groups())
            if int(known) != latest:
                return refuse("ConflictException", f"The latest version number is {latest}, not {known}.", 409)
        if deployments and method == "POST":
            asked = json.loads(body or b"{}")
            key = f"{deployments[1]}/{asked.get('ConfigurationProfileId')}/{asked.get('ConfigurationVersion')}"
            if key not in service._hosted_versions:
                return refuse("ResourceNotFoundException", f"Configuration version {asked.get('ConfigurationVersion')} not found", 404)
        if method == "GET" and (versions or deployments):
            return await _paged(inner, method, path, headers, body, query, service)
        return await inner(method, path, headers, body, query)

    return handle


async def _paged(inner: Handler, method: str, path: str, headers: dict[str, str], body: bytes, query: Any, service: Any) -> Answer:
    status, told, content = await inner(method, path, headers, body, {**query, "max_results": ["1000000"]})
    if status != 200:
        return status, told, content
    items = json.loads(content)["Items"][::-1]
    for item in items:
        if "DeploymentNumber" in item:
            application, environment = DEPLOYMENTS.fullmatch(path).groups()
            item["ConfigurationProfileId"] = service._deployments[f"{application}/{environment}/{item['DeploymentNumber']}"]["ConfigurationProfileId"]
    start, size = int(_first(query, "next_token") or 0), int(_first(query, "max_results") or PAGE)
    page: dict[str, Any] = {"Items": items[start : start + size]}
    if start + size < len(items):
        page["NextToken"] = str(start + size)
    return reply(page)


def _route53(inner: Handler) -> Handler:
    """A CNAME stands alone under its name.

    Source: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#CNAMEFormat
    """
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        from ministack.services import route53 as service

        zone = re.search(r"/hostedzone/([^/]+)/rrset", path)
        before = list(service._records.get(zone[1], [])) if zone else []
        answer = await inner(method, path, headers, body, query)
        if zone and method == "POST" and answer[0] == 200:
            after = service._records[zone[1]]
            alone = {record["Name"] for record in after if record["Type"] == "CNAME"}
            name = next((one for one in alone if len({record["Type"] for record in after if record["Name"] == one}) > 1), "")
            if name:
                service._records[zone[1]] = before
                return service._error_response("InvalidChangeBatch", f"RRSet of type CNAME with DNS name {name} is not permitted as it conflicts with other records with the same DNS name.")
        return answer

    return handle


def _ssm(inner: Handler) -> Handler:
    """A value has to match the pattern that is sent with it.

    Source: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html
    """
    async def handle(method: str, path: str, headers: dict[str, str], body: bytes, query: Any) -> Answer:
        asked = json.loads(body) if headers.get("x-amz-target", "").endswith(".PutParameter") else {}
        pattern = asked.get("AllowedPattern")
        if pattern and not re.search(pattern, asked.get("Value", "")):
            return refuse("ParameterPatternMismatchException", f"Parameter value, cannot be validated against allowedPattern: {pattern}", 400)
        return await inner(method, path, headers, body, query)

    return handle


def _first(query: Any, name: str) -> str:
    value = query.get(name, "")
    return value[0] if isinstance(value, list) else value


def reply(content: dict[str, Any]) -> Answer:
    """Return the answer of a JSON service to a request that it grants."""
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def refuse(code: str, message: str, status: int) -> Answer:
    """Return the answer of a JSON service to a request that it refuses, with its error code."""
    body = json.dumps({"__type": code, "Code": code, "Message": message, "message": message}).encode()
    return status, {"Content-Type": "application/json", "x-amzn-errortype": code}, body
