"""Help that a person can read: types in plain words, no lists of classes."""

from __future__ import annotations

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

from varshare_pl.cli.messages import type_words

USAGE = {
    "fit": "varshare fit --config NAME_OR_FILE [--config ...] [--OPTION VALUE ...]",
    "validate": "varshare validate --config NAME_OR_FILE --ckpt_path FILE [--OPTION VALUE ...]",
    "describe": "varshare describe --config NAME_OR_FILE [--config ...] [--OPTION VALUE ...]",
}
DESCRIPTION = {
    "fit": "Train. Options on the command line and later configs overrule earlier ones; in a config file "
    "'--model.kl_weight 0.1' is 'model: {kl_weight: 0.1}'. --compile is short for --model.compile true.",
    "validate": "Evaluate a checkpoint and print a table; writes nothing. Takes the config that the run was trained "
    "with, e.g. the config.yaml in its folder.",
    "describe": "Print the parameters of a config's networks and how large each network is; trains and writes nothing. "
    "Takes the options of 'varshare fit'.",
}


class HelpFormatter(DefaultHelpFormatter):
    """The parser's formatter with shorter type texts."""

    def _get_type_str(self, action: Action) -> str | None:
        text: str | None = super()._get_type_str(action)
        return None if text is None else type_words(text)

    def _expand_help(self, action: Action) -> str:
        text: str = super()._expand_help(action)
        text = re.sub(r", known subclasses: [\w., ]*", "", text)
        text = re.sub(r"default: \{'class_path': '[\w.]*\.(\w+)'[^)]*", r"default: \1", text)
        return re.sub(r"\((?:required, )?type: ([^()]*)", r"(\1", text).replace("``", "")
