"""The time from a key to a changed pixel, in a real browser without a window."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Error, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
LOAD_MS = 60_000
HELD_S, GAP_S = (0.1, 0.25), (0.15, 0.4)
"""Least and most seconds that a key is held, and between two keys: drawn, so that they meet frames at every phase."""
WARM_UP_S = 3

# From a key's own time, as the browser took it from the system, to the start of the second animation frame at which the
# canvas shows a picture that answers it and differs from the one before: at the second, the browser has handed the
# first on.
PROBE = """() => {
  const canvas = document.querySelector('#picture');
  const pixels = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const probe = (window.probe = { times: [], pressed: 0 });
  let waiting = null;
  addEventListener('keydown', (event) => {
    if (event.repeat || waiting) return;
    probe.pressed += 1;
    waiting = { from: event.timeStamp, before: pixels(), number: Number(canvas.dataset.sent ?? 0) + 1, seen: false };
  }, true);
  const look = () => {
    requestAnimationFrame(look);
    if (!waiting) return;
    if (waiting.seen) {
      probe.times.push(performance.now() - waiting.from);
      waiting = null;
    } else if (Number(canvas.dataset.answers) >= waiting.number) {
      const now = pixels();
      waiting.seen = waiting.before.some((value, index) => value !== now[index]);
    }
  };
  look();
}"""


def find_chromium(asked: Path | None = None) -> str:
    """The executable of an installed Chromium or one of its kin; FileNotFoundError in one line where there is none."""
    found = [shutil.which(str(name)) for name in ([asked] if asked is not None else NAMES)]
    path = next((path for path in found if path), None)
    if path is None:
        looked = f"'{asked}'" if asked is not None else ", ".join(NAMES)
        raise FileNotFoundError(f"no Chromium was found as {looked}; install one, or name it with --chromium PATH")
    return path


@contextlib.contextmanager
def browser_page(chromium: str, **options) -> Iterator[Page]:
    """A page of a headless browser. options: as playwright's `new_page` takes them."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    arguments = ["--no-sandbox"] if is_root else []  # Chromium's sandbox refuses to start as root
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        except Error as error:
            raise OSError(f"'{chromium}' does not start: {str(error).strip().splitlines()[0]}") from None
        try:
            yield browser.new_page(**options)
        finally:
            browser.close()


def measure(url: str, *, seconds: float, chromium: Path | None = None) -> dict[str, Any]:
    """Press the world's keys for so long: milliseconds from a key to the changed pixel, median, 95th percentile, most.

    Raises OSError in one line where there is no browser, or it shows no picture.
    """
    executable = find_chromium(chromium)
    with browser_page(executable, viewport={"width": 1280, "height": 800}) as page:
        page.goto(url)
        try:
            page.wait_for_selector("body[data-state=playing]", timeout=LOAD_MS)
        except Error:
            raise OSError(f"the page shows no picture: {page.inner_text('#words') or 'no reason given'}") from None
        time.sleep(WARM_UP_S)
        page.evaluate(PROBE)
        first = int(page.get_attribute("#picture", "data-shown") or 0)
        took_s = _press(page, seconds)
        shown = int(page.get_attribute("#picture", "data-shown") or 0) - first
        probe = page.evaluate("window.probe")
        version = page.context.browser.version
    if not probe["times"]:
        raise OSError(f"none of {probe['pressed']} keys changed a pixel")
    return _report(probe, shown / took_s, took_s) | {"chromium": version, "platform": platform.platform()}


def _press(page: Page, seconds: float) -> float:
    """Press keys for so long; returns the seconds it took."""
    keys = page.evaluate("window.worldsim.browserKeys()")
    rng = np.random.default_rng(0)
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        key = keys[rng.integers(len(keys))]
        page.keyboard.down(key)
        time.sleep(rng.uniform(*HELD_S))
        page.keyboard.up(key)
        time.sleep(rng.uniform(*GAP_S))
    time.sleep(GAP_S[1])
    return time.monotonic() - started


def _report(probe: dict[str, Any], shown_fps: float, took_s: float) -> dict[str, Any]:
    times = probe["times"]
    return {
        "key_to_pixel_ms_p50": round(statistics.median(times), 1),
        "key_to_pixel_ms_p95": round(float(np.percentile(times, 95)), 1),
        "key_to_pixel_ms_max": round(max(times), 1),
        "keys": probe["pressed"],
        "answered": len(times),
        "shown_fps": round(shown_fps, 1),
        "seconds": round(took_s, 1),
        "cores": os.cpu_count(),
    }
