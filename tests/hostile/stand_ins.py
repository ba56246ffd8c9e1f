"""What takes the place of slow parts of the program, by name of the job.

Everything around them is real: files, processes, records, pages.
"""


def measures() -> None:
  """A network of mean colours, a field of one colour, SIFT that finds 0.4."""
  import sys

  from tests.hostile import program

  sys.path.insert(0, str(program.ROOT / "tests"))
  import fake_assets
  import fake_features

  from mvjax.evaluation import epipolar_matches, image_report, networks, refit

  network = fake_features.network(lambda batch: batch.mean((1, 2)))
  image_report.PACKAGED["lite0"] = networks.lite0 = network
  stand_in = fake_assets.StandInRefit()
  refit.of_field = lambda *settings: stand_in.refit
  epipolar_matches.tsed = lambda given: {"tsed": 0.4}


def toy() -> None:
  """A task of one small matrix: what is trained is not what is tested."""
  from mvjax.training.tasks import registry
  from tests.training import toy

  registry.make = toy.make
