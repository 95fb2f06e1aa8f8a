"""The columns of ``heartbeat.csv``: the one place that names them, in their order, and says what each one is.

A value gets its column by its name in a ``Record``; the page of the documentation is made from this table.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column, or one for each task where the name ends in ``task_m``.

    Attributes:
        name: In the file, and of the value in a ``Record``.
        meaning: What it holds, in Markdown.
        empty: Where a cell of it is empty.
        whole: Whether its values are counts.
        only: "success": there where the suite's success measure is not the return; "cosine": there with
            ``model.cosine_every``; "": always there.
        panel: Title of its panel in ``losses.png``; "": it has none there.
    """

    name: str
    meaning: str
    empty: str
    whole: bool = False
    only: str = ""
    panel: str = ""

    def names(self, num_tasks: int) -> list[str]:
        """Those of the file."""
        stem = self.name.removesuffix("task_m")
        return [self.name] if stem == self.name else [f"{stem}task_{m}" for m in range(num_tasks)]


COLUMNS = (
    Column("env_steps", "env steps of the run so far, over all envs, the rollout's included", "never", whole=True),
    Column("episodes", "training episodes that have ended so far", "never", whole=True),
    Column("gradient_steps", "gradient steps taken so far", "never", whole=True),
    Column(
        "wall_time_s",
        "seconds of training so far, evaluations included; sessions of a resumed run add up",
        "never",
    ),
    Column("sps", "env steps per second of this rollout, collecting and update together, without evaluation", "never"),
    Column(
        "loss/total",
        "what is minimised: `loss/policy` + value_coef · `loss/value` − entropy_coef · `loss/entropy` + "
        "`loss/kl`; a mean over the update, as are its parts",
        "never",
        panel="Total loss",
    ),
    Column("loss/policy", "PPO's clipped surrogate, mean over tasks", "never", panel="Policy loss"),
    Column(
        "loss/value",
        "squared error of the critic, mean over tasks, without its coefficient, in the units that it learns in "
        "([normalisation](normalisation.md))",
        "never",
        panel="Value loss",
    ),
    Column(
        "loss/entropy",
        "entropy of the policy, mean over tasks, without its coefficient",
        "never",
        panel="Entropy (nats)",
    ),
    Column(
        "loss/kl",
        "the KL penalty as it stands in the loss: (kl_weight / P) · mean over tasks of KL_m, with the weight that "
        "`model.kl_schedule` gives this rollout",
        "without variational weights",
        panel="Weighted KL",
    ),
    Column(
        "kl/posterior",
        "KL_m, posterior from prior, of all layers of actor and critic, mean over tasks, after the update; "
        "`varshare_deterministic` has its μ part alone, `varshare_learned_prior` adds its hyperprior",
        "without variational weights",
    ),
    Column("kl/policy", "estimate of KL(old policy ‖ new policy), mean over the update", "never"),
    Column(
        "diagnostics/grad_norm",
        "norm of the gradient before clipping, actor and critic together, mean over the update",
        "never",
        panel="Gradient norm",
    ),
    Column(
        "diagnostics/clip_fraction",
        "share of PPO ratios outside 1 ± clip_range, mean over the update",
        "never",
        panel="Share of clipped ratios",
    ),
    Column(
        "diagnostics/explained_variance",
        "1 − Var(return − value) / Var(return) before the update, mean over tasks: 1 is perfect, 0 no better than "
        "a constant for each task; values of rewards as they are learned from, whatever `model.normalize_returns`",
        "where no task's returns differ",
        panel="Explained variance",
    ),
    Column(
        "diagnostics/noise_ratio_std",
        "standard deviation of the PPO ratio between two draws of weight noise at equal weights",
        "without weight noise; but every diagnostics_every rollouts",
    ),
    Column("sharing/ratio", "‖θ̄‖ / (‖θ̄‖ + ‖μ̃_m‖), 1: all is shared", "without task weights"),
    Column("sharing/energy", "‖θ̄‖² / (‖θ̄‖² + mean over tasks of ‖μ̃_m‖²)", "without task weights"),
    Column("sharing/theta_norm", "‖θ̄‖", "without task weights"),
    Column("sharing/mu_norm", "‖μ̃_m‖", "without task weights"),
    Column("sharing/sigma", "σ_m, mean over weights", "without variational weights"),
    Column("sharing/specialised", "share of weights with |μ̃| > 2 σ", "without variational weights"),
    Column(
        "sharing/task_similarity",
        "cosine between the residuals of two tasks, mean over pairs; −1 / (M − 1) where they have nothing in common",
        "without task weights, or with one task",
    ),
    Column(
        "train/return_mean",
        "mean over tasks of each one's latest `train/return_task_m`",
        "until every task has ended an episode",
    ),
    Column("eval/return_mean", "mean over tasks of `eval/return_task_m`", "between evaluations"),
    Column(
        "train/success_mean",
        "mean over tasks of each one's latest `train/success_task_m`",
        "until every task has ended an episode that tells it",
        only="success",
    ),
    Column("eval/success_mean", "mean over tasks of `eval/success_task_m`", "between evaluations", only="success"),
    Column(
        "train/return_task_m",
        "mean return of the episodes of task m that ended in this rollout, with exploration and weight noise",
        "where none ended",
    ),
    Column(
        "eval/return_task_m",
        "mean return of task m in the deterministic evaluation: posterior mean, most likely action",
        "between evaluations",
    ),
    Column(
        "train/success_task_m",
        "mean of the suite's success measure over the episodes of task m that ended in this rollout and told it",
        "where none did",
        only="success",
    ),
    Column("eval/success_task_m", "the same in the deterministic evaluation", "between evaluations", only="success"),
    Column(
        "gradients/cosine",
        "cosine between the gradients of two tasks of the shared parameters, mean over pairs and networks",
        "but every `model.cosine_every` rollouts",
        only="cosine",
    ),
)
WHOLE = frozenset(column.name for column in COLUMNS if column.whole)


def heartbeat_columns(num_tasks: int, extras: Collection[str] = ()) -> list[str]:
    """The columns of ``heartbeat.csv``, in order; extras: which of those that are not always there are."""
    there = [column for column in COLUMNS if not column.only or column.only in extras]
    return [name for column in there for name in column.names(num_tasks)]
