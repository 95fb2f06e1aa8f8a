"""What the processes of a study have loaded before they are forked."""

import varshare_pl.results.plots  # noqa: F401  # each run draws
from varshare_pl.cli.imports import load_run

load_run()
