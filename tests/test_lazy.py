"""What is not asked for is not imported: the command line and a push start quickly because of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import helpers.aws
import helpers.ecr
import helpers.runbook

TABLES, CLOUD = {"pandas", "numpy", "matplotlib", "IPython"}, {"boto3", "botocore.client"}


def imported(program: str) -> set[str]:
    """The modules that a Python of its own has after a program."""
    done = subprocess.run([sys.executable, "-c", f"{program}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("from helpers.aws import RunbookError", TABLES | CLOUD),
        ("from helpers.runbook import parameters, store", TABLES | CLOUD),
        ("import helpers.cli, helpers.runbook.execute", TABLES),
        ("from helpers.aws import connect; from helpers.ecr import push", TABLES | {"yaml", "asyncio"}),
    ],
)
def test_only_what_is_used_is_imported(program: str, without: set[str]) -> None:
    assert imported(program) & without == set()


@pytest.mark.parametrize("package", [helpers.aws, helpers.ecr, helpers.runbook])
def test_a_package_has_every_name_that_it_promises(package: object) -> None:
    assert all(getattr(package, name).__module__.startswith(package.__name__) for name in package.__all__ if name != "UNKNOWN")


def test_a_name_that_a_package_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'helpers.aws' has no attribute 'conect'"):
        helpers.aws.conect
