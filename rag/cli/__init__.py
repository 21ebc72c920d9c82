"""The command line. Entry point: it may import everything, and nothing imports it."""
