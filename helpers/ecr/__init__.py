"""ECR: lifecycle policies explained before they delete."""

from helpers.ecr.lifecycle import preview_lifecycle
from helpers.ecr.lifecycle_policy import InvalidPolicy, parse_policy

__all__ = [
    "InvalidPolicy",
    "parse_policy",
    "preview_lifecycle",
]
