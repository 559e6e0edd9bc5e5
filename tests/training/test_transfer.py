"""Policies in two games: the figures of a world that is its game, of one that lies, of one that pays too much."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dot_game import HEIGHT, RIGHT, WIDTH, DotGame, draw

from worldsim.world_info import WorldInfo
from worldsim.world_model import Step
from worldsim_envs.games import Boxing
from worldsim_envs.games.boxing_seen import SeenRing, frame_policies
from worldsim_envs.pixel_policy import PixelPolicy, PolicyConfig
from worldsim_training import metrics, transfer
from worldsim_training.contests import Scripted, Trained, find_starts, play_imagined, play_real

PLAN = transfer.Plan(starts=6, steps=16, batch=4, lead_in=(3, 8))


class DotWorld:
    """The dot game with the face of a WorldModel; it reads its state off the last frame. pays: the reward it tells."""

    info = WorldInfo("dot", DotGame.env_id, HEIGHT, WIDTH, 10, 3, max_episode_steps=40, shift=1.0)
    actions, fingerprint = DotGame.actions, ""

    def __init__(self, pays=lambda reward: reward):
        self.pays = pays

    def reset(self, frames, actions, seeds):
        assert frames.shape[1:] == (3, 3, HEIGHT, WIDTH) and actions.shape[1:] == (2, 4) and len(seeds) == len(frames)
        return SimpleNamespace(last=frames[:, -1].permute(0, 2, 3, 1).numpy())

    def step(self, state, action, *, steps):
        frames, rewards = [], []
        for frame, (up, down, left, right) in zip(state.last, action.int().tolist(), strict=True):
            rows, columns = np.nonzero(frame[..., 0] == 255)
            x, y = columns.min(), rows.min()
            rewards.append(self.pays(float(right and x == 0)))
            bottom = HEIGHT - 8
            frames.append(
                draw(np.clip(x + RIGHT * (right - left), 0, RIGHT), np.clip(y + bottom * (down - up), 0, bottom))
            )
        state.last = np.stack(frames)
        pictures = torch.from_numpy(state.last).permute(0, 3, 1, 2)
        return Step(pictures, torch.tensor(rewards), torch.zeros(len(frames), dtype=torch.bool))


def shuttle(share):
    """Runs from wall to wall, which earns 1 every other step, for that share of its steps; else it stays."""

    def make(rng):
        def act(frame):
            at_left = frame[..., 0].argmax(axis=1).max() == 0
            return 0 if rng.random() > share else 4 if at_left else 3

        return act

    return Scripted(make)


FIELD = {"random": Scripted(DotGame.frame_policies()["random"])} | {
    f"shuttle {share}": shuttle(share) for share in (0.0, 0.15, 0.4, 0.6, 0.8, 1.0)
}


@pytest.fixture(scope="module")
def told():
    """The summary of each world."""
    worlds = {"sound": DotWorld(), "lying": DotWorld(lambda r: -r), "generous": DotWorld(lambda r: 1.5 * r)}
    worlds["mute"] = DotWorld(lambda reward: 0.0)
    with DotGame() as game:
        returns = {name: transfer.measure(world, game, FIELD, PLAN) for name, world in worlds.items()}
    found = {
        name: transfer.summary(each, awake=["shuttle 1.0"], dreamt=["shuttle 0.6"]) for name, each in returns.items()
    }
    return found, returns["sound"]


def test_a_sound_world_ranks_policies_as_the_game_ranks_them_itself(told):
    sound = told[0]["sound"]
    assert sound["instrument_sound"] and sound["rank_correlation"] > 0.9 and sound["policies"] == 7
    assert sound["rank_correlation_low"] <= sound["rank_correlation"] <= sound["rank_correlation_high"]
    best = next(each for each in sound["policy"] if each["name"] == "shuttle 1.0")
    assert best["exploit_gap"] == best["exploit_gap_real_again"] == 0 and best["real"] == best["imagined"] >= 7


def test_a_world_that_lies_about_rewards_is_found_out(told):
    assert told[0]["lying"]["rank_correlation"] < -0.9 and told[0]["lying"]["rank_mmrv"] > 3
    assert np.isnan(told[0]["mute"]["rank_correlation"])
    generous = told[0]["generous"]
    best = next(each for each in generous["policy"] if each["name"] == "shuttle 1.0")
    assert generous["rank_correlation"] > 0.9 and best["exploit_gap_low"] > 0.3


def test_transfer_is_the_share_of_the_awake_policys_gain_over_chance_in_the_real_game(told):
    found, returns = told
    dream, sober, chance = (np.mean(returns[name]["real"]) for name in ("shuttle 0.6", "shuttle 1.0", "random"))
    for each in found.values():  # whatever the world says
        assert each["transfer"] == pytest.approx((dream - chance) / (sober - chance))
    assert found["sound"]["transfer_low"] < found["sound"]["transfer"] < found["sound"]["transfer_high"] < 1


def test_ranks_share_ties_and_correlations_are_those_of_the_textbook():
    assert metrics.ranks(np.array([3.0, 1, 3, 2])).tolist() == [3.5, 1, 3.5, 2]
    a, b = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    assert metrics.spearman(a, b) == pytest.approx(1 - 6 * 4 / (5 * 24))  # 1 - 6 sum d^2 / (n (n^2 - 1))
    assert metrics.spearman(a, -a) == -1
    assert metrics.mean_maximum_rank_violation(a, a**3) == 0
    assert metrics.mean_maximum_rank_violation(np.array([0.0, 1, 5]), np.array([1.0, 0, 9])) == pytest.approx(2 / 3)


def test_a_trained_policy_gets_the_frames_before_the_start_in_both_games():
    policy = PixelPolicy(PolicyConfig(HEIGHT, WIDTH, 5, stack=3, dim=8))
    seen = []
    policy.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with DotGame() as game:
        starts = find_starts(game, 2, 3, np.random.default_rng(0), lead_in=(3, 8))
        play_real(game, Trained(policy), starts, 1, 0)
        play_imagined(DotWorld(), Trained(policy), starts, 1, 0, denoising=1, batch=2)
    right = np.stack([start.frames for start in starts]).transpose(0, 1, 4, 2, 3).reshape(2, 9, HEIGHT, WIDTH)
    assert torch.cat(seen[:2]).equal(seen[2]) and np.array_equal(seen[2].numpy(), right)


def test_a_run_that_was_ended_goes_on_and_another_plan_is_one_line(tmp_path):
    kept = []

    def ended(returns):
        kept.append(json.loads(json.dumps(returns)))
        if len(kept) == 2:
            raise KeyboardInterrupt

    with DotGame() as game:
        with pytest.raises(KeyboardInterrupt):
            transfer.measure(DotWorld(), game, FIELD, PLAN, done=ended)
        again = transfer.measure(DotWorld(), game, FIELD, PLAN, known=kept[-1], done=kept.append)
        assert again == transfer.measure(DotWorld(), game, FIELD, PLAN) and len(kept) == 2 + len(FIELD) - 2
    file = tmp_path / "transfer.json"
    file.write_text(json.dumps({"plan": 1, "returns": {}}))
    with pytest.raises(ValueError, match="figures with another plan; choose another --json"):
        transfer._known(file, {"plan": 2}, {})
    file.write_text("hello")
    with pytest.raises(ValueError, match="holds no transfer figures"):
        transfer._known(file, {"plan": 2}, {})


def test_what_was_kept_of_a_policy_that_learnt_on_is_measured_anew_and_no_figure_stays_none(tmp_path):
    file, figures = tmp_path / "transfer.json", {"real": [1.0, float("nan")]}
    returns = {"random": figures, "runs/ppo": figures, "runs/other": figures}
    weights = {"runs/ppo": "a", "runs/other": "b"}
    file.write_text(transfer.to_json({"plan": 1, "weights": weights, "returns": returns}))
    known = transfer._known(file, {"plan": 1}, weights | {"runs/ppo": "c"})
    assert list(known) == ["random", "runs/other"] and np.isnan(known["random"]["real"][1])


@pytest.mark.parametrize(
    ("lead_in", "message"),
    [((50, 60), "random play of dot ended 100 times in a row before a lead-in of 50 to 60"), ((8, 3), "the least")],
)
def test_starts_that_random_play_never_reaches_are_one_line(lead_in, message):
    with DotGame() as game, pytest.raises(ValueError, match=message):
        find_starts(game, 2, 3, np.random.default_rng(0), lead_in=lead_in)


def test_a_lead_in_has_its_most_steps_too():
    with DotGame() as game:
        assert len(find_starts(game, 2, 3, np.random.default_rng(0), lead_in=(5, 5))) == 2


def test_the_json_file_has_null_where_a_figure_is_not_defined(told):
    assert json.loads(transfer.to_json(told[0]["mute"]), parse_constant=pytest.fail)["rank_correlation"] is None


def test_the_command_says_in_one_line_what_is_no_policy(tmp_path, capsys):
    asked = ["boxing", "--policy", str(tmp_path), "--json", str(tmp_path / "out.json")]
    assert transfer.main(asked) == 2
    assert "has no policy.json" in capsys.readouterr().err


@pytest.mark.atari
def test_boxers_that_see_frames_see_where_the_console_has_them():
    ring, errors = SeenRing(), []
    with Boxing() as game:
        frame, policy = game.reset(3), game.policies()["mixed"](np.random.default_rng(0))
        for _ in range(200):
            ring.look(frame)
            errors.append(np.abs(np.subtract(ring.ring().player, game.ring().player)))
            frame, *_ = game.step(policy(game))
    assert np.median(errors) < 1.5 and len(frame_policies()) >= 16


@pytest.mark.atari
def test_the_real_boxing_tells_a_fighter_from_a_coward_by_frames_alone():
    with Boxing() as game:
        starts = find_starts(game, 3, 2, np.random.default_rng(0), lead_in=(5, 10))
        play = {
            name: play_real(game, Scripted(frame_policies()[name]), starts, 150, 0).mean()
            for name in ("distracted 0.25", "coward")
        }
    assert play["distracted 0.25"] > play["coward"] + 3
