"""Metric groups; `base` has their registry."""
