"""Scoring: files in, numbers out. Always ``from eval.x import y``: eval is a builtin too."""
