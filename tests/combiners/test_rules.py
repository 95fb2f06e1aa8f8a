"""Every combiner's rule: what holds for all of them, and its formula by a second route."""

import io

import pytest
import torch
from helpers import randn

from varshare_pl.combiners import CombinerSpec, GradientRule, TaskGradients, combiner_names
from varshare_pl.errors import ConfigError, RunError

NAMES = {name: cls for name, cls in combiner_names().items() if cls.__module__.startswith("varshare_pl.")}
M, P = 4, 12
RULES = {name: NAMES[name]().make(CombinerSpec("critic", M)) for name in NAMES}
GRADIENT = [name for name, rule in RULES.items() if isinstance(rule, GradientRule)]
LOSS = [name for name in NAMES if name not in GRADIENT]
RANDOM = {"pcgrad", "graddrop", "random_loss"}
ALL = torch.ones(M, dtype=torch.bool)


def make(name, network="critic", **options):
    return NAMES[name](**options).make(CombinerSpec(network, M))


def given(seed=0, tasks=range(M), step=5, common=0.0):
    tasks = torch.tensor(list(tasks))
    gradients = randn(len(tasks), P, seed=seed, dtype=torch.float32) + common
    return TaskGradients(gradients, randn(len(tasks), seed=seed + 1, dtype=torch.float32).exp(), tasks, step)


def losses(seed=0):
    return randn(M, seed=seed, dtype=torch.float32).exp()


def use(rule, name, seed, tasks=range(M)):
    """What a rule gives at one step, whatever its kind."""
    if name in GRADIENT:
        unsolved = name == "nash_mtl" and seed > 10  # then it keeps the weights that it has
        return rule.combine(given(0, tasks, seed) if unsolved else given(seed, tasks, seed, common=0.6))
    present = torch.zeros(M, dtype=torch.bool)
    present[list(tasks)] = True
    weights = rule.weights(losses(seed), present, seed)
    if rule.looks_again:
        rule.look_again(losses(seed + 1), present)
    if seed % 2:
        rule.end_update()
    return weights


def test_the_issues_combiners_are_there():
    wanted = {
        "pcgrad",
        "cagrad",
        "mgda",
        "imtl_g",
        "aligned_mtl",
        "nash_mtl",
        "famo",
        "grad_norm",
        "uncertainty",
        "dwa",
    }
    assert wanted <= set(NAMES)
    assert set(LOSS) == {"famo", "dwa", "uncertainty", "random_loss"}


@pytest.mark.parametrize("name", [n for n in GRADIENT if n not in ("nash_mtl", "cagrad")])
def test_tasks_that_agree_are_trained_as_without_a_combiner(name):
    one = randn(P, dtype=torch.float32)
    combined = make(name).combine(TaskGradients(one.expand(M, -1).contiguous(), torch.ones(M), torch.arange(M), 3))
    torch.testing.assert_close(combined, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in LOSS if n != "random_loss"])
def test_tasks_alike_weigh_the_same_as_without_a_combiner(name):
    torch.testing.assert_close(make(name).weights(torch.full((M,), 0.7), ALL, 3), torch.ones(M))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in RANDOM])
def test_the_order_of_tasks_says_nothing(name):
    order = torch.tensor([2, 0, 3, 1])
    if name in LOSS:
        torch.testing.assert_close(
            make(name).weights(losses()[order], ALL, 1), make(name).weights(losses(), ALL, 1)[order]
        )
        return
    data = given()
    other = TaskGradients(data.gradients[order], data.losses[order], data.tasks, data.seed)
    tolerance = 1e-3 if name == "nash_mtl" else 1e-4  # solved up to that
    torch.testing.assert_close(make(name).combine(other), make(name).combine(data), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_goes_on_from_its_state_bit_by_bit(name):
    rule, steps = make(name), [(1, range(M)), (2, (0, 2)), (3, range(M)), (4, (1, 2, 3))]
    for seed, tasks in steps:
        use(rule, name, seed, tasks)
    file = io.BytesIO()
    torch.save(rule.state(), file)
    file.seek(0)
    expected = [use(rule, name, seed + 10, tasks) for seed, tasks in steps]
    other = make(name)
    other.load_state(torch.load(file, weights_only=True))
    for (seed, tasks), value in zip(steps, expected, strict=True):
        assert torch.equal(use(other, name, seed + 10, tasks), value)
    if rule.state() and name != "random_loss":  # it is this state that does it
        fresh = make(name)
        assert not all(torch.equal(use(fresh, name, s + 10, t), v) for (s, t), v in zip(steps, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_draws_hang_on_the_steps_seed_alone(name):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = use(make(name), name, 6)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(use(make(name), name, 6), first)
    if name in RANDOM:
        results = {tuple(use_with(name, step).tolist()) for step in range(8)}
        assert len(results) > 1


def use_with(name, step):
    if name in GRADIENT:
        return make(name).combine(given(0)._replace(seed=step))
    return make(name).weights(losses(), ALL, step)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_rows_has_no_say(name):
    """Of gradients it has no row; a loss that is not there is not read."""
    if name in GRADIENT:
        return_ = make(name).combine(given(tasks=(1, 3)))
        assert return_.shape == (P,)
        assert bool(return_.isfinite().all())
        return
    present = torch.tensor([True, False, True, True])
    one, other = losses(), losses()
    one[1], other[1] = torch.nan, 1e9
    rule, again = make(name), make(name)
    assert torch.equal(rule.weights(one, present, 1), again.weights(other, present, 1))
    assert torch.equal(rule.weights(losses(3), ALL, 2), again.weights(losses(3), ALL, 2))


ONE = {  # what a combiner makes of a single gradient, where that is not the gradient
    "cagrad": lambda g: 1.5 * g,  # as far as its ball goes
    "nash_mtl": lambda g: g / g.norm(),  # cut to max_norm
}


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e20])
@pytest.mark.parametrize("name", GRADIENT)
def test_one_task_is_present(name, size):
    data = given(tasks=(2,), common=0.6)._replace(losses=torch.ones(1))
    rule = make(name)
    found = rule.combine(data._replace(gradients=size * data.gradients))
    if name == "nash_mtl" and size < 1.0:  # shorter than max_norm
        expected = size * data.gradients[0]
    else:
        expected = ONE.get(name, lambda g: g)(data.gradients[0]) * (1.0 if name == "nash_mtl" else size)
    torch.testing.assert_close(found / size, expected / size, rtol=1e-4, atol=0.0)
    assert bool(rule.combine(data._replace(gradients=0.0 * data.gradients)).eq(0.0).all())
    assert bool(rule.combine(given()).isfinite().all()), "with all tasks again"


ODD = {
    "zeros": lambda g: 0.0 * g,
    "one of zeros": lambda g: g * torch.tensor([[0.0], [1.0], [1.0], [1.0]]),
    "twins": lambda g: g[[0, 0, 1, 1]],
    "opposed": lambda g: torch.stack([g[0], -g[0], g[1], -g[1]]),
    "tiny": lambda g: 1e-6 * g,
    "huge": lambda g: 1e6 * g,
    "far beyond": lambda g: 1e20 * g,
    "far below": lambda g: 1e-30 * g,
    "one far below": lambda g: g * torch.tensor([[1e-30], [1.0], [1.0], [1.0]]),
    "alike": lambda g: g[[0, 0, 0, 0]],
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", GRADIENT)
def test_odd_gradients(name, kind):
    data = given(common=0.3)
    odd = data._replace(gradients=ODD[kind](data.gradients))
    found = make(name).combine(odd)
    assert bool(found.isfinite().all())
    if kind == "zeros":
        assert not found.any()
    elif kind in ("tiny", "huge") and name != "nash_mtl":
        size = 1e-6 if kind == "tiny" else 1e6
        torch.testing.assert_close(found / size, make(name).combine(data), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", LOSS)
def test_losses_of_zero(name):
    zeros = torch.tensor([0.0, 1.0, 0.0, 2.0])
    rule = make(name)
    for _ in range(2):
        assert bool(rule.weights(zeros, ALL, 1).isfinite().all())
        if rule.looks_again:
            rule.look_again(zeros, ALL)
        rule.end_update()
    assert bool(make("grad_norm").combine(given()._replace(losses=zeros)).isfinite().all())


def test_pcgrad_of_two_tasks():
    """Each is freed from its part along the other, whatever the order."""
    g = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    a = g[0] - (g[0] @ g[1]) / (g[1] @ g[1]) * g[1]
    b = g[1] - (g[0] @ g[1]) / (g[0] @ g[0]) * g[0]
    found = make("pcgrad").combine(TaskGradients(g, torch.ones(2), torch.arange(2), 0))
    torch.testing.assert_close(found, (a + b) / 2)


def test_graddrop_keeps_one_sign():
    g = given().gradients
    found = make("graddrop").combine(given())
    up, down = g.clamp(min=0).sum(0) / M, g.clamp(max=0).sum(0) / M
    assert bool((torch.isclose(found, up) | torch.isclose(found, down)).all())


def test_mgda_is_the_shortest_of_the_hull():
    found = make("mgda", epsilon=1e-6, max_iters=10_000).combine(given())
    length = found @ found
    products = given().gradients @ found
    assert bool((products >= length - 2e-2).all())  # the condition of optimality


def test_cagrad_is_the_best_of_its_ball():
    g = given().gradients
    mean = g.mean(0)
    found = make("cagrad", c=0.4).combine(given())
    radius = 0.4 * mean.norm()
    torch.testing.assert_close((found - mean).norm(), radius, rtol=1e-3, atol=0.0)
    worst = (g @ found).min()
    tries = torch.nn.functional.normalize(randn(20_000, P, seed=3, dtype=torch.float32), dim=1) * radius + mean
    assert worst > (tries @ g.mT).min(1).values.max()
    torch.testing.assert_close(make("cagrad", c=0.0).combine(given()), mean, rtol=1e-4, atol=1e-5)


def test_imtl_g_projects_alike_on_all():
    g = given().gradients
    products = torch.nn.functional.normalize(g, dim=1) @ make("imtl_g").combine(given())
    torch.testing.assert_close(products, products[0].expand(M), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("mode", "pick"), [("min", torch.min), ("median", torch.median)])
def test_aligned_mtl_makes_singular_values_equal(mode, pick):
    u, s, v = torch.linalg.svd(given().gradients, full_matrices=False)
    squares = s.square()
    expected = (pick(squares).sqrt() * u @ v).mean(0)
    torch.testing.assert_close(make("aligned_mtl", scale_mode=mode).combine(given()), expected, rtol=1e-3, atol=1e-4)


def test_nash_mtl_solves_its_equation():
    """GGᵀ α ∝ 1 / α for α > 0, and the sum is cut to max_norm."""
    data = given(common=0.6)
    g = data.gradients.double()
    found = make("nash_mtl", max_norm=0.5).combine(data)
    assert float(found.norm()) == pytest.approx(0.5, rel=1e-5)
    alpha = torch.linalg.lstsq(g.mT, found.double()).solution
    assert bool((alpha > 0).all())
    products = (g @ g.mT @ alpha) * alpha
    torch.testing.assert_close(products, products.mean().expand(M), rtol=1e-3, atol=0.0)
    assert float(make("nash_mtl", max_norm=0.0).combine(data).norm()) > 0.5


def test_grad_norm_by_hand():
    """Chen et al. 2018, algorithm 1, with torch's autograd and Adam; tasks whose gradients differ in size."""
    rule, w = make("grad_norm", alpha=0.5, lr=0.1), torch.ones(M, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.1)
    scale, first = torch.tensor([[0.1], [1.0], [3.0], [10.0]]), None
    for seed in range(0, 12, 2):
        data = given(seed)
        data = data._replace(gradients=data.gradients * scale.roll(seed // 2, 0))
        first = data.losses if first is None else first
        torch.testing.assert_close(rule.combine(data), (w.detach()[:, None] * data.gradients).mean(0))
        ratio = data.losses / first
        sizes = w * data.gradients.norm(dim=1)
        target = sizes.mean().detach() * (ratio / ratio.mean()) ** 0.5
        adam.zero_grad()
        (sizes - target).abs().sum().backward()
        adam.step()
        with torch.no_grad():
            w.clamp_(min=1e-3).mul_(M / w.sum())
        torch.testing.assert_close(rule.state()["values"], w.detach())
    assert w.max() / w.min() > 1.5


def test_dwa_by_hand():
    rule = make("dwa", temperature=0.5)
    rollouts = [losses(seed) for seed in (1, 2, 3)]
    for number, values in enumerate(rollouts):
        found = [rule.weights(values * scale, ALL, 0) for scale in (0.5, 1.5)]  # their mean is values
        rule.end_update()
        if number < 2:
            assert all(torch.equal(weights, torch.ones(M)) for weights in found)
    expected = M * torch.softmax(rollouts[1] / rollouts[0] / 0.5, dim=0)
    torch.testing.assert_close(found[1], expected)


def test_uncertainty_by_hand():
    """The parameters follow ∂/∂s [exp(−s) L + s], by an Adam of their own."""
    rule, s = make("uncertainty", lr=0.05), torch.zeros(M, requires_grad=True)
    adam = torch.optim.Adam([s], lr=0.05)
    for seed in range(4):
        torch.testing.assert_close(rule.weights(losses(seed), ALL, 0), (-s).exp().detach(), rtol=1e-5, atol=1e-6)
        adam.zero_grad()
        (0.5 * ((-s).exp() * losses(seed) + s)).sum().backward()
        adam.step()


def test_famo_by_hand():
    """Liu et al. 2023, algorithm 2, with the actor's floor."""
    rule, logits = make("famo", network="actor", lr=0.1, weight_decay=0.0, actor_floor=-1.0), torch.zeros(M)
    logits.requires_grad_()
    adam = torch.optim.Adam([logits], lr=0.1)
    for seed in range(3):
        before, after = losses(seed) + 1.0, losses(seed + 1) + 1.0
        z = logits.softmax(0)
        c = 1.0 / (z / before).sum()
        torch.testing.assert_close(rule.weights(losses(seed), ALL, 0), (M * c * z / before).detach())
        rule.look_again(losses(seed + 1), ALL)
        adam.zero_grad()
        (z * (before.log() - after.log())).sum().backward()
        adam.step()


def test_random_loss_weights():
    weights = make("random_loss").weights(losses(), ALL, 5)
    assert float(weights.sum()) == pytest.approx(M, rel=1e-5)
    assert bool((weights > 0).all())


@pytest.mark.parametrize("name", ["famo", "dwa", "uncertainty", "grad_norm"])
def test_a_loss_below_its_floor_is_told(name):
    rule = make(name, network="actor", actor_floor=-0.5)
    bad = torch.tensor([0.1, -0.4, -0.6, 0.0])
    with pytest.raises(RunError, match=r"-0\.6, below -0\.5; a lower model\.combiner\.init_args\.actor_floor"):
        told(rule, bad)
    assert bool(told(rule, bad + 0.2).isfinite().all())


def told(rule, values):
    if isinstance(rule, GradientRule):
        return rule.combine(given()._replace(losses=values))
    return rule.weights(values, ALL, 0)


@pytest.mark.parametrize(("name", "package"), [("pcgrad", "torchjd"), ("cagrad", "cvxpy"), ("nash_mtl", "ecos")])
def test_what_is_not_installed_is_named(monkeypatch, name, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf'needs the package {package}; pip install "varshare-pl\[combiners\]"'):
        make(name)
    assert make("grad_norm") is not None  # ours
