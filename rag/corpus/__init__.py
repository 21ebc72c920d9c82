"""Report collections: Open-I from its package (`openi`), or one's own (`user_collection`)."""
