"""The report: its page holds every figure with its verdict, its strips show what was played."""

import base64
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from toy_game import ToyGame
from toy_worlds import FrozenWorld, RealWorld

from worldsim_training import evaluate, imagine
from worldsim_training.battery import measure
from worldsim_training.battery.ledger import Ledger
from worldsim_training.battery.tryouts import Size
from worldsim_training.battery.verdicts import judge
from worldsim_training.evaluation import Evaluation
from worldsim_training.heldout import record_heldout
from worldsim_training.report import __main__ as command
from worldsim_training.report import page, plots, strips, words

pytest.importorskip("matplotlib", reason="plots are drawn by the extra eval")
pytestmark = pytest.mark.usefixtures("one_thread")

MARK = "ab" * 32
TOLD = {
    "world": "toy",
    "world_manifest_sha256": MARK,
    "env_id": "ALE/Toy",
    "command": "worldsim eval toy --seed 0",
    "version_torch": "2.13",
    "false_ends_per_2000": 4.0,  # the real game passes everything else
}
PLAN = evaluate.Plan(
    episodes=6, windows=6, horizons=(1, 4, 16), trials=8, rollouts=2, rollout_steps=160, real_rollouts=1,
    drift_frames=(0, 3, 9),
    battery=measure.Extent(
        instruments=("control", "onset", "rewards"), size=Size(branches=6, windows=6, window_steps=16, steps=4),
        step_choices=(1, 2), step_size=Size(branches=4, steps=4), step_instruments=("control",), drifts=((2, 160),),
    ),
)  # fmt: skip
VOID = {"meta", "img", "br", "source", "link", "input", "hr"}


class Page(HTMLParser):
    """The page's text by table row, its references, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.links = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "srcset", "href")]
        if tag == "tr":
            self.rows.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1] += data

    def row(self, key):
        """Words of the last row that begins with a figure's key: that of the list of all figures."""
        return [row.split() for row in self.rows if row.split()[:1] == [key]][-1]


@pytest.fixture(scope="module")
def evaluation():
    numbers = {"split": "validation", "seed": 0, "steps": 2, "progress": False}
    return Evaluation(RealWorld(), ToyGame(), PLAN, **numbers)


@pytest.fixture(scope="module")
def entry(evaluation):
    return page.Entry("toy", evaluation.figures() | TOLD, evaluation.strips())


@pytest.fixture(scope="module")
def text(entry):
    return page.render([entry])


def test_of_rollouts_it_says_how_many_and_what_a_player_saw_of_those_that_end():
    figures = {"rollouts": 50, "drift_1000_rollouts": 24, "drift_1000_collapsed_shown": 2, "rollouts_ended": 0}
    assert words.out_of("collapsed", figures) == " of 50"
    assert words.out_of("drift_1000_collapsed", figures | {"drift_1000_rollouts_ended": 5}) == " of 24, 2 before an end"
    assert words.out_of("drift_1000_far", figures | {"drift_1000_rollouts_ended": 5}) == " of 24"
    assert words.out_of("drift_1000_end_motion_ratio", figures) == words.out_of("far", {}) == ""


def test_the_page_holds_every_figure_with_its_verdict(entry, text):
    shown = Page(text)
    gates = {gate.key: gate for gate in judge(entry.figures)}
    for key, value in entry.figures.items():
        row = shown.row(key)
        assert row[1:] == [*words.number(value).split(), *(gates[key].verdict.split() if key in gates else [])]
    assert {gate.verdict for gate in gates.values()} == {"pass", "fail", "refused", "not measured"}
    for key, gate in gates.items():
        if gate.verdict == "not measured":
            assert f"{words.title(key)} (<code>{key}</code>)" in html.unescape(text)
            continue
        row = next(row for row in shown.rows if row.split() and key in row.split())
        assert words.title(key) in row and gate.verdict in row and gate.wanted in row
    rollouts = next(row.split() for row in shown.rows if "drift_160_collapsed" in row.split())
    assert " ".join(rollouts).endswith(f"pass {entry.figures['drift_160_collapsed']} of 2 0")


def test_an_evaluation_measures_the_same_again(evaluation, entry):
    again = evaluation.figures()
    assert {key: entry.figures[key] for key in again if key not in TOLD} == {
        key: value for key, value in again.items() if key not in TOLD
    }


def test_the_page_refers_to_nothing_outside_itself(text):
    shown = Page(text)
    assert shown.links and all(link.startswith("data:image/") for link in shown.links)
    assert "http" not in text and "<script" not in text and "@import" not in text and "url(" not in text


def test_the_page_tells_the_command_the_hashes_the_seed_and_the_versions(entry, text):
    shown = Page(text)
    made = {row.split()[0]: row for row in shown.rows if row.split()}
    for key in ("command", "world_manifest_sha256", "heldout_sha256", "seed", "version_torch"):
        assert str(entry.figures[key]) in made[key]


def test_an_instrument_that_refused_is_named_with_its_reason_and_a_missing_one_is_named(text):
    assert "<strong>rewards</strong>: the real game paid 0 times" in text
    shown = Page(text)
    gate = next(row for row in shown.rows if "reward_f1" in row)
    assert "refused" in gate and "the real game paid 0 times" in gate
    assert "actions recovered from frames" in text[text.index("Not measured: ") :]


def test_the_same_figures_give_the_same_page(entry, text):
    assert page.render([entry]) == text


def test_every_plot_draws_floors_and_ceilings_and_is_whole(entry):
    drawn = plots.draw_all([("toy", entry.figures)])
    assert [plot.title for plot in drawn] == [
        "Gain over copying the last frame", "PSNR", "How soon the opponent answers the player",
        "One, two and four denoising steps", "Long rollouts",
    ]  # fmt: skip
    for plot in drawn:
        light, dark = (base64.b64decode(svg).decode() for svg in (plot.light, plot.dark))
        assert light.rstrip().endswith("</svg>") and plots.LIGHT.ink in light and plots.DARK.ink in dark


def test_figures_with_gaps_are_plotted_as_far_as_they_go():
    figures = TOLD | {"gain_1_db": 3.0, "gain_4_db": None, "psnr_1_db": 30.0, "floor_1_db": 27.0, "psnr_4_db": None}
    shown = Page(page.render([page.Entry("gaps", figures)]))
    assert shown.row("gain_4_db")[1:] == ["no", "meaning"]
    assert "None of these figures can be plotted." in page.render([page.Entry("bare", {"world": "bare"})])


def test_the_film_of_the_real_game_shows_the_same_frames_twice(evaluation):
    film = strips.Strip.of("film", evaluation.strips())
    assert film.rows == ["real 1", "imagined 1", "real 2", "imagined 2"]
    assert film.columns[:3] == ["step 0", "step 1", "step 2"]
    np.testing.assert_array_equal(film.frames[0], film.frames[1])
    np.testing.assert_array_equal(film.frames[2], film.frames[3])
    assert (film.frames[0, 0] != film.frames[0, -1]).any()


def test_the_action_strip_has_a_row_for_each_action_and_differs_where_the_game_does(evaluation):
    strip = strips.Strip.of("actions", evaluation.strips())
    assert strip.rows == list(ToyGame.actions.names)
    assert strip.columns == ["imagined +2", "imagined +4", "imagined +8", "real +2", "real +4", "real +8"]
    np.testing.assert_array_equal(strip.frames[:, :3], strip.frames[:, 3:])
    assert len({row.tobytes() for row in strip.frames[:, 2]}) == len(strip.rows)


def test_a_frozen_world_shows_one_frame_throughout():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=2, max_steps=120, save_every=8)
    artist = strips.Artist(FrozenWorld(), ToyGame(), heldout, imagine.Settings(1, 2), 0, (0, 3, 9))
    frames = artist.drift().frames
    assert frames.shape == (2, 3, 48, 64, 3)
    np.testing.assert_array_equal(frames, np.repeat(frames[:, :1], 3, axis=1))


def test_a_strip_that_cannot_be_drawn_says_why():
    heldout = record_heldout(ToyGame(), split="validation", seed=0, episodes=2, max_steps=20, save_every=8)
    figures = strips.Artist(RealWorld(), ToyGame(), heldout, imagine.Settings(1, 2), 0, (0, 3, 9)).figures()
    assert (
        "2 held-out episodes of 20 to 20 steps have 0 windows" in figures["refused_strip_film"]
        and "strip_drift" in figures
    )
    assert "held-out states have 4 frames before and 8 after; needed: 8" in figures["refused_strip_actions"]
    text = page.render([page.Entry("toy", TOLD, figures)])
    assert figures["refused_strip_actions"] in text
    assert "worldsim eval draws strips when it is given --report" in page.render([page.Entry("toy", TOLD)])


def test_the_strips_are_a_part_that_is_kept(tmp_path, evaluation):
    numbers = {"split": "validation", "seed": 0, "steps": 2, "progress": False}
    kept = Evaluation(RealWorld(), ToyGame(), PLAN, **numbers, ledger=Ledger(tmp_path, {"seed": 0})).strips()
    assert kept == evaluation.strips() == json.loads((tmp_path / "strips.json").read_text())["figures"]
    broken = Evaluation(FrozenWorld(), ToyGame(), PLAN, **numbers, ledger=Ledger(tmp_path, {"seed": 0}))
    assert broken.strips() == kept  # taken up, not drawn again


@pytest.fixture
def files(tmp_path, entry):
    """Two evaluations on disk, the first with strips."""
    figures = {key: value for key, value in entry.figures.items()}
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps(figures))
    second.write_text(json.dumps(figures | {"gain_1_db": -1.5, "heldout_sha256": "other"}))
    kept = {"identity": {"world_manifest_sha256": MARK}, "figures": entry.strips}
    page.strips_beside(first).write_text(json.dumps(kept))
    return first, second


def test_the_page_can_be_made_again_from_the_files(files, tmp_path, text):
    out = tmp_path / "out" / "page.html"
    assert command.main([str(files[0]), "--out", str(out)]) == 0
    assert out.read_text() == text


def test_a_comparison_shows_both_checkpoints_side_by_side(files, tmp_path):
    out = tmp_path / "page.html"
    assert command.main([*map(str, files), "--out", str(out)]) == 0
    text = out.read_text()
    shown = Page(text)
    assert "Worlds compared: first, second" in text and "held-out episodes differ" in text
    value = words.number(json.loads(files[0].read_text())["gain_1_db"])
    assert shown.row("gain_1_db")[1:] == [value, "pass", "-1.5", "fail"]
    assert text.count("not drawn: worldsim eval draws strips") == 3  # the second has none


def test_strips_of_other_weights_are_refused(files, tmp_path, capsys):
    kept = {"identity": {"world_manifest_sha256": "cd" * 32}, "figures": {}}
    page.strips_beside(files[0]).write_text(json.dumps(kept))
    assert command.main([str(files[0]), "--out", str(tmp_path / "page.html")]) == 2
    assert "shows a world of manifest cdcdcdcdcdcd..., the figures are of abababababab..." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "holds no figures of a world"),
        ("[1]", "holds no figures of a world"),
        ('{"world": "x", "gains": {"1": 2}}', "is not flat: gains is no single figure"),
    ],
)
def test_a_file_without_figures_is_named(tmp_path, capsys, content, message):
    (tmp_path / "bad.json").write_text(content)
    assert command.main([str(tmp_path / "bad.json"), "--out", str(tmp_path / "page.html")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_a_world_is_called_cannot_add_to_the_page():
    text = page.render([page.Entry("<script>alert(1)</script>", TOLD | {"command": "<b>x</b>"})])
    assert "<script" not in text and "<b>" not in text
    Page(text)


def test_a_cell_of_a_strip_is_the_frame_itself(entry, text):
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    film = strips.Strip.of("film", entry.strips)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0])))), film.frames[0, 0])
