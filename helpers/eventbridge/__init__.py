"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""

from helpers.eventbridge.changes import Change
from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.explain import Explanation, explain
from helpers.eventbridge.lint import lint
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, parse

__all__ = ["Change", "Explanation", "InvalidEvent", "InvalidPattern", "Pattern", "explain", "lint", "matches", "parse"]
