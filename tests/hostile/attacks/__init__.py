"""Bad inputs by their kind."""

from tests.hostile.attacks import (
  arrays,
  cameras,
  data_sets,
  flags,
  lists,
  models,
  outputs,
  pickles,
  pictures,
  records,
)

BY_KIND = {
  module.__name__.rpartition(".")[2]: module.ATTACKS
  for module in (
    *(arrays, cameras, data_sets, flags, lists, models, outputs, pickles),
    *(pictures, records),
  )
}
