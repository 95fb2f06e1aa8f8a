"""``varshare export-hub``: a run's policy as a folder that a model hub takes as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import config_file
from varshare_pl.study.values import integer

COLOURS = 64  # of the learning curve


def export_hub(args: list[str]) -> int:
    """Export a run's policy; gives the exit code."""
    parser = CommandParser(
        "export-hub",
        "Write a run's policy into a folder that a model hub takes as it is: model.safetensors, config.json, and a "
        "card, README.md, with its scores, evaluated anew, and its learning curve. load_policy reads the folder.",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="folder of a run, as logs/NAME/seed_1")
    parser.add_argument("folder", type=path_argument, metavar="FOLDER", help="where to; new or empty")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one of the run's")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="of each task, for the scores")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of their start states (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace the files of a policy that is there")
    options = parser.parse_args(args)
    integer(options.episodes, "--episodes")
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} is not allowed; an integer of at least 0 is")
    config_file(options.run, "export-hub")
    _check_free(options.folder, options.overwrite)
    here = str(Path.cwd())
    sys.path.insert(0, here)  # for a method or an env in the current folder, as in fit
    try:
        _export(options.run, options.folder, options.checkpoint, options.episodes, options.seed)
    finally:
        sys.path.remove(here)
    print(options.folder)
    return 0


def _check_free(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"export-hub: {folder} is not a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ConfigError(
            f"export-hub: {folder} is not empty; give another one, or --overwrite to replace a policy there"
        )


def _export(run: Path, folder: Path, checkpoint: Literal["last", "best"], episodes: int, seed: int) -> None:
    # torch and matplotlib take a second to load: a mistake or --help need not wait for them
    from varshare_pl.files import write_text
    from varshare_pl.results.images import write_image
    from varshare_pl.results.info import read_run_info
    from varshare_pl.results.plots import run_figure
    from varshare_pl.trained.card import card
    from varshare_pl.trained.evaluation import evaluate
    from varshare_pl.trained.policy import load_policy
    from varshare_pl.trained.policy_folder import CARD, CURVE, write_policy_folder
    from varshare_pl.yaml_files import read_yaml

    trained, info = load_policy(run, checkpoint), read_run_info(run)
    result = evaluate(trained.policy.deterministic(), trained.suite, episodes, seed, counter=0)
    facts = {"method": trained.method, "env_steps": trained.env_steps, "seed": info.seed}
    write_policy_folder(folder, trained.policy, trained.suite, read_yaml(config_file(run, "export-hub")), facts)
    _reduce(write_image(run_figure(run, "returns"), folder / CURVE))
    write_text(folder / CARD, card(info, trained.tasks, trained.env_steps, result, seed, CURVE))
    print(result.table(trained.tasks))


def _reduce(image: Path) -> None:
    """Make a drawing a quarter of its size, by a palette: it has few colours."""
    from PIL import Image

    from varshare_pl.files import replacing

    with Image.open(image) as drawing, replacing(image) as temporary:
        drawing.convert("RGB").quantize(COLOURS).save(temporary, format="PNG", optimize=True)
