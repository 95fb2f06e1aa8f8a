"""How much someone has to read who wants to know what an update does."""

import sys
from pathlib import Path

from helpers import fit

import varshare_pl
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import Shared

PACKAGE = str(Path(varshare_pl.__file__).parent)
FILES, LINES = 16, 280


def read_by(function):
    """The package's lines (file, number) that a call runs through."""
    lines = set()

    def in_frame(frame, event, _):
        if event == "line":
            lines.add((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_lineno))
        return in_frame

    outer = sys.gettrace()
    sys.settrace(lambda frame, *_: in_frame if frame.f_code.co_filename.startswith(PACKAGE) else None)
    try:
        result = function()
    finally:
        sys.settrace(outer)
    return result, lines


def test_an_update_is_read_in_few_files_and_lines():
    """The second one of a run with the plainest method: the first also looks at what is looked at now and then."""
    updates = []

    class Watched(PPOModule):
        def training_step(self, batch, batch_idx):
            outputs, lines = read_by(lambda: PPOModule.training_step(self, batch, batch_idx))
            updates.append(lines)
            return outputs

    data = {"suite": "ComplexCartPole", "num_envs": 10, "total_env_steps": 960}
    fit(data, sharing=Shared(), minibatch_size=80, module_class=Watched)
    assert len(updates) == 3
    files, count = {file for file, _ in updates[1]}, len(updates[1])
    assert any(file.endswith("losses.py") for file in files)  # it does see them
    assert len(files) <= FILES, sorted(files)
    assert count <= LINES
