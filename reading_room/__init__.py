"""The parts of the page, one file a panel. `app.py` puts them together."""
