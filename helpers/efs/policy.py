"""What a file system policy lets an NFS client do: mount, write, and act as root.

The rules are those of https://docs.aws.amazon.com/efs/latest/ug/iam-access-control-nfs-efs.html and of
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html: an explicit Deny, then an
Allow, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from helpers.aws.errors import RunbookError

ACTIONS = {
    "mount": "elasticfilesystem:ClientMount",
    "write": "elasticfilesystem:ClientWrite",
    "root": "elasticfilesystem:ClientRootAccess",
}
# The fields of a client, and the condition key that each is asked by.
KEYS = {
    "principal": "aws:principalarn",
    "access_point": "elasticfilesystem:accesspointarn",
    "source_ip": "aws:sourceip",
    "vpc": "aws:sourcevpc",
    "organization": "aws:principalorgid",
}
# Other names that people give the same thing, without case and underscores.
ALIASES = {
    "role": "principal",
    "iam": "principal",
    "rolearn": "principal",
    "iamrole": "principal",
    "iamrolearn": "principal",
    "iamprincipal": "principal",
    "principalarn": "principal",
    "accesspointarn": "access_point",
    "filesystemarn": "file_system",
    "sourcevpc": "vpc",
}
FIELDS = {"tls", "file_system", "identity_policy", "mount_target", *KEYS}

Document = Mapping[str, Any]


class Access(NamedTuple):
    """What a client may do."""

    mount: bool
    write: bool
    root: bool


def access(policy: Document | str | None, client: Mapping[str, Any]) -> Access:
    """What `client` may do under the file system policy (a document, its JSON, or None where there is none).

    `client` has `tls` (True or False) and, where they apply, `principal` (ARN of the role or user that mounts with the
    option iam, also called `role`; without it the client is anonymous), `access_point` (ARN), `identity_policy` (a policy of that
    principal), `file_system` (ARN), `source_ip`, `vpc`, `organization`, and `mount_target` (False for access that does
    not pass one). The options iam and accesspoint need TLS: without it a client has neither identity nor access point.
    Write and root need the mount. Without a policy every client has full access. Raises `RunbookError` for an
    unknown field or condition operator, and for what is no policy.
    """
    if policy is None:
        return Access(True, True, True)
    client = {_field(name): value for name, value in client.items() if value is not None}
    unknown = set(client) - FIELDS
    if unknown:
        raise RunbookError(f"A client has no field {', '.join(sorted(unknown))}.", f"Fields are {', '.join(sorted(FIELDS))}.")
    tls = str(client.get("tls", False)).lower() == "true"
    if not isinstance(client.get("principal") or "", str):
        raise RunbookError("Who mounts is not named.", "Give `principal`, the ARN of the role or user; leave it out for an anonymous client.")
    who = {**client, "tls": tls}
    who = who if tls else {name: value for name, value in who.items() if name not in ("principal", "access_point")}
    allowed = {name: _allowed(action, _document(policy), who) for name, action in ACTIONS.items()}
    return Access(**{name: allowed["mount"] and given for name, given in allowed.items()})


def _field(name: str) -> str:
    """The field of a client that a name stands for, or the name."""
    plain = name.lower().replace("_", "")
    return ALIASES.get(plain) or next((each for each in FIELDS if each.replace("_", "") == plain), name)


def _document(policy: Document | str) -> Document:
    try:
        document = json.loads(policy) if isinstance(policy, str) else policy
    except (ValueError, RecursionError) as error:
        raise RunbookError(f"The policy is not JSON: {error}.", _AS_RETURNED) from error
    if fault := next(_faults(document), ""):
        raise RunbookError(f"The policy is none that IAM reads: {fault}.", _AS_RETURNED)
    return document


_AS_RETURNED = "Give the document as DescribeFileSystemPolicy returns it."


def _faults(document: Any) -> Iterator[str]:
    """What has not the form of a policy: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html."""
    if not isinstance(document, Mapping):
        yield "it is no object"
        return
    for statement in _list(document.get("Statement")):
        if not isinstance(statement, Mapping):
            yield "a statement is no object"
            continue
        if statement.get("Effect") not in ("Allow", "Deny"):
            yield "the Effect of a statement is neither Allow nor Deny"
        for name in ("Action", "NotAction", "Resource", "NotResource"):
            if name in statement and not _is_text(statement[name]):
                yield f"{name} is neither text nor a list of texts"
        for name in ("Principal", "NotPrincipal"):
            who = statement.get(name, "*")
            if not all(map(_is_text, who.values() if isinstance(who, Mapping) else [who])):
                yield f"{name} names something that is no text"
        conditions = statement.get("Condition") or {}
        if not isinstance(conditions, Mapping) or not all(isinstance(keys, Mapping) for keys in conditions.values()):
            yield "Condition is no object of operators, each with its keys"
        elif not all(isinstance(each, str | int | float) for keys in conditions.values() for wanted in keys.values() for each in _list(wanted)):
            yield "a condition asks for something that is neither text, a number nor a boolean"


def _is_text(value: Any) -> bool:
    return all(isinstance(each, str) for each in (value if isinstance(value, list) else [value]))


def _allowed(action: str, policy: Document, client: Mapping[str, Any]) -> bool:
    statements = [(statement, True) for statement in _list(policy.get("Statement"))]
    if client.get("principal") and client.get("identity_policy"):
        statements += [(statement, False) for statement in _list(_document(client["identity_policy"]).get("Statement"))]
    effects = {statement.get("Effect") for statement, names_who in statements if _applies(statement, action, client, names_who)}
    return effects == {"Allow"}


def _applies(statement: Document, action: str, client: Mapping[str, Any], names_who: bool) -> bool:
    return (
        (not names_who or _either(statement, "Principal", lambda wanted: _is_principal(wanted, client.get("principal"))))
        and _either(statement, "Action", lambda wanted: any(_like(action.lower(), each.lower()) for each in _list(wanted)))
        and _either(statement, "Resource", lambda wanted: _is_resource(wanted, client), absent=True)
        and _conditions_hold(statement.get("Condition") or {}, client)
    )


def _either(statement: Document, name: str, holds: Callable[[Any], bool], absent: bool = False) -> bool:
    """Whether an element, or else its opposite (NotPrincipal, NotAction, NotResource), applies."""
    if name in statement:
        return holds(statement[name])
    return not holds(statement[f"Not{name}"]) if f"Not{name}" in statement else absent


def _is_principal(wanted: Any, principal: str | None) -> bool:
    """An account, as its number or `:root`, stands for each principal in it; services and federations never mount."""
    names = _list(wanted.get("AWS", [])) if isinstance(wanted, Mapping) else _list(wanted)
    if "*" in names:
        return True
    if not principal:
        return False
    own = _role(principal)
    account = _account(own)
    return any(each in (principal, own, account) or re.fullmatch(rf"arn:[^:]*:iam::{account}:root", each) is not None for each in names)


def _role(principal: str) -> str:
    """The role behind a session: arn:aws:sts::1:assumed-role/App/i-1 is arn:aws:iam::1:role/App."""
    return re.sub(r"^(arn:[^:]*):sts::(\d+):assumed-role/([^/]+)/.*$", r"\1:iam::\2:role/\3", principal)


def _account(arn: str) -> str:
    """The account of an ARN; empty where it is none."""
    return arn.split(":")[4] if arn.count(":") >= 5 else ""


def _is_resource(wanted: Any, client: Mapping[str, Any]) -> bool:
    # Without the file system's ARN, a policy that is attached to it is taken to mean it.
    return not client.get("file_system") or any(_like(client["file_system"], each) for each in _list(wanted))


def _like(value: str, pattern: str) -> bool:
    """AWS's wildcards, * and ?; brackets mean themselves."""
    return fnmatchcase(value, pattern.replace("[", "[[]"))


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], client: Mapping[str, Any]) -> bool:
    context = {"elasticfilesystem:accessedviamounttarget": str(client.get("mount_target", True)).lower()}
    context["aws:securetransport"] = str(bool(client.get("tls"))).lower()
    context |= {key: client[name] for name, key in KEYS.items() if client.get(name)}
    if "aws:principalarn" in context:
        context["aws:principalarn"] = _role(context["aws:principalarn"])
        context["aws:principalaccount"] = _account(context["aws:principalarn"])
    return all(
        _holds(operator, context.get(key.lower()), [str(each).lower() if isinstance(each, bool) else str(each) for each in _list(wanted)])
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _in_network(value: str, network: str) -> bool:
    try:
        return ip_address(value) in ip_network(network, strict=False)
    except ValueError as error:
        raise RunbookError(f"No address can be compared with the range of a condition: {error}.", "Write both as in 10.0.3.4 and 10.0.0.0/16.") from error


TESTS: dict[str, Callable[[str, str], bool]] = {
    "bool": lambda value, wanted: value == wanted.lower(),
    "stringequals": lambda value, wanted: value == wanted,
    "stringequalsignorecase": lambda value, wanted: value.lower() == wanted.lower(),
    "stringlike": _like,
    "arnequals": _like,
    "arnlike": _like,
    "ipaddress": _in_network,
}
OPPOSITES = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
}


def _holds(operator: str, value: str | None, wanted: Iterable[str]) -> bool:
    """One condition: a missing key fails it, but holds for `...IfExists` and for the negated operators."""
    name = re.sub(r"^for(any|all)values?:", "", operator.lower())
    name, if_exists = re.subn("ifexists$", "", name)
    if name == "null":
        return any((value is None) == (each.lower() == "true") for each in wanted)
    if name in OPPOSITES:
        return value is None or not any(TESTS[OPPOSITES[name]](value, each) for each in wanted)
    if name not in TESTS:
        raise RunbookError(f"The condition operator {operator} is not known here.", "Try the client for real: mount, write and chown.")
    if value is None:
        return bool(if_exists) or operator.lower().startswith("forallvalues:")
    return any(TESTS[name](value, each) for each in wanted)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
