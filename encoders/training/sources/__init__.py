"""Readers of studies and expert annotation, one per data source."""
