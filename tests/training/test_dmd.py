"""Distribution matching on self rollouts: who is asked what, and what each network learns."""

from dataclasses import replace

import pytest
import torch
from dmd_kit import CONFIG, FRAMES, PAST, SIGMAS, apart, idle, imagined, make_clip, network, slopes, stage, swapped

from worldsim.codec import PixelCodec
from worldsim_training import dmd
from worldsim_training.config import ConsistencyConfig, ContextConfig
from worldsim_training.consistency import Consistency
from worldsim_training.losses import guided, matching_gradient, matching_loss

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_bidirectional_scores_see_the_real_frames_clean_and_the_whole_rollout_noised():
    run, scorer = imagined(network()), dmd.BidirectionalScorer(network(1), 1.0)
    noisy, sigma = stage()._noised(run, torch.Generator().manual_seed(0))
    levels = torch.cat((torch.zeros(len(sigma), PAST), sigma[:, None].expand(-1, FRAMES)), dim=1)
    seen = torch.cat((run.frames[:, :PAST], noisy[:, PAST:]), dim=1)
    given = run.conditions()
    expected = scorer.teacher.bidirectional(seen, levels, given.actions, given.known)
    other = torch.cat((-noisy[:, :PAST], noisy[:, PAST:]), dim=1)
    for ask in (scorer.teacher_x_0, scorer.critic_x_0):
        assert torch.equal(ask(noisy, sigma, run), expected) and torch.equal(ask(other, sigma, run), expected)
        for frame in (PAST - 1, PAST + 1):  # the last real one, and one that comes later
            frames, changed = run.frames.clone(), noisy.clone()
            frames[:, frame] *= -1
            changed[:, frame] *= -1
            answer = ask(changed, sigma, replace(run, frames=frames))
            assert (answer - expected)[:, PAST].abs().max() > 1e-5


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
