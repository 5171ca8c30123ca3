"""EventBridge: debug rules, their targets and health, and what a debugging run leaves behind."""

from helpers.eventbridge.debug_rule import Debug, attach, cause_event, correct, from_parameters, originals, remove
from helpers.eventbridge.health import dead_letters, rule_health, target_checks
from helpers.eventbridge.rules import describe_rule, list_rules, list_targets, rules_table, targets_table
from helpers.eventbridge.survey import survey
from helpers.eventbridge.verdicts import before_and_after, corrected, measured, nearest, transformed, verdicts

__all__ = [
    "Debug",
    "attach",
    "before_and_after",
    "cause_event",
    "correct",
    "corrected",
    "dead_letters",
    "describe_rule",
    "from_parameters",
    "list_rules",
    "list_targets",
    "measured",
    "nearest",
    "originals",
    "remove",
    "rule_health",
    "rules_table",
    "survey",
    "target_checks",
    "targets_table",
    "transformed",
    "verdicts",
]
