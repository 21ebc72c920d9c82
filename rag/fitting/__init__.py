"""Fits what screens and predicts: finding heads, calibration, the out-of-distribution detector."""
