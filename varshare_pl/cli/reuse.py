"""Parsers that serve all commands of a process: to build them takes a third of the start of a run."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning.pytorch.cli import LightningCLI


class ReusedParsers(LightningCLI):
    """LightningCLI that takes the parsers of an earlier command of the same kind.

    A study checks all its variants in one process, and a notebook may train many times. Where ``--print_config`` came
    before a mistake the parser has still to print; it is built again.
    """

    _kept: ClassVar[dict[tuple[type, str], dict[str, Any]]] = {}
    _command: str

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Take the parsers that are kept, or build them."""
        key = type(self), self._command
        kept = self._kept.get(key)
        if kept is None or hasattr(kept["parser"], "print_config"):
            super().setup_parser(*args, **kwargs)
            names = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")
            self._kept[key] = {name: getattr(self, name) for name in names}
        else:
            vars(self).update(kept)
