"""Whether the caller may do what a run does, asked of IAM's simulator before anything is changed.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Iterable

from helpers.aws.checks import Check
from helpers.aws.errors import error_code
from helpers.aws.session import Aws

NAME = "the caller may do what the run does"


def permissions(aws: Aws, wanted: Iterable[tuple[str, Iterable[str]]], runbook: str) -> Check:
    """One check for all that is wanted: pairs of a resource's ARN and the actions on it. Where IAM does not tell, it warns."""
    principal = principal_of(aws.caller)
    if aws.caller.endswith(":root"):
        return Check(NAME, "pass", "the root user may do everything")
    denied: list[str] = []
    try:
        for resource, actions in wanted:
            found = aws.client("iam").simulate_principal_policy(PolicySourceArn=principal, ActionNames=list(actions), ResourceArns=[resource])["EvaluationResults"]
            denied += [f"{one['EvalActionName']} on {resource}" for one in found if one["EvalDecision"] != "allowed"]
    except Exception as error:
        found_out = f"IAM did not tell: {error_code(error) or type(error).__name__}"
        return Check(NAME, "warn", found_out, "Allow iam:SimulatePrincipalPolicy, or go on: what is refused ends the run, and a resumed run goes on.")
    if denied:
        return Check(NAME, "fail", f"{principal} may not {'; '.join(denied)}.", f"`runbook show {runbook} --policy` prints the policy that the run needs.")
    return Check(NAME, "pass", f"asked of IAM for {principal}")


def principal_of(caller: str) -> str:
    """The IAM ARN behind a caller: of an assumed role, the role."""
    if ":assumed-role/" not in caller:
        return caller
    head, _, rest = caller.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.split('/')[0]}"
