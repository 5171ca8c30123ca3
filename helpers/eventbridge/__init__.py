"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""

from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, parse

__all__ = ["InvalidEvent", "InvalidPattern", "Pattern", "matches", "parse"]
