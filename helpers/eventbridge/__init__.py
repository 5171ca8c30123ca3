"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""

from helpers.eventbridge.diff import Diff, diff
from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, parse
from helpers.eventbridge.scan import ScanResult, scan

__all__ = ["Diff", "InvalidEvent", "InvalidPattern", "Pattern", "ScanResult", "diff", "matches", "parse", "scan"]
