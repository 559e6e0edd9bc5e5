"""What the stages teach, on a game small enough to be learnt in seconds."""

import numpy as np
import pytest
import torch
from dot_game import BOTTOM, CHANNELS, HEIGHT, RIGHT, WIDTH, dot_recording, dot_xy, draw
from tiny import tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.heads import OutcomeHead, before_of, outcome_loss
from worldsim.models.dit import CausalDiT
from worldsim.sampler import FewStepSampler, euler_step, step_sigmas
from worldsim_training import journal, loop, outcomes, validate
from worldsim_training.config import ConsistencyConfig, ContextConfig, LoopConfig, TeacherForcingConfig
from worldsim_training.consistency import Consistency
from worldsim_training.context import paint_clip
from worldsim_training.dataset import Clip, ClipSampler, Recording
from worldsim_training.losses import heun_step
from worldsim_training.outcomes import Outcomes
from worldsim_training.teacher_forcing import TeacherForcing

CONTEXT = ContextConfig(noise_share=0.0, action_dropout=0.0)  # so short a training needs every frame
WINDOW = 4


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def recording(folder):
    return dot_recording(folder / "data", frames=4000)


@pytest.fixture(scope="module")
def held_out(recording, folder):
    clips = ClipSampler(Recording.load(folder / "data", "validation", progress=False), WINDOW + 16, batch=16, seed=1)
    return clips.sample()


def train(stage, recording, folder, steps, learning_rate):
    config = LoopConfig(steps=steps, batch=8, learning_rate=learning_rate, warmup=20, ema=0.95, checkpoint_every=50)
    (folder / stage.name).mkdir()
    clips = ClipSampler(recording, 4, config.batch, seed=4)
    assert loop.fit(stage, clips, config, folder / stage.name, settings={})
    return [row["loss"] for row in journal.read_log(folder / stage.name)]


@pytest.fixture(scope="module")
def teacher(recording, folder):
    torch.manual_seed(4)  # learns well before the last update: other rounding does not decide
    network = CausalDiT(HEIGHT, WIDTH, 4, dim=48, depth=2, heads=2, window=WINDOW, conv_widths=(8, 16))
    stage = TeacherForcing(network, TeacherForcingConfig(), CONTEXT)
    losses = train(stage, recording, folder, steps=300, learning_rate=4e-3)
    assert losses[-1] < 0.2 * losses[0]
    return stage.average


@pytest.fixture(scope="module")
def student(teacher, recording, folder):
    stage = Consistency(teacher, ConsistencyConfig(intervals=12), CONTEXT)
    train(stage, recording, folder, steps=40, learning_rate=5e-4)
    return stage.average


def paint_after(network, action, *, steps=2):
    """Frame (H, W, 3) that the network paints after the square has stood in the top left corner for four frames."""
    still = torch.from_numpy(draw(0, 0)).permute(2, 0, 1)
    vector = torch.tensor([[float(name == action) for name in CHANNELS]])
    clip = Clip(
        frames=still.expand(1, WINDOW + 1, -1, -1, -1),
        actions=torch.cat((torch.zeros(WINDOW, 4), vector))[None],
        known=torch.ones(1, WINDOW + 1, dtype=torch.bool),
        rewards=torch.zeros(1, WINDOW + 1),
        ended=torch.zeros(1, WINDOW + 1, dtype=torch.bool),
    )
    frame = validate.free_run(network, FewStepSampler(step_sigmas(steps, 2.0)), clip, WINDOW)
    return frame[0, 0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_a_trained_network_beats_copying_the_last_frame(stage, steps, held_out, request):
    network = request.getfixturevalue(stage)
    imagined = validate.free_run(network, FewStepSampler(step_sigmas(steps, 2.0)), held_out, WINDOW)
    scores = validate.score(imagined, held_out, WINDOW)
    assert min(scores["gain_1_db"], scores["gain_4_db"], scores["gain_16_db"]) > 3
    assert 0.7 < scores["motion_ratio"] < 1.4


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_an_action_moves_the_picture_its_own_way(stage, request):
    network = request.getfixturevalue(stage)
    x, y = dot_xy(draw(0, 0))
    assert np.allclose(dot_xy(paint_after(network, "left")), (x, y), atol=1.5)
    assert np.allclose(dot_xy(paint_after(network, "right")), (x + RIGHT, y), atol=1.5)
    assert np.allclose(dot_xy(paint_after(network, "down")), (x, y + BOTTOM), atol=1.5)


def spied(network, monkeypatch):
    """The arguments and answers of every packed pass of a network, in turn."""
    calls, whole = [], network.packed

    def packed(*arguments):
        answer = whole(*arguments)
        calls.append((*arguments, answer))
        return answer

    monkeypatch.setattr(network, "packed", packed)
    return calls


def test_distillation_trains_every_interval_and_the_last_one_on_its_teacher(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    stage = Consistency(network, ConsistencyConfig(intervals=4, grid_shift=2.0), ContextConfig(painted_share=0.0))
    with torch.no_grad():
        for weight in stage.student.parameters():
            weight.mul_(1.1)
    teacher, average, student = (spied(each, monkeypatch) for each in (stage.teacher, stage.average, stage.student))
    clip = ClipSampler(recording, 4, 32, seed=0).sample()
    loss = stage.loss(clip, torch.Generator().manual_seed(0))
    (x_n, sigma, *given, answer), (_, sigma_next, *_, target) = student[0], average[0]
    assert len(teacher) == len(average) == len(student) == 1
    assert torch.equal(teacher[0][0], x_n)
    assert all(torch.equal(a, b) for calls in (teacher, average) for a, b in zip(calls[0][2:6], given, strict=True))
    assert torch.equal(sigma.unique(), stage.grid[:-1].float().flip(0))
    terminal = (sigma_next == 0)[..., None, None, None]
    assert torch.equal(sigma[sigma_next == 0].unique(), stage.grid[-2:-1].float())
    expected = torch.where(terminal, teacher[0][-1], target)
    assert torch.allclose(loss, (answer - expected)[:, 1:].square().mean(), rtol=1e-4)
    loss.backward()
    assert not any(weight.grad is not None for weight in (*stage.teacher.parameters(), *stage.average.parameters()))
    assert all(weight.grad is not None for weight in stage.student.parameters())


def test_heuns_step_asks_the_teacher_at_both_ends(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    config = ConsistencyConfig(intervals=4, grid_shift=2.0, solver="heun")
    stage = Consistency(network, config, ContextConfig(painted_share=0.0))
    teacher, average = (spied(each, monkeypatch) for each in (stage.teacher, stage.average))
    loss = stage.loss(ClipSampler(recording, 4, 32, seed=0).sample(), torch.Generator().manual_seed(0))
    (x_n, sigma, *_, first), (end, level, *_, second) = teacher
    x_next, sigma_next = average[0][:2]
    expected = heun_step(x_n, first, sigma, sigma_next, lambda x, there: second)
    assert torch.allclose(x_next, expected, atol=1e-5) and torch.equal(
        level[sigma_next > 0], sigma_next[sigma_next > 0]
    )
    assert torch.allclose(end, euler_step(x_n, first, sigma, sigma_next), atol=1e-5) and loss.isfinite()


def test_an_unknown_solver_is_refused():
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    with pytest.raises(ValueError, match="consistency.solver is 'rk4'; use one of euler, heun"):
        Consistency(network, ConsistencyConfig(solver="rk4"), ContextConfig())


def test_a_share_kept_at_pure_noise_learns_the_mean_of_its_teacher_and_all_else_is_distilled(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    config = ConsistencyConfig(intervals=4, grid_shift=2.0, mean_share=0.5)
    stage = Consistency(network, config, ContextConfig(painted_share=0.0))
    with torch.no_grad():
        for weight in stage.average.parameters():
            weight.mul_(1.1)
    teacher, average, student = (spied(each, monkeypatch) for each in (stage.teacher, stage.average, stage.student))
    loss = stage.loss(ClipSampler(recording, 4, 64, seed=0).sample(), torch.Generator().manual_seed(0))
    sigma, sigma_next = student[0][1], average[0][1]
    mean, last = ((level == end)[..., None, None, None] for level, end in ((sigma, 1.0), (sigma_next, 0.0)))
    assert abs(mean.float().mean() - 0.5) < 0.1 and len(sigma.unique()) == 4
    end = torch.where(last, average[0][0], average[0][-1])
    expected = torch.where(mean, teacher[0][-1], end)
    assert torch.allclose(loss, (student[0][-1] - expected)[:, 1:].square().mean(), rtol=1e-4)


def test_a_stage_starts_all_its_networks_from_the_teacher():
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    stage = Consistency(network, ConsistencyConfig(), CONTEXT)
    for each in (stage.teacher, stage.average, stage.student):
        assert all(torch.equal(weight, weights[name]) for name, weight in each.state_dict().items())
    assert not stage.teacher.training and not any(weight.requires_grad for weight in stage.teacher.parameters())


def test_a_share_of_the_frames_is_trained_from_pure_noise_and_no_level_leaves_its_range(recording, monkeypatch):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    stage = TeacherForcing(network, TeacherForcingConfig(pure_noise=0.25), ContextConfig(painted_share=0.0))
    calls = spied(network, monkeypatch)
    stage.loss(ClipSampler(recording, 4, 256, seed=0).sample(), torch.Generator().manual_seed(0))
    sigma = calls[0][1]
    assert sigma.min() >= 0 and sigma.max() == 1
    assert abs((sigma == 1).float().mean() - 0.25) < 0.05
    assert (sigma[:, 0] != sigma[:, 1]).any()


def test_the_loss_leaves_out_the_first_frame_of_a_clip(recording):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH, action_size=4, dim=16, depth=1)
    stage = TeacherForcing(network, TeacherForcingConfig(), ContextConfig(noise_share=0.0, painted_share=0.0))
    clip = ClipSampler(recording, 2, 8, seed=0).sample()
    losses = []
    for first in (clip.frames[:, :1], 255 - clip.frames[:, :1]):
        changed = Clip(
            torch.cat((first, clip.frames[:, 1:]), dim=1), clip.actions, clip.known, clip.rewards, clip.ended
        )
        captured = {}
        plain = network.packed

        def packed(*arguments, plain=plain, captured=captured):
            captured["answer"] = plain(*arguments)
            captured["answer"].retain_grad()
            return captured["answer"]

        network.packed = packed
        losses.append(stage.loss(changed, torch.Generator().manual_seed(0)))
        network.packed = plain
        losses[-1].backward()
        slope = captured["answer"].grad
        assert not slope[:, 0].any() and slope[:, 1].any()
    assert losses[0] != losses[1]  # as context, it counts


def test_every_painted_frame_comes_from_the_real_ones_before_it(student, recording):
    """With a window full of real frames, `paint_clip` answers what one step of play answers."""
    clip = ClipSampler(recording, 3, 2, seed=0).sample()
    clip = Clip(clip.frames, clip.actions, torch.tensor([[False, True, True]] * 2), clip.rewards, clip.ended)
    real = PixelCodec().encode(clip.frames)
    sampler = FewStepSampler(step_sigmas(1, 2.0))
    painted = paint_clip(student, sampler, real, clip.actions, clip.known, torch.Generator().manual_seed(3))
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(3))
    cache = student.new_cache(2)
    with torch.no_grad():
        student.commit(real[:, 0], None, cache)
        student.commit(real[:, 1], clip.actions[:, 1], cache)
        answer = student(noise[:, 2], torch.ones(2), clip.actions[:, 2], cache)
    assert torch.equal(painted[:, 0], real[:, 0])
    assert torch.allclose(painted[:, 2], answer.clamp(-1, 1), atol=1e-4)


def test_the_head_learns_reward_and_end_off_real_and_painted_frames(student, recording, folder):
    torch.manual_seed(0)
    stage = Outcomes(OutcomeHead(HEIGHT, WIDTH, (0.0, 1.0), width_conv=8), student, FewStepSampler(step_sigmas(1, 2.0)))
    train(stage, recording, folder, steps=80, learning_rate=3e-3)
    clip = ClipSampler(recording, 4, 64, seed=9).sample()
    real, earned = PixelCodec().encode(clip.frames), clip.rewards[:, 1:].flatten()
    sampler, generator = FewStepSampler(step_sigmas(2, 2.0)), torch.Generator().manual_seed(0)
    painted = paint_clip(student, sampler, real, clip.actions, clip.known, generator)
    for after in (real, painted):
        rewards, odds = stage.average.read(real[:, :-1].flatten(0, 1), after[:, 1:].flatten(0, 1))
        assert (rewards == earned)[earned == 1].float().mean() > 0.9
        assert (rewards == earned)[earned == 0].float().mean() > 0.95
        assert (odds > 0).float().mean() < 0.05


def test_without_a_painter_the_head_learns_off_real_frames_alone(recording):
    head = OutcomeHead(HEIGHT, WIDTH, (0.0, 1.0), width_conv=8)
    clip = ClipSampler(recording, 4, 8, seed=9).sample()
    loss = Outcomes(head, None, FewStepSampler((1.0,))).loss(clip, torch.Generator().manual_seed(0))
    real = PixelCodec().encode(clip.frames)
    answer = head(real[:, :-1].flatten(0, 1), real[:, 1:].flatten(0, 1))
    rewards, ended = clip.rewards[:, 1:].flatten(), clip.ended[:, 1:].flatten()
    assert torch.equal(loss, outcome_loss(*answer, rewards, ended, torch.tensor((0.0, 1.0))))


def test_a_head_that_looks_back_learns_off_the_transitions_whose_earlier_frame_the_clip_shows(recording):
    head = OutcomeHead(HEIGHT, WIDTH, (0.0, 1.0), width_conv=8, lag=3)
    clip = ClipSampler(recording, 6, 8, seed=9).sample()
    loss = Outcomes(head, None, FewStepSampler((1.0,))).loss(clip, torch.Generator().manual_seed(0))
    real = PixelCodec().encode(clip.frames)
    told = [head(torch.cat((real[:, new - 3], real[:, new - 1]), dim=1), real[:, new]) for new in (3, 4, 5)]
    answer = [torch.cat(parts) for parts in zip(*told, strict=True)]
    rewards, ended = clip.rewards[:, 3:].T.flatten(), clip.ended[:, 3:].T.flatten()
    assert torch.allclose(loss, outcome_loss(*answer, rewards, ended, torch.tensor((0.0, 1.0))), atol=1e-6)


def test_a_head_that_looks_back_is_shown_its_past_and_the_new_frame_real_or_painted_as_drawn(monkeypatch):
    monkeypatch.setattr(outcomes, "paint_clip", lambda painter, sampler, real, *rest: real + 10)
    stage = Outcomes(OutcomeHead(HEIGHT, WIDTH, (0.0,), width_conv=8, lag=3), tiny_denoiser(), FewStepSampler((1.0,)))
    seen = []
    stage.student.register_forward_pre_hook(lambda head, pair: seen.append(pair))
    number = torch.arange(4 * 7, dtype=torch.uint8).view(4, 7)  # no frame of the four clips is like another
    frames = number[..., None, None, None].expand(4, 7, 3, HEIGHT, WIDTH)
    zeros = torch.zeros(4, 7)
    clip = Clip(frames, zeros[..., None], zeros > -1, zeros, zeros > 0)
    stage.loss(clip, torch.Generator().manual_seed(0))

    kind = torch.randint(3, (4, 7, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    assert len(kind[:, 3:].unique()) == 3
    real = PixelCodec().encode(frames)
    led_here, led_on = real + 10 * (kind > 0), real[:, :-1] + 10 * (kind[:, 1:] == 2)  # a step's last and first frame
    ((before, after),) = seen
    told = [torch.cat((led_on[:, new - 3], led_on[:, new - 1]), dim=1) for new in range(3, 7)]
    assert torch.equal(before.unflatten(0, (4, 4)), torch.stack(told, dim=1))
    assert torch.equal(after.unflatten(0, (4, 4)), led_here[:, 3:])


def test_a_head_that_looks_back_learns_an_end_that_comes_so_long_after_what_announces_it():
    """The lamp at the top goes on for good; from the third step after that on the game is over."""
    rng = np.random.default_rng(0)

    def clip():
        on = torch.from_numpy(rng.integers(1, 9, size=(32, 1)))
        frames = torch.full((32, 8, 3, HEIGHT, WIDTH), 40, dtype=torch.uint8)
        frames[:, :, :, :4] = torch.where(torch.arange(8) >= on, 255, 0)[..., None, None, None].to(torch.uint8)
        zeros = torch.zeros(32, 8)
        return Clip(frames, zeros[..., None], zeros > -1, zeros, torch.arange(8) >= on + 3)

    odds = {}
    for lag in (1, 3):
        torch.manual_seed(0)
        head = OutcomeHead(HEIGHT, WIDTH, (0.0,), width_conv=8, lag=lag)
        stage = Outcomes(head, None, FewStepSampler((1.0,)))
        optimiser = torch.optim.Adam(head.parameters(), 3e-3)
        for _ in range(150):
            optimiser.zero_grad()
            stage.loss(clip(), torch.Generator()).backward()
            optimiser.step()
        held_out = clip()
        real = PixelCodec().encode(held_out.frames)
        past = torch.stack([real[:, new - lag : new] for new in range(3, 8)], dim=1).flatten(0, 1)
        _, odds[lag] = head.read(before_of(past), real[:, 3:].flatten(0, 1))
    ended = held_out.ended[:, 3:].flatten()
    wrong = {lag: (each > 0).ne(ended).float().mean() for lag, each in odds.items()}
    assert wrong[3] == 0 and wrong[1] > 0.1  # two frames of a lit lamp are alike
