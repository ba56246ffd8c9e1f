"""What the command line sets for its process, and that only it does."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

from mvjax.commands import environment

ROOT = pathlib.Path(__file__).parents[2]
# In a process of its own: what jax and fsspec have read, and whether jax was
# imported before a config was parsed.
PROGRAM = """
import json, sys
from mvjax.commands import command_line, environment, flags
environment.prepare()
environment.divide_cpu(3)
flag = "--config=configs/nano.py:multiview"
sys.argv = ["launch.py", flag]
flags.parse_config([flag])
early = "jax" in sys.modules
import fsspec, jax
print(json.dumps({
  "early": early,
  "devices": jax.device_count(),
  "listings": fsspec.config.conf.get("gcs"),
  **{name: value for name, value in jax.config.values.items()
     if isinstance(value, (str, float, bool, int))},
}))
"""
KEPT = ("PATH", "HOME")


def ask(**variables):
  """What the program prints, in an environment of these variables."""
  kept = {name: os.environ[name] for name in KEPT if name in os.environ}
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    cwd=ROOT,
    env=kept | {"JAX_PLATFORMS": "cpu"} | variables,
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def test_jax_and_the_clients_take_what_is_set(tmp_path):
  found = ask(XDG_CACHE_HOME=str(tmp_path))
  assert not found["early"]
  folder = str(tmp_path / "mvjax" / "jax")
  assert found["jax_compilation_cache_dir"] == folder
  assert found["jax_persistent_cache_min_compile_time_secs"] == 0.3
  assert found["jax_enable_preemption_service"] is False
  assert found["listings"] == {"use_listings_cache": False}
  assert found["devices"] == 3


def test_what_the_user_chose_stays(tmp_path):
  found = ask(
    JAX_COMPILATION_CACHE_DIR=str(tmp_path),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="7",
    FSSPEC_GCS='{"token": "anon"}',
  )
  assert found["jax_compilation_cache_dir"] == str(tmp_path)
  assert found["jax_persistent_cache_min_compile_time_secs"] == 7
  assert found["listings"] == {"token": "anon"}


def test_flags_of_xla_are_added_to(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "")
  for devices in (-1, 0):
    environment.divide_cpu(devices)
  assert os.environ["XLA_FLAGS"] == "--xla_dump_to=x"
  environment.divide_cpu(2)
  assert os.environ["XLA_FLAGS"].startswith("--xla_dump_to=x --xla_cpu_multi")


@pytest.mark.parametrize(
  "version, platforms, refused",
  [
    ("0.10.1", None, False),
    ("0.10.2", None, True),
    ("0.10.2", "cpu", True),
    ("0.10.2", "cpu,cuda", True),
    ("0.10.2", "cuda", False),
    ("0.11.0", None, True),
    ("0.11.3", "cpu", True),
    ("0.11.3", "tpu,cpu", False),
    ("0.10.20", None, False),
    ("0.12.0.1", None, False),
  ],
)
def test_releases_that_compute_wrong_sums_are_refused(
  monkeypatch, capsys, launch_py, version, platforms, refused
):
  monkeypatch.setattr(
    environment.importlib.metadata, "version", lambda _: version
  )
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  if platforms:
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
  assert launch_py("train", "--workdir=x") == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  if refused:
    for words in (
      f"jaxlib {version}",
      "jax-ml/jax#39103",
      "pip install -r req",
    ):
      assert words in line
  else:
    assert "config is missing" in line


def test_only_the_command_line_sets_things_for_the_process():
  """No jax.config.update, no variable set, no configuration of fsspec."""
  found = []
  for path in sorted((ROOT / "mvjax").rglob("*.py")):
    if path.parent.name == "commands":
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      targets = getattr(node, "targets", []) + [getattr(node, "target", None)]
      called = [node.func] if isinstance(node, ast.Call) else []
      text = " ".join(ast.unparse(x) for x in (*targets, *called) if x)
      if any(
        word in text
        for word in (
          "jax.config.",
          "os.environ[",
          "os.environ.setdefault",
          "os.environ.update",
          "os.environ.pop",
          "os.putenv",
          "fsspec.config",
        )
      ):
        found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
  assert not found
