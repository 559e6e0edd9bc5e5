"""The guard against worlds that have left what they were trained on: `info["ood"]`."""

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from tiny import tiny_world

from worldsim.models.dit import CausalDiT
from worldsim.world_model import DOUBT_SIGMA, WorldModel
from worldsim_envs.env import WorldEnv
from worldsim_envs.vector import WorldVectorEnv

pytestmark = pytest.mark.usefixtures("one_thread")

WORLDS = 3


@pytest.fixture(scope="module")
def model():
    plain = tiny_world()
    denoiser, heads = plain.denoiser.to(torch.bfloat16), plain.heads.to(torch.bfloat16)
    return WorldModel(plain.info, plain.actions, denoiser, heads, plain.starts)


class Wavering(CausalDiT):
    """Paints grey, and on looking again two tenths of the range brighter in a quarter of the picture."""

    def forward(self, x_t, sigma, action, cache):
        frame = torch.zeros_like(x_t)
        if sigma[0] == DOUBT_SIGMA:
            frame[..., : frame.shape[-1] // 4] = 0.2
        return frame


def test_doubt_is_the_distance_to_the_frame_seen_again_in_grey_levels():
    model = tiny_world()
    model.denoiser.__class__ = Wavering
    env = WorldEnv(model, ood_every=1)
    env.reset(seed=5)
    assert env.step(3)[-1]["ood"] == pytest.approx(127.5 * 0.2 / 2, abs=0.5)  # the frame itself is rounded


def test_asking_for_doubt_changes_no_frame_and_no_later_one(model):
    runs = []
    for every in (0, 1, 2):
        vector = WorldVectorEnv(WORLDS, model, ood_every=every)
        vector.reset(seed=5)
        results = [vector.step(np.full(WORLDS, step)) for step in range(4)]
        runs.append([frame.tobytes() for frame, *_ in results])
        told = [bool("ood" in result[-1]) for result in results]
        assert told == [every > 0 and step % every == 0 for step in range(1, 5)]
    assert runs[0] == runs[1] == runs[2]


def test_a_world_in_a_batch_has_the_doubt_of_a_single_one(model):
    vector = WorldVectorEnv(WORLDS, model, exact=True, ood_every=1)
    vector.reset(seed=5)
    singles = [WorldEnv(model, ood_every=1) for _ in range(WORLDS)]
    for world, single in enumerate(singles):
        single.reset(seed=5 + world)
    for step in range(3):
        infos = vector.step(np.full(WORLDS, step))[-1]
        assert infos["_ood"].all() and (infos["ood"] > 0).all()
        assert infos["ood"].tolist() == [single.step(step)[-1]["ood"] for single in singles]


def test_each_world_is_asked_at_the_steps_of_its_own_episode_also_after_a_reset(model):
    vector = WorldVectorEnv(WORLDS, model, ood_every=3, autoreset_mode=AutoresetMode.DISABLED)
    vector.reset(seed=5)
    vector.step(np.zeros(WORLDS, int))
    vector.reset(options={"reset_mask": np.array([False, True, False])})
    told = [vector.step(np.zeros(WORLDS, int))[-1] for _ in range(6)]
    asked = [infos["_ood"].tolist() if "ood" in infos else [False] * WORLDS for infos in told]
    theirs, other = [step % 3 == 1 for step in range(6)], [step % 3 == 2 for step in range(6)]
    assert asked == [[a, b, a] for a, b in zip(theirs, other, strict=True)]
    assert all(not infos["ood"][~infos["_ood"]].any() for infos in told if "ood" in infos)
    vector.reset(seed=5)
    assert ["ood" in vector.step(np.zeros(WORLDS, int))[-1] for _ in range(3)] == [False, False, True]


def test_a_limit_truncates_the_worlds_above_it_and_no_other(model):
    asking = WorldVectorEnv(WORLDS, model, ood_every=1)
    asking.reset(seed=5)
    doubts = asking.step(np.zeros(WORLDS, int))[-1]["ood"]
    limit = float(np.sort(doubts)[-2:].mean())
    vector = WorldVectorEnv(WORLDS, model, ood_every=1, ood_limit=limit)
    vector.reset(seed=5)
    truncated = vector.step(np.zeros(WORLDS, int))[3]
    assert truncated.tolist() == (doubts > limit).tolist() and truncated.sum() == 1
    infos = vector.step(np.zeros(WORLDS, int))[-1]
    assert infos["_ood"].tolist() == (~truncated).tolist() and infos["step"][truncated] == [0]
    single = WorldEnv(model, ood_every=1, ood_limit=1e-6)
    single.reset(seed=5)
    assert single.step(0)[3] and single.fork(1)[0].rules.ood_limit == 1e-6


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"ood_every": -1}, "0 for never"),
        ({"ood_every": True}, "0 for never"),
        ({"ood_limit": 4.0}, "ood_every from 1"),
        ({"ood_every": 1, "ood_limit": 0}, "above 0"),
    ],
)
def test_a_guard_that_cannot_be_is_a_one_line_error(model, asked, words):
    for kind in (WorldEnv, lambda **settings: WorldVectorEnv(2, **settings)):
        with pytest.raises(ValueError, match=words):
            kind(world=model, **asked)


def auroc(strange, ordinary):
    """Probability that a strange world has more doubt than an ordinary one."""
    return (strange[:, None] > ordinary[None]).mean()


STRANGE = {
    "noise": lambda frames, rng: rng.integers(0, 256, frames.shape, dtype=np.uint8),
    "swapped colours": lambda frames, rng: frames[..., [2, 0, 1]],
    "a negative": lambda frames, rng: 255 - frames,
    "black": lambda frames, rng: frames * 0,
    "another arrangement": lambda frames, rng: np.roll(frames[:, ::-1], frames.shape[2] // 2, axis=2),
}


@pytest.mark.slow
def test_the_shipped_world_doubts_strange_starts_more_than_its_own():
    """AUROC of the first step's doubt over the 16 held-out starts of Boxing, and over strange versions of them."""
    model, rng = WorldModel.from_pretrained("boxing"), np.random.default_rng(0)
    count = len(model.starts.frames)

    def doubt(change):
        def load(world, _):
            return {"frames": change(model.starts.frames[world], rng), "actions": model.starts.actions[world]}

        vector = WorldVectorEnv(count, model, ood_every=1, start_loader=load)
        vector.reset(seed=5)
        return vector.step(rng.integers(0, 18, count))[-1]["ood"]

    ordinary = doubt(lambda frames, rng: frames)
    measured = {name: float(auroc(doubt(change), ordinary)) for name, change in STRANGE.items()}
    assert min(measured.values()) > 0.95, measured


def test_doubt_is_asked_between_paint_and_commit_and_is_what_info_tells(model):
    env = WorldEnv(model, ood_every=1)
    env.reset(seed=0)
    with pytest.raises(ResetNeeded, match="no painted frame"):
        env.doubt()
    env.paint(3)
    asked = env.doubt()
    assert env.commit()[-1]["ood"] == asked > 0
