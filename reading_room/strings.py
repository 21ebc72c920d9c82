"""Every English sentence of the page, in one place."""

from rag.schema import NOTICE, Section

TITLE = "cxr-rag reading room"
BANNER = f"{NOTICE}. A radiologist must read the image and check every sentence."

# Worklist
WORKLIST = "Worklist"
WORKLIST_HINT = "Back to the list (Alt+0)"
WORKLIST_COLUMNS = ("Status", "Must not be missed", "View", "Image taken", "Draft made", "Study")
WORKLIST_EMPTY = "No study in the folder yet. New ones appear here by themselves."
BY_URGENCY = (
    "Urgent first: the highest probability of a finding that must not be missed. The probabilities "
    "were not calibrated on studies of this hospital, and nothing here is calibrated for triage."
)
BY_URGENCY_HERE = (
    "Urgent first: the highest probability of a finding that must not be missed. The probabilities "
    "were calibrated on this hospital's studies; nothing here is calibrated for triage."
)
BY_DATE = "By date: no finding is predicted, so that nothing is known about what is urgent."
STUDY_STATES = {
    "drafted": ("●", "draft is ready"),
    "waiting": ("…", "waiting for its draft"),
    "refused": ("✕", "no draft"),
    "signed": ("■", "signed"),
}
SIGNED_AS = "signed by {}, {}"
AGES = ("just now", "{} min ago", "{} h ago", "{} days ago")
STUDY_GONE = "This study is no longer in the folder."

# Image
UPLOAD = "Chest X-rays: DICOM, PNG or JPEG, frontal and lateral"
EXAMPLE = "No image at hand? Try a synthetic phantom"
INDICATION = "Indication (no names)"
VIEWER = "Image viewer"
VIEWER_TOOLS = "Viewer tools"
NO_IMAGE_YET = "Drop a chest X-ray here, or choose one below."
LOADING = "Loading the image …"
IMAGE_GONE = "The image is no longer on the server. Open it again."
FRONTAL, LATERAL, IMAGE = "Frontal", "Lateral", "Image"
IMAGE_LABEL = "{}. Drag to set the window, wheel to zoom; press ? for all keys."
DRAFTED_FROM = "drafted from this image"
TOO_MANY_IMAGES = "At most {} images of one study can be opened at a time; {} were chosen."
AT_DETECTOR = "mm at the detector, less in the patient"
GAZE_FILE = "Fixations as a CSV file"
NO_SPACING = "no pixel spacing: lengths in pixels"
TOOLS = {
    "tool-window": ("Window", "W", "Drag: right for less contrast, up for brighter"),
    "tool-pan": ("Pan", "P", "Drag the image; also middle button or Shift"),
    "tool-zoom": ("Zoom", "Z", "Drag up to enlarge; the wheel always zooms"),
    "tool-measure": ("Measure", "M", "Drag a line; two lines give their ratio"),
    "tool-region": (
        "Region",
        "B",
        "Drag a box to get evidence for it; or use Enter and the arrow keys",
    ),
}
PRESETS = {
    "file": ("As stored", "1", "Window or table of the file"),
    "whole": ("Full range", "2", "From the darkest to the lightest value"),
    "lungs": ("Lungs", "3", "The darker part of the image"),
    "mediastinum": ("Mediastinum", "4", "The lighter part of the image"),
}
SWITCHES = {
    "invert": ("Invert", "I", "Black for white"),
    "mirror": ("Flip", "H", "Flip left to right"),
    "solo": ("One image", "S", "Only this image, or all side by side"),
    "heat": ("Heat", "V", "Show or hide the heatmap of your regions"),
    "findings": ("Findings", "L", "Show or hide where the sentence's finding would be"),
    "link": ("Link", "K", "Move, zoom and window the prior together with this image"),
    "prior": ("Prior", "C", "Show or hide the prior beside this image"),
}
ACTIONS = {
    "left": ("⟲", "[", "Turn a quarter to the left"),
    "right": ("⟳", "]", "Turn a quarter to the right"),
    "in": ("+", "+", "Enlarge"),
    "out": ("\u2212", "-", "Make smaller"),
    "fit": ("Fit", "F", "Whole image; double click toggles with 1:1"),
    "one": ("1:1", "O", "One image pixel per screen pixel"),
    "reset": ("Reset", "R", "Undo all changes to the view"),
    "gaze": ("Gaze…", "G", "Fixations from a CSV file: x, y, duration"),
}
VIEWER_WORDS = {
    "window": "W",
    "level": "L",
    "lut": "table of the file",
    "mirrored": "FLIPPED",
    "turned": "TURNED {}°",
    "negative": "NEGATIVE",
    "ratio": "ratio",
    "preview": "preview, full resolution is loading",
    "other_image": "Mark the region on the image that the draft is made from.",
    "bad_gaze": "Not a table of fixations: it needs the columns x, y and duration.",
    "max_regions": "At most {} regions: undo one first.",
}

# Draft
LOOK_FOR = "Below the reporting threshold, look for"
INSERT = "Insert"
DRAFT_BUTTON = "Draft report"
STOP_BUTTON = "Stop"
PROVENANCE = "Prompt, model and timings"
NO_IMAGE = "Open an image first."
NO_DRAFT = "No draft"
EMPTY_SECTION = "No sentence of the evidence fits here."
WAITING_DRAFT = "The draft appears here, sentence by sentence, each with its sources."
WAITING_EVIDENCE = "The retrieved reports appear here."
SEARCHING = "Searching similar images …"
WRITING = "Drafting …"
COPIES = "{} reports say exactly this"
NOT_CITED = "not cited"
VERBATIM = "Reports are of other patients and shown verbatim; XXXX marks removed identifiers."

# Draft in its reader's hands
ABSTAINED = "No draft: the system abstains"
EVIDENCE_ONLY = (
    "The evidence stays usable: click a sentence of a report, or write your own, to compose one."
)
DECISIONS = {
    "open": "open",
    "accepted": "accepted",
    "edited": "edited",
    "added": "added",
}
SOURCE = "source"
NO_SOURCE = "No source: the reader's own words."
SAYS_INSTEAD, NOTHING_LIKE_IT = "says instead:", "does not mention it"
CLASHES = "contradicts {} of this report"
EDIT, ADD = "Edit", "Add"
SENTENCE_ACTIONS = {"accept": ("Accept", "A"), "edit": (EDIT, "E"), "remove": ("Remove", "X")}
ADD_HINT = "Add a sentence, or choose a normal phrase"
ADD_TO = "Add a sentence to the"
VOTES = "What the retrieved reports say about each finding"
VOTE_COLUMNS = ("Finding", "Reports", "present", "absent", "Image probability")
ADDENDUM = "Addendum"
SAVE, CANCEL = "Save", "Cancel"
DOCK = "Source of the sentence"
DOCK_EMPTY = "Point at a sentence, or move to it with the arrow keys, to see its sources."

# Evidence
REPORT = "Report"
CITED_BY = "cited by"
RULE_OUT, RULED_OUT = "Not relevant", "Not relevant ✗"
REDRAFT_WITHOUT = "Draft again without the {} ruled out"
SIMILARITY = "cosine similarity of image and report, higher is nearer"
USE_SENTENCE = "Use this sentence in the report (click or Enter)"
COMPARISON = {
    "shared": ("=", "shares"),
    "opposed": ("≠", "says the opposite:"),
    "only_here": ("+", "only here:"),
    "silent": ("∅", "silent on"),
}

# Region
REGION_EVIDENCE = "Evidence for the marked region"
EXPERIMENTAL = "experimental"
EXPERIMENTAL_HINT = (
    "Share of reports that name what a box is around: 0.51, without it 0.42, with another image's "
    "box 0.47: docs/experiments.md"
)
FINDING_REGION = "{}: experimental; the place was right on {} % of {} images of another hospital"
UNMEASURED_REGION = "{}: experimental; nobody has measured how often the place is right"
DRAWN_TOWARDS = "Drawn towards reports of: {}. "
RANK_CHANGES = "{} new, {} dropped, {} moved."
NEW, DROPPED, SAME_RANK, MOVED = "new", "dropped", "same rank", "{} was {}"
NO_LONGER_RETRIEVED = "No longer retrieved"
DRAFT_WITH_REGION = "Draft with this region"
UNDO_REGION, CLEAR_REGIONS = "Undo region", "Clear"
UNDO_REGION_HINT = "Remove the last region (Backspace on the image)"
CLEAR_REGIONS_HINT = "Back to the evidence of the whole image"
NOTHING_FOUND = "No report was found for this image."

# Prior
PRIOR, PRIOR_OF = "Prior", "Prior of {}"
ADD_PRIOR = "Compare with an earlier study of this patient"
PRIOR_FILES = "Its images, its report as DICOM SR or text"
PRIOR_TEXT = "or its report, pasted"
PRIOR_DATE = "its date, where no header tells: 2026-03-01"
USE_PRIOR, DROP_PRIOR = "Compare", "Remove the prior"
DAYS_BEFORE = "{} days before"
CHANGE_COLUMNS = ("Finding", "Prior report", "Then", "Now", "Change")
CHANGE_HINT = (
    "Then and now: probability in the prior image and in this one. "
    "A change is said only where it was right often enough on pairs of images: docs/priors.md"
)
PRIOR_REPORT = "Report of the prior"
NO_CHANGES = "Neither the prior nor this image speaks for any finding."
NO_PRIOR_GIVEN = "Give an image or a report of the earlier study."
OF_WHOM = "{} This image: {}. The prior: {}."
NO_HEADER_WORDS = "no name"

# Steps
UNKNOWN_STEP = "Not possible here ({}). Reload the page."
NOTHING_TO_UNDO = "There is nothing to undo."
SIGNED_IS_SIGNED = "The report is signed: write an addendum."
NOTHING_TO_EXPORT = "There is nothing to export yet: draft a report first."
NO_REPORT_YET = "There is no report yet: draft one first."
NOT_DONE = "Not done"
INTERNAL_ERROR = "Internal error ({}). Try again; if it persists, see the log."
NOT_HERE = "Not found, or deleted after its retention time."
STOPPED = "Stopped by the reader before the draft was finished."

# Signing
NO_STATE = "No report yet."
STATES = {
    "draft": "Draft",
    "edited": "Edited",
    "signed": "Signed",
    "signed with addendum": "Signed, with addendum",
}
UNDECIDED = "{} sentence{} to decide"
ALL_DECIDED = "all sentences decided: ready to sign"
NO_SENTENCES = "no sentences yet: add one, or use one from the evidence"
SIGNED_BY = "by {}, {}. The text is locked."
SIGNER, SIGN = "Your name", "Sign"
ADDED_BY, ADD_ADDENDUM = "Your name, for an addendum", "Add addendum"
EXPORT = "Export the report"
EXPORTS = {
    "text": ("Text", "Download as plain text"),
    "markdown": ("Markdown", "Download as Markdown"),
    "json": ("JSON", "Download with all verdicts, votes and provenance"),
    "pdf": ("PDF", "Download as PDF"),
    "dicom": ("DICOM SR", "Download as a DICOM structured report; needs a DICOM image"),
    "fhir": ("FHIR", "Download as a FHIR R4 bundle; needs a DICOM image"),
    "hl7": ("HL7 v2", "Download as an HL7 v2 ORU^R01 message; needs a DICOM image"),
}

# Help
HELP, CLOSE = "Keys (?)", "Close"
KEYS = {
    "Everywhere": [
        ("?", "this help"),
        ("Alt+0", "worklist, where there is one; ↑ ↓ and Enter open a study"),
        ("Alt+1 … Alt+4", "image, draft, evidence, signature"),
        ("Alt+5", "prior, where there is one"),
        ("Alt+D", "draft report"),
    ],
    "Image": [
        ("drag", "window: right less contrast, up brighter"),
        ("wheel", "zoom at the cursor"),
        ("middle button, Shift+drag", "move the image"),
        ("arrow keys", "window and level"),
        ("1 2 3 4", "as stored, full range, lungs, mediastinum"),
        ("I R F O", "invert, reset, fit, 1:1"),
        ("[ ] H S", "turn left, turn right, flip; one image or all"),
        ("W P Z M", "tool: window, pan, zoom, measure; Escape clears measures"),
        ("B", "tool: region; Enter adds one, arrow keys move it, with Shift they size it"),
        ("Backspace, Escape", "with that tool: undo the last region, clear all"),
        ("V G", "show or hide the heat; fixations from a CSV file"),
        ("L", "show or hide where the finding of a sentence would be"),
        ("K C", "prior: moves together with the image; show or hide it"),
    ],
    "Draft": [
        ("↑ ↓ or K J", "previous, next sentence"),
        ("A, Shift+A", "accept it; accept all that are supported"),
        ("E or Enter", "edit; Enter saves, Escape leaves it"),
        ("X or Delete", "remove"),
        ("N", "add a sentence or a normal phrase"),
        ("U", "undo"),
    ],
    "Evidence": [
        ("↑ ↓ or K J", "previous, next sentence or report"),
        ("Enter", "use the sentence in the report"),
        ("X", "report is not relevant"),
    ],
}

# Interface for programs
NO_ACCEPTED_IMAGE = "There is no image among these files that has not been rejected."
API_TOO_LARGE = "an image has more than {} MB, which is page.max_upload_mb"
API_NO_IMAGE = "send the image as a file field named image (multipart/form-data)"
API_BUSY = "too many drafts are waiting: try again in a minute"

PHRASES = {
    Section.FINDINGS: (
        "Heart size is normal.",
        "The mediastinal contours are normal.",
        "The lungs are clear.",
        "No focal consolidation.",
        "No pleural effusion.",
        "No pneumothorax.",
        "The visualised bones are unremarkable.",
        "No support devices.",
    ),
    Section.IMPRESSION: (
        "No acute cardiopulmonary abnormality.",
        "Normal chest X-ray.",
        "Clinical correlation is recommended.",
        "A lateral view would help.",
    ),
}
"""Offered when a sentence is added."""
