import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from counting_game import CountingGame

from worldsim_training.collect import CollectConfig, collect
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.episodes import read_meta

COUNT, ACTION, MARK = 0, 1, 2  # what a channel of CountingGame's frames shows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    collect(CollectConfig(out=str(folder), game="counting", frames=400, workers=1), CountingGame)
    return folder


@pytest.fixture
def recording(folder):
    return Recording.load(folder, "train", progress=False)


@pytest.fixture
def writable(folder, tmp_path):
    for path in folder.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return tmp_path


def shown(clip, channel):
    """(B, T) what the frames of a clip show; every pixel of a frame shows the same."""
    assert (clip.frames == clip.frames[..., :1, :1]).all()
    return clip.frames[:, :, channel, 0, 0].long()


def test_an_action_takes_its_frame_to_the_next_one(recording):
    """In a clip, actions[:, i] is the action that led into frame i; frame i of the counting game shows that action."""
    clip = ClipSampler(recording, clip_frames=4, batch=200, seed=0).sample()
    table = torch.from_numpy(CountingGame.actions.table)
    led_here = shown(clip, ACTION) - 1
    assert torch.equal(clip.known, led_here >= 0)
    assert torch.equal(clip.actions[clip.known], table[led_here[clip.known]])
    assert torch.equal(clip.rewards[clip.known], (led_here[clip.known] == 2).float())
    assert clip.known.any() and not clip.known.all()


def test_what_led_into_the_first_frame_of_an_episode_is_unknown_and_zero(recording):
    clip = ClipSampler(recording, clip_frames=4, batch=200, seed=0).sample()
    assert torch.equal(~clip.known, shown(clip, COUNT) == 0)
    assert not clip.actions[~clip.known].any() and not clip.rewards[~clip.known].any()


def test_only_the_last_frame_of_an_episode_has_ended(recording):
    clip = ClipSampler(recording, clip_frames=4, batch=200, seed=0).sample()
    assert clip.ended.any() and not clip.ended[:, :-1].any()
    assert recording.ended.sum() == len(recording.policies)
    assert np.array_equal(np.flatnonzero(recording.ended), recording.offsets[1:] - 1)


def test_no_clip_crosses_the_border_of_an_episode(recording):
    clip = ClipSampler(recording, 5, 500, seed=0, reward_share=0.3, end_share=0.3).sample()
    count, mark = shown(clip, COUNT), shown(clip, MARK)
    assert torch.equal(count, count[:, :1] + torch.arange(5))
    assert torch.equal(mark, mark[:, :1].expand(-1, 5))


def test_every_window_is_drawn_equally_often(recording):
    windows = int(recording.windows(5).sum())
    starts = recording.sample_starts(np.random.default_rng(0), 200 * windows, 5)
    _, counts = np.unique(starts, return_counts=True)
    assert len(counts) == windows
    assert 130 < counts.min() and counts.max() < 270  # 5 standard deviations of 14


def test_clips_around_rewards_hold_the_step_that_earned_one(recording):
    clip = ClipSampler(recording, 3, 300, seed=0, reward_share=1.0).sample()
    assert clip.rewards[:, 1:].any(dim=1).all()
    assert all((clip.rewards[:, i] != 0).any() for i in (1, 2))


def test_clips_around_ends_end(recording):
    clip = ClipSampler(recording, 3, 50, seed=0, end_share=1.0).sample()
    assert clip.ended[:, -1].all()


@pytest.mark.parametrize(("kind", "share"), [("rewards", "reward_share"), ("ended", "end_share")])
def test_clips_around_events_hold_one_where_a_head_that_looks_back_learns_it(recording, kind, share):
    clip = ClipSampler(recording, 5, 300, seed=0, **{share: 1.0}, first=3).sample()
    event = getattr(clip, kind) != 0
    starts = ~clip.known[:, 0]  # what comes sooner in its episode has no such clip
    assert (event[:, 3:].any(dim=1) | (starts & event[:, 1:].any(dim=1))).all()
    late = event[:, 3:].any(dim=1) & ~starts
    assert late.sum() > 100 and (kind == "ended" or event[late][:, 3].any() and event[late][:, 4].any())


@pytest.mark.parametrize(("length", "first"), [(1, 1), (2, 1), (4, 1), (4, 3), (4, 9)])
def test_every_event_has_a_clip_however_soon_it_comes(recording, length, first):
    events = np.flatnonzero(recording.rewards)
    starts = recording.sample_starts_with(np.random.default_rng(0), events, 500, length, first=first)
    episode, last = (np.searchsorted(recording.offsets, at, side="right") for at in (starts, starts + length - 1))
    assert np.array_equal(episode, last)
    index = np.arange(length) + starts[:, None]
    assert np.isin(index[:, min(1, length - 1) :], events).any(axis=1).all()


def test_around_events_that_need_no_earlier_frame_the_same_clips_are_drawn_as_ever(recording):
    events = np.flatnonzero(recording.rewards)
    starts = recording.sample_starts_with(np.random.default_rng(0), events, 16, 4)
    assert starts.tolist() == [322, 232, 137, 80, 92, 14, 16, 13, 52, 305, 245, 346, 133, 151, 359, 264]


def test_a_share_of_the_clips_is_drawn_around_ends(recording):
    clip = ClipSampler(recording, 3, 4000, seed=0, end_share=0.5).sample()
    plain = len(recording.policies) / recording.windows(3).sum()
    assert abs(clip.ended.any(dim=1).float().mean() - (0.5 + 0.5 * plain)) < 0.04


def test_a_share_around_what_a_recording_has_not_is_drawn_anywhere_and_named(recording):
    endless = replace(recording, ended=np.zeros_like(recording.ended))
    asked = ClipSampler(endless, 4, 50, seed=0, reward_share=0.3, end_share=0.7)
    plain = ClipSampler(endless, 4, 50, seed=0, reward_share=0.3)
    assert (asked.without, plain.without) == (("end_share",), ())
    assert asked.state_dict() == plain.state_dict()
    assert torch.equal(asked.sample().frames, plain.sample().frames)


def test_a_clip_is_what_the_files_say(recording):
    tensors = recording.to("cpu")
    clip = tensors.clips([3, 0], 4)
    assert clip.frames.dtype == torch.uint8 and clip.frames.shape == (2, 4, 3, 6, 9) and clip.frames.is_contiguous()
    assert np.array_equal(clip.frames[0].permute(0, 2, 3, 1), recording.frames[3:7])
    assert clip.actions.shape == (2, 4, 2) and clip.actions.dtype == clip.rewards.dtype == torch.float32
    assert clip.known.dtype == clip.ended.dtype == torch.bool


def test_a_sampler_resumes_bit_for_bit_from_json(recording):
    sampler = ClipSampler(recording, 4, 8, seed=3, reward_share=0.25)
    sampler.sample()
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = [sampler.sample() for _ in range(3)]
    resumed = ClipSampler(recording, 4, 8, seed=99, reward_share=0.25)
    resumed.load_state_dict(state)
    for clip in expected:
        again = resumed.sample()
        assert torch.equal(clip.frames, again.frames) and torch.equal(clip.actions, again.actions)


def test_the_seed_decides_the_clips(recording):
    first, same, other = (ClipSampler(recording, 4, 8, seed=seed).sample() for seed in (0, 0, 1))
    assert torch.equal(first.frames, same.frames)
    assert not torch.equal(first.frames, other.frames)


def test_a_sampler_refuses_the_state_of_another(recording):
    state = ClipSampler(recording, 4, 8, seed=0).state_dict()
    with pytest.raises(ValueError, match="clip_frames"):
        ClipSampler(recording, 5, 8, seed=0).load_state_dict(state)


@pytest.mark.gpu
def test_a_clip_is_the_same_on_the_gpu(recording):
    cpu, gpu = (ClipSampler(recording, 4, 8, seed=0, device=device).sample() for device in ("cpu", "cuda"))
    assert gpu.frames.is_cuda and torch.equal(cpu.frames, gpu.to("cpu").frames)


def test_a_recording_can_be_of_some_policies_only(folder, recording):
    some = Recording.load(folder, "train", policies=["random"], progress=False)
    assert set(some.policies) == {"random"} and set(recording.policies) == {"random", "switching"}
    assert some.offsets[-1] == len(some.frames) < len(recording.frames)


def test_a_missing_dataset_is_named_with_the_command_that_records_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="no dataset at .*nowhere; record one with python -m worldsim_training"):
        Recording.load(tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match="has no meta.json; record one"):
        Recording.load(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="collect game=GAME frames"):
        read_meta(tmp_path)
    with pytest.raises(FileNotFoundError, match="collect game=hill:Hill frames"):
        read_meta(tmp_path, "hill:Hill")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "meta.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="does not describe a worldsim dataset"):
        Recording.load(tmp_path, "train")
    (tmp_path / "meta.json").write_text('{"schema": 7}')
    with pytest.raises(ValueError, match="schema 7; this version reads schema 1"):
        Recording.load(tmp_path, "train")
    (tmp_path / "meta.json").write_text('{"schema": 1}')
    with pytest.raises(ValueError, match="lacks game"):
        Recording.load(tmp_path, "train")


def test_a_damaged_or_missing_file_is_named(writable):
    path = writable / "train" / "000002.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="000002.npz is damaged"):
        Recording.load(writable, "train", progress=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="000002.npz is missing"):
        Recording.load(writable, "train", progress=False)


def test_an_unfinished_recording_is_refused(writable):
    meta = json.loads((writable / "meta.json").read_text())
    (writable / "meta.json").write_text(json.dumps({**meta, "complete": False}))
    with pytest.raises(ValueError, match="is not finished; start the same collect command again"):
        Recording.load(writable, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "val"}, "unknown split 'val'; a dataset has train, validation, test"),
        ({"split": "train", "policies": ["expert"]}, "recorded policies: random, switching"),
    ],
)
def test_an_unknown_split_or_policy_is_named(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        Recording.load(folder, **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_frames": 14}, "no episode has 14 frames"),
        ({"clip_frames": 0}, "at least 1 frame"),
        ({"batch": 0}, "at least 1 clip"),
        ({"reward_share": 0.7, "end_share": 0.7}, "shares are >= 0"),
    ],
)
def test_a_sampler_names_wrong_settings(recording, settings, message):
    with pytest.raises(ValueError, match=message):
        ClipSampler(recording, **{"clip_frames": 4, "batch": 2, "seed": 0, **settings})


def test_a_recording_that_does_not_fit_the_device_stays_in_main_memory_and_its_clips_are_sent(recording):
    room = recording.to("cpu")
    needed = sum(each.nbytes for each in (room.frames, room.actions, room.known, room.rewards, room.ended))
    for resident_bytes, lies_on in ((needed, "meta"), (needed - 1, "cpu")):
        sampler = ClipSampler(recording, 4, batch=8, seed=0, device="meta", resident_bytes=resident_bytes)
        assert sampler.tensors.frames.device.type == lies_on
        assert sampler.sample().frames.device.type == "meta"


@pytest.mark.gpu
def test_clips_are_the_same_bits_wherever_the_recording_lies(recording):
    samplers = [ClipSampler(recording, 4, batch=8, seed=0, device="cuda", resident_bytes=room) for room in (0, None)]
    assert [sampler.tensors.frames.device.type for sampler in samplers] == ["cpu", "cuda"]
    for sent, resident in zip(*(vars(sampler.sample()).values() for sampler in samplers), strict=True):
        assert torch.equal(sent, resident) and sent.device.type == "cuda"
