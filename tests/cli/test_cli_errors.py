"""Bad input: one line on stderr that names the key, the value and what is allowed; exit code 2; nothing written."""

import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch

from varshare_pl.cli.main import main

TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "80"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]
FIT = ["fit", *TINY, "--plots.enabled", "false"]
METHOD = "{class_path: paco, init_args: {num_sets: 3e0}}"
INDEPENDENT = ["--model.sharing", "independent"]
GYM = '[{"id": "CartPole-v1"}]'

# What is given behind `varshare fit`, and what the line must hold.
OPTIONS: list[tuple[list[str], list[str]]] = [
    (["--data.suite", "CartPol"], ["data.suite", "CartPol", "did you mean 'CartPole'", "ConflictBandit"]),
    (["--data.suite", '[{"id": "NoSuchEnv-v1"}]'], ["data.suite[0]", "NoSuchEnv-v1"]),
    (["--data.suite", '[{"id": "CartPole-v1"}, {"id": "Acrobot-v1"}]'], ["data.suite[1]", "(6,)", "(4,)"]),
    (["--data.suite", '[{"id": "CartPole-v1", "kwarg": {}}]'], ["data.suite[0].kwarg: unknown key", "kwargs"]),
    (["--data.suite", "[]"], ["data.suite", "at least one"]),
    (["--data.suite", "{}"], ["data.suite: has neither tasks nor name"]),
    (["--data.suite.name", "CartPole"], ["--data.suite.name: not an option; --data.suite takes a whole suite"]),
    (["--data.suite", "{name: CartPol}"], ["data.suite='CartPol': unknown (did you mean 'CartPole'?)"]),
    (
        ["--data.suite", "{name: MiniGrid, size: 3}"],
        ["data.suite.size: unknown option of MiniGrid; allowed:"],
    ),
    (["--data.suite", "{name: MiniGrid, benchmark: MT4}"], ["data.suite.benchmark='MT4': allowed: MT3, MT5, MT7"]),
    (["--data.suite", "{tasks: [CartPole-v1], paddle: 1}"], ["data.suite.paddle: unknown key; allowed: name, tasks"]),
    (["--data.suite", "{tasks: [CartPole-v1, Acrobot-v1]}"], ["data.suite[1]", "need pad: true"]),
    (["--data.suite", "{tasks: [CartPole-v1], time_limit: 0}"], ["data.suite.time_limit=0: must be a number of steps"]),
    (["--data.suite", "{tasks: [CartPole-v1], wrappers: [a.B]}"], ["data.suite.wrappers[0]: 'a.B' cannot be imported"]),
    (
        ["--data.suite", "{tasks: [CartPole-v1], wrappers: [gymnasium.wrappers.FilterObservation]}"],
        ["data.suite[0].wrappers: gymnasium.wrappers.FilterObservation with {} raised TypeError"],
    ),
    (
        ["--data.suite", "{tasks: [CartPole-v1], success: {info: x, reduce: sum}}"],
        ["data.suite.success.reduce='sum': allowed: any, last, max, mean"],
    ),
    (["--data.suite", "{tasks: [CartPole-v1], anchors: {low: 1}}"], ["data.suite.anchors={'low': 1}: must be a dict"]),
    (["--model.encoder", "cnn"], ["model.encoder: cnn is not allowed for observations of shape (4,)"]),
    (["--model.encoder", "vit"], ["model.encoder: vit is not allowed; auto, cnn or none is"]),
    (["--data.num_envs=abc"], ["data.num_envs: abc is not allowed; a positive integer is"]),
    (["--data.num_envs", "-3"], ["data.num_envs: -3 is not allowed; a positive integer is"]),
    (["--data.num_envs", "0"], ["data.num_envs: 0 is not allowed; a positive integer is"]),
    (["--data.num_envs", "1.5"], ["data.num_envs: 1.5 is not allowed; a positive integer is"]),
    (["--data.num_envs", "null"], ["data.num_envs: null is not allowed; a positive integer is"]),
    (["--data.num_envs"], ["--data.num_envs: a value is missing"]),
    (["--data.rollout_steps", "0"], ["data.rollout_steps: 0 is not allowed; a positive integer is"]),
    (["--data.total_env_steps", "-1"], ["data.total_env_steps: -1 is not allowed; a positive integer is"]),
    (["--data.backend", "gpu"], ["data.backend: gpu is not allowed; auto, batched, torch, sync or workers is"]),
    (
        ["--data.backend", "batched", "--data.suite", GYM],
        ["data.backend='batched': CartPole-v1 has no batched physics; allowed: auto, sync, workers"],
    ),
    (
        ["--data.backend", "async"],
        ["sync or workers is; async has become workers"],
    ),
    (["--data.num_workers", "2"], ["data.num_workers=2: the backend is 'batched', which has no workers"]),
    (["--data.worker_timeout", "-1"], ["data.worker_timeout: -1"]),
    (["--data.task_assignment", "fixed", "--data.num_envs", "8"], ["data.num_envs: 8", "fixed", "a multiple", "5"]),
    (["--data.info_metrics", "success"], ["data.info_metrics: success is not allowed; a list such as [a, b] is"]),
    (["--data.seed", "3"], ["data.seed: not allowed; it follows --seed_everything"]),
    (["--model.seed=3"], ["model.seed: not allowed; it follows --seed_everything"]),
    (["--model.spec", "3"], ["model.spec: not allowed; it follows from data"]),
    (["--model.sharing", "varshar"], ["model.sharing: varshar is not", "did you mean varshare?", "independent"]),
    (["--model.sharing.class_path=foo"], ["model.sharing: foo is not a sharing method", "shared_onehot"]),
    (["--model.sharing", '{"class_path": "foo"}'], ["model.sharing: foo is not a sharing method"]),
    (["--model.sharing", "no_such.Thing"], ["model.sharing: no_such.Thing cannot be imported"]),
    (["--model.sharing", "torch.optim.SGD"], ["model.sharing: torch.optim.SGD is not a subclass of SharingMethod"]),
    (["--model.sharing.prior_scale", "0"], ["model.sharing.init_args.prior_scale: 0.0 is not", "a positive number is"]),
    (["--model.sharing.init_args.prior_scale", "-1"], ["model.sharing.init_args.prior_scale: -1.0 is not allowed"]),
    (["--model.sharing.prior_scale", "abc"], ["model.sharing.init_args.prior_scale: abc is not allowed; a number is"]),
    (["--model.sharing.prior_scal", "1"], ["model.sharing.init_args.prior_scal: not an option"]),
    (["--model.sharing", "shared", "--model.sharing.prior_scale", "1"], ["init_args.prior_scale: not an option"]),
    (["--model.combiner", "pcgra"], ["model.combiner: pcgra is not a gradient combiner; did you mean pcgrad?", "famo"]),
    (
        ["--model.combiner", "torch.optim.SGD"],
        ["model.combiner: torch.optim.SGD is not a subclass of GradientCombiner"],
    ),
    (["--model.combiner.class_path", "varshare"], ["model.combiner: varshare is not a gradient combiner"]),
    (["--model.combiner", "cagrad", "--model.combiner.c", "-1"], ["model.combiner.init_args.c: -1 is not allowed"]),
    (["--model.combiner", "mgda", "--model.combiner.c", "1"], ["model.combiner.init_args.c: not an option"]),
    (
        ["--model.combiner", "mgda", *INDEPENDENT],
        ["model.combiner: mgda is not allowed where tasks share no parameter"],
    ),
    (["--model.combiner", "mgda", "--data.suite", "CartPole"], ["model.combiner: mgda is not allowed with one task"]),
    (["--model.combiner", "mgda", "--compile"], ["model.compile: true is not allowed with model.combiner; false is"]),
    (["--model.cosine_every", "0"], ["model.cosine_every: 0 is not allowed; a positive integer or null is"]),
    (
        ["--model.cosine_every", "1", *INDEPENDENT],
        ["model.cosine_every: a number is not allowed where no parameter is"],
    ),
    (["--model.update_epochs", "0"], ["model.update_epochs: 0 is not allowed; a positive integer is"]),
    (["--model.minibatch_size", "-64"], ["model.minibatch_size: -64 is not allowed; a positive integer or null is"]),
    (["--model.minibatch_size", "37"], ["model.minibatch_size: 37 is not allowed; a divisor of", "40 is"]),
    (["--model.lr_actor", "0"], ["model.lr_actor: 0 is not allowed; a positive number is"]),
    (["--model.lr_critic", "-1e-3"], ["model.lr_critic: -1e-3 is not allowed; a positive number is"]),
    (["--model.lr_actor", "inf"], ["model.lr_actor: inf is not allowed; a finite number is"]),
    (["--model.hidden_sizes", "[64, 0]"], ["model.hidden_sizes: 0 is not allowed; a positive integer is"]),
    (["--model.hidden_sizes", "[]"], ["model.hidden_sizes: [] is not allowed; a list of positive integers is"]),
    (["--model.hidden_sizes", "64"], ["model.hidden_sizes: 64 is not allowed; a list such as [a, b] is"]),
    (["--model.gamma", "1.5"], ["model.gamma: 1.5 is not allowed; a number from 0 to 1 is"]),
    (["--model.kl_weight", "-1"], ["model.kl_weight: -1 is not allowed; a number of at least 0 is"]),
    (["--model.kl_weight", "nan"], ["model.kl_weight: nan is not allowed; a number of at least 0 is"]),
    (["--model.target_kl", "-1"], ["model.target_kl: -1 is not allowed; a positive number or null is"]),
    (
        ["--model.normalize_observations", "true"],
        ["model.normalize_observations: true is not allowed; auto, shared, task or none is; true has become task"],
    ),
    (
        ["--model.normalize_rewards", "both"],
        ["model.normalize_rewards: both is not allowed; shared, task or none is\n"],
    ),
    (
        ["--model.normalize_returns", "popart"],
        ["popart is not allowed; shared, task or none is; popart has become task, with model.popart true"],
    ),
    (["--model.normalize_returns", "running"], ["running has become task\n"]),
    (["--model.popart", "true"], ["model.popart: true is not allowed with model.normalize_returns none; shared and"]),
    (["--model.critic_noise", "flipout"], ["critic_noise: flipout is not allowed; local, weights or mean is"]),
    (["--model.sharing.task_embedding", "-1"], ["args.task_embedding: -1 is not allowed; an integer of at least 0 is"]),
    (["--model.sharing.layers", "[1e0]"], ["model.sharing.init_args.layers: "]),
    *(
        ([f"--model.sharing={method}", f"--model.sharing.{option}={value}"], [f"{option}: {value} is not", integer])
        for method, option in (
            ("varshare_low_rank", "rank"),
            ("paco", "num_sets"),
            ("moore", "num_experts"),
            ("mixture", "num_experts"),
            ("care", "encoder_size"),
            ("soft_modularization", "num_layers"),
            ("shared_embedding", "embedding_size"),
        )
        for value, integer in (("0", "a positive integer is"), ("1.5e0", "a positive integer is"))
    ),
    (["--model.sharing.rank", "2"], ["init_args.rank: not an option", "model.sharing: varshare_low_rank"]),
    (["--model.actor_noise", "none"], ["model.actor_noise: none is not allowed; rollout, stored, mean or fresh is"]),
    (["--model.activation", "gelu"], ["model.activation: gelu is not allowed; tanh, relu, elu or silu is"]),
    (["--model.anneal_lr", "7"], ["model.anneal_lr: 7 is not allowed; true or false is"]),
    (["--evaluation.every", "-1"], ["evaluation.every: -1 is not allowed; an integer of at least 0 is"]),
    (
        ["--evaluation.episodes", "5", "--evaluation.envs_per_task", "2"],
        ["evaluation.envs_per_task: 2", "divisor", "5"],
    ),
    (["--data.total_env_steps", "1:40:00"], ["data.total_env_steps: 1:40:00 is not allowed; a positive integer is"]),
    (["--data.total_env_steps", "1.5e0"], ["data.total_env_steps: 1.5e0 is not allowed; a positive integer is"]),
    (["--data.total_env_steps", "1e30"], ["data.total_env_steps: 1000000000000000000000000000000 is not", "at most"]),
    (["--data.suite", "[{id: CartPole-v1, id: x}]"], ["data.suite[0].id: given twice, in one line; once is allowed"]),
    (
        ["--data.suite", "[{id: CartPole-v1, kwargs: {a: 010}}]"],
        ['data.suite[0].kwargs.a: 010 is not allowed; 10 or 8 (octal) or "010" (text) is'],
    ),
    (["--model", "{gamma: 0.9, gamma: 0.8}"], ["model.gamma: given twice, in one line; once is allowed"]),
    (["--model.hidden_sizes", "[8, 010]"], ["model.hidden_sizes[1]: 010 is not allowed; 10 or 8 (octal)"]),
    (["--seed_everything", "-1"], ["seed_everything: -1 is not allowed; an integer of at least 0 is"]),
    (["--seed_everything", "true"], ["seed_everything: true is not allowed; an integer of at least 0 is"]),
    (["--seed_everything", "abc"], ["seed_everything: abc is not allowed; an integer of at least 0 is"]),
    (["--seed_everything", "4294967296"], ["seed_everything: 4294967296 is not allowed", "4294967295"]),
    (["--threads", "0"], ["threads: 0 is not allowed; a positive integer is"]),
    (["--overwrite", "maybe"], ["overwrite: maybe is not allowed; true or false is"]),
    (["--experiment", "../x"], ["--experiment: '../x' is not allowed"]),
    (["--experiment", ""], ["--experiment: '' is not allowed"]),
    (["--ckpt_path", "x.ckpt"], ["--experiment: needed with --ckpt_path", "varshare resume"]),
    (["--ckpt_path", "last", "--experiment", "x"], ["--ckpt_path: logs/x/seed_1 holds no run"]),
    (["--ckpt_path", "last", "--init_from", "x.ckpt"], ["--init_from: not allowed with --ckpt_path"]),
    (["--init_from", "x.ckpt"], ["x.ckpt is not a file"]),
    (["--model.kl_wieght", "1"], ["--model.kl_wieght: unknown option; did you mean --model.kl_weight?"]),
    (["--kl_weight", "1"], ["--kl_weight: unknown option; did you mean --model.kl_weight?"]),
    (["--exp", "x"], ["--exp: unknown option"]),
    (["stray"], ["stray: not an option"]),
    (["--config", "complex_cartpol"], ["--config: complex_cartpol is neither", "did you mean complex_cartpole?"]),
    (["--config", "configs/cartpol.yaml"], ["--config: configs/cartpol.yaml is neither", "did you mean cartpole?"]),
    (["--config", "qqq"], ["--config: qqq is neither a file nor a shipped config; shipped are acrobot_variants"]),
    (["--config"], ["--config: a value is missing"]),
    (["--data", "nope.yaml"], ["data: nope.yaml is not allowed; keys with values or a YAML file with them are"]),
    (["--data", "{num_env: 3}"], ["data.num_env: unknown key; did you mean data.num_envs?"]),
    (["--trainer.logger", "NoLogger"], ["trainer.logger: NoLogger is not allowed; the class of a Lightning logger, "]),
    (["--trainer.logger.class_path", "a.NoLogger"], ["trainer.logger: a.NoLogger cannot be used: No module named 'a'"]),
    (["--trainer.logger", "{class_path: a.NoLogger}"], ["trainer.logger: a.NoLogger cannot be used: "]),
    (
        ["--model.num_minibatches", "4"],
        ["model.num_minibatches: 4 is not allowed beside model.minibatch_size 40; one of them is"],
    ),
    (["--model.minibatch_size", "null"], ["model.minibatch_size: null is not allowed without model.num_minibatches"]),
    (
        ["--model.minibatch_size", "null", "--model.num_minibatches", "7"],
        ["model.num_minibatches: 7 is not allowed; a divisor of data.rollout_steps × data.num_envs = 40 is"],
    ),
    (["--trainer.gradient_clip_val", "1"], ["trainer.gradient_clip_val: not allowed; model.max_grad_norm"]),
    (["--trainer.accumulate_grad_batches=2"], ["trainer.accumulate_grad_batches: not allowed; model.minibatch_size"]),
    (["--trainer.default_root_dir", "x"], ["trainer.default_root_dir: not allowed; --logs_dir and --experiment"]),
    (["--trainer.max_epochs", "3"], ["trainer.max_epochs: not allowed; the length of a run is data.total_env_steps"]),
    (["--trainer.accelerator", "abacus"], ["trainer", "abacus", "cpu"]),
    (["--trainer.precision", "7"], ["trainer.precision: 7 is not allowed", "16-mixed"]),
]

# The content of a config file, and what the line must hold.
FILES: list[tuple[str, list[str]]] = [
    ("model: [1,\n  foo: {", ["is not valid YAML", "line 3"]),
    ("model: {\x01: 1}", ["is not valid YAML"]),
    ("- 1\n- 2\n", ["does not hold keys with values", "data and model"]),
    ("hello\n", ["does not hold keys with values"]),
    ("", ["is empty", "data and model"]),
    ("model:\n  kl_wieght: 0.1\n", ["model.kl_wieght: unknown key; did you mean model.kl_weight?"]),
    ("kl_weight: 0.1\n", ["kl_weight: unknown key; did you mean model.kl_weight?"]),
    ("modle:\n  kl_weight: 0.1\n", ["modle: unknown key; did you mean model?"]),
    ("model:\n  normalize_rewards: true\n", ["model.normalize_rewards: True is not", "True has become task\n"]),
    (
        "model:\n  sharing: {class_path: varshare, init_args: {deterministic: false, hyperprior: 1.0, rank: 2}}\n",
        ["model.sharing.init_args.rank: not an option", "model.sharing: varshare_low_rank"],
    ),
    (
        "model:\n  sharing:\n    class_path: varshare_pl.sharing.VarShare\n    init_args: {learned_prior: true}\n",
        ["model.sharing.init_args.learned_prior: not an option", "model.sharing: varshare_learned_prior"],
    ),
    ("model: [1]\n", ["model: [1] is not allowed; a section with keys and values is"]),
    ("model:\n  kl_weight: much\n", ["model.kl_weight: much is not allowed; a number of at least 0 is"]),
    ("model:\n  sharing: varshar\n", ["model.sharing: varshar is not", "did you mean varshare?"]),
    ("model:\n  sharing: null\n", ["model.sharing: null is not allowed", "independent"]),
    ("model:\n  combiner: pcgra\n", ["model.combiner: pcgra is not a gradient combiner", "did you mean pcgrad?"]),
    ("model:\n  combiner: {class_path: mgda, c: 1}\n", ["model.combiner.c: unknown key"]),
    ("model:\n  combiner: [mgda]\n", ["model.combiner: ['mgda'] is not allowed; aligned_mtl, "]),
    ("model:\n  sharing: {class_path: varshare, prior_scale: 1}\n", ["model.sharing.prior_scale: unknown key"]),
    ("model:\n  sharing: {class_path: varshare, init_args: 3}\n", ["model.sharing.init_args: 3 is not allowed"]),
    ("model:\n  sharing: {class_path: varshare, init_args: {prior_scal: 3}}\n", ["prior_scal: not an option"]),
    ("data:\n  seed: 3\n", ["data.seed: not allowed; it follows --seed_everything"]),
    ("data:\n  suite:\n    - {id: CartPole-v1, kwargs: {mass: 2}}\n", ["data.suite[0]", "CartPole-v1", "mass"]),
    ("trainer:\n  accumulate_grad_batches: 2\n", ["trainer.accumulate_grad_batches: not allowed"]),
    ("model: {gamma: 0.9}\nmodel: {gae_lambda: 0.8}\n", ["model: given twice, first in line 1", "(my.yaml, line 2)"]),
    ("model:\n  gamma: 0.9\n  gamma: 0.8\n", ["model.gamma: given twice, first in line 2", "(my.yaml, line 3)"]),
    (
        "data:\n  suite: [{id: CartPole-v1, kwargs: {a: 1, 'a': 2}}]\n",
        ["data.suite[0].kwargs.a: given twice, in one line", "(my.yaml, line 2)"],
    ),
    ("seed_everything: 010\n", ["seed_everything: 010 is not allowed; 10 or 8 (octal)", "(my.yaml, line 1)"]),
    (
        "data:\n  total_env_steps: 1:40:00\n",
        ['data.total_env_steps: 1:40:00 is not allowed; 6000 (base 60) or "1:40:00"', "(my.yaml, line 2)"],
    ),
    ("data: {total_env_steps: 1.5e0}\n", ["data.total_env_steps: 1.5 is not allowed; a positive integer is"]),
    ("data: {total_env_steps: .inf}\n", ["data.total_env_steps: inf is not allowed; a positive integer is"]),
    ("data:\n  suite: [{id: CartPole-v1, kwargs: &a {a: *a}}]\n", ["data.suite[0].kwargs.a: holds itself"]),
    ("seed_everything: true\n", ["seed_everything: ", "an integer of at least 0 is"]),
]


def told(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """One line, nothing else, with these parts."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("varshare: error: ")
    assert err.count("\n") == 1
    assert len(err) < 500
    for part in parts:
        assert part in err
    for noise in ("Traceback", "usage:", "jsonargparse", "Parser key", "<class"):
        assert noise not in err


@pytest.mark.parametrize(("args", "parts"), OPTIONS, ids=[" ".join(args) for args, _ in OPTIONS])
def test_bad_option(args: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, *args]) == 2
    told(capsys, *parts)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("text", "parts"), FILES)
def test_bad_config_file(text: str, parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my.yaml").write_text(text)
    assert main([*FIT, "--config", "my.yaml"]) == 2
    told(capsys, *parts)
    assert [path.name for path in here.iterdir()] == ["my.yaml"]


@pytest.mark.parametrize(
    ("suite", "package"),
    [
        ("MiniGrid", "minigrid"),
        ("LunarLander", "Box2D"),
        ("MetaWorld", "metaworld"),
        ("CheetahFamily", "mujoco"),
        ("HopperFamily", "mujoco"),
    ],
)
def test_a_suite_whose_extra_is_missing(
    suite: str, package: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main([*FIT, "--data.suite", suite]) == 2
    told(capsys, f"data.suite='{suite}': needs the package {package}", f"pip install 'varshare-pl[{package.lower()}]'")
    assert list(here.iterdir()) == []


def test_a_file_with_a_section(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my.yaml").write_text("data: configs/data.yaml\n")
    (here / "configs").mkdir()
    (here / "configs" / "data.yaml").write_text("num_envs: 5\nnum_envs: 10\n")
    for args in (["--config", "my.yaml"], ["--data", "configs/data.yaml"], ["--data=configs/data.yaml"]):
        assert main([*FIT, *args]) == 2
        told(capsys, "num_envs: given twice, first in line 1; once is allowed (configs/data.yaml, line 2)")


@pytest.mark.parametrize("steps", ["8e1", "0.8e2", "80.0", "80"])
def test_scientific_numbers_are_integers_where_those_are_meant(
    steps: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my.yaml").write_text(
        f"data: {{total_env_steps: {steps}}}\nmodel: {{hidden_sizes: [1e1], sharing: {METHOD}}}\n"
    )
    options = ["--model.hidden_sizes", "[1e1]", "--model.sharing", "paco", "--model.sharing.num_sets", "3e0"]
    for args in (["--config", "my.yaml"], ["--data.total_env_steps", steps, *options]):
        assert main(["fit", "--seed_everything", "1e1", *args, "--print_config"]) == 0
        printed = capsys.readouterr().out
        assert "\n  total_env_steps: 80\n" in printed
        assert "\n  hidden_sizes:\n  - 10\n" in printed
        assert "seed_everything: 10\n" in printed
        assert "\n      num_sets: 3\n" in printed


@pytest.mark.parametrize("command", ["resume", "play"])
def test_options_of_an_old_run_name_what_took_their_place(
    command: str, tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(tiny_run, here / "old")
    path, checkpoint = run / "config.yaml", run / "checkpoints" / "last.ckpt"
    old = path.read_text().replace("prior_scale:", "deterministic: false\n      rank: 2\n      prior_scale:")
    path.write_text(old)
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"varshare_config": old}, checkpoint)
    assert main([command, str(run)]) == 2
    told(capsys, "rank", "a method of its own", "varshare_low_rank")


def test_info_metric_that_no_env_offers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Only an episode's end shows what there is, so the run has begun and its folder is there.
    assert main([*FIT, "--data.info_metrics", "[success]"]) == 2
    told(capsys, "data.info_metrics: 'success' is not in", "it has: task")


def test_config_file_that_is_not_text(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert main(["fit", "--config", "my.yaml"]) == 2
    told(capsys, "--config: my.yaml cannot be read as text")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_gpu_where_there_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--trainer.accelerator", "gpu"]) == 2
    told(capsys, "trainer: No supported gpu backend found")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["train"], ["train is not a command; fit, validate, ", "plot", " are"]),
        (["--config", "cartpole"], ["--config is not a command"]),
        (["validate", "--config", "cartpole"], ["--ckpt_path: missing"]),
        (["resume", "nowhere"], ["resume: nowhere is not the folder of a run"]),
        (["resume", "."], ["resume: . is not the folder of a run"]),
        (["plot"], ["plot: the folder of a run is missing"]),
        (["plot", "nowhere"], ["nowhere is not a folder"]),
        (["plot", "."], ["no heartbeat.csv"]),
        (["plot", "--foo"], ["plot: unrecognized arguments: --foo"]),
    ],
)
def test_other_commands(args: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    told(capsys, *parts)
    assert list(here.iterdir()) == []


def test_folder_in_use(tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(tiny_run)
    where = ["--logs_dir", str(tiny_run.parents[1]), "--experiment", "tiny"]
    assert main([*FIT, *where]) == 2
    told(capsys, "seed_1 holds a run already", "--experiment", "--seed_everything", "--overwrite")
    # A mistake beside --overwrite must not cost the run either.
    assert main([*FIT, *where, "--overwrite", "--model.minibatch_size", "37"]) == 2
    told(capsys, "model.minibatch_size: 37")
    assert contents(tiny_run) == before


def test_folder_that_is_no_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = here / "logs" / "x" / "seed_1" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    assert main([*FIT, "--experiment", "x", "--overwrite"]) == 2
    told(capsys, "logs/x/seed_1 exists and is not a run's folder")
    assert mine.read_text() == "precious"


def test_logs_dir_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    assert main([*FIT, "--logs_dir", "file/logs"]) == 2
    told(capsys, "--logs_dir: ", "file is not a folder")
    closed = here / "closed"
    closed.mkdir(mode=0o500)
    assert main([*FIT, "--logs_dir", "closed"]) == 2 or (closed / "complex_cartpole").exists()  # root may write
    if not (closed / "complex_cartpole").exists():
        told(capsys, "--logs_dir: ", "closed is not writable")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path("ran"),)


def test_files_that_are_no_checkpoints(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "text.ckpt").write_text("hello")
    (here / "empty.ckpt").write_bytes(b"")
    (here / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": Payload()}))
    torch.save({"state_dict": Payload()}, here / "torch.ckpt")
    torch.save({"state_dict": {}}, here / "foreign.ckpt")
    before = sorted(here.iterdir())
    for name in ("missing", "text", "empty", "pickle", "torch", "foreign"):
        assert main(["validate", *TINY, "--ckpt_path", f"{name}.ckpt"]) == 2
        told(capsys, f"--ckpt_path: {name}.ckpt is not a ")
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--data.suite", "IdenticalCartPole"], ["suite ComplexCartPole", "IdenticalCartPole"]),
        (["--model.sharing", "shared"], ["sharing varshare", "shared"]),
        (["--model.hidden_sizes", "[16]"], ["has the shape (8, 4), the config's model (16, 4)"]),
        (["--model.hidden_sizes", "[8, 8]"], ["layer_2"]),
    ],
)
def test_checkpoint_of_another_model(
    args: list[str], parts: list[str], tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tiny_run / "checkpoints" / "last.ckpt"
    assert main(["validate", *TINY, "--ckpt_path", str(checkpoint), *args]) == 2
    told(capsys, "--ckpt_path: ", *parts)
    assert list(here.iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
