"""Names, vectors and keys of the action specification."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from tiny import CHANNELS, NAMES, tiny_actions

from worldsim.action import ActionSpec, Channel

KEY = {"up": "up", "down": "down", "left": "left", "right": "right", "fire": "space"}


@pytest.fixture
def boxing():
    return tiny_actions()


@pytest.fixture
def driving():
    keys = {"steer+": ("d", "right"), "steer-": ("A",), "gas": ("w",)}
    return ActionSpec([Channel("steer", "axis"), Channel("gas")], keys=keys)


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_decode_inverts_encode_for_all_eighteen_actions(boxing):
    assert boxing.space() == spaces.Discrete(18)
    assert [boxing.decode(boxing.encode(native)) for native in range(18)] == list(range(18))


def test_each_action_presses_the_buttons_in_its_name(boxing):
    for native, name in enumerate(NAMES):
        pressed = {channel for channel, value in zip(CHANNELS, boxing.encode(native), strict=True) if value}
        assert pressed == {channel for channel in CHANNELS if channel.upper() in name}


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (4, 0)])
def test_encode_adds_one_axis_of_channels(boxing, shape):
    vectors = boxing.encode(np.full(shape, 5))
    assert vectors.shape == (*shape, 5) and vectors.dtype == np.float32


def test_changing_an_encoded_action_leaves_the_table(boxing):
    for native in (3, np.int64(3), np.array(3), np.array([3])):
        boxing.encode(native)[:] = 7.0
    assert boxing == tiny_actions()


def test_every_action_is_the_keys_in_its_name(boxing):
    for native, name in enumerate(NAMES):
        held = [key for channel, key in KEY.items() if channel.upper() in name]
        assert boxing.decode(boxing.from_keys(held)) == native


def test_opposite_keys_cancel_and_leave_the_rest(boxing):
    assert boxing.decode(boxing.from_keys({"left", "right"})) == NAMES.index("NOOP")
    assert boxing.decode(boxing.from_keys({"up", "down", "space"})) == NAMES.index("FIRE")
    assert boxing.decode(boxing.from_keys({"up", "down", "left", "right", "space"})) == NAMES.index("FIRE")
    assert boxing.decode(boxing.from_keys({"left", "right", "up"})) == NAMES.index("UP")


def test_key_names_match_in_any_case_and_unknown_keys_do_nothing(boxing):
    assert boxing.decode(boxing.from_keys(["LEFT", "Space", "q", "f13"])) == NAMES.index("LEFTFIRE")


@pytest.mark.parametrize("native", [18, -1, [0, 18], np.int64(99)])
def test_an_action_out_of_range_is_named_with_the_range(boxing, native):
    with pytest.raises(ValueError, match=r"is not one of this world's: use 0\.\.17") as caught:
        boxing.encode(native)
    assert str(np.asarray(native).flat[-1]) in one_line(caught)


@pytest.mark.parametrize("native", [2.0, [1.0, 2.0], True, "FIRE", None])
def test_anything_but_integers_is_refused_for_discrete_actions(boxing, native):
    with pytest.raises(ValueError, match=r"this world takes integers 0\.\.17") as caught:
        boxing.encode(native)
    one_line(caught)


@pytest.mark.parametrize("vector", [np.zeros(4), np.zeros((1, 5)), 0.0])
def test_a_vector_of_the_wrong_shape_is_refused_with_the_channels(boxing, vector):
    with pytest.raises(ValueError, match=r"this world has \(5,\): up, down, left, right, fire") as caught:
        boxing.decode(vector)
    one_line(caught)


def test_a_vector_is_built_from_channel_names(boxing):
    assert boxing.decode(boxing.vector(up=1, right=1, fire=1)) == NAMES.index("UPRIGHTFIRE")
    assert boxing.index("fire") == 4


def test_an_unknown_channel_gets_the_nearest_name_and_the_list(boxing):
    with pytest.raises(ValueError) as caught:
        boxing.vector(fier=1)
    listed = "this world has up, down, left, right, fire"
    assert one_line(caught) == f"unknown action channel 'fier'; did you mean 'fire'? {listed}"
    with pytest.raises(ValueError) as caught:
        boxing.index("xyz")
    assert one_line(caught) == f"unknown action channel 'xyz'; {listed}"


def test_a_specification_survives_json(boxing, driving):
    for spec in (boxing, driving):
        again = ActionSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec and hash(again) == hash(spec)
        assert again.keys == spec.keys and again.names == spec.names and again.channels == spec.channels
        assert again.space() == spec.space()
    assert boxing != driving


@pytest.mark.parametrize("field", ["channels", "table", "names", "keys"])
def test_a_damaged_specification_is_refused(boxing, field):
    data = boxing.to_json()
    del data[field]
    with pytest.raises(ValueError, match=f"damaged.*{field}") as caught:
        ActionSpec.from_json(data)
    one_line(caught)


def test_axes_and_buttons_make_a_box_whose_action_is_the_vector(driving):
    assert driving.space() == spaces.Box(np.float32([-1, 0]), np.float32([1, 1]))
    vectors = np.float32([[-0.5, 1], [1, 0]])
    assert np.array_equal(driving.encode(vectors), vectors)
    assert np.array_equal(driving.decode(vectors[0]), vectors[0])
    assert driving.decode([-3, 9]).tolist() == [-1, 1]


def test_an_axis_has_a_key_for_each_side_and_both_cancel(driving):
    assert driving.from_keys({"d"}).tolist() == [1, 0]
    assert driving.from_keys({"a", "w"}).tolist() == [-1, 1]
    assert driving.from_keys({"a", "d", "right"}).tolist() == [0, 0]


@pytest.mark.parametrize("native", [[2.0, 0.0], [0.0, -0.1], [float("nan"), 0.0]])
def test_a_box_action_outside_its_range_is_refused(driving, native):
    with pytest.raises(ValueError, match="leaves its range; buttons are 0 or 1, pedals 0 to 1, axes -1 to 1") as caught:
        driving.encode(native)
    one_line(caught)


@pytest.mark.parametrize("native", [0.0, [1.0], np.zeros((2, 3))])
def test_a_box_action_of_the_wrong_shape_is_refused(driving, native):
    with pytest.raises(ValueError, match=r"this world takes \(\.\.\., 2\): steer, gas") as caught:
        driving.encode(native)
    one_line(caught)


def test_a_specification_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="kind 'lever'; use one of button, axis"):
        Channel("up", "lever")
    with pytest.raises(ValueError, match="different names"):
        ActionSpec([Channel("up"), Channel("up")])
    with pytest.raises(ValueError, match="different names"):
        ActionSpec([])
    with pytest.raises(ValueError, match=r"table has shape \(2, 2\); it must be \(actions, 1\)"):
        ActionSpec([Channel("up")], [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="1 action names for 2 actions"):
        ActionSpec([Channel("up")], [[0], [1]], names=["NOOP"])


def test_one_key_name_is_no_list_of_key_names():
    with pytest.raises(ValueError, match=r"keys of 'right' are 'right'; give a list of key names, such as \['right'\]"):
        ActionSpec([Channel("right")], keys={"right": "right"})


def test_a_button_is_held_or_not_whatever_its_number():
    spec = ActionSpec([Channel("fire"), Channel("steer", "axis"), Channel("gas", "pedal")])
    vectors = spec.encode([[0.49, 0.49, 0.49], [0.5, -0.3, 1.0]])
    np.testing.assert_array_equal(vectors, np.float32([[0.0, 0.49, 0.49], [1.0, -0.3, 1.0]]))


def test_people_call_an_action_by_what_is_held():
    spec = ActionSpec([Channel("fire"), Channel("jump"), Channel("steer", "axis")])
    assert spec.label(np.float32([1.0, 0.2, -0.5])) == "fire  steer -0.5"
    assert spec.label(np.float32([0.4, 0.0, 0.0])) == "rest"
