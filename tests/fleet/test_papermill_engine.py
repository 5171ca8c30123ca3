"""papermill's own functions with the engine that forks its kernels."""

from __future__ import annotations

import nbformat
import papermill
from papermill.engines import papermill_engines

from helpers.fleet import papermill_engine
from helpers.fleet.warm import WarmKernels


def test_papermill_executes_with_warm_kernels_and_writes_what_it_writes_otherwise(tmp_path):
    tagged = nbformat.v4.new_code_cell("count = 1", metadata={"tags": ["parameters"]})
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[tagged, nbformat.v4.new_code_cell("import pandas as pd; pd.DataFrame({'n': range(count)})")], metadata=spec)
    nbformat.write(notebook, tmp_path / "in.ipynb")
    with WarmKernels() as kernels:
        papermill_engine.register(kernels)
        try:
            made = papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "warm.ipynb", parameters={"count": 3}, engine_name="warm", progress_bar=False)
        finally:
            del papermill_engines._engines["warm"]
        assert kernels.counts["warm"] == 1 or kernels.reasons
    plain = papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "plain.ipynb", parameters={"count": 3}, progress_bar=False)
    assert [cell.outputs for cell in made.cells] == [cell.outputs for cell in plain.cells]
    assert (tmp_path / "warm.ipynb").exists()
