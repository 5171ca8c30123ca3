"""Where an application finds its Redis endpoint: read it, and change it only from the value that is expected.

A setting is named by one text (the runbook's parameter `switch_parameter`), and one module here knows each store.
Secrets, parameters and configurations hold `host:port`, plain or in JSON; a DNS record holds the host alone.
"""

from __future__ import annotations

import re
from types import ModuleType

from botocore.exceptions import BotoCoreError, ClientError

from helpers.aws import Aws, Check, RunbookError, explain
from helpers.elasticache.adapters import appconfig, route53, secrets_manager, ssm
from helpers.elasticache.adapters.route53 import certificate_names, same_port
from helpers.elasticache.adapters.setting import Setting, changed_meanwhile, split_endpoint
from helpers.elasticache.adapters.ssm import put_parameter

# What a setting can be, and the module that knows it.
FORMS = (
    (re.compile(r"/[A-Za-z0-9_.\-/]+"), ssm),
    (re.compile(r"secretsmanager:[A-Za-z0-9/_+=.@:\-]+(#.+)?"), secrets_manager),
    (re.compile(r"appconfig:[^/#]+/[^/#]+/[^/#]+(#.+)?"), appconfig),
    (re.compile(r"route53:[A-Z0-9]+/[A-Za-z0-9_.\-]+"), route53),
)
EXAMPLES = "/name (an SSM parameter), secretsmanager:ID or secretsmanager:ID#key, appconfig:APPLICATION/ENVIRONMENT/PROFILE or the same with #key, or route53:ZONE_ID/record.name"


def read_setting(aws: Aws, where: str) -> Setting:
    """The setting as it is now, as applications are given it; an empty value and version where it does not exist.

    Raises `RunbookError` for a text that names no setting, and where AWS refuses the read.
    """
    store = _store(where)
    try:
        return store.read(aws, where)
    except (BotoCoreError, ClientError) as error:
        raise explain(error) from error


def form_of(where: str, endpoint: str) -> str:
    """What the setting holds when it points to `endpoint` ("host:port"): the same, or the host alone for route53."""
    return split_endpoint(endpoint)[0] if _store(where) is route53 else endpoint


def is_at(setting: Setting, endpoint: str) -> bool:
    """True where the setting points to `endpoint` ("host:port")."""
    return setting.value.lower() == form_of(setting.where, endpoint).lower()


def compare_and_set(aws: Aws, before: Setting, expected: str, value: str) -> None:
    """Point the setting at `value`, provided that it still is as `before` was read and points to `expected`.

    `expected` and `value` are endpoints, "host:port". Once it returns, a read shows the new value; it may take up to
    `longest(before.where)` seconds. Raises `RunbookError`: `changed_meanwhile` where somebody else changed the
    setting, whose value then stands, and otherwise where AWS refused the change.
    """
    if not is_at(before, expected):
        raise changed_meanwhile(before.where, before.value, form_of(before.where, expected))
    try:
        _store(before.where).put(aws, before, expected, value)
    except (BotoCoreError, ClientError) as error:
        raise explain(error) from error


def longest(where: str) -> float:
    """The most seconds that `compare_and_set` waits for this setting's store; a freeze has to hold as long."""
    return _store(where).SLOWEST


def setting_checks(aws: Aws, where: str, old_endpoints: tuple[str, ...], *, tls: bool, planned: bool = False) -> list[Check]:
    """Whether the application can be switched there: the setting can be read and holds one of the old group's endpoints.

    `tls`: the group has in-transit encryption; `planned`: what cannot be reached from here is no failure yet.
    """
    name = "the application finds its endpoint where it is changed"
    try:
        store, setting = _store(where), read_setting(aws, where)
        here = next((one for one in old_endpoints if is_at(setting, one)), "")
        if setting.version in ("", 0):
            return [Check(name, "fail", f"there is no {store.NOUN} {where}", "Name the setting that holds the application's Redis endpoint.")]
        if not here:
            belongs = " or ".join(dict.fromkeys(form_of(where, one) for one in old_endpoints))
            return [Check(name, "fail", f"{where} holds {setting.value!r}, the group's endpoint is {belongs}", "Put it right, or name the right setting.")]
        more = store.checks(aws, where)
    except (BotoCoreError, ClientError, RunbookError) as error:
        told = explain(error)
        return [Check(name, "fail", told.what, told.remedy)]
    if tls and store is route53:
        more.append(route53.certificate_check(where, here, planned=planned))
    return [Check(name, "pass", f"{where} = {setting.value}"), *more]


def _store(where: str) -> ModuleType:
    """The module that knows this setting's store. Raises `RunbookError` for a text of no known form."""
    for form, module in FORMS:
        if form.fullmatch(where):
            return module
    raise RunbookError(f"{where!r} names no setting.", f"Write {EXAMPLES}.")


__all__ = [
    "Setting",
    "certificate_names",
    "changed_meanwhile",
    "compare_and_set",
    "form_of",
    "is_at",
    "longest",
    "put_parameter",
    "read_setting",
    "same_port",
    "setting_checks",
]
