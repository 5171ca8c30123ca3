"""Keep secrets out of what is shown and stored: the credentials in use, by value, and what looks like one."""

from __future__ import annotations

import os
import re
from typing import Any

MASK = "(secret)"
SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
SHORTEST = 12  # a shorter value, such as the local cloud's, would mask ordinary words
# They begin with a letter of few and look back from there: a notebook of half a megabyte is searched after each cell.
PATTERNS = (
    re.compile(r"((?:[sS](?i:ecret_?access_?key|ession_?token)|[aA](?i:uth_?token)|[pP](?i:assword))\"?\s*[=:]\s*)([\"']?)(?!\(secret\))[^\s\"',}&<]{8,}"),
    re.compile(r"A(?:KI|SI)A(?<=\b....)[A-Z0-9]{16}\b"),
)

_values: set[str] = set()


def hide(*values: str | None) -> None:
    """Mask these exact values from now on."""
    _values.update(value for value in values if value and len(value) >= SHORTEST)


def redact(text: str) -> str:
    """`text` with every known secret value, and every `name = value` that names a secret, masked."""
    for value in (*_values, *(os.environ.get(name, "") for name in SECRET_VARIABLES)):
        if len(value) >= SHORTEST:
            text = text.replace(value, MASK)
    text = PATTERNS[0].sub(lambda found: f"{found[1]}{found[2]}{MASK}", text)
    return PATTERNS[1].sub(MASK, text)


def redact_data(value: Any) -> Any:
    """Plain data with secrets masked in its texts, before JSON escapes them."""
    if isinstance(value, dict):
        return {name: redact_data(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_data(item) for item in value]
    return redact(value) if isinstance(value, str) else value
