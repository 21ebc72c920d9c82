"""Whether an image may be drafted from at all: header, pixels, predicted findings."""
