"""Tables, with pandas imported when the first is made: it costs a second and 50 MB, which a push in a script does not need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a DataFrame with these columns."""
    import pandas

    return pandas.DataFrame(list(rows), columns=list(columns))
