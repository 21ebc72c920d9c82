"""How a region changed the ranking of the retrieved reports."""

from dataclasses import dataclass

from reading_room import strings
from reading_room.session import Session


@dataclass(frozen=True, slots=True)
class RankChanges:
    """Ranking before and after.

    Attributes:
        before: report ids without the region, best first.
        after: with it.
        has_region: whether the reader has marked one.
        in_draft: whether the draft was made with just this region.
        earlier: retrieved for the last region, also after it was cleared.
        finding: towards which the region drew the search.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    has_region: bool
    in_draft: bool
    earlier: tuple[str, ...] = ()
    finding: str = ""

    def mark(self, report_id: str) -> tuple[str, str]:
        """CSS class and text for a card; both empty where there is nothing to say."""
        if report_id not in self.after:
            # one that was never retrieved is cited from further away
            known = report_id in self.before or report_id in self.earlier
            return ("dropped", strings.DROPPED) if known else ("", "")
        if not self.has_region:
            return "", ""
        if report_id not in self.before:
            return "new", strings.NEW
        was, now = self.before.index(report_id) + 1, self.after.index(report_id) + 1
        if was == now:
            return "same", strings.SAME_RANK
        return ("up" if now < was else "down"), strings.MOVED.format("↑" if now < was else "↓", was)

    @property
    def summary(self) -> str:
        """As in "Drawn towards: effusion. 2 new, 2 dropped, 1 moved."."""
        new = sum(each not in self.before for each in self.after)
        dropped = sum(each not in self.after for each in self.before)
        kinds = [self.mark(each)[0] for each in self.after]
        moved = kinds.count("up") + kinds.count("down")
        towards = strings.DRAWN_TOWARDS.format(self.finding) if self.finding else ""
        return towards + strings.RANK_CHANGES.format(new, dropped, moved)


def rank_changes(session: Session) -> RankChanges:
    """The changes in a session."""
    made_with = session.prediction.region if session.prediction else {}
    return RankChanges(
        before=tuple(hit.record.report_id for hit in session.image_hits),
        after=tuple(hit.record.report_id for hit in session.current_hits),
        has_region=bool(session.region),
        in_draft=bool(session.prediction) and made_with == session.region.to_json(),
        earlier=tuple(hit.record.report_id for hit in session.region_hits),
        finding=session.region_finding,
    )
