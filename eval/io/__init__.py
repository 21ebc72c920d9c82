"""Files in, files out: predictions, references, studies."""
