"""EventBridge: patterns, input transformers and schedules as AWS reads them, and the rules and events of an account."""

from helpers.eventbridge.preview import Preview, preview
from helpers.eventbridge.schedules import InvalidSchedule, describe_schedule, firings_table, next_firings
from helpers.eventbridge.slack import amplify_message
from helpers.eventbridge.transformers import InvalidTemplate, NotDelivered, render, target_input

__all__ = [
    "InvalidSchedule",
    "InvalidTemplate",
    "NotDelivered",
    "Preview",
    "amplify_message",
    "describe_schedule",
    "firings_table",
    "next_firings",
    "preview",
    "render",
    "target_input",
]
