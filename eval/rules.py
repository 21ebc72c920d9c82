"""Which edition of the project's rules (labels, statements, priors) made a number."""

import hashlib
from functools import lru_cache
from importlib.resources import files

RULE_FILES = (
    "asides.py",
    "assertion.py",
    "clauses.py",
    "labeller.py",
    "neutrals.py",
    "numbers.py",
    "phrases.py",
    "schema.py",
    "scopes.py",
    "sentences.py",
    "statements.py",
    "words.py",
)
"""The modules of rag that decide what a text says; a test holds this list against the imports."""


@lru_cache(maxsize=1)
def rules_id() -> str:
    """Name of the rules as they are installed: a hash over their code and their words."""
    digest = hashlib.sha256()
    folder = files("rag")
    lexicon = sorted(folder.joinpath("lexicon").iterdir(), key=lambda file: file.name)
    for file in [*map(folder.joinpath, RULE_FILES), *lexicon]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"rules@{digest.hexdigest()[:8]}"
