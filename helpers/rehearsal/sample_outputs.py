"""Put the outputs of a rehearsal into a notebook of notebooks/, so that it can be read on the web.

    ./run python -m helpers.rehearsal.sample_outputs redis_operations

The notebook's own cells stay as they are; a digest of them is kept with the outputs, by which a test finds outputs
of cells that have changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from helpers.aws.errors import RunbookError
from helpers.rehearsal import rehearse
from helpers.runbook import parameters
from helpers.runbook.analysis import is_analysis
from helpers.runbook.execute import kernel

DIGEST = "outputs_of"  # in the notebook's metadata, under `runbook`


def refresh(name: str) -> Path:
    """Rehearse the notebook `name` on a cloud of its own and keep its outputs in it; returns its path.

    Raises `RunbookError` where the rehearsal does not end as done; the notebook is then left alone.
    """
    path = parameters.find(name)
    if is_analysis(parameters.load(path)):
        return _keep(path, _executed(path))
    with tempfile.TemporaryDirectory() as folder:
        result = rehearse.execute(path, {"mode": "rehearse"}, Path(folder).resolve() / "sample")
        if result.status != "done":
            raise RunbookError(f"The rehearsal of {name} ended as {result.status}: {result.error}", "Mend it first: `./run rehearse` shows it.")
        executed = json.loads(result.output.read_text(encoding="utf-8"))
    return _keep(path, executed)


def _executed(path: Path) -> dict[str, Any]:
    """A notebook that needs no cloud, executed with its own parameters."""
    notebook = nbformat.read(path, as_version=4)
    with kernel() as its_kernel:  # over a socket file: a port that somebody else takes meanwhile made it wait for ever
        NotebookClient(notebook, km=its_kernel, timeout=300, shutdown_kernel="immediate", resources={"metadata": {"path": str(path.parents[1])}}).execute(cleanup_kc=True)
    return notebook


def _keep(path: Path, executed: dict[str, Any]) -> Path:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = {cell["id"]: cell for cell in executed["cells"] if cell["cell_type"] == "code"}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        ran = outputs[cell["id"]]
        cell["execution_count"] = number
        cell["outputs"] = [{**one, "execution_count": number} if "execution_count" in one else one for one in ran["outputs"]]
    notebook["metadata"].setdefault("runbook", {})[DIGEST] = digest(notebook)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def digest(notebook: dict[str, Any]) -> str:
    """The SHA-256 of the code cells' sources."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\n".join(sources).encode()).hexdigest()


if __name__ == "__main__":
    for one in sys.argv[1:]:
        print(refresh(one))
