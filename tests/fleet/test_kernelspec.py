"""The kernelspec: Jupyter starts the stand-in as it starts any kernel."""

from __future__ import annotations

import os
import signal
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from helpers.fleet import kernelspec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")


def test_jupyter_starts_signals_and_ends_a_warm_kernel_by_its_kernelspec(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = kernelspec.install(tmp_path)
    specs = KernelSpecManager(kernel_dirs=[str(folder.parent)])

    def run(*cells: str) -> list[str]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        manager = AsyncKernelManager(kernel_name=kernelspec.NAME, kernel_spec_manager=specs, transport="ipc", connection_file=str(tmp_path / "k.json"))
        NotebookClient(notebook, km=manager, timeout=90, startup_timeout=120, interrupt_on_timeout=True).execute(cleanup_kc=True)
        return [output.text.strip() for cell in notebook.cells for output in cell.outputs if output.output_type == "stream" and output.name == "stdout"]

    script = "import os, sys; print(os.getppid(), 'pandas' in sys.modules)"
    (server, warm), (again, _) = run(script)[0].split(), run(script)[0].split()
    try:
        assert warm == "True" and server == again != str(os.getpid())
        with pytest.raises(DeadKernelError):
            run("import os; os._exit(7)")
    finally:
        os.kill(int(server), signal.SIGKILL)
