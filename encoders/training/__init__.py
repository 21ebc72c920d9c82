"""Trains CLIP and eCLIP encoders."""
