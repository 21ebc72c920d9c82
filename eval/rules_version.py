"""Which edition of the rules (labels, statements, priors) made a number."""

import hashlib
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def rules_id() -> str:
    """Name of the rules as installed: a hash over the code and words of rag.report_nlp.

    The headings of `encoders.report_sections`, by which it knows what not to read, count too.
    """
    digest = hashlib.sha256(files("encoders").joinpath("report_sections.py").read_bytes())
    folder = files("rag.report_nlp")
    for place in (folder, folder.joinpath("data")):
        for file in sorted(place.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".toml")):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"rules@{digest.hexdigest()[:8]}"
