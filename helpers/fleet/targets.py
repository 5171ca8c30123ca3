"""Targets: what a fleet file says, looked at against the runbooks' own declarations, whole and before anything runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.aws.errors import RunbookError
from helpers.fleet.file import PLACE, Entry, Fault
from helpers.runbook import analysis
from helpers.runbook import parameters as schema
from helpers.runbook.engine import CONTROL

ACCOUNT = re.compile(r"[0-9]{12}")
SAMPLE = "sample"  # the parameter of an analysis that shows what is made up
ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/.+")


@dataclass(frozen=True, eq=False)
class Target:
    """One run of a fleet: `number` from 1, the runbook, its typed parameters, and what a reader knows it by.

    `reads_only`: it is an analysis, which is read whatever the fleet's mode, and never planned or applied.
    """

    number: int
    line: int
    runbook: str
    path: Path
    values: dict[str, Any]
    resource: str = ""
    account: str = ""
    region: str = ""
    note: str = ""
    reads_only: bool = False

    def mode_in(self, mode: str) -> str:
        """The mode of its run in a fleet of `mode`."""
        return analysis.MODE if self.reads_only and mode != "rehearse" else mode

    @property
    def name(self) -> str:
        """The resource, with what tells it from others of that name (`note`)."""
        return " ".join(filter(None, (self.resource or self.runbook, self.note)))

    @property
    def label(self) -> str:
        """The name with its account and region, where they are given."""
        return " · ".join(filter(None, (self.name, self.account, self.region)))

    @property
    def place(self) -> dict[str, str]:
        """The arguments of `helpers.aws.connect` that the run will use."""
        return {name: self.values[name] for name in PLACE.values() if self.values.get(name)}


def resolve(entries: Iterable[Entry], mode: str = "plan", *, places: bool = False) -> tuple[list[Target], list[Fault]]:
    """The targets, and what is wrong: unknown runbooks and parameters, values of another type, targets that are there twice, a mode that does not fit them.

    A rehearsal runs on a local cloud, which has neither accounts nor roles: the place of a target is checked, and left out.
    `places` are a query's, which name no resource yet.
    """
    targets: list[Target] = []
    faults: list[Fault] = []
    first: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        found, wrong = _resolve(number, entry, mode, places)
        faults += [Fault(entry.line, one) for one in wrong]
        if found is None:
            continue
        key = repr((found.path, entry.place, sorted(found.values.items())))
        if key in first:
            faults.append(Fault(entry.line, f"It is the target of line {first[key]} again: {found.label}."))
        first.setdefault(key, entry.line)
        targets.append(found)
    return _told_apart(targets), faults + ([] if places else _without_mode(targets, mode))


def _without_mode(targets: list[Target], mode: str) -> list[Fault]:
    """The targets that a fleet of this mode has nothing to do with."""
    if mode == analysis.MODE:
        return [Fault(one.line, f"{one.runbook} is a runbook, and --mode read runs analyses only: plan the fleet (--mode plan), which reads its analyses too.") for one in targets if not one.reads_only]
    if mode == "plan" and targets and all(one.reads_only for one in targets):
        return [Fault(0, "It has analyses only, which change nothing, so there is nothing to plan: read them (--mode read).")]
    return []


def _told_apart(targets: list[Target]) -> list[Target]:
    """The targets, where those of the same label say in which parameters they differ."""
    alike: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        alike.setdefault((target.runbook, target.label), []).append(target)
    told = []
    for target in targets:
        group = alike[target.runbook, target.label]
        names = sorted({name for one in group for name in one.values})
        differing = [name for name in names if len({repr(one.values.get(name)) for one in group}) > 1]
        told.append(replace(target, note=", ".join(f"{name}={target.values[name]}" for name in differing if name in target.values)))
    return told


@functools.lru_cache(maxsize=64)
def _describe(name: str) -> schema.Runbook:
    return schema.describe(name)


def _resolve(number: int, entry: Entry, mode: str, anywhere: bool) -> tuple[Target | None, list[str]]:
    if not entry.runbook:
        return None, ["It names no runbook."]
    try:
        runbook = _describe(entry.runbook)
    except RunbookError as error:
        return None, [str(error)]
    texts, faults = _texts(entry, runbook)
    reads_only = analysis.is_analysis(runbook.parameters)
    if reads_only:
        faults += _of_something_real(runbook, texts, mode, anywhere)
    try:
        values = schema.convert(runbook.parameters, texts)
    except schema.ParameterError as error:
        return None, faults + error.faults
    if mode == "rehearse":
        values = {name: value for name, value in values.items() if name not in PLACE.values()}
    known = {parameter.name: parameter.default for parameter in runbook.parameters}
    resource = str(values.get(runbook.resource, known.get(runbook.resource)) or "") if runbook.resource else entry.resource
    place = {key: texts.get(name, "") for key, name in PLACE.items()}
    account = place["account"] or (place["role"].split(":")[4] if ROLE.fullmatch(place["role"]) else "")
    return Target(number, entry.line, runbook.name, runbook.path, values, resource, account, place["region"], reads_only=reads_only), faults


def _of_something_real(runbook: schema.Runbook, texts: dict[str, str], mode: str, anywhere: bool) -> list[str]:
    """Let an analysis look at what is there and not at its made-up sample; what is wrong where it cannot. A rehearsal may show the sample."""
    if any(parameter.name == SAMPLE for parameter in runbook.parameters):
        asked = texts.setdefault(SAMPLE, "false").lower() == "true"
        return [f"The sample of {runbook.name} is made up, and nothing of this account: leave it out."] if asked and mode != "rehearse" else []
    default = next((one.default for one in runbook.parameters if one.name == runbook.resource), None)
    if runbook.resource and not anywhere and not default and not texts.get(runbook.resource):
        return [f"It names no resource, and without one {runbook.name} shows what is made up."]
    return []


def _texts(entry: Entry, runbook: schema.Runbook) -> tuple[dict[str, str], list[str]]:
    """All that the entry says as parameters of its runbook, and what it may not say."""
    declared = {parameter.name for parameter in runbook.parameters}
    faults = [f"{name} is said on the command line, not in the file." for name in entry.parameters if name in CONTROL]
    texts = {name: text for name, text in entry.parameters.items() if name not in CONTROL}
    for key, text in entry.place.items():
        if PLACE[key] not in declared:
            faults.append(f"{runbook.name} takes no {key}: it has no parameter {PLACE[key]}.")
        elif texts.get(PLACE[key], text) != text:
            faults.append(f"{key} is {text}, but the parameter {PLACE[key]} is {texts[PLACE[key]]}.")
        else:
            texts[PLACE[key]] = text
    account, role = entry.place.get("account", ""), entry.place.get("role", "")
    if account and not ACCOUNT.fullmatch(account):
        faults.append(f"account {account!r} is not 12 digits.")
    if role and not ROLE.fullmatch(role):
        faults.append(f"role {role!r} is not the ARN of a role (arn:aws:iam::012345678901:role/name).")
    elif role and account and role.split(":")[4] != account:
        faults.append(f"The role is of account {role.split(':')[4]}, the target of {account}.")
    if entry.resource and not runbook.resource:
        faults.append(f"{runbook.name} does not say which parameter its resource is: write it under parameters.")
    elif entry.resource:
        texts[runbook.resource] = entry.resource
    return texts, faults
