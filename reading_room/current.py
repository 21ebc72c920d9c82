"""A reader's session as it is now, which steps that run side by side all write to.

Drafting, searching a region and comparing take seconds, in which the reader goes on. What such a
step has changed is put into the session as it has become meanwhile; a step that comes too late,
because other images were opened or the report has changed, changes nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from reading_room import strings
from reading_room.session import ControllerError, Session

_WRITING = threading.Lock()


class SupersededError(ControllerError):
    """The step was for other images, or for a report that has changed since."""


@dataclass(slots=True)
class Current:
    """One browser tab's session: the only state of the page that changes in place."""

    session: Session = field(default_factory=Session)

    def apply(self, step: Callable[[Session], Session]) -> Session:
        """Take a step; the session after it, with what was done meanwhile.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        before = self.session
        return self.put(step(before), before=before)

    def put(self, after: Session, *, before: Session) -> Session:
        """Write what a step has changed, from `before` to `after`.

        Raises:
            SupersededError: it came too late; nothing has changed.
        """
        names = (each.name for each in fields(Session))
        changed = {
            name: getattr(after, name)
            for name in names
            if getattr(after, name) is not getattr(before, name)
        }
        with _WRITING:
            now = self.session
            same_report = now.report is before.report and now.draft_id == before.draft_id
            of_report = not changed.keys().isdisjoint({"report", "prediction"})
            if now.images is not before.images or (of_report and not same_report):
                raise SupersededError(strings.SUPERSEDED)
            self.session = replace(now, **changed)
            return self.session
