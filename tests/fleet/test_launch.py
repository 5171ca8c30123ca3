"""The kernels of a fleet, when it is interrupted."""

from __future__ import annotations

import signal

import pytest

from helpers.aws.errors import RunbookError
from helpers.fleet.launch import Kernels


class Process:
    def __init__(self):
        self.signals = []

    def poll(self):
        return None

    def send_signal(self, number):
        self.signals.append(number)


def test_an_interrupt_reaches_every_kernel_that_runs_and_lets_none_begin():
    kernels = Kernels(None)
    managers = [kernels.manager() for _ in range(3)]
    for one in managers[:2]:
        one.provisioner = type("Provisioner", (), {"process": Process()})()
    kernels.interrupt(False)
    kernels.interrupt(True)
    assert [one.provisioner.process.signals for one in managers[:2]] == [[signal.SIGINT, signal.SIGKILL]] * 2
    with pytest.raises(RunbookError, match="interrupted before this run began"):
        kernels.manager()
