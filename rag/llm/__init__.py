"""The language model: a chat client, its connection and errors, and the demo's vLLM server."""
