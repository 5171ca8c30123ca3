"""The endpoint in AppConfig's hosted configuration, `appconfig:APPLICATION/ENVIRONMENT/PROFILE#key`.

What counts is the configuration that is served: that of the newest deployment that is baking or complete. A switch
makes a new version of it and deploys it to all at once; both calls carry the number that was read, and AppConfig
refuses them where somebody was faster. During the bake time that follows (10 minutes) the way back is to stop that
very deployment, which brings the previous version back.
Sources: https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_StartDeployment.html
https://docs.aws.amazon.com/appconfig/latest/userguide/appconfig-creating-deployment-strategy-predefined.html
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore
from botocore.exceptions import ClientError

from helpers.aws import Aws, Check, RunbookError, explain, planning, wait
from helpers.aws.calls import unguarded
from helpers.aws.errors import error_code
from helpers.aws.planned import CHANGE, PlannedWorld, rule
from helpers.elasticache.adapters.document import endpoint_in, with_endpoint
from helpers.elasticache.adapters.setting import Setting, changed_meanwhile

SERVICE, NOUN = "appconfig", "AppConfig configuration"
STRATEGY = "AppConfig.AllAtOnce"  # predefined: to every target at once, then 10 minutes of bake time
SERVED, UNDER_WAY, TAKEN_BACK = ("BAKING", "COMPLETE"), ("VALIDATING", "DEPLOYING", "BAKING", "ROLLING_BACK"), ("ROLLING_BACK", "ROLLED_BACK", "REVERTED")
DEPLOYED_WITHIN = 60.0  # seconds
SLOWEST = DEPLOYED_WITHIN + 10  # seconds


class Missing(RunbookError):
    """The application, environment, profile or deployment does not exist."""


@dataclass(frozen=True)
class _Place:
    """Where a configuration is, by ids, and the key in it."""

    application: str
    environment: str
    profile: str
    profile_name: str
    key: str

    @property
    def deployments(self) -> dict[str, str]:
        return {"ApplicationId": self.application, "EnvironmentId": self.environment}

    @property
    def versions(self) -> dict[str, str]:
        return {"ApplicationId": self.application, "ConfigurationProfileId": self.profile}


@dataclass(frozen=True)
class _Served:
    """The configuration that is served: its endpoint, text and type, its deployment, the one served before (while this one bakes), and the environment's newest."""

    endpoint: str
    text: str = field(repr=False)
    content_type: str
    deployment: dict[str, Any]
    before: dict[str, Any] | None
    newest: dict[str, Any]

    @property
    def number(self) -> int:
        return self.deployment["DeploymentNumber"]


def read(aws: Aws, where: str) -> Setting:
    """What is served; `version` is the number of the deployment that brought it, 0 where there is none."""
    try:
        served = _served(aws.client(SERVICE), _place(aws, where))
    except Missing:
        return Setting(where, "", 0)
    return Setting(where, served.endpoint, served.number)


def put(aws: Aws, before: Setting, expected: str, value: str) -> None:
    """Deploy the configuration with `value` instead of the endpoint in it, and return once that is what is served.

    Raises `RunbookError` where somebody changed the configuration or deploys to this environment, or where the
    deployment is rolled back (with its event log); a deployment of ours that is not served in time is stopped, so
    that it does not reach the application later.
    """
    client, place = aws.client(SERVICE), _place(aws, before.where)
    now = _served(client, place)
    if (now.number, now.endpoint) != (before.version, before.value):
        raise changed_meanwhile(before.where, now.endpoint, expected)
    newest = now.newest
    if newest["State"] not in UNDER_WAY:
        number = _deploy(client, place, before, now, value)
    elif _is_of(place, newest) and newest is not now.deployment and _content(client, place, newest) == with_endpoint(now.text, place.key, value):
        number = newest["DeploymentNumber"]  # begun by a process that was killed
    elif newest is now.deployment and now.before and _content(client, place, now.before) == with_endpoint(now.text, place.key, value):
        _stop(client, place, now.number)  # nothing but the endpoint differs: the previous version is what is wanted
        return _await_served(aws, place, before.where, now.before["DeploymentNumber"], value)
    else:
        raise _busy(before.where, newest)
    try:
        _await_served(aws, place, before.where, number, value)
    except BaseException:
        with unguarded(), contextlib.suppress(RunbookError):  # it must not reach the application once writes are taken again
            _stop(client, place, number)
        raise


def checks(aws: Aws, where: str) -> list[Check]:
    """Whether it can be deployed now, what could undo it, and how late the application follows."""
    client, place = aws.client(SERVICE), _place(aws, where)
    found = [_idle(client, place, where), _lock(client), _drafts(client, place)]
    monitors = client.get_environment(**place.deployments).get("Monitors")
    name = "no alarm takes the deployment back"
    if monitors:
        watched = ", ".join(one["AlarmArn"].rpartition(":")[2] for one in monitors)
        found.append(Check(name, "warn", f"{watched} in alarm within 10 minutes of the switch would send the application back to the old group, which then refuses writes", "See that the alarms bear a gap of seconds, or take them off the environment for the switch."))
    else:
        found.append(Check(name, "pass", "the environment has no monitors"))
    found.append(Check("the application follows at once", "warn", "AppConfig's clients poll: its agent every 45 s unless told otherwise, other clients at 15 s or more; until then they talk to the old group, which refuses writes", "Shorten the agent's POLL_INTERVAL before the switch."))
    return found


def _idle(client: Any, place: _Place, where: str) -> Check:
    name = "no deployment is under way"
    newest = next(_deployments(client, place), None)
    if newest and newest["State"] in UNDER_WAY:
        told = _busy(where, newest)
        return Check(name, "fail", told.what, told.remedy)
    return Check(name, "pass", f"deployment {newest['DeploymentNumber']} is {newest['State']}" if newest else "none yet")


def _lock(client: Any) -> Check:
    name = "a deployment can be made on condition"
    if "LatestDeploymentNumber" in client.meta.service_model.operation_model("StartDeployment").input_shape.members:
        return Check(name, "pass", "by LatestDeploymentNumber")
    return Check(name, "fail", f"botocore {botocore.__version__} does not know StartDeployment's LatestDeploymentNumber", "Upgrade boto3.")


def _drafts(client: Any, place: _Place) -> Check:
    name, newest = "the newest version is the one that is served", _newest_version(client, place)
    served = next((one for one in _deployments(client, place) if _is_of(place, one) and one["State"] in SERVED), None)
    if served and newest != int(served["ConfigurationVersion"]):
        return Check(name, "warn", f"version {served['ConfigurationVersion']} is served, the newest is {newest}", "The switch starts from what is served: what only the newer version has is not deployed.")
    return Check(name, "pass", f"version {newest}")


@functools.cache
def _place(aws: Aws, where: str) -> _Place:
    """The ids that the names (or ids) stand for. Raises `Missing`, or `RunbookError` for a profile that cannot be used."""
    client = aws.client(SERVICE)
    path, _, key = where.partition(":")[2].partition("#")
    names = path.split("/")
    application = _by_name(client, "list_applications", names[0], "application")["Id"]
    environment = _by_name(client, "list_environments", names[1], "environment", ApplicationId=application)["Id"]
    profile = _by_name(client, "list_configuration_profiles", names[2], "configuration profile", ApplicationId=application)
    if profile["LocationUri"] != "hosted":
        raise RunbookError(f"{where} is kept in {profile['LocationUri']}, not in AppConfig.", "Only hosted configurations can be switched; name that store instead.")
    if profile.get("Type") == "AWS.AppConfig.FeatureFlags":
        raise RunbookError(f"{where} holds feature flags.", "Keep the endpoint in a freeform configuration profile.")
    return _Place(application, environment, profile["Id"], profile["Name"], key)


def _by_name(client: Any, operation: str, asked: str, noun: str, **within: str) -> dict[str, Any]:
    every = [one for page in client.get_paginator(operation).paginate(**within) for one in page["Items"]]
    found = [one for one in every if one["Id"] == asked] or [one for one in every if one["Name"] == asked]
    if not found:
        raise Missing(f"There is no AppConfig {noun} {asked!r}.", "Name it as APPLICATION/ENVIRONMENT/PROFILE, each by name or id.")
    if len(found) > 1:
        raise RunbookError(f"{len(found)} AppConfig {noun}s are called {asked!r}.", "Name it by its id.")
    return found[0]


def _deployments(client: Any, place: _Place) -> Iterator[dict[str, Any]]:
    """The environment's deployments, newest first, as AWS lists them.

    Source: https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_ListDeployments.html
    """
    for page in client.get_paginator("list_deployments").paginate(**place.deployments):
        yield from page["Items"]


def _is_of(place: _Place, deployment: dict[str, Any]) -> bool:
    if "ConfigurationProfileId" in deployment:
        return deployment["ConfigurationProfileId"] == place.profile
    return deployment["ConfigurationName"] == place.profile_name  # an older botocore does not know the id


def _served(client: Any, place: _Place) -> _Served:
    newest, served = None, []
    for one in _deployments(client, place):
        newest = newest or one
        if _is_of(place, one) and one["State"] in SERVED:
            served.append(one)
        if served and (len(served) > 1 or served[0]["State"] == "COMPLETE"):
            break
    if not served:
        raise Missing(f"{place.profile_name} was never deployed to this environment.", "Deploy it once, as the application reads it.")
    held = _version(client, place, served[0])
    text = _text(held["Content"])
    return _Served(endpoint_in(text, place.key), text, held["ContentType"], served[0], served[1] if len(served) > 1 else None, newest)


def _content(client: Any, place: _Place, deployment: dict[str, Any]) -> str:
    return _text(_version(client, place, deployment)["Content"])


def _version(client: Any, place: _Place, deployment: dict[str, Any]) -> dict[str, Any]:
    return client.get_hosted_configuration_version(**place.versions, VersionNumber=int(deployment["ConfigurationVersion"]))


def _text(content: Any) -> str:
    """A payload as text; in a plan it may be the bytes that were planned."""
    return (content if isinstance(content, bytes) else content.read()).decode(errors="replace")


def _newest_version(client: Any, place: _Place) -> int:
    pages = client.get_paginator("list_hosted_configuration_versions").paginate(**place.versions)
    return max(one["VersionNumber"] for page in pages for one in page["Items"])


def _deploy(client: Any, place: _Place, before: Setting, now: _Served, value: str) -> Any:
    """Make the version and start its deployment; returns the deployment's number."""
    version = _make_version(client, place, before, with_endpoint(now.text, place.key, value), now.content_type)
    try:
        latest = now.newest["DeploymentNumber"]
        started = client.start_deployment(**place.deployments, DeploymentStrategyId=STRATEGY, ConfigurationProfileId=place.profile, ConfigurationVersion=str(version), LatestDeploymentNumber=latest)
        return started["DeploymentNumber"]
    except client.exceptions.ConflictException as error:
        newest = next(_deployments(client, place))
        if _is_of(place, newest) and newest["ConfigurationVersion"] == str(version):
            return newest["DeploymentNumber"]  # started by this very request, which was sent twice
        with unguarded():
            client.delete_hosted_configuration_version(**place.versions, VersionNumber=version)
        found = _served(client, place)
        if found.endpoint == before.value and newest["State"] in UNDER_WAY:
            raise _busy(before.where, newest) from error
        raise changed_meanwhile(before.where, found.endpoint, before.value) from error


def _make_version(client: Any, place: _Place, before: Setting, text: str, content_type: str) -> Any:
    """A new hosted version, on condition that nobody makes one meanwhile; returns its number."""
    newest = _newest_version(client, place)
    try:
        made = client.create_hosted_configuration_version(**place.versions, Content=text.encode(), ContentType=content_type, LatestVersionNumber=newest)
        return made["VersionNumber"]
    except client.exceptions.ConflictException as error:
        now = _newest_version(client, place)
        if now == newest + 1 and _content(client, place, {"ConfigurationVersion": now}) == text:
            return now  # made by this very request, which was sent twice
        raise changed_meanwhile(before.where, before.value, before.value) from error


def _await_served(aws: Aws, place: _Place, where: str, number: Any, value: str) -> None:
    """Wait until deployment `number` is what clients are served. In a plan nothing is awaited."""
    if planning():
        return
    client = aws.client(SERVICE)

    def look() -> dict[str, Any]:
        return client.get_deployment(**place.deployments, DeploymentNumber=number)

    def state() -> str:
        now = look()["State"]
        return "served" if now in SERVED and endpoint_in(_received(aws, place), place.key) == value else now

    def log() -> list[str]:
        return [one["Description"] for one in reversed(look().get("EventLog", []))]

    wait(f"{where} serves {value}", state, until=("served",), fail=TAKEN_BACK, timeout=DEPLOYED_WITHIN, events=log)


def _received(aws: Aws, place: _Place) -> str:
    """What a client of AppConfig is served that asks for the first time."""
    data = aws.client("appconfigdata")
    session = data.start_configuration_session(ApplicationIdentifier=place.application, EnvironmentIdentifier=place.environment, ConfigurationProfileIdentifier=place.profile)
    return _text(data.get_latest_configuration(ConfigurationToken=session["InitialConfigurationToken"])["Configuration"])


def _stop(client: Any, place: _Place, number: int) -> None:
    """Take a deployment back; returns once the previous version is the one that is deployed.

    Source: https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_StopDeployment.html
    """
    try:
        client.stop_deployment(**place.deployments, DeploymentNumber=number, AllowRevert=True)
    except ClientError as error:
        if error_code(error) != "BadRequestException":
            raise explain(error) from error  # else: taken back already
    if not planning():
        wait(f"deployment {number} taken back", lambda: client.get_deployment(**place.deployments, DeploymentNumber=number)["State"], until=("ROLLED_BACK", "REVERTED"), timeout=DEPLOYED_WITHIN)


def _busy(where: str, deployment: dict[str, Any]) -> RunbookError:
    return RunbookError(
        f"Deployment {deployment['DeploymentNumber']} of {deployment.get('ConfigurationName', 'a configuration')} to the environment of {where} is {deployment['State']}: nothing was changed.",
        "AppConfig deploys one configuration at a time: wait until it is COMPLETE (after its bake time), then resume the run.",
    )


@rule(SERVICE, "CreateHostedConfigurationVersion")
def _planned_version(world: PlannedWorld, asked: dict[str, Any]) -> None:
    """Show the planned content in the versions that AWS has; the profile itself is not made anew."""
    next(thing for thing in world.things if thing.is_about("HostedConfigurationVersion", asked)).kind = CHANGE
