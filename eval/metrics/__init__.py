"""Metric groups; `base` knows which there are."""
