"""Distribution matching on self rollouts: who is asked what, where gradient flows, what a run keeps."""

from dataclasses import replace

import pytest
import torch
from dot_game import dot_recording
from tiny import tiny_denoiser

from worldsim.codec import PixelCodec
from worldsim.models.dit import CausalDiT
from worldsim.rollout import remember
from worldsim.sampler import FewStepSampler, step_sigmas
from worldsim_training import checkpoint, dmd, journal, loop
from worldsim_training.config import ConsistencyConfig, ContextConfig, DmdConfig, LoopConfig
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import Clip, ClipSampler, Recording
from worldsim_training.loop import Best, average_of
from worldsim_training.losses import guided, matching_gradient, matching_loss

HEIGHT, WIDTH, ACTIONS = 16, 24, 4
PAST, FRAMES, WINDOW = 2, 4, 2  # two temporal layers of window 2: memory overflows
SIGMAS = step_sigmas(2, 2.0)
LOOP = LoopConfig(steps=6, batch=3, learning_rate=1e-3, warmup=1, decay=0.0, beta_1=0.0, ema=0.5, checkpoint_every=2)
CONFIG = DmdConfig(
    loop=LOOP,
    critic_learning_rate=2e-3,
    critic_per_student=2,
    context_frames=PAST,
    frames=FRAMES,
    evaluate_every=2,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def network(seed=0, **settings):
    small = {"height": HEIGHT, "width": WIDTH, "action_size": ACTIONS, "dim": 16, "conv_widths": (8, 8)}
    return tiny_denoiser(seed, **{**small, "window": WINDOW, **settings})


def make_clip(batch=3, length=PAST + FRAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    known = torch.ones(batch, length, dtype=torch.bool)
    return Clip(
        frames=torch.randint(256, (batch, length, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8),
        actions=torch.randint(2, (batch, length, ACTIONS), generator=generator).float(),
        known=known,
        rewards=torch.zeros(batch, length),
        ended=~known,
    )


def swapped(actions, frame):
    """The actions with the one that leads into a frame turned round."""
    actions = actions.clone()
    actions[:, frame] = 1 - actions[:, frame]
    return actions


def imagined(denoiser, exit_step=1, *, actions=None, seed=0):
    clip = make_clip()
    context = PixelCodec().encode(clip.frames[:, :PAST])
    actions = clip.actions if actions is None else actions
    return dmd.imagine(denoiser, SIGMAS, exit_step, context, actions, torch.Generator().manual_seed(seed))


def stage(config=CONFIG, *, student=0, teacher=1, **settings):
    scorer = dmd.CausalScorer(network(teacher, **settings), config.w)
    return dmd.Dmd(network(student, **settings), scorer, SIGMAS, 2.0, config)


def slopes(denoiser, loss):
    return torch.autograd.grad(loss, list(denoiser.parameters()), allow_unused=True, materialize_grads=True)


def idle(denoiser, slopes):
    """The weights that learn nothing: of `no_action` only the detached memory of a first frame hears."""
    named = zip(denoiser.named_parameters(), slopes, strict=True)
    return [name for (name, _), slope in named if slope is None or not slope.any()]


class CountingDenoiser(CausalDiT):
    """The real network, with a list of what was asked of it while it played."""

    @classmethod
    def of(cls, denoiser):
        denoiser.__class__, denoiser.calls = cls, []
        return denoiser

    def forward(self, x_t, sigma, action, cache):
        self.calls.append(sigma[0].item())
        return super().forward(x_t, sigma, action, cache)

    def commit(self, x_0, action, cache):
        self.calls.append("commit")
        super().commit(x_0, action, cache)


@pytest.mark.parametrize("exit_step", [0, 1])
def test_a_frame_takes_the_calls_up_to_its_exit_and_one_commit(exit_step):
    denoiser = CountingDenoiser.of(network())
    run = imagined(denoiser, exit_step)
    calls = [pytest.approx(sigma) for sigma in SIGMAS[: exit_step + 1]]
    assert denoiser.calls == ["commit"] * PAST + [*calls, "commit"] * FRAMES
    assert run.exit_sigma == SIGMAS[exit_step] and run.context == PAST
    assert run.frames.shape == (3, PAST + FRAMES, 3, HEIGHT, WIDTH) and run.exit_input.shape[1] == FRAMES
    assert not run.frames.requires_grad and not run.exit_input.requires_grad


def test_every_rollout_draws_its_exit_and_all_exits_come_up():
    trained, generator = stage(), torch.Generator().manual_seed(0)
    clip = make_clip()
    seen = {trained._imagine(clip, generator).exit_sigma for _ in range(12)}
    assert seen == set(SIGMAS)


@pytest.mark.parametrize("exit_step", [0, 1])
@pytest.mark.parametrize("attention", dmd.ATTENTION.values())
@pytest.mark.parametrize("settings", [{}, {"previous_frame": False, "stem_kind": "patch"}])
def test_the_replay_is_the_rollout(exit_step, attention, settings):
    denoiser = network(**settings)
    run = imagined(denoiser, exit_step)
    again = dmd.replay(denoiser, run, attention)
    assert (again - run.frames[:, PAST:]).abs().max() < 1e-4
    assert again.requires_grad and again.std() > 0.1


def test_in_half_precision_too_the_replay_is_about_the_rollout_and_every_weight_learns():
    denoiser = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run = imagined(denoiser)
        again = dmd.replay(denoiser, run, dmd.ATTENTION["plain"])
    assert (again - run.frames[:, PAST:]).abs().mean() < 0.02 * again.std()
    assert idle(denoiser, slopes(denoiser, again.square().mean())) == ["no_action"]


def cached_answers(denoiser, run, *, frames=range(FRAMES)):
    """The exit calls one by one, each from a memory that is written without gradient."""
    for t in frames:
        cache = denoiser.new_cache(len(run.frames))
        with torch.no_grad():
            remember(denoiser, cache, run.frames[:, : PAST + t], run.actions[:, 1 : PAST + t])
        sigma = torch.full((len(run.frames),), run.exit_sigma)
        yield denoiser(run.exit_input[:, t], sigma, run.actions[:, PAST + t], cache)


def test_plain_gradient_is_that_of_the_exit_calls_over_a_detached_memory():
    denoiser = network()
    run = imagined(denoiser)
    weight = torch.randn(run.exit_input.shape, generator=torch.Generator().manual_seed(1))
    right = slopes(denoiser, (torch.stack(list(cached_answers(denoiser, run)), dim=1) * weight).mean())
    plain, through_memory = (
        slopes(denoiser, (dmd.replay(denoiser, run, attention) * weight).mean())
        for attention in (dmd.ATTENTION["plain"], dmd.ATTENTION["self_gradient"])
    )
    scale = max(slope.abs().max() for slope in right)
    assert all((a - b).abs().max() < 1e-5 * scale for a, b in zip(plain, right, strict=True))
    assert max((a - b).abs().max() for a, b in zip(through_memory, right, strict=True)) > 1e-2 * scale


def test_a_self_gradient_is_the_slope_of_play_whose_memory_is_written_anew():
    denoiser = network()
    run = imagined(denoiser)
    last = FRAMES - 1

    weight = denoiser.blocks[0].time.qkv.weight
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(weight.shape, generator=generator)
    counted = torch.randn(run.exit_input[:, last].shape, generator=generator)
    values = []
    for step in (1e-2, -2e-2, 1e-2):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            (answer,) = cached_answers(denoiser, run, frames=[last])
            values.append((answer * counted).double().sum().item())
    by_hand = (values[0] - values[1]) / 2e-2
    through_memory, plain = (
        (torch.autograd.grad((dmd.replay(denoiser, run, kind)[:, last] * counted).sum(), weight)[0] * direction).sum()
        for kind in (dmd.ATTENTION["self_gradient"], dmd.ATTENTION["plain"])
    )
    assert abs(through_memory - by_hand) < 0.05 * abs(by_hand) < abs(plain - by_hand)


@pytest.mark.parametrize("attention", dmd.ATTENTION.values())
def test_the_loss_of_a_frame_reaches_what_its_own_call_was_handed_alone(attention):
    denoiser = network()
    run = imagined(denoiser)
    run = replace(run, exit_input=run.exit_input.requires_grad_(True))
    dmd.replay(denoiser, run, attention)[:, 2].square().sum().backward()
    reached = run.exit_input.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [t == 2 for t in range(FRAMES)]


def test_a_pixel_that_left_the_range_is_clamped_and_can_come_back():
    denoiser = network()
    with torch.no_grad():
        denoiser.head.leave.bias += 100
    run = imagined(denoiser)
    again = dmd.replay(denoiser, run, dmd.ATTENTION["plain"])
    assert (run.frames[:, PAST:] == 1).all() and torch.allclose(again, torch.ones(()), atol=1e-4)
    (slope,) = torch.autograd.grad(again.mean(), denoiser.head.leave.bias)
    assert (slope > 0).all()


# --- scores ---


def test_a_swapped_action_changes_its_frame_in_rollout_replay_and_scores_and_none_before():
    trained, clip, at = stage(), make_clip(), PAST + 1
    runs = [imagined(trained.student, actions=each) for each in (clip.actions, swapped(clip.actions, at))]
    change = (runs[0].frames - runs[1].frames).abs().amax(dim=(0, 2, 3, 4))
    assert (change[:at] == 0).all() and (change[at:] > 1e-4).all()
    acted = [runs[0], replace(runs[0], actions=swapped(clip.actions, at))]  # the same frames under another action
    noisy, sigma = trained._noised(runs[0], torch.Generator().manual_seed(0))
    for ask in (
        lambda run: dmd.replay(trained.student, run, dmd.ATTENTION["plain"]),
        lambda run: trained.scorer.teacher_x_0(noisy, sigma, run)[:, PAST:],
        lambda run: trained.scorer.critic_x_0(noisy, sigma, run)[:, PAST:],
    ):
        change = (ask(acted[0]) - ask(acted[1])).abs().amax(dim=(0, 2, 3, 4))
        assert (change[: at - PAST] == 0).all() and (change[at - PAST :] > 1e-5).all()


def test_a_score_sees_the_rollout_before_its_frame_and_nothing_after():
    trained = stage()
    run = imagined(trained.student)
    noisy, sigma = trained._noised(run, torch.Generator().manual_seed(0))
    frames = run.frames.clone()
    frames[:, PAST + 1] *= -1
    for ask in (trained.scorer.teacher_x_0, trained.scorer.critic_x_0):
        change = ask(noisy, sigma, run) - ask(noisy, sigma, replace(run, frames=frames))
        change = change.abs().amax(dim=(0, 2, 3, 4))
        assert (change[: PAST + 2] == 0).all() and (change[PAST + 2 :] > 1e-4).all()


def test_teacher_and_critic_start_equal_and_only_the_teacher_is_guided():
    teacher = network(1)
    run = imagined(network())
    noisy, sigma = stage()._noised(run, torch.Generator().manual_seed(0))
    plain, strong = dmd.CausalScorer(teacher, 1.0), dmd.CausalScorer(teacher, 2.5)
    conditional = plain.teacher_x_0(noisy, sigma, run)
    for scorer in (plain, strong):
        assert torch.equal(scorer.critic_x_0(noisy, sigma, run), conditional)
    nothing = torch.zeros(run.actions.shape[:2], dtype=torch.bool)
    given = replace(run.conditions(), known=nothing)
    levels = sigma[:, None].expand(-1, PAST + FRAMES)
    unconditional = given.predict(teacher, noisy, levels)
    assert torch.allclose(strong.teacher_x_0(noisy, sigma, run), guided(conditional, unconditional, 2.5), atol=1e-6)
    assert (conditional - unconditional).abs().max() > 1e-3


def test_a_rollout_is_scored_at_one_level_a_clip_within_the_shifted_range():
    trained = stage(replace(CONFIG, sigma_range=(0.1, 0.6)))
    run = imagined(trained.student)
    many = replace(run, frames=run.frames[:1].expand(500, -1, -1, -1, -1))
    noisy, sigma = trained._noised(many, torch.Generator().manual_seed(0))
    assert sigma.shape == (500,) and 0.18 < sigma.min() < 0.2 and 0.74 < sigma.max() <= 0.75
    level = sigma[:, None, None, None, None]
    eps = (noisy - (1 - level) * many.frames) / level
    assert abs(eps.mean()) < 0.01 and abs(eps.std() - 1) < 0.01


# --- losses of the stage ---


def apart(trained):
    """The stage with its critic moved away from its teacher."""
    with torch.no_grad():
        for weight in trained.scorer.critic.parameters():
            weight.mul_(1.05)
    return trained


def test_each_loss_trains_its_own_network_alone():
    trained, clip = apart(stage()), make_clip()
    trained.loss(clip, torch.Generator().manual_seed(0)).backward()
    assert idle(trained.student, [weight.grad for weight in trained.student.parameters()]) == ["no_action"]
    others = (*trained.scorer.critic.parameters(), *trained.scorer.teacher.parameters(), *trained.average.parameters())
    assert all(weight.grad is None for weight in others)
    trained.student.zero_grad()
    trained.critic_loss(clip, torch.Generator().manual_seed(0)).backward()
    assert all(weight.grad.any() for weight in trained.scorer.critic.parameters())
    assert all(weight.grad is None for weight in (*trained.student.parameters(), *trained.scorer.teacher.parameters()))


def test_the_student_starts_where_it_is_while_critic_and_teacher_agree():
    assert apart(stage()).loss(make_clip(), torch.Generator().manual_seed(0)) > 0
    fresh = stage()
    loss = fresh.loss(make_clip(), torch.Generator().manual_seed(0))
    assert loss == 0 and not any(slope.any() for slope in slopes(fresh.student, loss))


def test_the_loss_is_that_of_the_replayed_frames_against_both_scores():
    trained, clip, generator = apart(stage()), make_clip(), torch.Generator().manual_seed(3)
    run = trained._imagine(clip, generator)
    noisy, sigma = trained._noised(run, generator)
    x = run.frames[:, PAST:]
    scores = (each(noisy, sigma, run)[:, PAST:] for each in (trained.scorer.critic_x_0, trained.scorer.teacher_x_0))
    expected = matching_loss(x, matching_gradient(x, *scores))
    loss = trained.loss(clip, torch.Generator().manual_seed(3))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3) and expected > 0


def test_some_clips_are_imagined_under_the_actions_of_others():
    trained, clip = stage(replace(CONFIG, other_actions_share=0.67)), make_clip()
    run = trained._imagine(clip, torch.Generator().manual_seed(0))
    assert torch.equal(run.actions[:, :PAST], clip.actions[:, :PAST])
    assert torch.equal(run.actions[:, PAST:], clip.actions[[2, 0, 2], PAST:])
    real = PixelCodec().encode(clip.frames)
    assert torch.equal(run.frames[:, :PAST], real[:, :PAST])


def test_the_paired_loss_is_the_error_of_the_clips_under_their_own_actions():
    losses = []
    for weight in (0.0, 2.0):
        trained = apart(stage(replace(CONFIG, other_actions_share=0.34, paired_weight=weight)))
        losses.append(trained.loss(make_clip(), torch.Generator().manual_seed(3)).item())
    run = trained._imagine(make_clip(), torch.Generator().manual_seed(3))
    error = (run.frames - PixelCodec().encode(make_clip().frames))[1:, PAST:].square().mean().item()
    assert losses[1] - losses[0] == pytest.approx(2.0 * error, rel=1e-3)


def test_the_regulariser_is_the_consistency_loss_of_this_student_on_real_clips():
    context = ContextConfig(painted_share=0.0)
    regulariser = Consistency(network(1), ConsistencyConfig(intervals=4), context)
    scorer = dmd.CausalScorer(network(1), 1.0)
    trained = dmd.Dmd(network(), scorer, SIGMAS, 2.0, replace(CONFIG, consistency_weight=0.5), regulariser)
    loss = trained.loss(make_clip(), torch.Generator().manual_seed(0))
    loss.backward()  # critic and teacher agree: all of it is the regulariser's
    assert loss > 0 and all(weight.grad is not None for weight in trained.student.parameters())
    assert regulariser.average is trained.average and all(
        weight.grad is None for weight in trained.average.parameters()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring": "psychic"}, "world.dmd.scoring is 'psychic'; use one of causal, bidirectional"),
        ({"replay": "twice"}, "world.dmd.replay is 'twice'; use one of plain, self_gradient"),
        ({"frames": 0}, "world.dmd.frames is 0; use at least 1"),
        ({"sigma_range": (0.0, 0.5)}, "world.dmd.sigma_range is 0.0 to 0.5; use levels above 0, up to 1"),
        ({"other_actions_share": 1.5}, "other_actions_share is 1.5; a share is between 0 and 1"),
        ({"other_actions_share": 1.0, "paired_weight": 1.0}, "no clip has its own actions; lower it, or set"),
    ],
)
def test_a_setting_that_cannot_be_trained_with_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dmd.check(replace(CONFIG, **changes))


# --- the run ---


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dot")
    return dot_recording(folder, frames=300), Recording.load(folder, "validation", progress=False)


class KilledClips(ClipSampler):
    """A sampler during whose eighth batch the process ends."""

    drawn = 0

    def sample(self):
        self.drawn += 1
        if self.drawn == 8:
            raise KeyboardInterrupt
        return super().sample()


def with_best(trained, recordings, every=1):
    held_out = ClipSampler(recordings[1], 8, batch=2, seed=1).sample()
    measure = dmd.PlayedScore(trained.average, FewStepSampler(SIGMAS), held_out, 4)
    trained.best = Best(trained.average, measure, every)
    return trained


def fit(trained, recordings, folder, config=LOOP, sampler=ClipSampler):
    folder.mkdir(exist_ok=True)
    clips = sampler(recordings[0], PAST + FRAMES, batch=3, seed=5)
    return dmd.fit(trained, clips, config, folder, settings={})


def tensors(folder):
    return checkpoint.load(folder / loop.CHECKPOINT)[0]


def test_a_kill_in_the_middle_changes_no_bit_of_any_network_or_optimiser(recordings, tmp_path):
    straight, killed, resumed = (with_best(stage(teacher=seed, depth=1), recordings) for seed in (1, 1, 1))
    assert fit(straight, recordings, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        fit(killed, recordings, tmp_path / "killed", sampler=KilledClips)
    assert checkpoint.load_notes(tmp_path / "killed" / loop.CHECKPOINT)["step"] == 4
    with torch.no_grad():
        for each in (resumed.student, resumed.average, resumed.scorer.critic, resumed.best.network):
            for weight in each.parameters():
                weight.zero_()  # everything but the teacher comes from the checkpoint
    assert fit(resumed, recordings, tmp_path / "killed")
    one, other = (tensors(tmp_path / each) for each in ("straight", "killed"))
    assert {name.split("/")[0] for name in one} == {
        *("student", "rival", "average", "best", "adam", "adam_rival", "generator"),
    }
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert straight.best.score == resumed.best.score
    rows = [list(journal.read_log(tmp_path / each)) for each in ("straight", "killed")]
    assert [{**row, "seconds": 0} for row in rows[0]] == [{**row, "seconds": 0} for row in rows[1]]


def test_the_student_moves_first_and_at_every_second_step(recordings, tmp_path):
    trained, seen = stage(depth=1), []

    def watched(name, plain):
        def loss(clip, generator):
            seen.append(
                (name, *(next(each.parameters()).sum().item() for each in (trained.student, trained.scorer.critic)))
            )
            return plain(clip, generator)

        return loss

    trained.loss = watched("student", trained.loss)
    trained.rival = replace(trained.rival, loss=watched("critic", trained.critic_loss))
    with torch.no_grad():
        next(trained.scorer.critic.parameters()).add_(0.1)
    fit(trained, recordings, tmp_path, replace(LOOP, steps=4))
    assert [name for name, *_ in seen] == ["student", "critic", "critic", "student", "critic", "critic"]
    students, critics = ([row[i] for row in seen] for i in (1, 2))
    assert students[0] != students[1] == students[2] == students[3] != students[4] == students[5]
    assert critics[0] == critics[1] != critics[2] != critics[3] == critics[4] != critics[5]


def test_both_counts_and_both_losses_are_logged(recordings, tmp_path):
    fit(
        with_best(stage(depth=1), recordings, every=2), recordings, tmp_path, replace(LOOP, steps=7, checkpoint_every=3)
    )
    rows = list(journal.read_log(tmp_path))
    assert [(row["step"], row["student_updates"]) for row in rows] == [(3, 2), (6, 3), (7, 4)]
    assert all(row["loss"] >= 0 and row["rival_loss"] > 0 for row in rows)
    reviews = [review for row in rows for review in row.get("reviews", [])]
    assert [(review["step"], review["student_updates"]) for review in reviews] == [(0, 0), (3, 2), (7, 4)]
    assert {"score", "gain_1_db", "motion_ratio", "sharpness_ratio"} <= set(reviews[0])


@pytest.mark.parametrize("scores", [(1.0, 3.0, 2.0), (5.0, 3.0, 2.0)])
def test_the_result_is_the_best_average_the_first_included(scores, recordings, tmp_path):
    trained, seen, left = apart(stage(depth=1)), [], iter(scores)

    def measure(average):
        seen.append(average_of(average).state_dict())
        return {"score": next(left)}

    trained.best = Best(trained.average, measure, 1)
    fit(trained, recordings, tmp_path, replace(LOOP, steps=3))
    best = seen[scores.index(max(scores))]
    assert all(torch.equal(best[name], value) for name, value in trained.average.state_dict().items())
    last = checkpoint.unpack("average", tensors(tmp_path))
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_a_critic_that_is_not_finite_stops_the_run(recordings, tmp_path):
    trained = stage(depth=1)
    trained.rival = replace(
        trained.rival, loss=lambda clip, generator: trained.critic_loss(clip, generator) * torch.nan
    )
    with pytest.raises(loop.TrainingFault, match="dmd: rival's loss is not finite at step 0; there is no checkpoint"):
        fit(trained, recordings, tmp_path)


def test_the_score_is_the_mean_gain_less_the_distance_of_motion_and_sharpness(recordings):
    clips = ClipSampler(recordings[1], 8, batch=2, seed=1).sample()
    scores = dmd.PlayedScore(network(depth=1), FewStepSampler(SIGMAS), clips, 4)(network(3, depth=1))
    gains = (scores["gain_1_db"] + scores["gain_4_db"]) / 2
    away = sum(abs(10 * torch.tensor(scores[f"{what}_ratio"]).log10().item()) for what in ("motion", "sharpness"))
    assert scores["score"] == pytest.approx(gains - away, abs=1e-4)
