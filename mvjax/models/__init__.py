"""Weights in, score functions out: what joins the networks to the method.

Every model is a frozen dataclass with `params` and pure methods that take
them: `encode_text`, `camera_conditioning`, `score`, `single_view_score` and
`decode`. Nothing that uses a model asks which one it is.
"""
