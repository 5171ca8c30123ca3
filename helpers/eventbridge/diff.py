"""What changes when a rule's pattern changes: the events that it gains and loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.eventbridge.scan import ScanResult, scan


@dataclass(frozen=True)
class Diff:
    """Events by the pattern that matches them: `gained` by the new one only, `lost` by the new one, `both`, `neither`.

    `scan` is the scan of the two patterns, old and new.
    """

    gained: int
    lost: int
    both: int
    neither: int
    scan: ScanResult

    def gained_events(self) -> list[dict[str, Any]]:
        """The kept events that only the new pattern matches."""
        return self.scan.matching(1, alone=True)

    def lost_events(self) -> list[dict[str, Any]]:
        """The kept events that only the old pattern matches."""
        return self.scan.matching(0, alone=True)

    def table(self) -> pd.DataFrame:
        """The four counts."""
        rows = [("both", self.both), ("gained: the new pattern only", self.gained), ("lost: the old pattern only", self.lost), ("neither", self.neither)]
        return pd.DataFrame(rows, columns=["matched by", "events"])

    @property
    def finding(self) -> str:
        """The result in a sentence."""
        return f"The new pattern gains {self.gained:,} events and loses {self.lost:,}; {self.both:,} match both"


def diff(old: Any, new: Any, source: Any, *, keep: int = 100, s3: Any = None, cores: int | None = None, progress: bool = True) -> Diff:
    """The events gained and lost by changing a rule from the pattern `old` to `new`; up to `keep` of each are kept.

    Takes the sources of `scan`, and raises what it raises.

    Example
    -------
    >>> change = diff({"a": [1]}, {"a": [1, 2]}, ['{"a": 1}', '{"a": 2}', '{"a": 3}'], progress=False)
    >>> (change.gained, change.lost, change.both, change.neither)
    (1, 0, 1, 1)
    """
    both = scan([old, new], source, keep=keep, s3=s3, cores=cores, progress=progress)
    gained, lost, shared, neither = (both.outcomes.get(outcome, 0) for outcome in ((1,), (0,), (0, 1), ()))
    return Diff(gained, lost, shared, neither, both)
