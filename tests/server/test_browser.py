"""A headless Chromium plays: keys and fingers in, pixels out."""

import gymnasium as gym
import numpy as np
import pytest
from tiny import NAMES

import worldsim  # noqa: F401 - registers the ids

pytest.importorskip("playwright", reason='needs playwright: pip install "worldsim[test]"')

from worldsim.server.measure import browser_page  # noqa: E402

PIXELS = """() => {
  const canvas = document.querySelector('#picture');
  return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
}"""


@pytest.fixture(scope="module")
def page(server, chromium):
    """A phone that also has a keyboard."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with browser_page(chromium, **phone) as page:
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.goto(server.url)
        page.wait_for_selector("body[data-state=playing]")
        yield page


def shown(page, step):
    page.wait_for_selector(f"body[data-state=pause] #picture[data-step='{step}']", state="attached")
    flat = np.array(page.evaluate(PIXELS), np.uint8)
    return flat.reshape(48, 64, 4)[..., :3]


def test_a_pressed_key_changes_pixels_to_what_the_environment_paints(page, server, world):
    page.keyboard.press("n")
    page.keyboard.press("Tab")
    page.wait_for_selector("body[data-state=pause]")
    before = page.evaluate(PIXELS)
    step = int(page.get_attribute("#picture", "data-step"))
    env = gym.make("worldsim/World-v0", world=world)
    env.reset(seed=8)
    for _ in range(step):
        env.step(0)
    page.keyboard.down("ArrowUp")
    page.keyboard.down(" ")
    page.keyboard.press(".")
    frame = shown(page, step + 1)
    assert np.array_equal(frame, env.step(NAMES.index("UPFIRE"))[0]) and frame.flatten().tolist() != before
    page.keyboard.up("ArrowUp")
    page.keyboard.up(" ")
    assert page.problems == []


def test_a_finger_on_the_pad_holds_directions_and_slides(page):
    box = page.locator(".pad").bounding_box()
    lit = "[...document.querySelectorAll('.arm.lit')].map((arm) => arm.dataset.key).sort().join()"
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    assert page.evaluate(lit) == "right"
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    assert page.evaluate(lit) == "left,up"
    page.mouse.up()
    assert page.evaluate(lit) == ""


def test_nothing_sticks_out_of_a_phone_and_each_pixel_is_whole(page):
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    canvas, fire = page.locator("#picture").bounding_box(), page.locator(".round").bounding_box()
    assert canvas["width"] % 64 == 0 and canvas["width"] >= 320
    assert fire["x"] + fire["width"] <= 390 and fire["y"] + fire["height"] <= 844


def test_the_game_rests_while_the_help_is_open_and_goes_on_as_before(page):
    def after(key):
        step = page.get_attribute("#picture", "data-step")
        page.keyboard.press(key)
        page.wait_for_timeout(500)
        moves = page.get_attribute("#picture", "data-step") != step
        return page.get_attribute("body", "data-state"), page.locator("#help").is_visible(), moves

    page.keyboard.press("n")
    page.wait_for_selector("body[data-state=playing]")
    assert after("h")[:2] == ("pause", True)
    assert after("f")[2] is False
    assert after("Escape") == ("playing", False, True)
    assert after("Tab")[0] == "pause"
    assert after("h") == ("pause", True, False) and after("h") == ("pause", False, False)
    assert after("h")[1] and after("Tab") == ("playing", True, True) and after("h") == ("playing", False, True)


def test_a_paused_phone_shows_its_state_alone_without_an_empty_label(page):
    page.keyboard.press("n")
    page.wait_for_selector("body[data-state=playing]")
    page.locator("[data-command=pause]").tap()
    page.wait_for_selector("body[data-state=pause]")
    assert page.locator("#curtain-title").is_visible()
    assert page.evaluate("document.querySelector('#curtain-text').getBoundingClientRect().height") == 0


@pytest.fixture
def menu(page, world, monkeypatch, serving):
    """A phone before the menu of a server with two worlds and one seat."""
    from worldsim import serve

    monkeypatch.setattr(serve, "list_worlds", lambda: [world, world])
    with serving("--sessions", "1") as server:
        phone = page.context.browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        phone.server = server
        phone.goto(server.url)
        phone.wait_for_selector("body[data-state=menu] .card img")
        yield phone
        phone.close()


def test_several_worlds_make_a_menu_and_a_click_plays_one(menu):
    assert menu.locator(".card").all_inner_texts() == ["Tiny\n64x48, 15 frames a second"] * 2
    menu.locator(".card").nth(1).click()
    menu.wait_for_selector("body[data-state=playing]")
    assert menu.inner_text("#title") == "Tiny" and not menu.locator("#menu").is_visible()


@pytest.mark.parametrize("way", ["key", "button"])
def test_quitting_brings_back_the_menu_and_frees_the_seat(menu, way):
    for card in (1, 0):
        menu.locator(".card").nth(card).click()
        menu.wait_for_selector("body[data-state=playing]")
        quit_button = menu.locator("#quit").bounding_box()
        assert quit_button["x"] >= 0 and quit_button["x"] + quit_button["width"] <= 390
        assert quit_button["y"] + quit_button["height"] <= 844
        menu.keyboard.press("Escape") if way == "key" else menu.locator("#quit").tap()
        menu.wait_for_selector("body[data-state=menu] .card")
        assert not menu.locator("#game").is_visible() and menu.title() == "worldsim"
    with menu.server.player() as other:
        assert other.hello()["title"] == "Tiny"


def test_escape_leaves_the_help_before_the_game(menu):
    menu.locator(".card").first.click()
    menu.wait_for_selector("body[data-state=playing]")
    menu.keyboard.press("h")
    assert "quit to the menu" in menu.inner_text("#help")
    menu.keyboard.press("Escape")
    assert not menu.locator("#help").is_visible() and menu.locator("#game").is_visible()
    menu.keyboard.press("Escape")
    assert menu.locator("#menu").is_visible()


def test_one_who_finds_no_seat_can_go_back_to_the_menu(menu):
    with menu.server.player() as other:
        other.hello()
        menu.locator(".card").first.tap()
        menu.wait_for_selector("body[data-state=closed]")
        assert menu.inner_text("#curtain-title") == "No free seat"
        menu.locator("#quit").tap()
        menu.wait_for_selector("body[data-state=menu] .card")


def test_where_one_world_is_served_there_is_no_menu_to_go_back_to(page):
    page.keyboard.press("Escape")
    assert page.locator("#game").is_visible() and not page.locator("#quit").is_visible()
