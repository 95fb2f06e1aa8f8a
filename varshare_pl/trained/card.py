"""The card of a trained policy: what it is, how well it does, and how to load it, as a model hub shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varshare_pl.results.info import RunInfo
from varshare_pl.results.statistics import CONFIDENCE, average, bootstrap, generator, interval
from varshare_pl.text import markdown
from varshare_pl.trained.evaluation import EvaluationResult
from varshare_pl.trained.policy_folder import LIBRARY
from varshare_pl.yaml_files import dump

USE = """```python
import varshare_pl

policy = varshare_pl.load_policy("{address}")  # or a copy of this folder
env = policy.suite.make_task(0)
obs, info = env.reset(seed=1)
action = policy(obs, task=0)
```"""


class Score(NamedTuple):
    """A mean over episodes and its interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.5g} [{self.low:.5g}, {self.high:.5g}]"


def scores(values: NDArray[np.float64]) -> tuple[list[Score], Score]:
    """The mean of each task's episodes (M, E) and the mean over tasks, with bootstrap intervals over episodes.

    An episode without a value (NaN) is left out.
    """
    episodes = values.T
    drawn = np.nanmean(bootstrap(episodes, generator("card"), strata=range(len(values))), axis=1)  # (resamples, M)
    means = np.nanmean(episodes, axis=0)
    low, high = interval(drawn, means)
    of_tasks = [Score(*map(float, row)) for row in zip(means, low, high, strict=True)]
    overall = float(average(means))
    return of_tasks, Score(overall, *map(float, interval(drawn.mean(axis=1), overall)))


def card(
    info: RunInfo,
    names: Sequence[str],
    env_steps: int,
    result: EvaluationResult,
    seed: int,
    curve: str | None,
) -> str:
    """The card as Markdown with the front matter of a hub.

    Args:
        info: Of the run.
        names: Of the tasks.
        env_steps: That the policy was trained for.
        result: Its evaluation.
        seed: Of the evaluation.
        curve: The file with the learning curve, if there is one.
    """
    measures = {"return": result.returns} | ({} if result.success is None else {"success": result.success})
    found = {name: scores(values) for name, values in measures.items()}
    suite = markdown(info.suite)
    blocks = [
        f"---\n{dump(_front_matter(info, {name: overall for name, (_, overall) in found.items()}))}---",
        f"# {suite}, {markdown(info.method)}",
        f"One policy for the {len(names)} tasks of `{info.suite}`, trained by PPO with the sharing method "
        f"`{info.method}` of {LIBRARY} for {env_steps:,} env steps, seed {info.seed}.",
        f"## Scores\n\n{_table(names, found, result)}",
        f"Mean over {result.returns.shape[1]} episodes of each task, with {CONFIDENCE:.0%} bootstrap intervals over "
        "episodes of this one trained policy: they say nothing of other training seeds.",
        *([f"![Returns during training]({curve})"] if curve else []),
        "## Protocol\n\n" + "\n".join(f"- {line}" for line in _protocol(info, result, seed)),
        "## Use\n\n" + USE.format(address="hf://OWNER/NAME"),
        "The weights are safetensors and hold what acting needs, without the critic and without standard deviations of "
        "weights; no pickle is read.",
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(info: RunInfo, overall: Mapping[str, Score]) -> dict[str, Any]:
    kinds = {"return": "mean_reward", "success": "success_rate"}
    metrics = [
        {"type": kinds[name], "name": f"mean {name} over tasks", "value": round(score.mean, 4)}
        for name, score in overall.items()
    ]
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    results = [{"task": task, "dataset": {"type": info.suite, "name": info.suite}, "metrics": metrics}]
    return {
        "library_name": LIBRARY,
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "multi-task", "ppo", info.suite, info.method],
        "model-index": [{"name": f"{info.suite}-{info.method}", "results": results}],
    }


def _table(names: Sequence[str], found: Mapping[str, tuple[list[Score], Score]], result: EvaluationResult) -> str:
    columns = ["task", *(f"mean {name}" for name in found), "solved"]
    words = {True: "yes", False: "no", None: ""}
    rows = [
        [markdown(name), *(str(of_tasks[m]) for of_tasks, _ in found.values()), words[result.task_solved[m]]]
        for m, name in enumerate(names)
    ]
    rows.append(["mean", *(str(overall) for _, overall in found.values()), words[result.solved]])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows])


def _protocol(info: RunInfo, result: EvaluationResult, seed: int) -> list[str]:
    version = "" if info.suite_version is None else f", version {info.suite_version}"
    lines = [
        f"suite: {markdown(info.suite)}{version}" + (f"; {markdown(info.suite_protocol)}" * bool(info.suite_protocol))
    ]
    lines.append(
        f"evaluation: posterior mean, most likely action, {result.returns.shape[1]} episodes of each task, start "
        f"states of seed {seed}"
    )
    if info.solved is not None:
        lines.append(f"solved: mean {info.measure} of at least {info.solved:g}")
    if info.rule:
        lines.append(f"success of an episode: {info.rule}")
    lines += [markdown(note) for note in result.notes]
    lines += [f"commit of the code: {info.commit}"] if info.commit else []
    lines += [f"trained with: {', '.join(info.packages)}"] if info.packages else []
    return lines
