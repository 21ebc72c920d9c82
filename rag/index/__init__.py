"""The report index: Chroma holds it, everything else in the folder is small or can be made again.

    <index_dir>/
      index.json             which version counts, and what it was made with; replaced in one step
      version-<token>/       never changed once index.json names it
        chroma/              Chroma's files (not there if a Chroma server holds the collections)
        reports.sqlite       who is in it: report, study and patient ids
      embeddings.cache       vectors by content hash, so that nothing is embedded twice
      write.lock             held by the one process that writes

`ReportIndex` answers queries, `build_index`, `delete_from_index` and `rebuild_index` write a new
version beside the old one, `verify_index` checks what is there. Any number of processes may read.
"""

from rag.index.build import build_index, delete_from_index, rebuild_index
from rag.index.content import IndexSummary
from rag.index.ids import NO_EXCLUSIONS, Exclusions
from rag.index.info import Progress, read_info
from rag.index.store import ReportIndex
from rag.index.verify import verify_index

__all__ = [
    "NO_EXCLUSIONS",
    "Exclusions",
    "IndexSummary",
    "Progress",
    "ReportIndex",
    "build_index",
    "delete_from_index",
    "read_info",
    "rebuild_index",
    "verify_index",
]
