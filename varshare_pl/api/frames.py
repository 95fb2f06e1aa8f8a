"""Tables as pandas shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from varshare_pl.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def data_frame(table: Iterable[Mapping[str, object]] | Mapping[str, Any], whole: Iterable[str] = ()) -> pd.DataFrame:
    """A table of rows or of columns as a DataFrame.

    Args:
        table: A dict for each row, or each column's values.
        whole: Columns of whole numbers, in which a cell may be missing.

    Raises:
        ConfigError: without pandas, naming what installs it.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(f"tables need pandas ({error}); pip install 'varshare-pl[notebook]'") from error
    frame = pd.DataFrame(table)
    return frame.astype({name: "Int64" for name in whole if name in frame})
