"""The scripted session that is measured."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from player_kit import Clock

pygame = pytest.importorskip("pygame")

from worldsim import latency  # noqa: E402
from worldsim.action import ActionSpec, Channel  # noqa: E402
from worldsim.player.controls import Keys  # noqa: E402


def test_a_scripted_session_is_measured_in_a_process_of_its_own(world, monkeypatch, tmp_path, no_compiler, capfd):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    out = tmp_path / "session.json"
    assert latency.main([world, "--minutes", "0.05", "--fps", "20", "--compile", "--json", str(out)]) == 0
    warned = [line for line in capfd.readouterr().err.splitlines() if line.startswith("latency: ")]
    assert len(warned) == 1 and "playing without" in warned[0]
    told = json.loads(out.read_text())
    assert told["engine"] in ("packed", "plain")
    assert told["video_driver"] == "dummy" and told["key_changes"] > 0 and told["frames"] > 3
    assert 0 < told["latency_p50_ms"] <= told["latency_p95_ms"] and 0 <= told["late_share"] <= 1
    assert told["rounds"] == 1 and told["seconds"] >= 2.9 and 0 < told["fps_promised"] <= 20
    assert told["fps_shown"] == pytest.approx(told["frames"] / told["seconds"], rel=0.05)
    assert 0 < told["longest_gap_s"] < told["seconds"]
    assert told["cold_start_s"] > 0.1 and told["memory_mb"]["most"] >= told["memory_mb"]["first"] > 50


def test_a_wrong_world_is_one_line(capfd, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert latency.main(["nowhere"]) == 2
    assert "unknown world 'nowhere'" in capfd.readouterr().err


def test_growth_is_that_of_the_second_half():
    seconds = np.arange(0, 120, 2.0)
    used = np.where(seconds < 60, 100 + seconds, 160 + (seconds - 60) / 60)
    told = latency.growth(list(zip(seconds, used, strict=True)))
    assert told["growth_a_minute"] == pytest.approx(1.0) and told["first"] == 100 and told["at_half"] == 160


def test_growth_leaves_out_what_a_round_keeps_until_the_next_one():
    seconds = np.arange(0, 1800, 2.0)
    rounds = seconds % 130 / 130 * 4  # four megabytes of history a round
    for grows in (0.0, 0.5):
        used = 600 + rounds + seconds / 60 * grows
        told = latency.growth(list(zip(seconds, used, strict=True)))
        assert told["growth_a_minute"] == pytest.approx(grows, abs=0.02)


class Blind:
    """A window without keys."""

    def poll(self):
        return Keys()

    def show(self, frame, status, figures):
        pass


def test_a_round_that_is_over_is_followed_by_one_new_one_however_often_the_window_is_looked_at(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    actions = ActionSpec([Channel("fire")], keys={"fire": ("space",)})
    fingers = latency.Fingers(Blind(), actions, seconds=60, seed=0, began=0.0)
    asked = []
    for mode in ("play", "over", "over", "play", "over"):
        fingers.show(None, SimpleNamespace(mode=mode, game_fps=15.0), None)
        asked += [sum("new" in fingers.poll().commands for _ in range(5))]
    assert asked == [0, 1, 0, 0, 1] and fingers.rounds == 3


def test_a_key_of_the_script_counts_from_its_time_not_from_the_look_that_meets_it(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    clock = Clock()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock.now, time=clock.now))
    actions = ActionSpec([Channel("fire")], keys={"fire": ("space",)})
    fingers = latency.Fingers(Blind(), actions, seconds=60, seed=0, began=0.0)
    fingers.show(None, SimpleNamespace(mode="play", game_fps=15.0), None)
    told = []
    for _ in range(300):
        told.append((clock.now(), fingers.poll().changed_at))
        clock.sleep(0.004)
    waits = [now - changed_at for now, changed_at in told if changed_at is not None]
    assert len(waits) > 2 and waits[0] == 0 and 0 < max(waits) < 0.004
