"""Holds a draft to its evidence: does each sentence stand in the reports that it cites?

`check_draft` judges, `verdicts` says what it finds; `prompt_injection` keeps reports from speaking
to the language model. Knows text only: no prompt, no model, no store.
"""

from rag.grounding.check import check_draft
from rag.grounding.verdicts import DraftCheck, Issue, Reason, SentenceCheck, Verdict, Vote

__all__ = ["DraftCheck", "Issue", "Reason", "SentenceCheck", "Verdict", "Vote", "check_draft"]
