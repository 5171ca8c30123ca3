"""Whether a run failed because AWS asked to slow down: that is tried again, any other failure is not."""

from __future__ import annotations

import random
import re
from typing import Any

# https://docs.aws.amazon.com/general/latest/gr/api-retries.html, and what botocore's own retries take for throttling
CODES = {
    "BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException", "PriorRequestNotComplete", "ProvisionedThroughputExceededException",
    "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "SlowDown", "ThrottledException", "Throttling", "ThrottlingException",
    "TooManyRequestsException", "TransactionInProgressException",
}  # fmt: skip
REFUSED = re.compile(r"was refused with (\w+):")
TRIES = 4  # runs of one target, the first among them
BASE_S, LONGEST_S = 5.0, 60.0


def throttled(error: str) -> bool:
    """True where the error that ended a run is one of throttling."""
    found = REFUSED.search(error)
    return bool(found) and found[1] in CODES


def pause_s(tries: int, draw: Any = random.uniform) -> float:
    """Seconds to wait after so many tries: twice as long each time, and somewhere in the upper half, so that runs do not return together."""
    longest = min(LONGEST_S, BASE_S * 2 ** (tries - 1))
    return draw(longest / 2, longest)
