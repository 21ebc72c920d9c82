"""Readers of studies and expert annotation, one per data source.

All raise `TrainingDataError` if a file is missing or a row is unusable; the message names the row
and the cure.
"""
