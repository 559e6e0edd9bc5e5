"""WorldEnv against gymnasium's contract and against the world model under it."""

import copy
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from test_engine import needs_kernels
from tiny import HEIGHT, WIDTH, save_tiny_world, tiny_world

import worldsim  # noqa: F401 - registers the ids
from worldsim.action import ActionSpec, Channel
from worldsim.cli import main
from worldsim.replay import Replay, Round, describe
from worldsim.world_info import Starts
from worldsim.world_model import WorldModel
from worldsim_envs.env import WorldEnv
from worldsim_envs.games import game_class

WORLD_ENV = "worldsim_envs.env:WorldEnv"
IDS = sorted(name for name, spec in gym.registry.items() if spec.entry_point == WORLD_ENV)
ACTIONS = (3, 3, 14, 0, 7)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return str(save_tiny_world(tmp_path_factory.mktemp("world")))


@pytest.fixture
def env(world):
    env = WorldEnv(world)
    yield env
    env.close()


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def play(env, actions=ACTIONS):
    """Everything that the steps return, comparable."""
    out = []
    for action in actions:
        observation, *rest = env.step(action)
        out.append((observation.tobytes(), *rest))
    return out


def own_past(env, index=1):
    starts = env.model.starts
    return {"frames": starts.frames[index], "actions": starts.actions[index]}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", IDS)
def test_every_id_passes_gymnasiums_checker(name, world, no_screen):
    check_env(gym.make(name, world=world, render_mode="rgb_array").unwrapped)


@pytest.mark.filterwarnings("error:::stable_baselines3")
@pytest.mark.parametrize("name", IDS)
def test_every_id_passes_sb3s_checker(name, world):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gym.make(name, world=world), warn=True)


def test_its_spaces_are_those_of_the_source_game(env):
    assert env.action_space == gym.spaces.Discrete(18) == game_class("boxing").actions.space()
    assert env.observation_space == gym.spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    assert type(env.metadata["render_fps"]) is int and env.metadata["render_fps"] == 15


@pytest.mark.parametrize("name", ["boxing", "encounter"])
def test_a_shipped_worlds_time_limit_is_that_of_the_real_game(name):
    spec = gym.spec(f"worldsim/{name.capitalize()}-v0")
    assert spec.max_episode_steps == game_class(name).max_episode_steps and spec.kwargs == {"world": name}


def test_any_world_is_made_by_its_folder(tmp_path, world):
    """Of a game that no adapter in the package knows, with its own frame rate and time limit."""
    model = tiny_world()
    model.info = replace(model.info, name="mine", env_id="my_game:MyGame", fps=7, max_episode_steps=2)
    model.save_pretrained(tmp_path)
    env = gym.make("worldsim/World-v0", world=str(tmp_path))
    assert env.unwrapped.model.info.name == "mine" and env.metadata["render_fps"] == 7
    assert rounds_length(env) == 2
    assert rounds_length(gym.make("worldsim/World-v0", world=world, max_episode_steps=4)) == 4


def test_the_same_seed_and_actions_give_the_same_bytes(env, world):
    other = WorldEnv(world)
    runs = []
    for each in (env, env, other):
        observation, info = each.reset(seed=5)
        runs.append((observation.tobytes(), info, play(each)))
    assert runs[0] == runs[1] == runs[2]
    env.reset(seed=6)
    assert play(env) != runs[0][2]


def test_rounds_without_a_seed_differ_and_follow_from_the_first_seed(env, world):
    other = WorldEnv(world)
    rounds = []
    for each in (env, other):
        each.reset(seed=5)
        each.reset()
        rounds.append(play(each))
    env.reset(seed=5)
    assert rounds[0] == rounds[1] != play(env)


def test_an_action_leads_into_the_frame_it_returns(env, world):
    """The env against the world model, driven by hand with the same noise seed."""
    observation, _ = env.reset(seed=5, options=own_past(env))
    frames, actions = own_past(env).values()
    assert np.array_equal(observation, frames[-1])
    rng = np.random.default_rng()
    rng.bit_generator.state = gym.utils.seeding.np_random(5)[0].bit_generator.state
    rng.integers(len(env.model.starts.frames))
    model = WorldModel.from_pretrained(world)
    past = torch.from_numpy(frames).permute(0, 3, 1, 2)[None]
    vectors = torch.from_numpy(model.actions.encode(actions))[None]
    state = model.reset(past, vectors, [int(rng.integers(2**63 - 1))])
    for action, (observation, reward, terminated, *_) in zip(ACTIONS, play(env), strict=True):
        step = model.step(state, torch.from_numpy(model.actions.encode([action])))
        assert observation == step.frame[0].permute(1, 2, 0).numpy().tobytes()
        assert (reward, terminated) == (step.reward.item(), step.ended.item())


def test_a_start_state_equals_the_same_past_given_by_the_caller(env):
    observation, info = env.reset(seed=5, options={"start": 1})
    assert info["start"] == 1
    stored = observation.tobytes(), [step[:-1] for step in play(env)]
    observation, info = env.reset(seed=5, options=own_past(env))
    assert info["start"] == -1
    assert (observation.tobytes(), [step[:-1] for step in play(env)]) == stored


def test_one_frame_is_past_enough(env):
    frame = own_past(env)["frames"][-1:]
    observation, _ = env.reset(seed=5, options={"frames": frame, "actions": []})
    assert np.array_equal(observation, frame[0])
    play(env)


def test_what_a_step_returns_has_plain_types(env):
    env.reset(seed=5)
    observation, reward, terminated, truncated, info = env.step(np.int64(3))
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert observation.dtype == np.uint8 and observation.shape == (HEIGHT, WIDTH, 3)
    assert info == {"step": 1, "steps": 2, "start": info["start"]}


def test_a_caller_who_scribbles_on_a_frame_changes_nothing(env):
    env.reset(seed=5)
    clean = play(env)
    past = own_past(env)
    env.reset(seed=5, options=past)
    observation, _ = env.reset(seed=5)
    scribbled = []
    for action in ACTIONS:
        observation[:] = 0
        observation, *rest = env.step(action)
        scribbled.append((observation.tobytes(), *rest))
    assert scribbled == clean
    assert np.array_equal(past["frames"], own_past(env)["frames"]) and past["frames"].any()


FRAMES = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
BAD_RESETS = {
    "unknown option": ({"frame": FRAMES}, "unknown reset option 'frame'; use frames, actions, start, steps"),
    "names of two types": ({1: 2, "frame": FRAMES}, "unknown reset option 1; use frames, actions, start, steps"),
    "options in a list": (["start"], "reset options are of type list; give a dict of frames, actions, start, steps"),
    "frames alone": ({"frames": FRAMES}, "'actions' is missing"),
    "actions alone": ({"actions": [0, 0]}, "'frames' is missing"),
    "float frames": ({"frames": FRAMES / 2, "actions": [0, 0]}, "give (K, 48, 64, 3) uint8"),
    "channels first": ({"frames": FRAMES.transpose(0, 3, 1, 2), "actions": [0, 0]}, "give (K, 48, 64, 3) uint8"),
    "one frame without K": ({"frames": FRAMES[0], "actions": []}, "give (K, 48, 64, 3) uint8"),
    "no frame": ({"frames": FRAMES[:0], "actions": []}, "K >= 1"),
    "too many actions": ({"frames": FRAMES, "actions": [0, 0, 0]}, "3 frames need (2,)"),
    "an action of no game": ({"frames": FRAMES, "actions": [0, 18]}, "use 0..17"),
    "float actions": ({"frames": FRAMES, "actions": [0.0, 1.0]}, "integers 0..17"),
    "start beyond the last": ({"start": 3}, "start states 0..2"),
    "start of the wrong type": ({"start": "first"}, "start states 0..2"),
    "two starts": ({"start": 0, "frames": FRAMES, "actions": [0, 0]}, "exclude each other"),
    "three steps": ({"steps": 3}, "1, 2, 4"),
    "steps in an array": ({"steps": np.array([2])}, "1, 2, 4"),
    "steps in a long array": ({"steps": np.array([1, 2])}, "1, 2, 4"),
    "conditions in a list": ({"conditions": [("npc", "timid")]}, "give what holds by group"),
    "conditions as a word": ({"conditions": "timid"}, "give what holds by group"),
}


@pytest.mark.parametrize("options, words", BAD_RESETS.values(), ids=BAD_RESETS)
def test_a_bad_reset_is_a_one_line_error_and_the_round_goes_on(env, options, words):
    env.reset(seed=5)
    undisturbed = play(env)
    env.reset(seed=5)
    first = play(env, ACTIONS[:2])
    with pytest.raises(ValueError) as error:
        env.reset(seed=9, options=options)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert first + play(env, ACTIONS[2:]) == undisturbed


@pytest.mark.parametrize("action", [18, -1, 2.0, True, None, "UP", [3], np.zeros(5, np.float32)])
def test_a_bad_action_is_a_one_line_error_and_the_round_goes_on(env, action):
    env.reset(seed=5)
    undisturbed = play(env)
    env.reset(seed=5)
    first = play(env, ACTIONS[:2])
    with pytest.raises(ValueError) as error:
        env.step(action)
    assert "\n" not in str(error.value) and ("17" in str(error.value) or "Discrete(18)" in str(error.value))
    assert first + play(env, ACTIONS[2:]) == undisturbed


def test_a_round_must_begin_before_it_is_played(env):
    with pytest.raises(ResetNeeded, match="before step"):
        env.step(0)


def test_painting_then_committing_is_a_step(env):
    env.reset(seed=5)
    whole = play(env)
    env.reset(seed=5)
    halves = []
    for action in ACTIONS:
        observation = env.paint(action).tobytes()
        with pytest.raises(ResetNeeded, match="commit"):
            env.paint(action)
        halves.append((observation, *env.commit()))
        with pytest.raises(ResetNeeded, match="paint"):
            env.commit()
    assert halves == whole


def test_steps_may_be_chosen_for_a_round_and_for_good(env):
    env.reset(seed=5)
    usual = play(env)
    env.reset(seed=5, options={"steps": 4})
    four = play(env)
    assert four != usual and four[0][-1]["steps"] == 4
    env.reset(seed=5)
    assert play(env) == usual
    env.steps = 4
    env.reset(seed=5)
    assert play(env) == four
    with pytest.raises(ValueError, match="1, 2, 4"):
        env.steps = 3
    assert env.steps == 4


def rounds_length(env, most=20):
    env.reset(seed=5)
    for step in range(1, most + 1):
        *_, truncated, _ = env.step(0)
        if truncated:
            return step
    return None


def test_the_worlds_own_time_limit_holds_unless_told_otherwise(tmp_path):
    model = tiny_world()
    model.info = replace(model.info, max_episode_steps=3)
    model.save_pretrained(tmp_path)
    assert rounds_length(WorldEnv(str(tmp_path))) == 3
    assert rounds_length(WorldEnv(str(tmp_path), max_episode_steps=5)) == 5


def test_make_shortens_any_worlds_episodes_and_make_vec_lengthens_them_too(tmp_path):
    model = tiny_world()
    model.info = replace(model.info, max_episode_steps=3)
    model.save_pretrained(tmp_path)
    made = {limit: gym.make("worldsim/World-v0", world=str(tmp_path), max_episode_steps=limit) for limit in (2, 5, -1)}
    assert [rounds_length(env) for env in made.values()] == [2, 3, 3]
    worlds = gym.make_vec("worldsim/World-v0", num_envs=2, world=str(tmp_path), max_episode_steps=5)
    worlds.reset(seed=0)
    assert [worlds.step(np.zeros(2, int))[3].tolist() for _ in range(5)] == [[False] * 2] * 4 + [[True] * 2]


def test_the_time_limit_truncates_and_can_be_changed_or_lifted(world):
    limited = WorldEnv(world, max_episode_steps=3)
    assert rounds_length(limited) == 3
    with pytest.raises(ResetNeeded, match="over"):
        limited.step(0)
    assert rounds_length(gym.make("worldsim/Boxing-v0", world=world, max_episode_steps=4)) == 4
    assert rounds_length(WorldEnv(world, max_episode_steps=-1)) is None
    assert gym.make("worldsim/Boxing-v0", world=world).spec.max_episode_steps == 1800
    with pytest.raises(ValueError, match="from 1, None or -1"):
        WorldEnv(world, max_episode_steps=0)


def test_a_vector_of_worlds_plays_as_each_alone(world):
    vector = gym.make_vec("worldsim/Boxing-v0", num_envs=2, vectorization_mode="sync", world=world)
    vector.reset(seed=5)
    together = [vector.step(np.array([action, action]))[0] for action in ACTIONS]
    for slot in range(2):
        alone = WorldEnv(world)
        alone.reset(seed=5 + slot)
        assert [step[0] for step in play(alone)] == [frames[slot].tobytes() for frames in together]
    vector.close()


def test_a_world_of_axes_takes_channel_vectors(tmp_path):
    model = tiny_world()
    axes = ActionSpec([Channel("gas"), *(Channel(name, "axis") for name in ("steer", "lean", "nose", "roll"))])
    starts = Starts(model.starts.frames, np.zeros((*model.starts.actions.shape, 5), np.float32))
    WorldModel(model.info, axes, model.denoiser, model.heads, starts).save_pretrained(tmp_path)
    env = WorldEnv(str(tmp_path))
    assert env.action_space == axes.space()
    first, _ = env.reset(seed=5, options={"frames": FRAMES[:1], "actions": np.zeros((0, 5))})
    assert not first.any()
    env.reset(seed=5, options={"frames": FRAMES, "actions": np.zeros((2, 5))})
    play(env, [np.array([1, -1, 0.5, 0, 1], np.float32)] * 2)
    with pytest.raises(ValueError, match="axes -1 to 1"):
        env.step(np.array([1, -2, 0, 0, 0], np.float32))
    with pytest.raises(ValueError, match="5"):
        env.step(0)


def test_render_shows_the_last_observation(world):
    env = WorldEnv(world, render_mode="rgb_array")
    observation, _ = env.reset(seed=5)
    assert np.array_equal(env.render(), observation)
    observation, *_ = env.step(3)
    assert np.array_equal(env.render(), observation)
    with pytest.raises(ValueError, match="rgb_array"):
        WorldEnv(world, render_mode="ansi")


@pytest.mark.parametrize("device", ["gpu", "tpu", "cuda:99", "meta", "hpu", 1.5])
def test_a_device_that_cannot_be_used_is_a_one_line_error(world, device):
    right = f"^device '{device}' cannot be used here; use 'cpu', or 'cuda' with a GPU$"
    with pytest.raises(ValueError, match=right):
        WorldEnv(world, device=device)


def test_every_action_has_its_keys(env):
    pytest.importorskip("pygame")
    assert set(env.get_keys_to_action().values()) == set(range(18))


def test_gymnasiums_own_player_plays_it(world, no_screen):
    pygame = pytest.importorskip("pygame")
    from gymnasium.utils.play import play as gymnasium_play

    env = gym.make("worldsim/Boxing-v0", world=world, render_mode="rgb_array")
    played = []

    def press_then_quit(before, after, action, *rest):
        played.append(action)
        key = pygame.KEYDOWN if len(played) < 3 else pygame.QUIT
        pygame.event.post(pygame.event.Event(key, key=pygame.K_UP if len(played) == 1 else pygame.K_SPACE))

    gymnasium_play(env, fps=1000, seed=5, callback=press_then_quit)
    names = env.unwrapped.actions.names
    assert [names[action] for action in played[:3]] == ["NOOP", "UP", "UPFIRE"]


def test_compiling_without_a_compiler_is_one_line_and_the_same_frames_as_without(world, no_compiler):
    with pytest.warns(UserWarning, match="playing without") as told:
        env = gym.make("worldsim/World-v0", world=world, compile=True)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    plain = WorldEnv(world)
    assert env.unwrapped.model.engine == plain.model.engine
    assert np.array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    assert all(np.array_equal(env.step(action)[0], plain.step(action)[0]) for action in ACTIONS)


@needs_kernels
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_the_shipped_world_compiled_plays_forks_and_replays_to_the_byte(tmp_path, capsys):
    """Compiles into the user's own cache, as play does, and finds there what an earlier run has compiled."""
    env = gym.make("worldsim/Boxing-v0", compile=True).unwrapped
    assert env.model.engine == "compiled"
    frames = [env.reset(seed=3)[0]]
    (fork,) = env.fork(1)
    frames += [env.step(action)[0] for action in ACTIONS]
    assert all(np.array_equal(fork.step(action)[0], frame) for action, frame in zip(ACTIONS, frames[1:], strict=True))
    packed = gym.make("worldsim/Boxing-v0").unwrapped
    assert np.array_equal(packed.reset(seed=3)[0], frames[0])
    assert np.abs(packed.step(ACTIONS[0])[0].astype(int) - frames[1]).mean() < 1
    machine = describe(env.model, "cpu")
    assert machine["engine"] == "compiled"
    session = Replay("boxing", env.model.fingerprint, env.steps, [Round.of(3, ACTIONS, frames)], machine)
    session.save(tmp_path / "session.json")
    assert main(["replay", str(tmp_path / "session.json"), "--check"]) == 0
    assert "to the byte" in capsys.readouterr().out
    with pytest.raises(ValueError, match="painted by the compiled engine, here paints the packed one"):
        session.check(packed)


def test_a_shipped_id_collects_its_pictures_as_gymnasium_does(world):
    env = gym.make("worldsim/Boxing-v0", world=world, render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(0)
    assert len(env.render()) == 2


def test_numpys_whole_numbers_are_numbers(world):
    env = WorldEnv(world, history=np.int64(2), max_episode_steps=np.int32(3), ood_every=np.int64(1))
    env.reset(seed=0)
    env.step(0)
    assert env.rewind(np.int64(1))[1]["step"] == 0


def test_a_world_that_a_specification_names_is_shared_by_its_copies():
    world = tiny_world()
    env = gym.make("worldsim/World-v0", world=world)
    assert copy.deepcopy(world) is world and copy.deepcopy(env.spec).kwargs["world"] is world
