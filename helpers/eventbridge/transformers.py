"""Input transformers: what EventBridge sends to a target for an event, given the input paths and the template.

Values are put into the template without escaping, as AWS documents, so a quote or a newline in a value can make the JSON of
the target's input invalid, and then nothing is sent. What PutTargets refuses and what is not delivered follows what was
recorded on AWS. Not recorded, and decided here: a string outside of quotes is escaped as it gets its quotes; a text is sent
even where a value brings a quote into it; null is shown as null; all from < to the next > is a placeholder.

Source: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from helpers.aws import RunbookError
from helpers.eventbridge.events import InvalidEvent, as_text
from helpers.eventbridge.paths import MISSING, find

# botocore's model of InputTransformer
MAX_PATHS, MAX_PATH, MAX_NAME, MAX_TEMPLATE = 100, 256, 256, 8192
NAME = re.compile(r"[A-Za-z0-9_-]+")
RESERVED = (
    "aws.events.event",
    "aws.events.event.ingestion-time",
    "aws.events.event.json",
    "aws.events.rule-arn",
    "aws.events.rule-name",
)
# <aws.events.event> has these of the event, in this order, and detail-type under another name
ENVELOPE = ("id", "account", "detail-type", "time", "source", "region", "resources", "version")
PLACEHOLDER = re.compile(r"<([^>]*)>")
STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
TEXT = re.compile(r'(?:\s*"(?:\\.|[^"\\])*")+\s*', re.DOTALL)
SPACE = re.compile(r'("(?:\\.|[^"\\])*")|\s+')


class InvalidTemplate(RunbookError):
    """PutTargets would refuse the input transformer: `what` is AWS's message where one is recorded."""


class NotDelivered(RunbookError):
    """EventBridge would send nothing for this event; `output` is what the template became."""

    def __init__(self, what: str, remedy: str = "", request_id: str = "", output: str = "") -> None:
        super().__init__(what, remedy, request_id)
        self.output = output


@dataclass(frozen=True)
class Placeholder:
    """A `<name>` in a template: its place there, and whether it stands inside a string."""

    name: str
    start: int
    end: int
    in_string: bool


def render(
    input_paths: Mapping[str, str],
    template: str,
    event: str | bytes | Mapping[str, Any],
    *,
    rule_name: str,
    rule_arn: str,
    ingestion_time: str | datetime.datetime,
    target: str = "<target-id>",
) -> str:
    """What the target receives: minified JSON, or for a template of quoted lines the text with its quotes.

    A placeholder outside of a string becomes JSON, a string with its quotes; inside a string a value stands as it is, and
    objects and arrays lose their quotes in a text. A path that the event lacks gives the empty string. `target` is the id
    that AWS's messages name. A time is ISO 8601 or a datetime.

    Raises `InvalidTemplate` (PutTargets would refuse it), `NotDelivered` (nothing would be sent) and `InvalidEvent`.
    """
    check_transformer(input_paths, template, target)
    values = variables(input_paths, as_object(event), rule_name, rule_arn, ingestion_time)
    try:
        output = fill(template, values)
    except RecursionError as error:
        raise InvalidEvent("The event is nested too deeply.", "Give one event as EventBridge delivers it.") from error
    if is_text(template):
        return output
    try:
        load_json(output)
    except ValueError as error:
        what = f"The output is not valid JSON ({error}), so EventBridge sends nothing and counts a failed invocation."
        raise NotDelivered(what, _remedy(template, values), output=output) from error
    return SPACE.sub(lambda found: found[1] or "", output)


def target_input(
    target: Mapping[str, Any],
    event: str | bytes | Mapping[str, Any],
    *,
    rule_name: str,
    rule_arn: str,
    ingestion_time: str | datetime.datetime,
) -> str:
    """What a target receives: its `Input`, the part at its `InputPath`, its transformer's output, or the whole event.

    `target` is as `list_targets_by_rule` gives it. What AWS does where the event lacks the `InputPath` is not recorded: here it is `NotDelivered`. Raises the same as `render`.
    """
    if sum(kind in target for kind in ("Input", "InputPath", "InputTransformer")) > 1:
        what = f"Only one of Input, InputPath, or InputTransformer must be provided for target {target['Id']}."
        raise InvalidTemplate(what, "Keep the one that you need.")
    if "Input" in target:
        try:
            load_json(target["Input"])
        except ValueError as error:
            what = f"Input for target {target['Id']} is not a valid JSON text."
            raise InvalidTemplate(what, f"Write JSON, a text in quotes ({error}).") from error
        return target["Input"]
    if "InputTransformer" in target:
        transformer = target["InputTransformer"]
        paths, template = transformer.get("InputPathsMap", {}), transformer["InputTemplate"]
        return render(
            paths, template, event, rule_name=rule_name, rule_arn=rule_arn, ingestion_time=ingestion_time, target=target["Id"]
        )
    value = find(target.get("InputPath", "$"), as_object(event))
    if value is MISSING:
        raise NotDelivered(
            f"The event has nothing at the InputPath {target['InputPath']}.", "Give a path that every event of the rule has."
        )
    return insertion(value, in_string=False, text=False)


def is_text(template: str) -> bool:
    """True for a template of strings in quotes, one or more: it is sent as it is, not as JSON."""
    return TEXT.fullmatch(template) is not None


def placeholders(template: str) -> list[Placeholder]:
    """The placeholders of a template, in order."""
    strings = [found.span() for found in STRING.finditer(template)]
    inside = {at for start, end in strings for at in range(start, end)}
    return [Placeholder(found[1], *found.span(), found.start() in inside) for found in PLACEHOLDER.finditer(template)]


def variables(
    input_paths: Mapping[str, str],
    event: Mapping[str, Any],
    rule_name: str,
    rule_arn: str,
    ingestion_time: str | datetime.datetime,
) -> dict[str, Any]:
    """The value of every name that a template may use: the input paths' and the reserved ones."""
    if isinstance(ingestion_time, datetime.datetime):
        ingestion_time = ingestion_time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = {name: find(path, event) for name, path in input_paths.items()}
    return {
        **{name: "" if value is MISSING else value for name, value in found.items()},
        "aws.events.event": {"detailType" if name == "detail-type" else name: event[name] for name in ENVELOPE if name in event},
        "aws.events.event.ingestion-time": ingestion_time,
        "aws.events.event.json": event,
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_name,
    }


def fill(template: str, values: Mapping[str, Any]) -> str:
    """The template with its placeholders replaced, valid or not."""
    return "".join(pieces(template, values))


def pieces(template: str, values: Mapping[str, Any]) -> list[str]:
    """The template's own text and what stands for each placeholder, by turns."""
    text, parts, at = is_text(template), [], 0
    for one in placeholders(template):
        parts += [template[at : one.start], insertion(values[one.name], one.in_string, text)]
        at = one.end
    return [*parts, template[at:]]


def insertion(value: Any, in_string: bool, text: bool) -> str:
    """What stands for a value: JSON outside of a string; inside, a string as it is and, in a text, all else without quotes."""
    if in_string and isinstance(value, str):
        return value
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r'\\?"', "", shown) if in_string and text else shown


def breaking(template: str, values: Mapping[str, Any]) -> list[str]:
    """The placeholders that stand in a string of JSON with a value that makes it invalid or ends it, in order."""
    inside = dict.fromkeys(one.name for one in placeholders(template) if one.in_string)
    return [name for name in inside if _breaks(insertion(values[name], in_string=True, text=False))]


def _breaks(inserted: str) -> bool:
    try:
        load_json(f'"{inserted}"')
    except ValueError:
        return True
    return False


def check_transformer(input_paths: Mapping[str, str], template: str, target: str = "<target-id>") -> None:
    """Raise `InvalidTemplate` for what PutTargets refuses: limits, names, placeholders without a path, broken JSON."""
    if len(input_paths) > MAX_PATHS:
        raise InvalidTemplate(
            f"The input transformer has {len(input_paths)} input paths, {MAX_PATHS} are allowed.",
            "Take <aws.events.event.json>, or a path to an object.",
        )
    for name, path in input_paths.items():
        if not (isinstance(name, str) and NAME.fullmatch(name) and len(name) <= MAX_NAME) or name.startswith("AWS"):
            raise InvalidTemplate(
                f"{name!r} cannot name an input path.",
                f"Take letters, digits, _ and -, at most {MAX_NAME}, not beginning with AWS.",
            )
        if not isinstance(path, str) or len(path) > MAX_PATH:
            raise InvalidTemplate(
                f"The input path of {name} is not a text of at most {MAX_PATH} characters.",
                "Take the path of an object above it.",
            )
    if not isinstance(template, str) or not 1 <= len(template) <= MAX_TEMPLATE:
        raise InvalidTemplate(
            f"An input template has 1 to {MAX_TEMPLATE:,} characters.", "Send less, or let the target build the message."
        )
    for name in PLACEHOLDER.findall(template):
        if name not in input_paths and name not in RESERVED:
            raise InvalidTemplate(
                f"InputTemplate for target {target} contains invalid placeholder {name}.", _placeholder_remedy(name)
            )
    if template.lstrip().startswith(("{", "[")):
        _check_json(template, target)


def _check_json(template: str, target: str) -> None:
    """Refuse a JSON template that is no JSON whatever its values are; in what words AWS does is not recorded."""
    keys = [found[0] for found in STRING.finditer(template) if template[found.end() :].lstrip().startswith(":")]
    if any(PLACEHOLDER.search(key) for key in keys):
        raise InvalidTemplate(f"The InputTemplate of target {target} has a placeholder as a key.", "Write the key out.")
    dummy = template
    for one in reversed(placeholders(template)):
        dummy = dummy[: one.start] + ("" if one.in_string else "null") + dummy[one.end :]
    try:
        load_json(dummy)
    except ValueError as error:
        raise InvalidTemplate(
            f"The InputTemplate of target {target} is not JSON whatever its values are ({error}).",
            "Mend the JSON around the placeholders.",
        ) from error


def _placeholder_remedy(name: str) -> str:
    if NAME.fullmatch(name):
        return f"Add {name} to the input paths."
    rule = "Text between < and > is always a placeholder, and these characters cannot be escaped"
    return f"{rule}: a Slack link <url|label> must become a bare URL or a link of a rich text block."


def _remedy(template: str, values: Mapping[str, Any]) -> str:
    """What to change in a template whose output is not JSON."""
    if not template.lstrip().startswith(("{", "[")) and PLACEHOLDER.fullmatch(template.strip()) is None:
        return "Put the text in double quotes, each line in its own, or write JSON."
    names = ", ".join(f"<{name}>" for name in breaking(template, values))
    way = f"write {names} outside of quotes, as a value of its own, or let a function build the input"
    return f"EventBridge does not escape what stands inside a string: {way}." if names else ""


def as_object(event: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    """The event as a JSON object of Python values. Raises `InvalidEvent`."""
    try:
        found = load_json(as_text(event))
    except ValueError as error:
        raise InvalidEvent(f"The event is not JSON ({error}).", "Give one event as EventBridge delivers it.") from error
    if not isinstance(found, dict):
        raise InvalidEvent("The event is not a JSON object.", "Give one event as EventBridge delivers it.")
    return found


def load_json(text: str) -> Any:
    """The value of strict JSON. Raises ValueError, for nesting beyond Python's too."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
