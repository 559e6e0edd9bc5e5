"""A run of distribution matching: what it keeps, logs and picks as its best."""

from dataclasses import replace

import pytest
import torch
from dmd_kit import FRAMES, LOOP, PAST, SIGMAS, apart, network, stage
from dot_game import dot_recording

from worldsim.sampler import FewStepSampler
from worldsim_training import checkpoint, dmd, journal, loop
from worldsim_training.dataset import ClipSampler, Recording
from worldsim_training.loop import Best, average_of

pytestmark = pytest.mark.usefixtures("one_thread")


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
