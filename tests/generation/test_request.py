"""Requests: what is joined from config and flags, what is refused."""

import dataclasses
import json
import os

import numpy as np
import pytest

from mvjax.generation import request as requests


@pytest.fixture
def good(model_folders, tmp_path):
  return requests.Request(
    prompts=("a sofa",), out=str(tmp_path / "out"), **model_folders
  )


def test_a_good_request_passes(good):
  requests.validate(good)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("prompts", ("a sofa", "  "), "prompt='  ': is empty"),
    ("prompts", (), "prompts: there is none"),
    ("views", 0, "views=0: must be 1 to 1024"),
    ("views", 20_000, "views=20000: must be 1 to 1024"),
    ("steps", 10**10, "steps=10000000000: must be 1 to 10000"),
    (
      "image_size",
      100_000,
      "views=4 of image_size=100000 in a batch of 1 makes 40000 million in all",
    ),
    ("elevation", 91.0, "elevation=91.0: must be -90 to 90"),
    ("distance", 0.0, "distance=0.0: must be above 0"),
    ("field_of_view", 180.0, "field_of_view=180.0: must be 0 to 180"),
    ("seeds", (3, -1), r"seeds=\(3, -1\): .* whole numbers"),
    ("steps", 0, "steps=0: must be 1 to 10000"),
    ("eta", 1.5, "eta=1.5: must be 0 to 1"),
    ("batch_size", 0, "batch_size=0: must be at least 1"),
    ("image_guidance", float("nan"), "image_guidance=nan: must be 0 or more"),
    ("score", "both", "score='both': choose one of mix, mv, 2d"),
    ("lambda_schedule", "steep", "lambda_schedule='steep': choose one of"),
    ("lambda_schedule", "constant:2", "lambda_schedule reaches 2"),
    ("dtype", "int8", "dtype='int8': choose one of float32, bfloat16"),
    ("image_provider", "torch", "image_provider='torch': choose one of mvjax"),
    ("image_resolution", "up", "image_resolution='up': choose one of native"),
    ("timestep_spacing", "even", "timestep_spacing='even': choose one of"),
    ("image_template", "a photo", "image_template='a photo': must have"),
    ("image", "", "image: no model is given; pass --image="),
    ("image", "no/such/one", "image=no/such/one: no model there"),
    ("cameras", "none.json", "cameras=none.json: cannot be read"),
  ],
)
def test_wrong_fields_are_named(good, field, value, message):
  with pytest.raises(ValueError, match=message) as error:
    requests.validate(dataclasses.replace(good, **{field: value}))
  assert "\n" not in str(error.value)


def test_models_that_are_not_asked_need_not_exist(good):
  alone = dataclasses.replace(good, score="mv", image="no/such")
  requests.validate(alone)
  assert list(alone.sources) == ["multiview"]


def test_out_must_be_writable(good, tmp_path):
  (tmp_path / "file").write_text("in the way")
  wrong = dataclasses.replace(good, out=str(tmp_path / "file" / "out"))
  with pytest.raises(ValueError, match="out=.*cannot write there"):
    requests.validate(wrong)


def test_the_size_of_a_batch_counts(good):
  """Sixteen views of 512 pixels fit, nine samples of them do not."""
  many = dataclasses.replace(good, views=16, image_size=512, batch_size=9)
  requests.validate(many)  # there is one sample
  seeds = tuple(range(9))
  with pytest.raises(ValueError, match="views=16 .* in a batch of 9 makes 38"):
    requests.validate(dataclasses.replace(many, seeds=seeds))


def test_a_file_of_many_cameras_counts(good, tmp_path):
  frame = {"transform_matrix": np.eye(4).tolist()}
  path = tmp_path / "cameras.json"
  content = {"camera_angle_x": 0.7, "frames": [frame] * 1000}
  path.write_text(json.dumps(content))
  request = dataclasses.replace(good, cameras=str(path), image_size=256)
  with pytest.raises(ValueError, match="views=1000 of image_size=256"):
    requests.validate(request)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("steps", "many", "steps='many': must be of type int"),
    ("steps", 2.5, "steps=2.5: must be of type int"),
    ("steps", None, "steps=None: must be of type int"),
    ("steps", True, "steps=True: must be of type int"),
    ("eta", "much", "eta='much': must be of type float"),
    ("metric_cameras", 1, "metric_cameras=1: must be of type bool"),
    ("multiview", ["a"], r"multiview=\['a'\]: must be of type str"),
    ("image_size", "128", "image_size='128': must be of type int or None"),
    ("cameras", 3, "cameras=3: must be of type str or None"),
  ],
)
def test_a_field_of_another_type_is_named(model_folders, field, value, message):
  with pytest.raises(ValueError, match=message):
    requests.make_request({**model_folders, field: value}, {"prompt": "a"})


def test_a_whole_number_is_a_number(model_folders):
  fields = {**model_folders, "eta": 1, "distance": 3}
  request = requests.make_request(fields, {"prompt": "a", "out": "out"})
  assert type(request.eta) is float and request.distance == 3


def test_flags_override_the_config(model_folders):
  request = requests.make_request(
    {**model_folders, "steps": 30, "views": 8, "seeds": [7]},
    {"prompt": "a sofa", "out": "out", "views": 6, "eta": None},
  )
  assert request.prompts == ("a sofa",)
  assert (request.steps, request.views, request.eta) == (30, 6, 0.0)
  assert request.seeds == (7,)


def test_a_cameras_file_and_an_orbit_are_not_both_given(model_folders):
  flags = {"prompt": "a sofa", "out": "out", "cameras": "rig.json"}
  assert requests.make_request(model_folders, flags).cameras == "rig.json"
  # An orbit in the config is only a default.
  requests.make_request({**model_folders, "views": 8}, flags)
  with pytest.raises(ValueError, match=r"views=6, azimuth=0.0: cameras=rig"):
    requests.make_request(model_folders, {**flags, "views": 6, "azimuth": 0.0})


def test_each_model_is_told_its_own_words(good):
  request = dataclasses.replace(
    good, multiview_template="{prompt}, 3d asset", image_template="[x] {prompt}"
  )
  assert request.text("multiview", "a {b} sofa") == "a {b} sofa, 3d asset"
  assert request.text("image", "a {b} sofa") == "[x] a {b} sofa"


def test_prompts_are_the_different_lines_of_a_file(model_folders, tmp_path):
  path = tmp_path / "prompts.txt"
  path.write_text("# Seats\na sofa\n\n  a chair \n #\na sofa\n")
  request = requests.make_request(
    model_folders, {"prompts": str(path), "out": "out"}
  )
  assert request.prompts == ("a sofa", "a chair")


@pytest.mark.parametrize(
  "make, reason",
  [
    (os.mkfifo, "is no file"),
    (os.mkdir, "is no file"),
    (lambda path: path.symlink_to("/dev/zero"), "is no file"),
    (lambda path: path.write_bytes(bytes(2**24 + 1)), "more than 16777216"),
    (
      lambda path: path.write_text("\n".join(map(str, range(100_001)))),
      "has 100001; at most 100000",
    ),
  ],
)
def test_endless_prompts_are_refused_unread(tmp_path, make, reason):
  path = tmp_path / "prompts.txt"
  make(path)
  with pytest.raises(ValueError, match=f"prompts: .*{reason}"):
    requests.read_prompts(path)


@pytest.mark.parametrize(
  "flags, message",
  [
    ({}, "neither given: pass either"),
    ({"prompt": "a", "prompts": "b"}, "prompt and prompts given"),
    ({"prompts": "missing.txt"}, "prompts: cannot read missing.txt"),
    ({"prompt": "a", "colour": "red"}, "sample.colour: no such setting"),
  ],
)
def test_flags_that_make_no_request(model_folders, flags, message):
  with pytest.raises(ValueError, match=message):
    requests.make_request(model_folders, {"out": "out", **flags})


def test_an_empty_prompts_file_is_named(model_folders, tmp_path):
  path = tmp_path / "prompts.txt"
  path.write_text("\n \n# a sofa\n")
  with pytest.raises(ValueError, match="has no text"):
    requests.read_prompts(path)
