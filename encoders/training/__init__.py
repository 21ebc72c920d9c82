"""The one place that trains."""
