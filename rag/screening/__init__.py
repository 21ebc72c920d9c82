"""Screens images by header and pixels, and predicts findings."""
