"""What Gradio makes Python warn of, which is not ours to mend."""

import pytest

GRADIO_WARNINGS = [
    # Gradio's queue and httpx's pools leave sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Gradio's statistics of its queue set an option that pandas no longer wants
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]
