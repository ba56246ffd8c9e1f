"""Curves of validation: what is read, and what a picture shows."""

import json

import numpy as np
import pytest
from PIL import Image

from mvjax.training import curves


def write(folder, **values):
  """A workdir whose validation wrote these numbers, one each 500 steps."""
  folder.mkdir()
  rows = [{"step": step, "loss": 1.0} for step in range(1, 501, 100)]
  for index in range(len(next(iter(values.values())))):
    found = {f"validation/{k}": v[index] for k, v in values.items()}
    rows.append({"step": 500 * index, **found})
  text = "".join(f"{json.dumps(row)}\n" for row in rows)
  (folder / "metrics.jsonl").write_text(text)
  return folder


def test_only_validation_is_read(tmp_path):
  folder = write(tmp_path / "run", loss_t500=[3.0, 2.0], share_t500=[0.0, 0.1])
  assert curves.read(folder) == {
    "validation/loss_t500": [(0, 3.0), (500, 2.0)],
    "validation/share_t500": [(0, 0.0), (500, 0.1)],
  }


def test_panels_are_those_that_some_run_has(tmp_path):
  wide = write(
    tmp_path / "wide",
    loss_t700=[1.0, 2.0],
    share_t700=[0.0, 1.0],
    share_t700_clean=[0.0, 1.0],
  )
  narrow = write(tmp_path / "narrow", loss=[3.0, 2.0], loss_t500=[3.0, 2.0])
  sizes = {}
  for name, runs in {
    "both": {"a": wide, "b": narrow},
    "narrow": {"b": narrow},
  }.items():
    curves.draw(runs, tmp_path / f"{name}.png")
    with Image.open(tmp_path / f"{name}.png") as picture:
      sizes[name] = np.array(picture.size)
      assert np.asarray(picture.convert("RGB")).std() > 10
  np.testing.assert_allclose(sizes["both"] / sizes["narrow"], [3, 1], atol=0.01)


def test_a_run_without_validation_is_refused(launch_py, tmp_path, capsys):
  (tmp_path / "run").mkdir()
  arguments = [f"a={tmp_path}/run", f"--out={tmp_path}/a.png"]
  assert launch_py("curves", *arguments) == 2
  assert "metrics.jsonl: has no validation losses" in capsys.readouterr().err
  assert launch_py("curves", "a=x", "a=y", arguments[-1]) == 2
  assert "LABEL=FOLDER, once a label" in capsys.readouterr().err
  assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
  "line", ["[]", "null", "[" * 100_000, '{"validation/x": "low", "step": 1}']
)
def test_a_damaged_line_is_named(tmp_path, line):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n' + line)
  with pytest.raises(ValueError, match="metrics.jsonl: line 2"):
    curves.read(tmp_path)
