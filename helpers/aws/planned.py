"""The world as a plan sees it: what AWS has, changed by the writes that were listed but not sent.

A planned write answers from the operation's output shape: names echo the request, a status says available,
the rest is `(known after apply)`. Later reads of the same thing see it. Writes whose effect cannot be told
from names alone (a group brings member clusters) get a rule from their service folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UNKNOWN = "(known after apply)"
CREATE, CHANGE, DELETE = "create", "change", "delete"
VERBS = {
    "Create": CREATE, "Put": CREATE, "Copy": CREATE, "Register": CREATE, "Run": CREATE,
    "Modify": CHANGE, "Update": CHANGE, "Reset": CHANGE, "Tag": CHANGE, "Add": CHANGE, "Set": CHANGE,
    "Delete": DELETE, "Deregister": DELETE, "Terminate": DELETE,
}  # fmt: skip
PAGING = re.compile(r"(Marker|Token|Cursor)$")
IDENTIFYING = re.compile(r"(Name|Id|Identifier|Arn|ARN|Key|Bucket)$")


def is_known(value: Any) -> bool:
    """False for a value that does not exist before the apply."""
    return value != UNKNOWN


@dataclass
class Planned:
    """One thing that planned writes create, change or delete: a noun (`Snapshot`), its identity, its fields."""

    service: str
    noun: str
    identity: dict[str, Any]
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)

    def is_about(self, noun: str, values: dict[str, Any]) -> bool:
        """True where `values` (a thing AWS described, or a request) names this very thing."""
        return noun == self.noun and bool(self.identity) and all(values.get(name) == value for name, value in self.identity.items())


Rule = Callable[["PlannedWorld", dict[str, Any]], None]
_rules: dict[tuple[str, str], Rule] = {}


def rule(service: str, operation: str) -> Callable[[Rule], Rule]:
    """Register what a planned write does beyond its own answer: `rule(world, parameters)`."""

    def register(function: Rule) -> Rule:
        _rules[service, operation] = function
        return function

    return register


def verb_and_noun(operation: str) -> tuple[str, str]:
    """`ModifyReplicationGroup` -> (`Modify`, `ReplicationGroup`)."""
    verb, noun = re.match(r"([A-Z][a-z]+)(.*)", operation).groups()
    return verb, noun


class PlannedWorld:
    """The planned things of one plan, and how reads see them."""

    def __init__(self) -> None:
        self.things: list[Planned] = []

    def write(self, model: Any, parameters: dict[str, Any]) -> dict[str, Any]:
        """The answer of a write that is not sent; remembers what it would do."""
        service, (verb, noun) = model.service_model.service_name, verb_and_noun(model.name)
        kind = VERBS.get(verb, CHANGE)
        fields = _copy(parameters)
        if kind == CREATE and model.output_shape is not None:
            fields = {**_made_up(model.output_shape.members.get(noun), parameters), **fields}
        self.put(service, noun, _identity(model, parameters), kind, fields)
        if (service, model.name) in _rules:
            _rules[service, model.name](self, parameters)
        answer = _made_up(model.output_shape, parameters)
        self._overlay(service, model.output_shape, answer)
        return answer

    def put(self, service: str, noun: str, identity: dict[str, Any], kind: str, fields: dict[str, Any]) -> None:
        """Remember that `noun` with `identity` is created, changed or deleted."""
        known = next((thing for thing in self.things if thing.service == service and thing.is_about(noun, identity)), None)
        if known is None:
            self.things.append(Planned(service, noun, identity, kind, fields))
        elif kind == CHANGE:
            known.fields.update(fields)
        else:
            known.kind, known.fields = kind, fields

    def read(self, model: Any, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of a read about a planned thing by name; None: ask AWS (and then `merge`)."""
        service, asked = model.service_model.service_name, _identity(model, parameters)
        found = [thing for thing in self.things if thing.service == service and _names(asked, thing)]
        placed = [thing for thing in found if _has_place(model.output_shape, thing.noun)]
        if placed and all(thing.kind == DELETE for thing in placed):
            return _not_found(model)
        if not any(thing.kind == CREATE for thing in found):
            return None
        answer = _made_up(model.output_shape, parameters)
        _fill(model.output_shape, answer, [thing for thing in placed if thing.kind == CREATE])
        return answer

    def merge(self, model: Any, parameters: dict[str, Any], parsed: dict[str, Any]) -> None:
        """Show the planned changes, deletions and creations in what AWS answered to a read."""
        service = model.service_model.service_name
        self._overlay(service, model.output_shape, parsed)
        if not _identity(model, parameters):
            created = [thing for thing in self.things if thing.service == service and thing.kind == CREATE]
            _fill(model.output_shape, parsed, created, lists_only=True)

    def _overlay(self, service: str, shape: Any, value: Any) -> None:
        """Put changed fields into the described things below `value`, and take deleted ones out."""
        if shape is None or value is None:
            return
        if shape.type_name == "structure":
            for name, member in shape.members.items():
                self._overlay(service, member, value.get(name))
            for thing in self.things:
                if thing.service == service and thing.kind != DELETE and thing.is_about(shape.name, value):
                    value.update({name: item for name, item in _copy(thing.fields).items() if name in shape.members})
        elif shape.type_name == "list" and isinstance(value, list):
            gone = [thing for thing in self.things if thing.service == service and thing.kind == DELETE]
            if shape.member.type_name == "structure":
                value[:] = [item for item in value if not any(thing.is_about(shape.member.name, item) for thing in gone)]
            for item in value:
                self._overlay(service, shape.member, item)


def _identity(model: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """The naming members of a request: the required ones, else whichever are given."""
    shape = model.input_shape
    if shape is None:
        return {}
    named = {name: value for name, value in parameters.items() if isinstance(value, str) and IDENTIFYING.search(name)}
    required = {name: value for name, value in named.items() if name in shape.required_members}
    return required or dict(list(named.items())[:1])


def _names(asked: dict[str, Any], thing: Planned) -> bool:
    """True where the names in a request are those of `thing`."""
    return bool(asked) and all(thing.identity.get(name) == value for name, value in asked.items())


def _has_place(shape: Any, noun: str) -> bool:
    if shape is None or shape.type_name != "structure":
        return False
    for name, member in shape.members.items():
        inner = member.member if member.type_name == "list" else member
        if inner.name == noun or name == noun:
            return True
    return shape.name.removesuffix("Output").removesuffix("Result").endswith(noun)


def _fill(shape: Any, answer: dict[str, Any], things: list[Planned], lists_only: bool = False) -> None:
    """Put planned things where the answer keeps such nouns: a list's element, a member, or the answer itself."""
    for thing in things:
        for name, member in shape.members.items():
            inner = member.member if member.type_name == "list" else member
            if inner.name != thing.noun and name != thing.noun:
                continue
            shown = {**_made_up(inner, thing.fields), **{k: _copy(v) for k, v in thing.fields.items() if k in inner.members}}
            if member.type_name == "list":
                answer.setdefault(name, [])
                answer[name].append(shown)
            elif not lists_only:
                answer[name] = shown
            break
        else:
            if not lists_only:
                answer.update({k: v for k, v in thing.fields.items() if k in shape.members})


def _made_up(shape: Any, echoed: dict[str, Any], depth: int = 4) -> dict[str, Any]:
    """An answer of `shape`: members of the request echo it, statuses say available, the rest is unknown."""
    if shape is None or shape.type_name != "structure" or depth == 0:
        return {}
    answer: dict[str, Any] = {}
    for name, member in shape.members.items():
        if name in echoed:
            answer[name] = _copy(echoed[name])
        elif member.type_name == "structure":
            answer[name] = _made_up(member, echoed, depth - 1)
        elif member.type_name == "list":
            answer[name] = []
        elif member.type_name == "map":
            answer[name] = {}
        elif member.type_name == "string" and name.endswith(("Status", "State")):
            answer[name] = "available"
        elif member.type_name == "boolean":
            answer[name] = False
        elif member.type_name != "blob" and not PAGING.search(name):
            answer[name] = UNKNOWN
    return answer


def _not_found(model: Any) -> dict[str, Any]:
    names = [shape.error_code or shape.name for shape in model.error_shapes]
    code = next((name for name in names if "NotFound" in name), "ResourceNotFoundException")
    return {"Error": {"Code": code, "Message": "deleted earlier in this plan"}}


def _copy(value: Any) -> Any:
    """A copy of the containers of `value`; what they hold (a stream, a number) is shared."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
