"""The quick scores of a network on held-out clips."""

import numpy as np
import pytest
import torch
from tiny import tiny_denoiser

from worldsim.sampler import FewStepSampler
from worldsim_training import validate
from worldsim_training.dataset import Clip

PAST, LENGTH, HEIGHT, WIDTH, SAMPLER = 2, 6, 16, 24, FewStepSampler((1.0, 0.5))


def clips(count):
    random = torch.Generator().manual_seed(1)
    shape = (count, PAST + LENGTH)
    return Clip(
        frames=torch.randint(256, (*shape, 3, HEIGHT, WIDTH), generator=random).to(torch.uint8),
        actions=(torch.rand((*shape, 5), generator=random) > 0.5).float(),
        known=torch.ones(shape, dtype=torch.bool),
        rewards=torch.zeros(shape),
        ended=torch.zeros(shape, dtype=torch.bool),
    )


class Deaf:
    """A network that is never told its actions."""

    def __init__(self, network):
        self.network, self.new_cache = network, network.new_cache

    def __call__(self, x_t, sigma, action, cache):
        return self.network(x_t, sigma, torch.zeros_like(action), cache)

    def commit(self, x_0, action, cache):
        self.network.commit(x_0, None if action is None else torch.zeros_like(action), cache)


def response(network, clip):
    imagined = validate.free_run(network, SAMPLER, clip, PAST)
    return validate.response(network, SAMPLER, clip, PAST, imagined)["response_levels"]


@pytest.mark.parametrize("count", [1, 3])
def test_only_a_network_that_hears_its_actions_responds_to_others(count):
    network = tiny_denoiser(height=HEIGHT, width=WIDTH)
    assert response(network, clips(count)) > 0.01
    assert response(Deaf(network), clips(count)) == 0.0


def test_a_clip_that_was_drawn_twice_answers_to_another_clips_actions():
    network, drawn = tiny_denoiser(height=HEIGHT, width=WIDTH), clips(2)
    both, twice = (Clip(*(each[rows] for each in vars(drawn).values())) for rows in ([0, 1], [0, 0, 0]))
    assert response(network, twice) > 0.01
    repeated = validate._others(Clip(*(each[[0, 0, 1]] for each in vars(drawn).values())).actions)
    assert torch.equal(repeated, both.actions[[1, 1, 0]])


def test_the_response_is_the_mean_change_under_the_next_clips_actions():
    network, clip = tiny_denoiser(height=HEIGHT, width=WIDTH), clips(2)
    clip.actions[:, :PAST] = 0.0
    imagined = validate.free_run(network, SAMPLER, clip, PAST)
    swapped = Clip(clip.frames, clip.actions.flip(0), clip.known, clip.rewards, clip.ended)
    change = validate.free_run(network, SAMPLER, swapped, PAST).float() - imagined.float()
    expected = pytest.approx(change.abs().mean().item(), abs=1e-3)
    assert validate.response(network, SAMPLER, clip, PAST, imagined)["response_levels"] == expected


def test_the_real_future_scores_as_itself_and_a_faded_one_has_lost_what_it_lost():
    clip = clips(2)
    real = clip.frames[:, PAST:]
    itself, grey = (validate.score(seen, clip, PAST) for seen in (real, torch.full_like(real, 100)))
    assert (itself["saturation_ratio"], itself["motion_ratio"], itself["drift_levels"]) == (1.0, 1.0, 0.0)
    chroma = (real.amax(2).float() - real.amin(2).float()).mean().item()
    assert grey["saturation_ratio"] == pytest.approx(4 / (chroma + 4), abs=1e-3)
    # From any colour to 100: on a line, the earth mover's distance to a single point is the mean distance.
    assert grey["drift_levels"] == pytest.approx(np.abs(real.numpy().astype(float) - 100).mean(), abs=1e-2)


def test_a_grey_game_has_no_saturation_to_lose():
    clip = clips(2)
    clip.frames[:] = clip.frames[:, :, :1]
    assert validate.score(clip.frames[:, PAST:], clip, PAST)["saturation_ratio"] == 1.0
