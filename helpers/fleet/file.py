"""A fleet file, YAML or CSV: which runbook over which targets. Every fault is found with its line, and nothing is run.

    runbook: efs_mount
    parameters:                      # of every target
      hosts: i-0123456789abcdef0
    targets:
      - {account: 012345678901, role: arn:aws:iam::012345678901:role/ops, region: eu-west-1, resource: fs-0123456789abcdef0}
      - {region: eu-central-1, resource: fs-0123456789abcdef1, parameters: {directory: /site}}

A CSV file has one target a row: the columns account, role, region, profile, resource and runbook, and one for each parameter
that differs. A runbook may be an analysis, which reads only, whatever the fleet's mode. In place of `targets` a file may have a
`query` (see `helpers.fleet.query`). Values are kept as written: 012345678901 keeps its zero and 7.10 its own, in both forms, and
mean what they mean after `-p name=`.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from helpers.aws.errors import RunbookError

# What a target says beside its parameters, and the runbooks' parameter that it stands for.
PLACE = {"account": "expected_account", "role": "role_arn", "region": "region", "profile": "profile"}
TARGET_KEYS = (*PLACE, "resource", "runbook", "parameters")
FILE_KEYS = ("runbook", "parameters", "targets", "query")
QUERY_KEYS = ("find", "tag", "engine", "below", "in")


@dataclass(frozen=True)
class Fault:
    """Something wrong in a fleet file, and the line it is in (from 1; 0: the file as a whole)."""

    line: int
    what: str


class FleetFileError(RunbookError):
    """A fleet file that cannot be run; `faults` has everything that is wrong in it, in the order of its lines."""

    def __init__(self, name: str, faults: Iterable[Fault]) -> None:
        self.faults = sorted(set(faults), key=lambda fault: (fault.line, fault.what))
        count = f"{len(self.faults)} faults" if len(self.faults) != 1 else "one fault"
        lines = [f"  line {fault.line}: {fault.what}" if fault.line else f"  {fault.what}" for fault in self.faults]
        super().__init__("\n".join([f"{name} has {count}; nothing was run.", *lines]))


@dataclass(frozen=True)
class Entry:
    """One target as written: its line, its runbook, and its place, resource and parameters as text."""

    line: int
    runbook: str
    place: Mapping[str, str] = field(default_factory=dict)
    resource: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """What to look for, where: each of `places` is an entry without a resource."""

    line: int
    find: str
    conditions: Mapping[str, str]
    places: tuple[Entry, ...]


@dataclass(frozen=True)
class FleetFile:
    """A file that was read: its targets or its query, not yet looked at against runbooks and accounts."""

    name: str
    entries: tuple[Entry, ...]
    query: Query | None = None


def read(path: Path, runbook: str = "") -> FleetFile:
    """Read a fleet file; `runbook` is for targets that name none. Raises `FleetFileError` with every fault."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RunbookError(f"{path} cannot be read: {error}.") from error
    if path.suffix.lower() not in {".csv", ".yaml", ".yml"}:
        raise RunbookError(f"{path.name} is neither YAML nor CSV by its name.", "Name it .yaml or .csv.")
    faults: list[Fault] = []
    made = _csv(path.name, text, runbook, faults) if path.suffix.lower() == ".csv" else _yaml(path.name, text, runbook, faults)
    if not faults and not made.entries and made.query is None:
        faults.append(Fault(0, "It has no targets."))
    if faults:
        raise FleetFileError(path.name, faults)
    return made


# -- CSV -----------------------------------------------------------------------------------------------


def _csv(name: str, text: str, runbook: str, faults: list[Fault]) -> FleetFile:
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    entries: list[Entry] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        faults += [Fault(1, f"The column {column!r} is there twice.") for column in sorted({column for column in header if header.count(column) > 1})]
        faults += [Fault(1, f"Column {number} has no name.") for number, column in enumerate(header, 1) if not column]
        begun = reader.line_num + 1
        for row in reader:
            line, begun = begun, reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                faults.append(Fault(line, f"The row has {len(row)} values, the header {len(header)}."))
                continue
            entries.append(_row(line, {column: cell.strip() for column, cell in zip(header, row, strict=True) if cell.strip()}, runbook))
    except csv.Error as error:
        faults.append(Fault(reader.line_num, f"It is not CSV: {error}."))
    return FleetFile(name, tuple(entries))


def _row(line: int, told: dict[str, str], runbook: str) -> Entry:
    place = {key: told.pop(key) for key in PLACE if key in told}
    return Entry(line, told.pop("runbook", runbook), place, told.pop("resource", ""), told)


# -- YAML ----------------------------------------------------------------------------------------------


def _yaml(name: str, text: str, runbook: str, faults: list[Fault]) -> FleetFile:
    empty = FleetFile(name, ())
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                faults.append(Fault(event.start_mark.line + 1, f"Aliases (*{event.anchor}) are not taken: write the values out."))
        root = yaml.compose(text, yaml.SafeLoader) if not faults else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        faults.append(Fault(line, f"It is not YAML: {error.problem}."))
        return empty
    except yaml.YAMLError as error:
        faults.append(Fault(0, f"It is not YAML: {error}."))
        return empty
    if root is None:
        return empty
    top = _mapping(root, "The file", FILE_KEYS, faults)
    runbook = _text(top["runbook"], "runbook", faults) if "runbook" in top else runbook
    shared = _parameters(top["parameters"], faults) if "parameters" in top else {}
    if "targets" in top and "query" in top:
        faults.append(Fault(_line(top["query"]), "It has targets and a query: choose one."))
    query = _query(top["query"], runbook, shared, faults) if "query" in top else None
    return FleetFile(name, tuple(_targets(top["targets"], runbook, shared, faults)) if "targets" in top else (), query)


def _targets(node: yaml.Node, runbook: str, shared: dict[str, str], faults: list[Fault]) -> list[Entry]:
    if not isinstance(node, yaml.SequenceNode):
        faults.append(Fault(_line(node), "targets is a list, each with a dash."))
        return []
    return [_target(item, runbook, shared, faults) for item in node.value]


def _target(node: yaml.Node, runbook: str, shared: dict[str, str], faults: list[Fault]) -> Entry:
    """A target: a mapping, or a resource alone."""
    entry = Entry(_line(node), runbook, {}, "", shared)
    if isinstance(node, yaml.ScalarNode):
        return replace(entry, resource=node.value)
    told = _mapping(node, "A target", TARGET_KEYS, faults)
    own = _parameters(told.pop("parameters"), faults) if "parameters" in told else {}
    texts = {key: _text(value, key, faults) for key, value in told.items()}
    place = {key: texts[key] for key in PLACE if texts.get(key)}
    return replace(entry, runbook=texts.get("runbook") or runbook, place=place, resource=texts.get("resource", ""), parameters={**shared, **own})


def _query(node: yaml.Node, runbook: str, shared: dict[str, str], faults: list[Fault]) -> Query:
    told = _mapping(node, "A query", QUERY_KEYS, faults)
    places = _targets(told.pop("in"), runbook, shared, faults) if "in" in told else [Entry(_line(node), runbook, {}, "", shared)]
    faults += [Fault(one.line, "A place to look in names no resource: the query finds them.") for one in places if one.resource]
    texts = {key: _text(value, key, faults) for key, value in told.items()}
    return Query(_line(node), texts.pop("find", ""), texts, tuple(places))


def _parameters(node: yaml.Node, faults: list[Fault]) -> dict[str, str]:
    """Parameters as the text that `-p` would have; lists and mappings as JSON."""
    told = _mapping(node, "parameters", None, faults)
    return {name: value.value if isinstance(value, yaml.ScalarNode) else json.dumps(_plain(value)) for name, value in told.items()}


def _plain(node: yaml.Node) -> Any:
    """A value inside a list or a mapping: text in lists, what YAML makes of it in mappings."""
    if isinstance(node, yaml.SequenceNode):
        return [item.value if isinstance(item, yaml.ScalarNode) else _plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    return yaml.safe_load(node.value) if node.style is None and node.tag != "tag:yaml.org,2002:timestamp" else node.value


def _mapping(node: yaml.Node, what: str, keys: tuple[str, ...] | None, faults: list[Fault]) -> dict[str, yaml.Node]:
    """The keys of a mapping; those that are unknown (`keys`: the known ones) or there twice are faults."""
    if not isinstance(node, yaml.MappingNode):
        if node.value not in ("", "null", "~"):
            faults.append(Fault(_line(node), f"{what} is written as `name: value` pairs."))
        return {}
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in found:
            faults.append(Fault(_line(key), f"{name} is there twice."))
        elif keys is not None and name not in keys:
            near = difflib.get_close_matches(name, keys, n=1)
            faults.append(Fault(_line(key), f"{what} has no {name}.{f' Do you mean {near[0]}?' if near else ''} It may have {', '.join(keys)}."))
            continue
        found[name] = value
    return found


def _text(node: yaml.Node, key: str, faults: list[Fault]) -> str:
    """The text of a value as written."""
    if not isinstance(node, yaml.ScalarNode):
        faults.append(Fault(_line(node), f"{key} is one value."))
        return ""
    return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
