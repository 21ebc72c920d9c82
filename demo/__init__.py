"""The drawn phantom: an example image that belongs to nobody."""
