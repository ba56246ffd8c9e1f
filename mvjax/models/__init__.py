"""Weights in, score functions out: what joins the networks to the method.

Every model is a frozen dataclass with `params` and pure methods that take
them: `encode_text`, `start_latents`, `score`, `single_view_score` and `decode`.
`camera_conditioning` alone belongs on the host, with concrete cameras, outside
of compiled functions. Nothing that uses a model asks which one it is.
"""
