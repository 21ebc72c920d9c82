"""The report index, stored in Chroma.

    <index_dir>/
      index.json             the current version and what it was built with; replaced atomically
      version-<token>/       immutable once index.json names it
        chroma/              Chroma's files (absent if a Chroma server holds the collections)
        reports.sqlite       report, study and patient ids of the indexed reports
      embeddings.cache       vectors by content hash, so that nothing is embedded twice
      write.lock             held by the one process that writes

`ReportIndex` answers queries; `build_index`, `delete_from_index` and `rebuild_index` write a new
version beside the old one; `verify_index` checks the current one. Any number of processes may read.
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
