"""Names and shapes of the FID Inception's tensors, written out by hand.

From the weights file that pytorch-fid publishes; shapes are torch's (out, in,
height, width). It is a table on purpose: nothing here is computed from the
code under test.
"""

CONVOLUTIONS = {
  "Conv2d_1a_3x3": (32, 3, 3, 3),
  "Conv2d_2a_3x3": (32, 32, 3, 3),
  "Conv2d_2b_3x3": (64, 32, 3, 3),
  "Conv2d_3b_1x1": (80, 64, 1, 1),
  "Conv2d_4a_3x3": (192, 80, 3, 3),
  **{
    f"Mixed_{block}.{name}": shape
    for block, inputs, pooled in (
      ("5b", 192, 32),
      ("5c", 256, 64),
      ("5d", 288, 64),
    )
    for name, shape in {
      "branch1x1": (64, inputs, 1, 1),
      "branch5x5_1": (48, inputs, 1, 1),
      "branch5x5_2": (64, 48, 5, 5),
      "branch3x3dbl_1": (64, inputs, 1, 1),
      "branch3x3dbl_2": (96, 64, 3, 3),
      "branch3x3dbl_3": (96, 96, 3, 3),
      "branch_pool": (pooled, inputs, 1, 1),
    }.items()
  },
  "Mixed_6a.branch3x3": (384, 288, 3, 3),
  "Mixed_6a.branch3x3dbl_1": (64, 288, 1, 1),
  "Mixed_6a.branch3x3dbl_2": (96, 64, 3, 3),
  "Mixed_6a.branch3x3dbl_3": (96, 96, 3, 3),
  **{
    f"Mixed_{block}.{name}": shape
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192))
    for name, shape in {
      "branch1x1": (192, 768, 1, 1),
      "branch7x7_1": (c, 768, 1, 1),
      "branch7x7_2": (c, c, 1, 7),
      "branch7x7_3": (192, c, 7, 1),
      "branch7x7dbl_1": (c, 768, 1, 1),
      "branch7x7dbl_2": (c, c, 7, 1),
      "branch7x7dbl_3": (c, c, 1, 7),
      "branch7x7dbl_4": (c, c, 7, 1),
      "branch7x7dbl_5": (192, c, 1, 7),
      "branch_pool": (192, 768, 1, 1),
    }.items()
  },
  "Mixed_7a.branch3x3_1": (192, 768, 1, 1),
  "Mixed_7a.branch3x3_2": (320, 192, 3, 3),
  "Mixed_7a.branch7x7x3_1": (192, 768, 1, 1),
  "Mixed_7a.branch7x7x3_2": (192, 192, 1, 7),
  "Mixed_7a.branch7x7x3_3": (192, 192, 7, 1),
  "Mixed_7a.branch7x7x3_4": (192, 192, 3, 3),
  **{
    f"Mixed_{block}.{name}": shape
    for block, inputs in (("7b", 1280), ("7c", 2048))
    for name, shape in {
      "branch1x1": (320, inputs, 1, 1),
      "branch3x3_1": (384, inputs, 1, 1),
      "branch3x3_2a": (384, 384, 1, 3),
      "branch3x3_2b": (384, 384, 3, 1),
      "branch3x3dbl_1": (448, inputs, 1, 1),
      "branch3x3dbl_2": (384, 448, 3, 3),
      "branch3x3dbl_3a": (384, 384, 1, 3),
      "branch3x3dbl_3b": (384, 384, 3, 1),
      "branch_pool": (192, inputs, 1, 1),
    }.items()
  },
}

TENSORS = {
  **{f"{name}.conv.weight": shape for name, shape in CONVOLUTIONS.items()},
  **{
    f"{name}.bn.{part}": shape[:1]
    for name, shape in CONVOLUTIONS.items()
    for part in ("weight", "bias", "running_mean", "running_var")
  },
  "fc.weight": (1008, 2048),
  "fc.bias": (1008,),
}

# torchvision's Inception-v3 has 27,161,264 parameters; its auxiliary
# classifier has 3,326,696 of them, and eight classes more have 8 x 2049.
NUM_PARAMETERS = 27_161_264 - 3_326_696 + 8 * 2049
