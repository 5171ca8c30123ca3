"""When EFS lets the throughput mode change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.aws.errors import RunbookError
from helpers.efs.modes import can_switch

CASES = json.loads((Path(__file__).parent / "data" / "mode_switch.json").read_text())["vectors"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_lock_of_a_day_holds_for_leaving_and_lowering_provisioned(case):
    asked = {name: value for name, value in case.items() if name != "allowed"}
    assert can_switch(**asked) is case["allowed"]


def test_an_unknown_mode_is_refused():
    with pytest.raises(RunbookError, match="no throughput mode"):
        can_switch("bursting", "max")


def test_lowering_within_the_lock_cannot_be_judged_without_both_amounts():
    with pytest.raises(RunbookError, match="amount"):
        can_switch("provisioned", "provisioned", 16, None, 1)
