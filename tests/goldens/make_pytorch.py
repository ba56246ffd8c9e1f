"""Makes the goldens of diffusers and transformers again.

  python -m tests.goldens.make_pytorch [SET ...] [--write]

It needs PyTorch (requirements-parity.txt). The inputs are those that are kept
and the weights are drawn by the rule of `golden_weights`. Without `--write` it
prints how far the outputs are from the kept ones; tests/parity asserts it.
"""

import argparse
import json

import diffusers
import numpy as np
import torch
import transformers

from mvjax import atomic
from tests import golden_weights

SETS = (
  "clip_text_sd15",
  "clip_text_sd21",
  "ddim",
  "sd15_unet",
  "sd21_unet",
  "vae",
)
_TOKENS = 16  # that are kept of a sequence


def make(name):
  """What the program says now: arrays by name, and (program, version)."""
  golden = golden_weights.Golden(name)
  makers = {"unet": _unet, "vae": _vae, "text": _text, "cases": _ddim}
  (kind,) = makers.keys() & golden.config.keys()
  inputs = {
    key.removeprefix("in."): torch.from_numpy(value)
    for key, value in golden.arrays.items()
    if key.startswith("in.")
  }
  with torch.no_grad():
    return makers[kind](golden, inputs)


def differences(name):
  """Largest difference to each kept array over its root mean square."""
  kept = golden_weights.Golden(name).arrays
  made, _ = make(name)
  outputs = {key for key in kept if not key.startswith("in.")}
  if made.keys() != outputs:
    raise ValueError(f"{name}: not in both: {sorted(made.keys() ^ outputs)}")
  return {
    key: np.abs(made[key] - kept[key]).max(initial=0)
    / np.sqrt(np.mean(np.square(kept[key], dtype=np.float64)))
    for key in sorted(outputs)
  }


def write(name):
  """Replaces the kept outputs, and the version that made them."""
  golden, folder = golden_weights.Golden(name), golden_weights.FOLDER / name
  made, (program, version) = make(name)
  inputs = {k: v for k, v in golden.arrays.items() if k.startswith("in.")}
  with atomic.replaced(folder / "io.npz") as path, path.open("wb") as file:
    np.savez_compressed(file, **inputs, **made)
  config = golden.config
  config["made_by"] |= {"program": program, "version": version}
  config["made_with"] = {"torch": torch.__version__, "numpy": np.__version__}
  atomic.write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")


def _unet(golden, inputs):
  model = diffusers.UNet2DConditionModel(**golden.config["unet"])
  _load(model, golden.tensors())
  x, t, text = inputs["x"], inputs["t"], inputs["context"]
  probes = _probed(model, golden)
  arrays = {"out.t_sin": model.time_proj(t), "out.eps": model(x, t, text)[0]}
  arrays |= probes()
  _load(model, golden.tiny_tensors())
  x = x * golden.config["tiny"]["x_scale"]
  arrays["out.eps_tiny"] = model(x, t, text)[0]
  return _numpy(arrays), _version(diffusers, model)


def _vae(golden, inputs):
  model = diffusers.AutoencoderKL(**golden.config["vae"])
  _load(model, golden.tensors())
  scale = golden.config["tiny"]["x_scale"]
  images, z = inputs["img"], inputs["z"]
  probes = _probed(model, golden)
  law = model.encode(images).latent_dist
  arrays = {"out.dec_of_z": model.decode(z).sample} | probes()
  sampled = law.mean + torch.exp(0.5 * law.logvar) * inputs["noise"]
  arrays |= {
    "out.mean": law.mean,
    "out.logvar": law.logvar,
    "out.latent_scaled": model.config.scaling_factor * sampled,
    "out.mean_tiny": model.encode(images * scale).latent_dist.mean,
    "out.dec_tiny": model.decode(z * scale).sample,
  }
  return _numpy(arrays), _version(diffusers, model)


def _text(golden, inputs):
  config = transformers.CLIPTextConfig(**golden.config["text"])
  model = transformers.CLIPTextModelWithProjection(config)
  _load(model, golden.tensors())
  ids = inputs["input_ids"]
  found = model(ids, output_hidden_states=True)
  norm = model.get_submodule("text_model.final_layer_norm")
  end = torch.arange(len(ids)), ids.argmax(-1)
  states = torch.stack(found.hidden_states)
  arrays = {
    "out.last_hidden_state": found.last_hidden_state,
    "out.pooled_at_eot": found.last_hidden_state[end],
    "out.text_embeds": found.text_embeds,
    "out.penultimate_final_ln": norm(states[-2]),
    "out.hidden_states_slice": states[:, :, ::5, ::4],
  }
  return _numpy(arrays), _version(transformers, model)


def _ddim(golden, inputs):
  arrays = {}
  for name, config in golden.config["cases"].items():
    found = _ddim_case(golden.config, config, inputs)
    arrays |= {f"out.{name}.{key}": value for key, value in found.items()}
  return _numpy(arrays), _version(diffusers, diffusers.DDIMScheduler())


def _ddim_case(golden_config, config, inputs):
  scheduler = diffusers.DDIMScheduler(**config)
  x0, noise, t = inputs["x0"], inputs["noise"], inputs["add_noise_t"]
  arrays = {
    "betas": scheduler.betas,
    "alphas_cumprod": scheduler.alphas_cumprod,
    "final_alpha_cumprod": scheduler.final_alpha_cumprod,
    "add_noise": scheduler.add_noise(x0, noise[0], t),
    "velocity": scheduler.get_velocity(x0, noise[0], t),
  }
  for steps in golden_config["tables_for_steps"]:
    scheduler.set_timesteps(steps)
    arrays[f"timesteps_{steps}"] = scheduler.timesteps
  scheduler.set_timesteps(golden_config["steps"])
  stride = scheduler.config.num_train_timesteps // golden_config["steps"]
  for eta in (0, 1):
    x, xs, clean, sigmas = inputs["x"], [], [], []
    for k, time in enumerate(scheduler.timesteps):
      found = scheduler.step(
        inputs["model_out"][k], time, x, eta=eta, variance_noise=noise[k]
      )
      x = found.prev_sample
      xs.append(x)
      clean.append(found.pred_original_sample)
      sigmas.append(scheduler._get_variance(time, time - stride) ** 0.5)
    arrays[f"x_eta{eta}"] = torch.stack(xs)
    if eta:
      arrays["sigma_eta1"] = torch.stack(sigmas)
    else:
      arrays["pred_x0_eta0"] = torch.stack(clean)
  return arrays


def _load(model, tensors):
  """Weights under published names, every one of them."""
  given = {key: torch.from_numpy(value) for key, value in tensors.items()}
  model.load_state_dict(given)
  model.eval()


def _probed(model, golden):
  """Notes the activations that are kept; call the result to read them."""
  seen, handles = {}, []
  for probe in golden.arrays:
    if not probe.startswith("probe."):
      continue
    path = probe.removeprefix("probe.")
    head, _, part = path.rpartition(".")
    if part in ("attn1", "attn2", "ff"):
      path = f"{head}.transformer_blocks.0.{part}"

    def note(module, args, output, probe=probe):
      del module, args
      tensor = output if isinstance(output, torch.Tensor) else output[0]
      seen.setdefault(probe, _kept(tensor))

    module = model.get_submodule(path)
    handles.append(module.register_forward_hook(note))

  def read():
    for handle in handles:
      handle.remove()
    return seen

  return read


def _kept(tensor):
  """The part of an activation that is kept."""
  ends = tensor[[0, -1]]
  if tensor.ndim == 4:
    return ends[:, :4]
  if tensor.ndim == 3:
    return ends[:, :: max(1, tensor.shape[1] // _TOKENS), :8]
  return ends


def _numpy(arrays):
  return {key: value.numpy() for key, value in arrays.items()}


def _version(package, model):
  return f"{package.__name__} {type(model).__name__}", package.__version__


def main():
  """Compares or writes the sets that are named, or all."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("sets", nargs="*", default=SETS, metavar="SET")
  parser.add_argument("--write", action="store_true")
  options = parser.parse_args()
  for name in options.sets:
    if options.write:
      write(name)
    else:
      found = differences(name)
      worst = max(found, key=found.get)
      print(f"{name}: {found[worst]:.1e} of its rms at most ({worst})")


if __name__ == "__main__":
  main()
