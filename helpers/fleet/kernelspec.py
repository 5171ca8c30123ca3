"""A kernelspec of warm kernels for JupyterLab and nbval: `python -m helpers.fleet.kernelspec`, then the kernel `runbook-warm`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

NAME = "runbook-warm"


def install(prefix: Path = Path(sys.prefix)) -> Path:
    """Write the kernelspec into an environment and return its folder; deleting the folder takes it back."""
    folder = prefix / "share" / "jupyter" / "kernels" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"argv": [sys.executable, "-m", "helpers.fleet.stand_in", "-f", "{connection_file}"], "display_name": "Python (warm)", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    print(f"kernelspec {NAME}: {install()}")
