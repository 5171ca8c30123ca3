"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""

from helpers.eventbridge.causes import as_delivered, cause_event, originals
from helpers.eventbridge.changes import Change
from helpers.eventbridge.debug_rule import Debug, attach, from_parameters, remove
from helpers.eventbridge.diff import Diff, diff
from helpers.eventbridge.events import InvalidEvent
from helpers.eventbridge.explain import Explanation, explain
from helpers.eventbridge.health import dead_letters, rule_health, target_checks
from helpers.eventbridge.lint import lint
from helpers.eventbridge.matching import matches
from helpers.eventbridge.patterns import InvalidPattern, Pattern, parse
from helpers.eventbridge.preview import Preview, preview
from helpers.eventbridge.rule_change import correct
from helpers.eventbridge.rules import describe_rule, list_rules, list_targets, rules_table, targets_table
from helpers.eventbridge.schedules import InvalidSchedule, describe_schedule, firings_table, next_firings
from helpers.eventbridge.slack import amplify_message
from helpers.eventbridge.survey import survey
from helpers.eventbridge.transformers import InvalidTemplate, NotDelivered, render, target_input
from helpers.eventbridge.verdicts import before_and_after, corrected, measured, nearest, transformed, traps, verdicts

__all__ = [
    "Change",
    "Debug",
    "Diff",
    "Explanation",
    "InvalidEvent",
    "InvalidPattern",
    "InvalidSchedule",
    "InvalidTemplate",
    "NotDelivered",
    "Pattern",
    "Preview",
    "amplify_message",
    "as_delivered",
    "attach",
    "before_and_after",
    "cause_event",
    "correct",
    "corrected",
    "dead_letters",
    "describe_rule",
    "describe_schedule",
    "diff",
    "explain",
    "firings_table",
    "from_parameters",
    "lint",
    "list_rules",
    "list_targets",
    "matches",
    "measured",
    "nearest",
    "next_firings",
    "originals",
    "parse",
    "preview",
    "remove",
    "render",
    "rule_health",
    "rules_table",
    "survey",
    "target_checks",
    "target_input",
    "targets_table",
    "transformed",
    "traps",
    "verdicts",
]
