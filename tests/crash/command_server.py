"""Runs commands of ``varshare``, each in a fork of this process, which has imported everything once.

Reads a command line a line as JSON; answers with the wait status of the fork. What a command prints goes to OUTPUT.
"""

import json
import os
import sys
from pathlib import Path

import varshare_pl.cli.preload  # noqa: F401
from varshare_pl.cli.main import main

OUTPUT = Path(sys.argv[1])


def run(args: list[str]) -> int:
    """The exit code of a command, in this process."""
    descriptor = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    return main(args)


print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os._exit(run(json.loads(line)))
    print(os.waitpid(child, 0)[1], flush=True)
