import threading

import chromium
import numpy as np
import planted
import pytest

from mvjax.generation import samples
from mvjax.pages import server, site
from mvjax.reconstruction import mesh, run

PROMPTS = ("<script>window.struck = 1</script> boxes", "two boxes", "one box")


@pytest.fixture(scope="session")
def out(tmp_path_factory):
  """Three samples of boxes, an asset of the first, and their pages."""
  folder = tmp_path_factory.mktemp("browser") / "out"
  folder.mkdir()
  camera = planted.orbits(8, elevations=(0.3,))
  views = planted.views(planted.two_boxes(), camera)
  images = np.rint((views.image + 1) * 127.5).astype(np.uint8)
  made = [
    samples.write(
      folder,
      samples.Sample(prompt=prompt, seed=seed),
      images=images,
      camera=camera,
      record={"settings": {}},
    )
    for seed, prompt in enumerate(PROMPTS)
  ]
  settings = run.Settings(
    fit=planted.SMALL, surface=mesh.Settings(max_faces=1500), texture_size=96
  )
  run.reconstruct(made[0], settings=settings)
  scores = (2.0, 10.0, None)  # 10 comes before 2 where numbers are text.
  site.build(
    folder,
    metrics={
      path.name: {"score": value}
      for path, value in zip(made, scores, strict=True)
    },
  )
  return folder


@pytest.fixture(scope="session")
def home(out):
  """The address of the served folder."""
  with server.make_server(out, 0) as running:
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://{server.ADDRESS}:{running.server_port}"
    running.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def driver():
  # Small: every pixel is computed by the CPU.
  with chromium.open_browser(width=700, height=600) as opened:
    yield opened


@pytest.fixture(scope="session", params=["file", "server"])
def place(request, out, home):
  """Where pages are: by double click, and from `launch.py view`."""
  return chromium.as_url(out) if request.param == "file" else home
