"""ECR: pushes that prove themselves, lifecycle policies explained before they delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.ecr.content import Image
from helpers.ecr.publish import Proof, verify
from helpers.ecr.push import Pushed, push
from helpers.ecr.push_plan import PushPlan, plan_push
from helpers.ecr.repository import Repository, Settings
from helpers.ecr.scan import Findings, await_findings
from helpers.ecr.source import open_image
from helpers.ecr.tags import Tag, choose_tag
from helpers.lazy import importing

if TYPE_CHECKING:
    from helpers.ecr.lifecycle import preview_lifecycle
    from helpers.ecr.lifecycle_policy import InvalidPolicy, parse_policy

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

# Lifecycle policies come with pandas, a second and 50 MB that a push does not need.
__getattr__ = importing(__name__, {"InvalidPolicy": "lifecycle_policy", "parse_policy": "lifecycle_policy", "preview_lifecycle": "lifecycle"})
