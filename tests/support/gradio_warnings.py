"""Warnings that Gradio causes."""

import gc
import warnings

import pytest

GRADIO_WARNINGS = [
    # Gradio's queue and httpx's pools leave sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Gradio's queue statistics set an option that pandas has deprecated
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


def collect_quietly() -> None:
    """Collect what Gradio leaves open, so that it does not warn in another module's test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
