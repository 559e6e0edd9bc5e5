"""The measuring of a page, in a headless Chromium."""

import pytest

pytest.importorskip("playwright", reason='needs playwright: pip install "worldsim[test]"')

from worldsim.server import measure as measuring  # noqa: E402
from worldsim.server.measure import find_chromium, measure  # noqa: E402


def test_measuring_tells_key_to_pixel_times(server, chromium, monkeypatch):
    monkeypatch.setattr(measuring, "WARM_UP_S", 0.2)
    report = measure(server.url, seconds=2)
    assert 0 < report["key_to_pixel_ms_p50"] <= report["key_to_pixel_ms_p95"] <= report["key_to_pixel_ms_max"]
    assert report["answered"] >= report["keys"] - 1 >= 1 and report["shown_fps"] > 5


def test_a_browser_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no Chromium was found as .* --chromium PATH"):
        find_chromium(tmp_path / "nothing")


def test_a_program_that_is_no_browser_is_one_line(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(OSError, match="does not start") as caught:
        measure("http://127.0.0.1:9/", seconds=1, chromium=program)
    assert "\n" not in str(caught.value)
