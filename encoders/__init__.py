"""Images and report texts to unit vectors. Knows nothing of retrieval, prompts or scores."""
