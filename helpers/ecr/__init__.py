"""ECR: pushes that prove themselves, lifecycle policies explained before they delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.ecr.content import Image
from helpers.ecr.lifecycle_policy import InvalidPolicy, parse_policy
from helpers.ecr.publish import Proof, verify
from helpers.ecr.push import Pushed, push
from helpers.ecr.push_plan import PushPlan, plan_push
from helpers.ecr.repository import Repository, Settings
from helpers.ecr.scan import Findings, await_findings
from helpers.ecr.source import open_image
from helpers.ecr.tags import Tag, choose_tag

if TYPE_CHECKING:
    from helpers.ecr.lifecycle import preview_lifecycle

__all__ = [
    "Findings",
    "Image",
    "InvalidPolicy",
    "Proof",
    "PushPlan",
    "Pushed",
    "Repository",
    "Settings",
    "Tag",
    "await_findings",
    "choose_tag",
    "open_image",
    "parse_policy",
    "plan_push",
    "preview_lifecycle",
    "push",
    "verify",
]


def __getattr__(name: str) -> Any:
    """The preview comes with pandas, a second and 50 MB that a push does not need: it is imported when it is asked for."""
    if name != "preview_lifecycle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from helpers.ecr.lifecycle import preview_lifecycle

    return preview_lifecycle
