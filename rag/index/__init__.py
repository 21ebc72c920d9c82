"""A collection and an encoder -> a store on disk; proving, mending and removing.

`build` does the work, `plan` decides what changes, `check` proves an index or shows what is in it.
"""

from rag.index.build import build_index, delete_from_index, rebuild_index
from rag.index.check import index_info, verify_index
from rag.index.plan import IndexSummary, Screen

__all__ = [
    "IndexSummary",
    "Screen",
    "build_index",
    "delete_from_index",
    "index_info",
    "rebuild_index",
    "verify_index",
]
