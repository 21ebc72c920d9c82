"""Versioned prompt templates and the code that renders them. Knows nothing of retrieval."""
