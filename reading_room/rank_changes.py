"""What pointing at a region changed among the retrieved reports: who came, who left, who moved."""

from dataclasses import dataclass

from reading_room import strings
from reading_room.session import Session


@dataclass(frozen=True, slots=True)
class RankChanges:
    """Reports before and after.

    Attributes:
        before: report ids without the region, best first.
        after: with it, or as they are now.
        pointed: whether the reader points anywhere now.
        used: whether the draft was made with just this region.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    pointed: bool
    used: bool

    def mark(self, report_id: str) -> tuple[str, str]:
        """CSS class and words for a card; both empty where nothing is to be said."""
        if report_id not in self.after:  # cited from further away: it was never among the nearest
            return ("left", strings.LEFT) if report_id in self.before else ("", "")
        if not self.pointed:
            return "", ""
        if report_id not in self.before:
            return "entered", strings.ENTERED
        was, now = self.before.index(report_id) + 1, self.after.index(report_id) + 1
        if was == now:
            return "stayed", strings.STAYED
        return ("rose" if now < was else "fell"), strings.MOVED.format(
            "↑" if now < was else "↓", was
        )

    @property
    def summary(self) -> str:
        """As in "2 came, 2 left, 1 moved"."""
        came = sum(each not in self.before for each in self.after)
        left = sum(each not in self.after for each in self.before)
        kinds = [self.mark(each)[0] for each in self.after]
        moved = kinds.count("rose") + kinds.count("fell")
        return strings.SHIFT.format(came, left, moved)


def rank_changes(session: Session) -> RankChanges:
    """What has changed in a session."""
    made_with = session.prediction.region if session.prediction else {}
    return RankChanges(
        before=tuple(hit.record.report_id for hit in session.plain),
        after=tuple(hit.record.report_id for hit in session.nearest),
        pointed=bool(session.attention),
        used=bool(session.prediction) and made_with == session.attention.to_json(),
    )
