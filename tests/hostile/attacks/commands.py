"""Commands that would work, for attacks to change one thing of."""

_NANO = "--config=<root>/configs/nano.py"

SAMPLE = (
  "sample",
  _NANO,
  "--multiview=<good>/multiview",
  "--image=<good>/image",
  "--out=out",
  "--views=4",
  "--steps=2",
)
CHAIR = (*SAMPLE, "--prompt=a chair")
CONVERT = ("convert", "<good>/image", "--out=out")
EXPORT = ("export", "--workdir=<good>/run", "--out=out")
# jax, which would share a batch between devices, has been imported before.
_ONE_DEVICE = "--config.train.cpu_devices=0"
TRAIN = ("train", f"{_NANO}:vae,runlocal", _ONE_DEVICE, "--workdir=out")
TRAIN_ON_DATA = (
  *TRAIN,
  "--config.train.steps=2",
  "--config.optimizer.warmup_steps=1",
  "--config.data.source=renders",
  "--config.data.path=data/renders/1.0.0",
)
PLAN = ("plan", f"{_NANO}:multiview", "--topology=v5e:2x2")
RECONSTRUCT = (
  "reconstruct",
  "--views=samples",
  "--out=out",
  "--grid=16",
  "--steps=2",
)
FIGURE = ("figure", "a=samples", "--out=out/figure.png")
VIEW = ("view", "--out=samples", "--no-serve")
RENDER = (
  "data",
  "render",
  "--objects=objects",
  "--captions=captions.csv",
  "--out=out",
  "--workers=1",
  "--image_size=16",
)
BUILD = ("data", "build", "--renders=renders", "--out=out")
ENCODE = (
  "data",
  "encode",
  "--renders=data/renders/1.0.0",
  "--model=<good>/image",
  "--out=out",
)
IMAGES = (
  "evaluate",
  "images",
  "--samples=samples",
  "--reference=samples",
  "--networks=lite0",
  "--out=out",
)
CONSISTENCY = (
  "evaluate",
  "consistency",
  "--samples=samples",
  "--metrics=mvc",
  "--no-lpips",
  "--out=out",
)
_ON_DATA = "--dataset=data/renders/1.0.0"
RETRIEVAL = ("evaluate", "retrieval", _ON_DATA, "--features=out/features")
RETRIEVAL_PROMPTS = (
  "evaluate",
  "retrieval-prompts",
  _ON_DATA,
  "--num_names=2",
  "--out=out/prompts.txt",
)
HELD_OUT = ("evaluate", "held-out-prompts", _ON_DATA, "--out=out/prompts.txt")
TABLE = (
  "evaluate",
  "--table=<root>/configs/table1.py:runlocal",
  "--table.prompts=<root>/configs/prompts/nano.txt",
  "--table.images.reference=<good>/data/renders/1.0.0",
  "--table.consistency.floor=<good>/data/renders/1.0.0",
  "--table.consistency.looks=('simplified',)",
  "--table.sample.multiview=<good>/multiview",
  "--table.sample.image=<good>/image",
  "--out=out",
)


def layout(name: str) -> tuple[str, ...]:
  """`data build` of a public layout."""
  return (
    *("data", "build", f"--renders={name}", f"--layout={name}"),
    *(f"--captions={name}/captions.json", "--out=out"),
  )
