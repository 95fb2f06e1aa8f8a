"""What a finished run leaves at W&B beside its numbers: the best checkpoint, and a video of the final policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from varshare_pl.callbacks.checkpoint import BEST
from varshare_pl.callbacks.loggers import each_logger
from varshare_pl.callbacks.signals import stopped_by_signal
from varshare_pl.errors import ConfigError
from varshare_pl.run_folder import CHECKPOINTS

VIDEO = "final.gif"


class Artifacts(Callback):
    """Send artifacts of a finished run to W&B.

    A video that cannot be made costs a warning, never the run.

    Args:
        checkpoint: Send the checkpoint of the best evaluation.
        video: Send a video of the final policy, an episode of every task; it also lands in the run's folder.
    """

    def __init__(self, checkpoint: bool = False, video: bool = False) -> None:
        self.checkpoint = checkpoint
        self.video = video

    def check(self, names: Iterable[str], loggers: Iterable[Logger]) -> None:
        """See that there is W&B to send them to: among the loggers of ``--logger`` by name, or the others.

        Raises:
            ConfigError: if not.
        """
        wanted = next((name for name in ("checkpoint", "video") if getattr(self, name)), None)
        if wanted and "wandb" not in names and not any(isinstance(logger, WandbLogger) for logger in loggers):
            raise ConfigError(f"artifacts.{wanted}: true is not allowed without a logger for it; --logger wandb is one")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or stopped_by_signal(trainer):
            return
        folder = Path(trainer.default_root_dir)
        best = folder / CHECKPOINTS / BEST
        if self.checkpoint and best.exists():
            each_logger(trainer, lambda logger: _send(logger, best, "model"))
        if self.video and (video := _film(folder, pl_module)) is not None:
            each_logger(trainer, lambda logger: _send(logger, video, "video"))
            each_logger(trainer, lambda logger: _show(logger, video, int(pl_module.env_steps)))  # type: ignore[arg-type]


def _film(folder: Path, pl_module: LightningModule) -> Path | None:
    """The video of the run's newest checkpoint, or None if there cannot be one."""
    try:
        from varshare_pl.trained.play.film import film  # Pillow and envs that are drawn
        from varshare_pl.trained.policy import load_policy

        return film(load_policy(folder), folder / VIDEO, int(pl_module.seed))  # type: ignore[arg-type]
    except Exception as error:
        reason = " ".join(str(error).split())
        rank_zero_warn(f"the video was not made: {type(error).__name__}: {reason}")
        return None


def _send(logger: Logger, path: Path, kind: str) -> None:
    if isinstance(logger, WandbLogger):
        import wandb

        artifact = wandb.Artifact(f"{path.stem}-{logger.experiment.id}", type=kind)
        artifact.add_file(str(path))
        logger.experiment.log_artifact(artifact)


def _show(logger: Logger, video: Path, env_steps: int) -> None:
    """Show the video in a panel."""
    if isinstance(logger, WandbLogger):
        import wandb

        logger.log_metrics({f"video/{video.stem}": wandb.Video(str(video), format="gif")}, env_steps)  # type: ignore[dict-item]
