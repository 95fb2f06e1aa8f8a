"""Runs of one experiment made up with known numbers, and the report of them read back."""

import csv
import json

from varshare_pl.cli.main import main
from varshare_pl.results.columns import heartbeat_columns

SIZE = 100  # env steps of a rollout
FILES = ["report.html", "report.md", "scores.csv", "timings.csv", "tables.tex"]
NETWORKS = ("actor", "critic")


def write_seed(experiment, seed, train, evals=None, final=None, *, ratio=None, config="", torn="", **identity):
    """A run's files; train and evals: a row a rollout with a return a task, None where there is none."""
    run = experiment / f"seed_{seed}"
    run.mkdir(parents=True)
    columns = heartbeat_columns(num_tasks := len(train[0]) if train else 2)
    with (run / "heartbeat.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        table.writeheader()
        for i, returns in enumerate(train):
            row = {"env_steps": SIZE * (i + 1), "wall_time_s": 2.5 * (i + 1), "kl/policy": 0.01 * seed}
            row |= {f"train/return_task_{m}": value for m, value in enumerate(returns) if value is not None}
            for m, value in enumerate((evals or {}).get(i, ())):
                row[f"eval/return_task_{m}"] = value
            table.writerow(row)
        file.write(torn)
    lines = ["env_steps,metric,network,layer,task,value"]
    if ratio is not None:
        for i in range(len(train)):
            for layer, extra in (("layer_1", 0.0), ("head", 0.1)):
                lines += [f"{SIZE * (i + 1)},sharing/theta_norm,{net},{layer},,{2 * seed + i}" for net in NETWORKS]
                for m in range(num_tasks):
                    lines += [f"{SIZE * (i + 1)},sharing/mu_norm,{net},{layer},{m},{seed * m}" for net in NETWORKS]
                    lines += [f"{SIZE * (i + 1)},sharing/ratio,{net},{layer},{m},{ratio + extra}" for net in NETWORKS]
                    lines += [f"{SIZE * (i + 1)},kl/posterior,{net},{layer},{m},{seed + m}" for net in NETWORKS]
    (run / "diagnostics.csv").write_text("\n".join(lines) + "\n" + torn)
    names = ["up", "down", *(f"t{m}" for m in range(2, num_tasks))][:num_tasks]
    identity = {
        "experiment": experiment.name,
        "seed": seed,
        "suite": "MadeUp",
        "suite_version": 3,
        "method": "varshare",
        "task_names": names,
        "solved_return": 90.0,
        "total_env_steps": [SIZE * 4],
        "commit": "abc123",
        "packages": {"torch": "2.6"},
        "python": "3.11",
        **identity,
    }
    (run / "run.json").write_text(json.dumps(identity))
    if config:
        (run / "config.yaml").write_text(config)
    if final is not None:
        write_summary(run, final, steps=SIZE * len(train), solved_return=identity["solved_return"])
    return run


def write_summary(run, final, steps, solved_return=90.0, solved_at=200, finished=True, **more):
    solved = None if solved_return is None else min(final) >= solved_return
    details = {"env_steps": steps, "episodes_per_task": 20, "return_per_task": final, "solved": solved}
    summary = {"env_steps": steps, "finished": finished, "final": details}
    summary["steps_to_solve"] = solved_at if solved else None
    (run / "summary.json").write_text(json.dumps(summary | more))


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(folder, name="scores.csv", **key):
    """The rows of a table of the report with these cells."""
    return [row for row in rows_of(folder / "report" / name) if key.items() <= row.items()]


def curve(folder, metric, task="", network="", layer=""):
    """(env steps, mean, std or None, runs) of each row of a curve."""
    rows = numbers_of(folder, metric=metric, task=task, network=network, layer=layer, seed="")
    return [(int(r["x"]), float(r["value"]), float(r["std"]) if r["std"] else None, int(r["runs"])) for r in rows]


def states_after(folder, capsys):
    """The state of each run after a report, by seed."""
    report(folder, capsys)
    return {row["seed"]: row["value"] for row in numbers_of(folder, metric="state")}


def report(experiment, capsys, code=0):
    """What the command prints, or tells as an error."""
    assert main(["report", str(experiment)]) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err
