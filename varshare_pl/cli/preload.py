"""What the processes of a study have loaded before they are forked."""

from varshare_pl.cli.imports import load_run

load_run()
