"""EventBridge: patterns, input transformers and schedules as AWS reads them, and the rules and events of an account."""

from helpers.eventbridge.schedules import InvalidSchedule, describe_schedule, firings_table, next_firings

__all__ = [
    "InvalidSchedule",
    "describe_schedule",
    "firings_table",
    "next_firings",
]
