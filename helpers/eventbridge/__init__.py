"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""

from helpers.eventbridge.changes import Change
from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.explain import Explanation, explain
from helpers.eventbridge.lint import lint
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, parse
from helpers.eventbridge.preview import Preview, preview
from helpers.eventbridge.schedules import InvalidSchedule, describe_schedule, firings_table, next_firings
from helpers.eventbridge.slack import amplify_message
from helpers.eventbridge.transformers import InvalidTemplate, NotDelivered, render, target_input

__all__ = [
    "Change",
    "Explanation",
    "InvalidEvent",
    "InvalidPattern",
    "InvalidSchedule",
    "InvalidTemplate",
    "NotDelivered",
    "Pattern",
    "Preview",
    "amplify_message",
    "describe_schedule",
    "explain",
    "firings_table",
    "lint",
    "matches",
    "next_firings",
    "parse",
    "preview",
    "render",
    "target_input",
]
