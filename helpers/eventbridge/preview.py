"""A look at what an input transformer sends, with proof that it is valid, and at the values that would break it."""

from __future__ import annotations

import datetime
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.eventbridge.paths import MISSING, find, is_path
from helpers.eventbridge.transformers import (
    NotDelivered,
    as_object,
    breaking,
    check_transformer,
    is_text,
    load_json,
    pieces,
    placeholders,
    render,
    variables,
)

# EventBridge sets these itself: none can hold a quote, a newline or a backslash
SET_BY_EVENTBRIDGE = ("$.account", "$.id", "$.region", "$.time", "$.version")
TRIALS = {"a quote": '"', "a newline": "\n", "a backslash": "\\x"}
HOST = re.compile(r"https?://[^/\s\"]*")
HOST_CHARACTERS = re.compile(r"[A-Za-z0-9.-]*")
AROUND = 12  # characters shown after what breaks the output, twice as many before
LONG = 80  # characters of a value that are shown


@dataclass(frozen=True)
class Preview:
    """What the target would receive, and how sure that is.

    `output` is None where nothing is sent; `broken` is then what the template became. `delivered` is "JSON", "text" or
    "nothing", `proof` the sentence that says why. `values` has a row for each placeholder: `placeholder`, `path`, `value`,
    `stands` (as JSON, or in a string). `risks` has a row for each field of the event that stands in a string: `placeholder`,
    `path`, and what becomes of the output with a quote, a newline or a backslash in it. `notes` are sentences.
    """

    output: str | None
    broken: str
    delivered: str
    proof: str
    values: pd.DataFrame
    risks: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def pretty(self) -> str:
        """The output for a reader: JSON indented, a text as it is sent, or what could not be sent."""
        if self.delivered == "JSON":
            return json.dumps(load_json(self.output), ensure_ascii=False, indent=2)
        return self.output or self.broken

    def __str__(self) -> str:
        parts = [f"Delivered: {self.delivered}. {self.proof}", self.pretty, self.values.to_string(index=False)]
        for placeholder, path, *trials in self.risks.itertuples(index=False):
            lines = [f"  {name}: {what}" for name, what in zip(TRIALS, trials, strict=True)]
            parts.append("\n".join([f"With one of these in {placeholder} ({path}):", *lines]))
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = f"<p><b>Delivered: {self.delivered}.</b> {html.escape(self.proof)}</p>"
        parts = [head, f'<pre style="white-space:pre-wrap">{html.escape(self.pretty)}</pre>', _table(self.values)]
        if len(self.risks):
            parts.append(f"<p>With one of these in a field:</p>{_table(self.risks)}")
        return "".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in self.notes)])


def _table(frame: pd.DataFrame) -> str:
    from helpers.aws.drawing import Sentences  # it brings matplotlib, which only a notebook needs

    return Sentences(frame)._repr_html_()


def preview(
    input_paths: Mapping[str, str],
    template: str,
    event: str | bytes | Mapping[str, Any],
    *,
    rule_name: str = "example",
    rule_arn: str = "arn:aws:events:us-east-1:123456789012:rule/example",
    ingestion_time: str | datetime.datetime = "2026-01-01T00:00:01Z",
    target: str = "<target-id>",
) -> Preview:
    """What `render` gives for this event, read back as proof, and the fields whose values could break it.

    Each field that stands in a string is tried with a quote, a newline and a backslash added to its value. An event that
    nothing would be sent for is shown, not raised. Raises `InvalidTemplate` and `InvalidEvent`.
    """
    check_transformer(input_paths, template, target)
    found = as_object(event)
    names = {"rule_name": rule_name, "rule_arn": rule_arn, "ingestion_time": ingestion_time}
    values = variables(input_paths, found, **names)
    notes = _notes(input_paths, template, found) + _host_notes(input_paths, template, values)
    output, broken = None, ""
    try:
        output = render(input_paths, template, found, **names, target=target)
        delivered, proof = _proof(output, is_text(template))
    except NotDelivered as error:
        broken, delivered, proof = error.output, "nothing", str(error)
    if delivered == "JSON":
        notes += [f"The value of <{name}> ends its string early and adds JSON of its own." for name in breaking(template, values)]
    shown = _values(input_paths, template, values), _risks(input_paths, template, values)
    return Preview(output, broken, delivered, proof, *shown, tuple(notes))


def _proof(output: str, text: bool) -> tuple[str, str]:
    """How the output is delivered, and the sentence that proves it by reading it back."""
    size = f"{len(output.encode(errors='surrogatepass')):,} bytes"
    if not text:
        return "JSON", f"Read back as JSON it is {_shape(load_json(output))}, {size}."
    sent = f"Sent as it is, with its quotes, {size}"
    try:
        load_json(output)
    except ValueError:
        return "text", f"{sent}; it is not JSON, so a target that parses JSON, such as Lambda, cannot read it."
    return "text", f"{sent}; read back as JSON it is one string."


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return f"an array of {len(value)}" if isinstance(value, list) else "a single value"


def _values(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for name, in_string in dict.fromkeys((one.name, one.in_string) for one in placeholders(template)):
        shown = json.dumps(values[name], ensure_ascii=False)
        shown = shown if len(shown) <= LONG else shown[: LONG - 1] + "…"
        rows.append((f"<{name}>", input_paths.get(name, "reserved"), shown, "in a string" if in_string else "as JSON"))
    return pd.DataFrame(rows, columns=["placeholder", "path", "value", "stands"])


def _risks(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each field of the event that stands in a string, with what each trial does to the output."""
    inside = dict.fromkeys(one.name for one in placeholders(template) if one.in_string)
    names = [name for name in inside if _is_free(input_paths, name)]
    rows = [
        (f"<{name}>", input_paths[name], *(_with(template, values, name, added) for added in TRIALS.values())) for name in names
    ]
    return pd.DataFrame(rows, columns=["placeholder", "path", *TRIALS])


def _is_free(input_paths: Mapping[str, str], name: str) -> bool:
    """True for what the sender of an event chooses, unlike reserved variables and what EventBridge sets."""
    return name in input_paths and input_paths[name] not in SET_BY_EVENTBRIDGE


def _with(template: str, values: Mapping[str, Any], name: str, added: str) -> str:
    """What becomes of the output where the value of a placeholder has some more characters and all others break nothing."""
    trial = dict.fromkeys(breaking(template, values), "")
    trial[name] = (values[name] if isinstance(values[name], str) else "") + added
    parts = pieces(template, {**values, **trial})
    turn = next(number for number, one in enumerate(placeholders(template)) if one.name == name and one.in_string)
    before, after = "".join(parts[: 2 * turn + 2]), "".join(parts[2 * turn + 2 :])
    shown = f"{before[-2 * AROUND :]}{after[:AROUND]}".replace("\n", "⏎")
    return f"{'sent with it' if is_text(template) else 'nothing is sent'}: {shown}"


def _notes(input_paths: Mapping[str, str], template: str, event: Mapping[str, Any]) -> list[str]:
    """A sentence for each path that is not used, cannot be evaluated, or finds nothing in the event."""
    used = {one.name for one in placeholders(template)}
    notes = []
    for name, path in input_paths.items():
        if name not in used:
            notes.append(f"{name} is an input path that the template does not use.")
        elif not is_path(path):
            known = "the JSONPath that EventBridge documents (names after dots, [0], *)"
            notes.append(f"{path} is outside of {known}: <{name}> may stay empty.")
        elif find(path, event) is MISSING:
            notes.append(f"The event has nothing at {path}: <{name}> becomes an empty string.")
    return notes


def _host_notes(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> list[str]:
    """A sentence for the placeholders in the host name of each URL, which takes fewer characters than a value may have."""
    notes = []
    for url in HOST.finditer(template):
        names = [one.name for one in placeholders(url[0]) if _is_free(input_paths, one.name)]
        if names:
            rule = "a host name takes letters, digits and - only, and a transformer cannot replace characters."
            given = [str(values[name]) for name in names]
            wrong = [f" {value!r} gives a wrong link." for value in given if not HOST_CHARACTERS.fullmatch(value)]
            notes.append(f"{' and '.join(f'<{name}>' for name in names)} in {url[0]}: {rule}{''.join(wrong)}")
    return notes
