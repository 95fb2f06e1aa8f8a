"""``varshare play``: what is drawn is what happened, and files are whole, small and never replaced unasked."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import make_policy, perturb
from PIL import Image

from varshare_pl.cli.main import main
from varshare_pl.envs import get_suite
from varshare_pl.envs.physics.single import DynamicsEnv
from varshare_pl.errors import ConfigError, EnvError
from varshare_pl.random import stream_seed
from varshare_pl.trained.play.episodes import Episodes, Panel
from varshare_pl.trained.play.output import Window
from varshare_pl.trained.play.picture import CAPTION, WIDTH, columns_of, picture
from varshare_pl.trained.policy import TrainedPolicy, load_policy


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run of two tasks; not to be changed."""
    logs = tmp_path_factory.mktemp("played")
    sizes = ["--data.num_envs", "4", "--data.rollout_steps", "32", "--data.total_env_steps", "256"]
    sizes += ["--data.suite", "MirroredCartPole", "--model.minibatch_size", "64", "--model.hidden_sizes", "[8]"]
    sizes += ["--evaluation.episodes", "1", "--plots.enabled", "false"]
    assert main(["fit", *sizes, "--experiment", "short", "--logs_dir", str(logs)]) == 0
    return logs / "short" / "seed_1"


def played(policy, episodes=1, seed=1, every=1, stochastic=False):
    playing = Episodes(policy, episodes, seed, stochastic)
    panels = [[(p.step, p.episode_return, p.ended, p.image.copy()) for p in row] for row in playing.panels(every)]
    playing.close()
    return panels


def test_the_panels_show_the_episodes_of_the_policy():
    actor_critic = make_policy("MirroredCartPole")
    perturb(actor_critic)  # the tasks' actions differ, so that a wrong task is seen
    policy = TrainedPolicy(actor_critic, get_suite("MirroredCartPole"), "varshare", 0)
    shown = played(policy, seed=5)
    for task in range(2):
        env = policy.suite.make_task(task, "rgb_array")
        obs, _ = env.reset(seed=stream_seed(5, "play", task))
        total, over, images = 0.0, False, [env.render()]
        while not over:
            obs, reward, terminated, truncated, _ = env.step(policy(obs, task))
            total, over = total + reward, terminated or truncated
            images.append(env.render())
        env.close()
        steps = len(images) - 1
        for k, row in enumerate(shown):
            step, _, ended, image = row[task]
            assert (step, ended) == (min(k, steps), k >= steps)
            np.testing.assert_array_equal(image, images[min(k, steps)])
        assert shown[-1][task][1] == total
    assert max(row[0] for row in shown[-1]) == len(shown) - 1


def test_every_so_many_steps_and_the_end_are_shown_of_all_episodes(run):
    policy = load_policy(run)
    all_steps, some = played(policy, episodes=3), played(policy, episodes=3, every=4)
    kept = [*all_steps[::4], *([all_steps[-1]] if (len(all_steps) - 1) % 4 else [])]
    assert [[p[:3] for p in row] for row in some] == [[p[:3] for p in row] for row in kept]
    for task in range(2):
        steps = [row[task][0] for row in all_steps]
        # A new episode's first panel is that after its first step, the last ones repeat the end.
        assert sum(later == 1 for later in steps) == 3
    assert [row[:3] for row in played(policy, episodes=3)[-1]] == [row[:3] for row in all_steps[-1]]


def test_drawn_actions_hang_on_the_seed(run):
    policy = load_policy(run)
    assert not torch.equal(*(policy(torch.zeros(50, 4), 0, generator=torch.Generator().manual_seed(k)) for k in (1, 2)))
    lengths = [len(played(policy, seed=3, stochastic=stochastic)) for stochastic in (True, True, False)]
    assert lengths[0] == lengths[1] != lengths[2]


def test_picture_has_a_panel_for_each_task_with_its_caption():
    def panels(name="a task", step=3, ended=False):
        return [Panel(name, np.full((40, 60, 3), 10 * k, np.uint8), step, 1.5, ended) for k in range(2)]

    image = np.asarray(picture(panels()))
    height = 134  # 200 · 40 / 60, even
    assert image.shape == (height + CAPTION, 2 * WIDTH, 3)
    for k in range(2):
        assert (image[CAPTION + 5 : -5, k * WIDTH + 5 : (k + 1) * WIDTH - 5] == 10 * k).all()
        assert (image[2:CAPTION, k * WIDTH + 2 : (k + 1) * WIDTH - 2] < 100).any()  # text
    for other in (panels(name="b task"), panels(step=4), panels(ended=True)):
        assert (np.asarray(picture(other)) != image)[:CAPTION].any()
    long = np.asarray(picture(panels(name="w" * 200)))
    assert (long[2:15, WIDTH - 5 : WIDTH - 1] == 255).all()  # a long name stays in its panel
    assert [columns_of(n) for n in (1, 5, 6, 7, 10, 50)] == [1, 5, 6, 3, 4, 8]


def test_play_writes_a_gif_into_the_runs_folder_once(run, tmp_path, capsys):
    alone = tmp_path / "seed_1"
    (alone / "checkpoints").mkdir(parents=True)
    (alone / "checkpoints" / "last.ckpt").write_bytes((run / "checkpoints" / "last.ckpt").read_bytes())
    assert main(["play", str(alone), "--seed", "2"]) == 0
    path = alone / "play.gif"
    assert capsys.readouterr().out == f"{path}\n"
    shown = played(load_policy(run), seed=2, every=2)  # 50 steps a second, 25 pictures
    with Image.open(path) as gif:
        assert gif.size == (2 * WIDTH, CAPTION + 134)
        seconds = 0.0
        for frame in range(gif.n_frames):
            gif.seek(frame)
            seconds += gif.info["duration"] / 1000
    assert gif.n_frames <= len(shown)  # pictures that are alike are one
    assert seconds == pytest.approx(0.04 * len(shown) + 1.0)
    before = path.read_bytes()
    assert main(["play", str(alone), "--seed", "3"]) == 2
    assert "--overwrite to replace it" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["play", str(alone), "--seed", "3", "--overwrite"]) == 0
    assert path.read_bytes() != before
    assert sorted(p.name for p in alone.iterdir()) == ["checkpoints", "play.gif"]


def test_play_writes_a_video(run, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    assert main(["play", str(run), "--output", str(tmp_path / "play.mp4"), "--fps", "50"]) == 0
    frames, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "play.mp4"))
    assert frames == len(played(load_policy(run))) + 50
    assert seconds == pytest.approx(frames / 50, abs=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["play.mp4"]


def test_play_shows_a_window_and_writes_nothing(run, monkeypatch, capsys):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    before = sorted(run.iterdir())
    assert main(["play", str(run), "--window", "--fps", "10"]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(run.iterdir()) == before


def test_a_window_needs_a_display(monkeypatch):
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with pytest.raises(ConfigError, match=r"--window: there is no display.*--output writes a file"):
        Window("title")


def test_without_pygame_the_extra_is_named(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pygame", None)
    for args, what in (["--overwrite"], "play"), (["--window"], "--window"):
        assert main(["play", str(run), *args]) == 2
        message = f'varshare: error: {what}: rendering needs pygame: pip install "varshare-pl[render]"\n'
        assert capsys.readouterr().err == message
    assert not (run / "play.gif").exists()


def test_a_video_without_ffmpeg_names_the_extra(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main(["play", str(run), "--output", str(tmp_path / "a.mp4")]) == 2
    assert 'pip install "varshare-pl[video]"' in capsys.readouterr().err


def test_tasks_that_cannot_be_drawn_are_told(tmp_path):
    policy = TrainedPolicy(make_policy("ConflictBandit"), get_suite("ConflictBandit"), "varshare", 0)
    with pytest.raises(
        ConfigError, match="play: the task 'action 0 is right' cannot be drawn: render_mode='rgb_array'"
    ):
        Episodes(policy, 1, 1)


def test_gymnasiums_envs_are_drawn():
    suite = get_suite(["Acrobot-v1", {"id": "Acrobot-v1", "attributes": {"LINK_MASS_1": 2.0}}])
    from helpers import make_policy

    from varshare_pl.sharing import Shared

    policy = TrainedPolicy(make_policy(suite.env_spec(), Shared(), hidden_sizes=(8,)), suite, "shared", 0)
    playing = Episodes(policy, 1, 1)
    assert playing.fps == 15
    panels = next(playing.panels(1))
    playing.close()
    assert [panel.name for panel in panels] == ["Acrobot-v1", "Acrobot-v1 LINK_MASS_1=2.0"]
    assert len(np.unique(panels[0].image.reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "play: the following arguments are required: RUN"),
        (["nowhere"], "play: nowhere does not exist; the folder of a run or a checkpoint is allowed"),
        (["."], "load_policy: checkpoints/last.ckpt is missing; it is not the folder of a run"),
        ([".", "--output", "a.png"], "--output: a.png is not allowed; a file that ends in .gif or .mp4 is"),
        ([".", "--output", "none/a.gif"], "--output: none is not a folder"),
        ([".", "--episodes", "0"], "--episodes: 0 is not allowed; a positive integer is"),
        ([".", "--fps", "x"], "play: argument --fps: invalid int value: 'x'"),
        ([".", "--seed", "-1"], "--seed: -1 is not allowed; an integer of at least 0 is"),
        ([".", "--epis", "2"], "play: unrecognized arguments: --epis 2"),
    ],
)
def test_bad_input_is_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["play", *args]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"varshare: error: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_and_mistakes_load_no_torch():
    code = "import sys; from varshare_pl.cli.main import main; code = main(['play', '--help']); "
    code += "code += main(['play', 'x', '--fps', '0']); print(code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("2 False\n")
    assert "--stochastic" in done.stdout


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium warns of the same
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.bool_])
def test_an_image_that_is_not_of_uint8_is_told(kind, monkeypatch):
    policy = TrainedPolicy(make_policy("MirroredCartPole"), get_suite("MirroredCartPole"), "varshare", 0)
    monkeypatch.setattr(DynamicsEnv, "render", lambda self: np.zeros((4, 6, 3), kind))
    with pytest.raises(ConfigError, match=f"'baseline' cannot be drawn: its env gives an image of {kind.__name__} at"):
        played(policy)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_env_that_fails_is_told_in_one_line(monkeypatch):
    policy = TrainedPolicy(make_policy("MirroredCartPole"), get_suite("MirroredCartPole"), "varshare", 0)
    monkeypatch.setattr(DynamicsEnv, "step", lambda self, action: (self._observe(), None, False, False, {}))
    with pytest.raises(EnvError, match=r"env 0 \(task 0, baseline\) at step 1 of its episode gave the reward None"):
        played(policy)
