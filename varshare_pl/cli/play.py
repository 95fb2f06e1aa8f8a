"""``varshare play``: watch a run's policy on every task."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path

from varshare_pl.arguments import CommandParser, path_argument
from varshare_pl.errors import ConfigError
from varshare_pl.paths import HUB


def play_command(args: list[str]) -> int:
    """Play a run's episodes into a file or a window; gives the exit code."""
    options = _parser().parse_args(args)
    for name in ("episodes", "fps", "max_steps"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}: {getattr(options, name)} is not allowed; a positive integer is")
    if options.seed < 0:
        raise ConfigError(f"--seed: {options.seed} is not allowed; an integer of at least 0 is")
    if isinstance(options.run, Path) and not options.run.exists():
        raise ConfigError(f"play: {options.run} does not exist; the folder of a run or a checkpoint is allowed")
    output = _output(options)

    # torch and Pillow take a second to load: a mistake or --help need not wait for them
    from varshare_pl.trained.play.episodes import Episodes
    from varshare_pl.trained.play.film import pictures
    from varshare_pl.trained.play.output import Window, write
    from varshare_pl.trained.policy import load_policy

    here = str(Path.cwd())
    sys.path.insert(0, here)  # for a method or an env in the current folder, as in fit
    try:
        policy = load_policy(options.run, options.checkpoint)
        window = Window(f"varshare play {options.run}") if options.window else None
        how = (options.episodes, options.seed, options.stochastic, options.max_steps)
        with closing(Episodes(policy, *how)) as episodes:
            shown, seconds = pictures(episodes, options.fps)
            if window is not None:
                shown = window.show(shown, seconds)
            if output is not None:
                write(output, shown, seconds)
                print(output)
            else:
                for _ in shown:
                    pass
            if episodes.cuts:
                total = options.episodes * policy.suite.num_tasks
                print(f"cut: {episodes.cuts} of {total} episodes, at --max_steps {options.max_steps}")
        if window is not None:
            window.close()
    finally:
        sys.path.remove(here)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "play",
        "Play episodes of every task side by side, each with its name, step and return, in real time. "
        "Writes RUN/play.gif unless --output or --window says otherwise.",
    )
    parser.add_argument(
        "run",
        type=_policy_argument,
        metavar="RUN",
        help="folder of a run, as logs/NAME/seed_1, or of a policy, as policies/NAME, a checkpoint, or hf://OWNER/NAME",
    )
    parser.add_argument("--output", type=path_argument, metavar="FILE", help="a .gif or an .mp4")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--window", action="store_true", help="show them in a window; writes no file without --output")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last", help="which one of the run's folder")
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="episodes of each task (default: 1)")
    parser.add_argument(
        "--max_steps", type=int, default=2000, metavar="N", help="cut an episode after so many (default: 2000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the start states (default: 1)")
    parser.add_argument(
        "--stochastic", action="store_true", help="draw actions from the policy; without it: the most likely ones"
    )
    parser.add_argument("--fps", type=int, default=25, metavar="N", help="pictures in a second (default: 25)")
    return parser


def _policy_argument(given: str) -> Path | str:
    return given if given.startswith(HUB) else path_argument(given)


def _output(options: argparse.Namespace) -> Path | None:
    """The file to write, if any, seen to be free before anything is loaded."""
    path: Path | None = options.output
    if path is None:
        if options.window:
            return None
        if isinstance(options.run, str) or not options.run.is_dir():
            raise ConfigError(f"--output: needed, as {options.run} is not the folder of a run")
        path = options.run / "play.gif"
    if path.suffix not in (".gif", ".mp4"):
        raise ConfigError(f"--output: {path} is not allowed; a file that ends in .gif or .mp4 is")
    if not path.parent.is_dir():
        raise ConfigError(f"--output: {path.parent} is not a folder")
    if path.exists() and not options.overwrite:
        raise ConfigError(f"--output: {path} exists; give another one, or --overwrite to replace it")
    if path.suffix == ".mp4":
        from varshare_pl.trained.play.output import load_video_writer

        load_video_writer()
    return path
