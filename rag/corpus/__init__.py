"""Report collections: Open-I from its package (`openi`), or a user's own (`user_collection`)."""
