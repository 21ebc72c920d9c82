"""The language model: client, errors, checks of its responses, and the vLLM server of the demo."""
