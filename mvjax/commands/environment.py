"""What a program decides for its whole process; the library leaves it alone.

All of it is in environment variables, which jax, XLA and the storage clients
read when they are imported or first used, and which processes that this one
starts inherit. One that the user has set stays.
"""

import importlib.metadata
import os
import re

from mvjax import user_cache

# Of jaxlib, on CPUs.
_UNSOUND = re.compile(r"0\.10\.2$|0\.11\.")


def prepare() -> None:
  """Sets what all commands need; before jax is imported.

  Raises:
    ValueError: see `check_releases`.
  """
  check_releases()
  avoid_ynnpack()
  _set(
    # Compiled programs are kept for later processes; of those that compile in
    # less time there are too many to keep for good.
    JAX_COMPILATION_CACHE_DIR=str(user_cache.folder() / "jax"),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.3",
    # See `parallel.processes`.
    JAX_ENABLE_PREEMPTION_SERVICE="false",
    # TensorStore and other hosts write to folders whose listing gcsfs, through
    # which epath reads, would otherwise remember.
    FSSPEC_GCS='{"use_listings_cache": false}',
  )


def check_releases() -> None:
  """Refuses releases of jax that compute wrong numbers where this one runs.

  Which device jax takes is known only once it has taken it. So a release that
  is unsound on CPUs passes only where JAX_PLATFORMS names something else,
  which also keeps jax from falling back to the CPU.

  Raises:
    ValueError: it may be the CPU.
  """
  version = importlib.metadata.version("jaxlib")
  first = os.environ.get("JAX_PLATFORMS", "").partition(",")[0]
  if _UNSOUND.match(version) and first in ("", "cpu"):
    raise ValueError(
      f"jaxlib {version} computes wrong sums on CPUs (jax-ml/jax#39103) or "
      "crashes there (#40412): pip install -r requirements.txt, or name the "
      "accelerator that computes, such as JAX_PLATFORMS=cuda or tpu"
    )


def avoid_ynnpack() -> None:
  """Compiles for CPUs without YNNPACK on jaxlib 0.10: there it ends programs.

  A sum inside an array of nine axes, as the sampler has, is refused when it
  runs, "rank 9 exceeds YNN_MAX_TENSOR_RANK 8" (2026-11-30).
  """
  if importlib.metadata.version("jaxlib").startswith("0.10."):
    _add_xla_flag("--xla_cpu_experimental_ynn_fusion_type=")


def divide_cpu(devices: int) -> None:
  """Makes so many devices of the CPU, of one thread each; 0: as it is."""
  if devices > 0:
    os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)
    # Convolution gradients on several threads are slower than on one.
    _add_xla_flag("--xla_cpu_multi_thread_eigen=false")


def plan_without_tpus() -> None:
  """Settings under which libtpu compiles on a machine without TPUs."""
  os.environ["JAX_PLATFORMS"] = "cpu"
  _set(
    TPU_SKIP_MDS_QUERY="1",
    # Several planners at a time: none of them touches a TPU.
    ALLOW_MULTIPLE_LIBTPU_LOAD="true",
    # Its INFO and WARNING lines are about the TPU that is not there.
    TPU_MIN_LOG_LEVEL="3",
    TPU_STDERR_LOG_LEVEL="3",
  )


def _add_xla_flag(flag: str) -> None:
  flags = os.environ.get("XLA_FLAGS", "")
  if flag not in flags.split():
    os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def _set(**values: str) -> None:
  for name, value in values.items():
    os.environ.setdefault(name, value)
