"""Whether the credit model explains BurstCreditBalance: where it does not, units or sizes are wrong, and so is all advice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from helpers.aws.errors import RunbookError
from helpers.efs.credits import burst_rates

TOLERANCE = 0.02  # of what was earned and spent: GB for GiB is 7 %, IA counted as Standard mostly more
LEAST_STEPS = 12
NEAR = 0.001  # of the largest balance: this near to 0 or to it the clamp may have acted


@dataclass(frozen=True)
class Agreement:
    """The unexplained change of the balance (bytes) over `steps` steps away from the clamps, and its share of the turnover."""

    steps: int
    unexplained: float
    share: float

    @property
    def agrees(self) -> bool:
        """Whether enough steps were seen and nearly all of their change is explained."""
        return self.steps >= LEAST_STEPS and abs(self.share) <= TOLERANCE

    def require(self) -> None:
        """Raise `RunbookError` where the model does not explain the balance."""
        if self.steps < LEAST_STEPS:
            raise RunbookError(
                f"Only {self.steps} steps of BurstCreditBalance are away from empty and full: the model cannot be checked.",
                "Fetch more days; an elastic file system has no balance, an idle one is always full.",
            )
        if not self.agrees:
            raise RunbookError(
                f"The balance differs by {self.share:+.1%} from what size and MeteredIOBytes explain: no advice is given on it.",
                "Check units (GiB), ValueInStandard and not the whole size, MeteredIOBytes and not TotalIOBytes, and the periods.",
            )


def check_balance(balance: ArrayLike, metered: ArrayLike, standard_bytes: ArrayLike, step_seconds: float) -> Agreement:
    """Compare BurstCreditBalance after each step (bytes, NaN where it is missing) with size and metered bytes a step.

    Each step's residual is the change of the balance, plus what was metered, less what was earned. Steps that start or
    end near zero or near the largest balance say nothing, because the clamp may have acted. `standard_bytes` is a
    number or one a step.
    """
    left, used = np.asarray(balance, dtype=np.float64), np.asarray(metered, dtype=np.float64)
    if left.shape != used.shape or left.ndim != 1:
        raise RunbookError(f"{left.size} balances do not match {used.size} steps.", "Fetch both metrics for the same hours and period.")
    rates = burst_rates(np.broadcast_to(np.asarray(standard_bytes, dtype=np.float64), left.shape))
    inside = (left > NEAR * rates.max_credit) & (left < (1 - NEAR) * rates.max_credit) & np.isfinite(used)  # False for NaN
    usable = inside[1:] & inside[:-1]
    earned = rates.baseline[1:] * step_seconds
    residual = (np.diff(left) + used[1:] - earned)[usable].sum()
    turnover = (used[1:] + earned)[usable].sum()
    return Agreement(int(usable.sum()), float(residual), float(residual / turnover) if turnover else 0.0)
