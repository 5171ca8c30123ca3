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
AROUND = 24  # characters shown on each side of what breaks the output


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
        return json.dumps(json.loads(self.output), ensure_ascii=False, indent=2) if self.delivered == "JSON" else self.output or self.broken

    def __str__(self) -> str:
        parts = [f"Delivered: {self.delivered}. {self.proof}", self.pretty, self.values.to_string(index=False)]
        if len(self.risks):
            parts.append("Values that would break it:\n" + self.risks.to_string(index=False))
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p><b>Delivered: {self.delivered}.</b> {html.escape(self.proof)}</p>", f"<pre>{html.escape(self.pretty)}</pre>", self.values.to_html(index=False)]
        if len(self.risks):
            parts.append("<p>Values that would break it:</p>" + self.risks.to_html(index=False))
        return "".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in self.notes)])


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
    found = as_object(event)
    output, broken = None, ""
    try:
        output = render(input_paths, template, found, rule_name=rule_name, rule_arn=rule_arn, ingestion_time=ingestion_time, target=target)
        delivered, proof = _proof(output, is_text(template))
    except NotDelivered as error:
        broken, delivered, proof = error.output, "nothing", str(error)
    values = variables(input_paths, found, rule_name, rule_arn, ingestion_time)
    notes = _notes(input_paths, template, found, values) + (_early_ends(template, values) if delivered == "JSON" else ())
    return Preview(output, broken, delivered, proof, _values(input_paths, template, values), _risks(input_paths, template, values), notes)


def _proof(output: str, text: bool) -> tuple[str, str]:
    """How the output is delivered, and the sentence that proves it by reading it back."""
    size = f"{len(output.encode(errors='surrogatepass')):,} bytes"
    if not text:
        value = load_json(output)
        shape = f"an object with {len(value)} keys" if isinstance(value, dict) else f"an array of {len(value)}" if isinstance(value, list) else "a single value"
        return "JSON", f"Read back as JSON it is {shape}, {size}."
    try:
        load_json(output)
    except ValueError:
        return "text", f"Sent as it is, with its quotes, {size}; it is not JSON, so a target that parses JSON, such as Lambda, cannot read it."
    return "text", f"Sent as it is, with its quotes, {size}; read back as JSON it is one string."


def _values(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for name, in_string in dict.fromkeys((one.name, one.in_string) for one in placeholders(template)):
        shown = json.dumps(values[name], ensure_ascii=False)
        rows.append((f"<{name}>", input_paths.get(name, "reserved"), shown if len(shown) <= 80 else shown[:79] + "…", "in a string" if in_string else "as JSON"))
    return pd.DataFrame(rows, columns=["placeholder", "path", "value", "stands"])


def _risks(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each field of the event that stands in a string, with what each trial does to the output."""
    names = dict.fromkeys(one.name for one in placeholders(template) if one.in_string and input_paths.get(one.name, "$.id") not in SET_BY_EVENTBRIDGE)
    rows = [(f"<{name}>", input_paths[name], *(_with(template, values, name, added) for added in TRIALS.values())) for name in names]
    return pd.DataFrame(rows, columns=["placeholder", "path", *TRIALS])


def _with(template: str, values: Mapping[str, Any], name: str, added: str) -> str:
    """What becomes of the output where the value of a placeholder has some more characters and all others break nothing."""
    trial = {other: "" for other in breaking(template, values)} | {name: (values[name] if isinstance(values[name], str) else "") + added}
    parts = pieces(template, {**values, **trial})
    turn = next(number for number, one in enumerate(placeholders(template)) if one.name == name and one.in_string)
    before, after = "".join(parts[: 2 * turn + 1]), "".join(parts[2 * turn + 2 :])
    shown = f"{before[-AROUND:]}{parts[2 * turn + 1]}{after[:AROUND]}".replace("\n", "⏎")
    return f"{'sent with it' if is_text(template) else 'nothing is sent'}: {shown}"


def _notes(input_paths: Mapping[str, str], template: str, event: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[str, ...]:
    """What a reader of this event's output should know besides."""
    used = {one.name for one in placeholders(template)}
    notes = []
    for name, path in input_paths.items():
        if name not in used:
            notes.append(f"{name} is an input path that the template does not use.")
        elif not is_path(path):
            notes.append(f"{path} is outside of the JSONPath that EventBridge documents (names after dots, [0], *): <{name}> may stay empty.")
        elif find(path, event) is MISSING:
            notes.append(f"The event has nothing at {path}: <{name}> becomes an empty string.")
    return (*notes, *_host_notes(input_paths, template, values))


def _early_ends(template: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each value that ends its string and still leaves valid JSON: whoever sets it can add fields."""
    return tuple(f"The value of <{name}> ends its string early and adds JSON of its own." for name in breaking(template, values))


def _host_notes(input_paths: Mapping[str, str], template: str, values: Mapping[str, Any]) -> list[str]:
    """A sentence for the placeholders in the host name of each URL, which takes fewer characters than a value may have."""
    notes = []
    for url in HOST.finditer(template):
        names = [one.name for one in placeholders(url[0]) if input_paths.get(one.name, "$.id") not in SET_BY_EVENTBRIDGE]
        if names:
            wrong = [f" {str(values[name])!r} gives a wrong link." for name in names if not HOST_CHARACTERS.fullmatch(str(values[name]))]
            shown = " and ".join(f"<{name}>" for name in names)
            notes.append(f"{shown} in {url[0]}: a host name takes letters, digits and - only, and a transformer cannot replace characters.{''.join(wrong)}")
    return notes
