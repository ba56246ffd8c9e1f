import pytest

from mvjax.evaluation import report


def test_labels():
  assert report.parse_labels(["runs/mix", "paper=runs/mv"]) == {
    "mix": "runs/mix",
    "paper": "runs/mv",
  }
  with pytest.raises(ValueError, match="'mix' is there twice"):
    report.parse_labels(["a/mix", "b/mix"])
  for wrong in (".", "a/b=runs/mix", "..=runs/mix", "=runs/mix"):
    with pytest.raises(ValueError, match="needs a label"):
      report.parse_labels([wrong])


def test_table_says_n_and_intervals():
  estimate = {
    "value": 0.25,
    "low": 0.15,
    "high": 0.35,
    "num_assets": 4,
    "num_images": 16,
  }
  alone = estimate | {"low": None, "high": None, "num_assets": 1}
  methods = {
    "mix": {
      "num_assets": 4,
      "num_images": 16,
      "figures": {"mvc": estimate, "tsed": None},
    },
    "mv": {"num_assets": 1, "num_images": 4, "figures": {"mvc": alone}},
  }
  lines = report.format_table(methods).splitlines()
  rows = {line.split("  ")[0].strip(): line for line in lines[1:]}
  assert lines[0].split() == ["mix", "mv"]
  assert rows["assets"].split()[1:] == ["4", "1"]
  assert rows["images"].split()[1:] == ["16", "4"]
  assert rows["mvc ↓"].split()[2:] == ["0.2500", "±0.1000", "0.2500"]
  assert rows["tsed ↑"].split()[2:] == ["-", "-"]
  methods["mix"]["num_assets"] = 9
  assert "(n=4)" in report.format_table(methods)
