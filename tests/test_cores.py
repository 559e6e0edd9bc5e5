"""How many threads paint."""

from types import SimpleNamespace

import pytest
import torch
from gymnasium.error import ResetNeeded
from player_kit import Clock

from worldsim import cores
from worldsim.action import ActionSpec, Channel


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def painted_on(monkeypatch):
    """What `spare_cores` decides where there are 6 cores and frames take so many seconds, by the number of threads."""

    def decide(times_s, fps=None, device="cpu", engine="packed"):
        clock, steps = Clock(), []
        monkeypatch.setattr(cores, "time", SimpleNamespace(perf_counter=clock.now))
        monkeypatch.setattr(cores, "usual_threads", lambda: 6)

        def step(action):
            steps.append(action)
            clock.sleep(times_s[torch.get_num_threads()] + 0.5 * (len(steps) % 3 != 0))  # others disturb most frames
            if len(steps) > 3:
                raise ResetNeeded("the episode is over; call reset()")
            return None, 0.0, len(steps) == 3, False, {}

        env = SimpleNamespace(
            model=SimpleNamespace(device=torch.device(device), engine=engine),
            actions=ActionSpec([Channel("fire")], table=[[0.0], [1.0]], names=["NOOP", "FIRE"], keys={}),
            metadata={"render_fps": 10},
            reset=lambda seed: steps.clear(),
            step=step,
        )
        torch.set_num_threads(6)
        cores.spare_cores(env, fps)
        return torch.get_num_threads()

    return decide


def test_a_world_is_painted_by_as_few_threads_as_do_it_in_time(painted_on):
    assert painted_on({1: 0.07}) == 1
    assert painted_on({1: 0.09, 2: 0.06}) == 2
    assert painted_on({1: 0.07, 2: 0.05, 4: 0.03}, fps=20) == 4
    assert painted_on({1: 0.5, 2: 0.3, 4: 0.2, 6: 0.12}) == 6


def test_more_cores_that_make_a_world_hardly_quicker_are_left_to_others(painted_on):
    assert painted_on({1: 0.08, 2: 0.07}) == 1
    assert painted_on({1: 0.5, 2: 0.18, 4: 0.16, 6: 0.14}) == 2


def test_compiled_worlds_and_graphics_cards_keep_their_threads(painted_on):
    assert painted_on({}, engine="compiled") == 6
    assert painted_on({}, device="cuda") == 6


def test_counts_double_up_to_the_most():
    assert [cores.counts(most) for most in (1, 2, 3, 4, 6)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4], [1, 2, 4, 6]]


@pytest.mark.parametrize("told, threads", [(3, 3), (None, 2), (0, 2), (10**9, 2), ("3", 2), (True, 2)])
def test_a_replay_is_painted_again_by_the_number_of_threads_that_its_file_names(told, threads):
    torch.set_num_threads(2)
    with cores.threads_of({"threads": told}):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2
