"""What `torch.save` writes, read without torch."""

import collections

import ml_dtypes
import numpy as np
import pytest
import torch

from mvjax.weights import weight_file


def state_dict():
  """Tensors of every dtype, strided, shared, tied, empty and without axes."""
  generator = torch.Generator().manual_seed(0)
  base = torch.randn(6, 8, 3, generator=generator)
  state = collections.OrderedDict(
    single=base,
    double=base.double(),
    half=base.half(),
    bfloat=base.bfloat16(),
    long=torch.arange(7),
    byte=torch.arange(7, dtype=torch.uint8),
    flag=torch.tensor([True, False]),
    transposed=base.transpose(0, 2),
    part=base[2:5, ::2, 1:],
    last=base.bfloat16()[-1],
    tied=base,
    expanded=base[:1].expand(4, 8, 3),
    scalar=torch.tensor(2.5),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(base + 1),
    frozen=torch.nn.Parameter(base + 2, requires_grad=False),
  )
  state["channels_last"] = torch.randn(2, 3, 4, 5, generator=generator).to(
    memory_format=torch.channels_last
  )
  return state


def to_numpy(tensor):
  tensor = tensor.detach().contiguous()
  if tensor.dtype == torch.bfloat16:
    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
  return tensor.numpy()


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_equal_to_torch_load(tmp_path, zipped, nested):
  content = state_dict()
  if nested:
    content = {"state_dict": content, "global_step": 3, "epoch": 1}
  path = tmp_path / "model.ckpt"
  torch.save(content, path, _use_new_zipfile_serialization=zipped)
  loaded = torch.load(path, weights_only=True)
  expected = loaded["state_dict"] if nested else loaded
  got = weight_file.open_weights(path)
  assert set(got) == set(expected)
  for name, tensor in got.items():
    want = to_numpy(expected[name])
    assert (tensor.shape, tensor.dtype) == (want.shape, want.dtype), name
    np.testing.assert_array_equal(tensor.read(), want, err_msg=name)


def test_state_dict_of_a_module_is_read(tmp_path):
  """It carries versions beside its tensors."""
  module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GroupNorm(2, 4))
  torch.save(module.half().state_dict(), tmp_path / "model.pt")
  got = weight_file.open_weights(tmp_path / "model.pt")
  assert {name: tensor.shape for name, tensor in got.items()} == {
    "0.weight": (4, 3),
    "0.bias": (4,),
    "1.weight": (4,),
    "1.bias": (4,),
  }
  np.testing.assert_array_equal(
    got["0.weight"].read(), to_numpy(module[0].weight)
  )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickled_module_is_refused(tmp_path, zipped):
  path = tmp_path / "model.pt"
  module = torch.nn.Linear(3, 4)
  torch.save(module, path, _use_new_zipfile_serialization=zipped)
  with pytest.raises(ValueError, match=r"torch.nn.modules.linear.Linear"):
    weight_file.open_weights(path)
