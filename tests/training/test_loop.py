"""The loop that every stage shares: resuming, faults, schedules, the moving average."""

from dataclasses import replace

import pytest
import torch
from dot_game import dot_recording
from tiny import tiny_denoiser

from worldsim.heads import OutcomeHead
from worldsim.sampler import FewStepSampler, step_sigmas
from worldsim_training import checkpoint, journal, loop
from worldsim_training.bidirectional import Bidirectional
from worldsim_training.config import (
    BidirectionalConfig,
    ConsistencyConfig,
    ContextConfig,
    LoopConfig,
    OdeConfig,
    TeacherForcingConfig,
)
from worldsim_training.consistency import Consistency
from worldsim_training.dataset import ClipSampler
from worldsim_training.ode import OdeDistillation
from worldsim_training.outcomes import Outcomes
from worldsim_training.teacher_forcing import TeacherForcing

CONFIG = LoopConfig(steps=4, batch=2, learning_rate=1e-2, warmup=2, checkpoint_every=2)
CONTEXT = ContextConfig(painted_share=0.5)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return dot_recording(tmp_path_factory.mktemp("dot"), frames=300)


@pytest.fixture
def clips(recording):
    return make_clips(recording)


def make_clips(recording, clip_frames=3):
    return ClipSampler(recording, clip_frames, batch=2, seed=5)


def network(seed=0, **settings):
    small = {"height": 16, "width": 24, "action_size": 4, "dim": 16, "depth": 1, "conv_widths": (8, 8)}
    return tiny_denoiser(seed, **{**small, **settings})


def teacher_forcing():
    return TeacherForcing(network(), TeacherForcingConfig(), CONTEXT)


def consistency():
    return Consistency(network(), ConsistencyConfig(intervals=6), CONTEXT)


def bidirectional():
    return Bidirectional(network(), BidirectionalConfig(), CONTEXT)


def ode():
    return OdeDistillation(network(), OdeConfig(intervals=6), CONTEXT, shift=2.0)


def outcomes():
    torch.manual_seed(0)
    head = OutcomeHead(16, 24, (0.0, 1.0), width_conv=4)
    return Outcomes(head, network(), FewStepSampler(step_sigmas(2, 2.0)))


STAGES = [bidirectional, teacher_forcing, consistency, ode, outcomes]


class KilledClips(ClipSampler):
    """A sampler in the middle of whose third batch the process ends."""

    drawn = 0

    def sample(self):
        self.drawn += 1
        if self.drawn == 3:
            raise KeyboardInterrupt
        return super().sample()


def fit(stage, clips, folder, config=CONFIG, **settings):
    folder.mkdir(exist_ok=True)
    return loop.fit(stage, clips, config, folder, settings={}, **settings)


def state(stage):
    return {**checkpoint.pack("student", stage.student.state_dict()), **stage.average.state_dict()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("make", STAGES)
def test_two_updates_a_kill_and_two_more_are_four_updates_to_the_bit(make, recording, tmp_path):
    straight, killed, resumed = make(), make(), make()
    before = {name: tensor.clone() for name, tensor in state(straight).items()}
    assert fit(straight, make_clips(recording), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        fit(killed, KilledClips(recording, 3, batch=2, seed=5), tmp_path / "killed")
    assert checkpoint.load_notes(tmp_path / "killed" / loop.CHECKPOINT)["step"] == 2
    with torch.no_grad():
        for weight in (*resumed.student.parameters(), *resumed.average.parameters()):
            weight.zero_()  # everything comes from the checkpoint
    assert fit(resumed, make_clips(recording), tmp_path / "killed")
    assert equal(state(straight), state(resumed)) and not equal(state(straight), before)
    files = [checkpoint.load(tmp_path / folder / loop.CHECKPOINT)[0] for folder in ("straight", "killed")]
    assert equal(*files)


def test_a_stage_stopped_after_every_update_is_the_straight_run_to_the_bit(recording, tmp_path):
    straight = teacher_forcing()
    fit(straight, make_clips(recording), tmp_path / "straight")
    answers = []
    while not answers or not answers[-1]:
        stage = teacher_forcing()
        answers.append(fit(stage, make_clips(recording), tmp_path / "stopped", stop_after_s=1e-9))
    assert answers == [False, False, False, True]
    assert equal(state(straight), state(stage))


def test_a_finished_stage_makes_no_further_update(clips, tmp_path):
    fit(teacher_forcing(), clips, tmp_path)
    written = (tmp_path / loop.CHECKPOINT).stat().st_mtime_ns
    again = teacher_forcing()
    assert fit(again, clips, tmp_path)
    assert (tmp_path / loop.CHECKPOINT).stat().st_mtime_ns == written
    saved = checkpoint.load(tmp_path / loop.CHECKPOINT)[0]
    assert equal(again.average.state_dict(), checkpoint.unpack("average", saved))


def test_the_average_is_the_exact_moving_average_warmed_up(clips, tmp_path):
    stage = consistency()
    students, plain = [], stage.loss

    def remember(clip, generator):
        students.append([weight.detach().clone() for weight in stage.student.parameters()])
        return plain(clip, generator)

    stage.loss = remember
    expected = [weight.clone() for weight in stage.average.parameters()]
    fit(stage, clips, tmp_path, replace(CONFIG, steps=5, ema=0.15))
    students.append([weight.detach() for weight in stage.student.parameters()])
    for step, student in enumerate(students[1:]):
        decay = min(0.15, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, student, strict=True)]
    for average, value in zip(stage.average.parameters(), expected, strict=True):
        assert torch.allclose(average, value, atol=1e-7)
    assert any((a - s).abs().max() > 1e-4 for a, s in zip(stage.average.parameters(), students[-1], strict=True))
    saved = checkpoint.unpack("average", checkpoint.load(tmp_path / loop.CHECKPOINT)[0])
    assert equal(saved, stage.average.state_dict())


@pytest.mark.parametrize("make", STAGES)
def test_the_average_is_frozen_in_evaluation_mode_and_owns_its_weights(make):
    stage = make()
    assert not stage.average.training and not any(weight.requires_grad for weight in stage.average.parameters())
    assert all(weight.requires_grad for weight in stage.student.parameters())
    storages = {weight.data_ptr() for weight in stage.student.parameters()}
    assert storages.isdisjoint(weight.data_ptr() for weight in stage.average.parameters())
    assert not list(stage.average.buffers())  # a buffer would not be averaged


@pytest.mark.parametrize("fault", ["loss", "gradient"])
@pytest.mark.parametrize("saved", [False, True])
def test_a_fault_stops_before_the_update_and_names_step_and_checkpoint(fault, saved, clips, tmp_path):
    if saved:
        fit(teacher_forcing(), clips, tmp_path, replace(CONFIG, steps=2))
    stage = teacher_forcing()
    plain, seen = stage.loss, []

    def broken(clip, generator):
        seen.append({name: tensor.clone() for name, tensor in state(stage).items()})
        loss = plain(clip, generator)
        if fault == "loss":
            return loss * torch.nan
        return loss + (next(stage.student.parameters()).sum() * 0).sqrt()  # finite, with an infinite slope

    stage.loss = broken
    path = tmp_path / loop.CHECKPOINT
    where = f"at step 2; the last good checkpoint is {path}" if saved else "at step 0; there is no checkpoint yet"
    with pytest.raises(loop.TrainingFault, match=f"teacher_forcing: {fault} is not finite {where}"):
        fit(stage, clips, tmp_path)
    assert len(seen) == 1 and equal(seen[0], state(stage))
    assert path.is_file() == saved


def noiseless(stage, sizes):
    """A loss of single precision that draws nothing: the mean over clips of what the network answers, squared."""

    def loss(clip, generator):
        sizes.append(len(clip.frames))
        x = clip.frames.float() / 127.5 - 1.0
        zeros = x.new_zeros(x.shape[:2])
        with torch.autocast("cpu", enabled=False):
            return stage.student.packed(x, zeros + 0.5, x, zeros, clip.actions, clip.known).square().mean()

    return loss


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
def test_micro_batches_make_the_one_update_of_the_whole_batch(clip_norm, recording, tmp_path):
    """For a loss that draws no noise and is a mean over clips; so one norm is clipped and one step made."""
    moments, losses = [], []
    for parts in (1, 2, 4):
        stage, sizes, folder = teacher_forcing(), [], tmp_path / str(parts)
        stage.loss = noiseless(stage, sizes)
        config = replace(CONFIG, batch=4, clip_norm=clip_norm, steps=2, accumulate=parts)
        fit(stage, ClipSampler(recording, 3, batch=4, seed=5), folder, config)
        assert sizes == [4 // parts] * 2 * parts
        moments.append(checkpoint.unpack("adam", checkpoint.load(folder / loop.CHECKPOINT)[0]))
        losses.extend(row["loss"] for row in journal.read_log(folder))
    assert {value.item() for name, value in moments[2].items() if name.endswith("/step")} == {2.0}
    size = max(value.abs().max() for name, value in moments[0].items() if name.endswith("/exp_avg"))
    for split in moments[1:]:
        for name, value in moments[0].items():
            assert torch.allclose(split[name], value, rtol=1e-3, atol=1e-4 * size.item()), name
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)


def test_recomputed_activations_give_the_same_training_and_the_same_files(recording, tmp_path):
    files, passes = [], []
    for again in (False, True):
        stage = teacher_forcing()
        block, count = stage.student.blocks[0], []
        block.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        fit(stage, make_clips(recording), tmp_path / str(again), replace(CONFIG, checkpoint_activations=again))
        files.append(checkpoint.load(tmp_path / str(again) / loop.CHECKPOINT)[0])
        passes.append(len(count))
    assert passes[1] == passes[0] + CONFIG.steps  # one more pass through each block for every gradient
    assert files[0].keys() == files[1].keys()
    assert all(torch.allclose(files[0][name].float(), files[1][name].float(), atol=1e-6) for name in files[0])


def test_a_network_without_blocks_cannot_recompute_activations(clips, tmp_path):
    message = "loop.checkpoint_activations is true, but OutcomeHead has no transformer blocks; set it to false"
    with pytest.raises(ValueError, match=message):
        fit(outcomes(), clips, tmp_path, replace(CONFIG, checkpoint_activations=True))


def test_the_rate_warms_up_stays_and_falls_to_nothing():
    config = LoopConfig(steps=100, batch=1, learning_rate=2.0, warmup=4, decay=0.25)
    rates = [loop.learning_rate(step, loop.progress(step, 0.0, config), config) for step in range(100)]
    assert rates[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rates[4:76] == [2.0] * 72
    assert rates[99] == pytest.approx(2.0 / 25) and sorted(rates[75:], reverse=True) == rates[75:]
    assert loop.learning_rate(100, 1.0, config) == 0.0
    constant = replace(config, decay=0.0, warmup=0)
    assert {loop.learning_rate(step, step / 100, constant) for step in range(100)} == {2.0}


def test_with_a_budget_the_rate_falls_by_time():
    config = LoopConfig(steps=100, batch=1, learning_rate=2.0, warmup=0, decay=0.5, seconds=10.0)
    assert loop.progress(5, 7.5, config) == 0.75
    assert loop.learning_rate(5, 0.75, config) == 1.0
    assert loop.progress(100, 1.0, config) == 1.0


def test_a_budget_of_seconds_ends_the_stage(clips, tmp_path):
    config = replace(CONFIG, steps=10**6, seconds=0.2)
    assert fit(teacher_forcing(), clips, tmp_path, config)
    notes = checkpoint.load_notes(tmp_path / loop.CHECKPOINT)
    assert 1 < notes["step"] < 10**5 and 0.2 <= notes["seconds"] < 5
    assert fit(teacher_forcing(), clips, tmp_path, config)
    assert checkpoint.load_notes(tmp_path / loop.CHECKPOINT) == notes


def test_the_log_has_a_row_for_every_checkpoint(clips, tmp_path):
    fit(teacher_forcing(), clips, tmp_path, replace(CONFIG, steps=5))
    rows = list(journal.read_log(tmp_path))
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert all(0 < row["loss"] < 10 and row["seconds"] >= 0 for row in rows)


def test_the_checkpoint_of_another_stage_network_or_dataset_is_refused(recording, clips, tmp_path):
    fit(teacher_forcing(), clips, tmp_path)
    with pytest.raises(ValueError, match="belongs to stage 'teacher_forcing', not 'consistency'"):
        fit(consistency(), clips, tmp_path)
    with pytest.raises(ValueError, match="is of a network of another shape; delete it or give another folder"):
        fit(TeacherForcing(network(dim=32), TeacherForcingConfig(), CONTEXT), clips, tmp_path)
    with pytest.raises(ValueError, match="clip_frames"):
        fit(teacher_forcing(), make_clips(recording, clip_frames=4), tmp_path)


def test_a_damaged_checkpoint_is_refused(clips, tmp_path):
    fit(teacher_forcing(), clips, tmp_path)
    path = tmp_path / loop.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="checkpoint.safetensors is damaged"):
        fit(teacher_forcing(), clips, tmp_path)
