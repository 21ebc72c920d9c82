"""A draft under review: its state, the audit record, and replay of a recorded draft."""
