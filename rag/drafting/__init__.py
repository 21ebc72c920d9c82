"""From evidence to a draft: what may be said, what reports agree on, what a model is asked."""
