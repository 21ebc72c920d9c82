"""Checks a draft against its evidence: do the cited reports support each sentence?

`check_draft` judges, `verdicts` defines the results; `prompt_injection` removes from reports what
is addressed to the language model.
"""

from rag.grounding.check import check_draft
from rag.grounding.verdicts import DraftCheck, Issue, Reason, SentenceCheck, Verdict, Vote

__all__ = ["DraftCheck", "Issue", "Reason", "SentenceCheck", "Verdict", "Vote", "check_draft"]
