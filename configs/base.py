"""Every field of a training run, with its unit and meaning.

Experiment records start from `get_config()` and set values; the result is
locked, so a misspelt field is an error that lists the fields there are.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The fields and neutral values; not a run worth making by itself."""
  config = ml_collections.ConfigDict()

  # What is trained: 'vae', 'image' (text encoder + 2D UNet) or 'multiview'.
  config.task = "vae"
  # Decides initial weights, noise and the order of the data.
  config.seed = 0

  config.data = _data()
  # The 2D batches among multi-view ones (train.image_batch_share).
  config.image_data = _data()

  config.vae = ml_collections.ConfigDict(
    dict(
      # Channels per level, finest first; factor 2 ** (levels - 1).
      block_out_channels=(128, 256, 512, 512),
      # Residual blocks per encoder level (decoder: one more).
      layers_per_block=2,
      latent_channels=4,
      # Groups of every norm; divides all channel counts.
      norm_num_groups=32,
    )
  )
  config.text_encoder = ml_collections.ConfigDict(
    dict(
      # Upper bound on the tokens the tokenizer may learn.
      vocab_size=1500,
      # Tokens per caption, start and end included.
      max_position_embeddings=32,
      hidden_size=128,
      intermediate_size=512,
      num_hidden_layers=4,
      num_attention_heads=4,
      # 'quick_gelu' (CLIP ViT-L) or 'gelu' (OpenCLIP-H).
      hidden_act="quick_gelu",
      # What fills short rows: the end token (CLIP ViT-L) or '!' (id 0).
      pad_token="<|endoftext|>",
    )
  )
  config.unet = ml_collections.ConfigDict(
    dict(
      # Channels per level, finest first.
      block_out_channels=(320, 640, 1280, 1280),
      layers_per_block=2,
      # Attention heads per level (a number of heads, not a width).
      num_heads=(8, 8, 8, 8),
      # Whether each level has spatial transformers.
      attention_levels=(True, True, True, False),
      # Whether the middle block has one.
      mid_attention=True,
      norm_num_groups=32,
      # Width of the text tokens; equals text_encoder.hidden_size.
      cross_attention_dim=128,
      # Linear projections around the transformers (SD 2.x), or convolutions.
      use_linear_projection=False,
    )
  )
  config.epipolar = ml_collections.ConfigDict(
    dict(
      # Width inside the blocks, at most that of the maps.
      width=128,
      # Width of an attention head.
      head_dim=64,
      # Frequencies of the positional encodings.
      num_frequencies=6,
      # Points on a ray, by place: mid_block, up_blocks_0 (coarsest) and so on.
      points=dict(mid_block=4, up_blocks_1=8, up_blocks_2=8),
    )
  )
  # A diffusers scheduler config.
  config.schedule = ml_collections.ConfigDict(
    dict(
      num_train_timesteps=1000,
      beta_schedule="scaled_linear",
      beta_start=0.00085,
      beta_end=0.012,
      # Shift and scale the table to end in pure noise (not with 'epsilon').
      rescale_betas_zero_snr=False,
      # 'epsilon', 'v_prediction' or 'sample'.
      prediction_type="v_prediction",
      # Times of a sampling run: 'leading', 'trailing' or 'linspace'.
      timestep_spacing="trailing",
    )
  )
  config.optimizer = ml_collections.ConfigDict(
    dict(
      # Peak learning rate of AdamW.
      learning_rate=1e-4,
      # 'constant' or 'cosine' (to zero at train.steps) after the warm-up.
      schedule="constant",
      # Steps of linear warm-up.
      warmup_steps=500,
      # Decoupled decay of kernels; biases and norms do not decay.
      weight_decay=1e-2,
      # Largest global gradient norm.
      clip_norm=1.0,
      # Decay of the first and second moments.
      b1=0.9,
      b2=0.999,
      # Learning rate of each group of parameters relative to the peak; 0
      # freezes it: no averages and no optimiser state. See
      # `training.optimizer.GROUPS`.
      groups=dict(epipolar=1.0, unet=1.0, text_encoder=1.0, vae=1.0),
    )
  )
  # The processes of a run, see `mvjax.parallel.processes`.
  config.processes = ml_collections.ConfigDict(
    dict(
      # How many; 0: what SLURM or the TPU pod says.
      count=1,
      # Which of them this is.
      index=0,
      # HOST:PORT at which process 0 is reached by the others.
      coordinator="",
      # Seconds after which one that does not come, or answer, is lost.
      timeout_seconds=300,
    )
  )
  # Devices by axis, see `mvjax.parallel.mesh`. In each of the two groups one
  # may be -1: what is left.
  config.mesh = ml_collections.ConfigDict(
    dict(
      # Devices of a slice that share the examples of a batch.
      data=-1,
      # Likewise, and each with a part of the parameters only.
      fsdp=1,
      # Devices that share the views of an example, when there are fewer
      # examples than devices.
      view=1,
      # Slices (TPU) or hosts (GPU), in the same roles.
      dcn_data=-1,
      dcn_fsdp=1,
    )
  )
  config.train = ml_collections.ConfigDict(
    dict(
      # Updates in all.
      steps=100_000,
      # Examples per update over all devices (multiview: assets).
      batch_size=32,
      # Parts that a batch is taken in, one after the other, to save memory.
      accumulate=1,
      # What the networks compute in: 'float32' or 'bfloat16'. Parameters,
      # norms, softmax, loss and optimiser are float32.
      dtype="float32",
      # What the UNet's layers keep for the backward pass: 'none' recomputes
      # nothing, 'blocks' keeps inputs only; see `nn.unet.REMAT`.
      remat="none",
      # Limit of the averaged weights' decay.
      ema_decay=0.9995,
      # A diffusers-layout folder to start from; '' starts from nothing.
      # The image task needs its vae/, multiview all of a 2D model.
      init_from="",
      # Minutes after which the process saves and ends; 0: no limit.
      max_minutes=0.0,
      # Minutes between checkpoints.
      checkpoint_minutes=10.0,
      # Checkpoints kept, newest first.
      keep=2,
      # Steps between checkpoints that are kept for good; 0: none.
      keep_every=0,
      # Folder of the checkpoints, on gs:// too; '' is checkpoints/ in the
      # workdir, which is local. All processes must see it.
      checkpoint_dir="",
      # Steps between log lines.
      log_every=50,
      # Steps between sample sheets; 0: none.
      sample_every=1000,
      # Steps between validation losses, from step 0 on, at fixed noise levels
      # on data.validation_split, see `training.tasks.ruler`; 0: none.
      validation_every=0,
      # Batches of a validation loss.
      validation_batches=4,
      # Weights & Biases project; '' is none.
      wandb="",
      # Step before which a profiler trace starts, into profile/; 0: none.
      profile_at=0,
      # Steps in the trace.
      profile_steps=3,
      # DDIM steps of the samples.
      sample_steps=25,
      # Prompts of the samples.
      prompts=("a red ball", "a blue snowman"),
      # Guidance scale of the samples.
      guidance_scale=3.0,
      # Fake CPU devices to share a batch between; 0: devices as they are.
      cpu_devices=0,
      # vae: weight of the edge loss (absolute differences of gradients).
      edge_weight=1.0,
      # vae: weight of the mean KL divergence per latent number, in nats.
      kl_weight=1e-4,
      # vae: train the decoder alone (needs init_from).
      freeze_encoder=False,
      # Gamma of min-SNR weights (5 in Hang et al. 2023); 0: equal weights.
      min_snr=0.0,
      # Share of captions replaced by the empty text.
      caption_dropout=0.1,
      # multiview: share of assets whose views cannot see each other.
      view_dropout=0.15,
      # multiview: share of assets whose views have noise levels of their own;
      # the views of the others share one.
      own_times=0.0,
      # multiview: share of assets of which some views, never all, are nearly
      # clean.
      clean_views=0.0,
      # multiview: share of steps on 2D batches (image_data), with neither
      # epipolar blocks nor cameras.
      image_batch_share=0.0,
    )
  )
  # How the 2D score is computed.
  config.image_model = ml_collections.ConfigDict(
    dict(
      # 'mvjax', or 'diffusers': the Flax classes of diffusers 0.39, which
      # requirements-flax-providers.txt installs.
      provider="mvjax",
      # 'native' asks about the multi-view model's latents as they are,
      # 'bridge' on the 2D model's own, finer grid (`models.bridge`).
      resolution="native",
    )
  )
  # What `launch.py sample` does unless its flags say otherwise; any field of
  # `generation.request.Request`.
  config.sample = ml_collections.ConfigDict(
    dict(
      # Folder of the multi-view model.
      multiview="",
      # Folder of the 2D model.
      image="",
      # Denoising steps.
      steps=50,
      # Classifier-free guidance inside each model; 1 is none.
      multiview_guidance=7.5,
      image_guidance=7.5,
      # Whether the multi-view model knows lens and distance of its cameras.
      metric_cameras=True,
      # Preset or spec of the mixing weight, see `scores.lambda_schedule`.
      lambda_schedule="paper",
    )
  )
  return config.lock()


def _data() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      # 'renders' (a data set built by `launch.py data`) or 'synthetic'.
      source="renders",
      # Folder of the data set.
      path="runs/data/renders/1.0.0",
      split="train",
      # Where the validation loss is measured: on orbits, if there are any.
      validation_split="held_out_objects",
      # Looks of the objects: simplified, full, retextured.
      looks=("full", "retextured"),
      # 'exclude', 'only' or 'seen_by_image_model'.
      held_out_pairs="seen_by_image_model",
      # Views of an example.
      num_views=1,
      # Probability that they are one orbit, or one cluster of nearby views.
      orthogonal=0.5,
      nearby=0.5,
      # Share of captions that name the view; single views only.
      view_words=0.0,
      # Side of a view in pixels.
      image_size=128,
      # Side of random crops in pixels, or None for whole views.
      crop=ml_collections.config_dict.placeholder(int),
      # Threads that prepare batches, and batches prepared ahead.
      threads=1,
      prefetch=2,
      # Worker processes that do so instead, each with these threads.
      workers=0,
    )
  )
