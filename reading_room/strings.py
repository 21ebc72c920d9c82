"""The English words of the page."""

from rag.schema import NOTICE, Section

TITLE = "cxr-rag reading room"
BANNER = f"{NOTICE}. A radiologist must read the image and check every sentence."

# Worklist
WORKLIST = "Worklist"
WORKLIST_HINT = "Back to the list (Alt+0)"
WORKLIST_COLUMNS = ("Status", "Must-not-miss finding", "View", "Study date", "Drafted", "Study")
WORKLIST_EMPTY = "No studies in the folder yet. New ones appear automatically."
BY_URGENCY = (
    "Most urgent first, by the highest probability of a must-not-miss finding. The probabilities "
    "are not calibrated for this hospital. Not validated for triage."
)
BY_CALIBRATED_URGENCY = (
    "Most urgent first, by the highest probability of a must-not-miss finding. The probabilities "
    "are calibrated for this hospital. Not validated for triage."
)
BY_DATE = "Oldest first: there is no predicted must-not-miss finding to rank by."
STUDY_STATES = {
    "drafted": ("●", "draft ready"),
    "waiting": ("…", "waiting for a draft"),
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
TOO_MANY_IMAGES = "At most {} images of one study can be opened at a time; you chose {}."
AT_DETECTOR = "mm at detector; smaller in patient"
GAZE_FILE = "Fixations as a CSV file"
NO_SPACING = "no pixel spacing: lengths are in pixels"
TOOLS = {
    "tool-window": ("Window", "W", "Drag right for less contrast, up for brighter"),
    "tool-pan": ("Pan", "P", "Drag to move the image; also with the middle button or Shift"),
    "tool-zoom": ("Zoom", "Z", "Drag up to zoom in; the wheel always zooms"),
    "tool-measure": ("Measure", "M", "Drag a line; two lines give their ratio"),
    "tool-region": (
        "Region",
        "B",
        "Drag a box to search for evidence on it; or use Enter and the arrow keys",
    ),
}
PRESETS = {
    "file": ("As stored", "1", "Window or VOI LUT from the file"),
    "whole": ("Full range", "2", "From the darkest to the brightest value"),
    "lungs": ("Lungs", "3", "The darker part of the image"),
    "mediastinum": ("Mediastinum", "4", "The brighter part of the image"),
}
SWITCHES = {
    "invert": ("Invert", "I", "Swap black and white"),
    "mirror": ("Flip", "H", "Flip left to right"),
    "solo": ("One image", "S", "Show only this image, or all side by side"),
    "heat": ("Heat", "V", "Show or hide the heatmap of your regions"),
    "findings": ("Findings", "L", "Show or hide the outline of a sentence's finding"),
    "link": ("Link", "K", "Move, zoom and window the prior together with this image"),
    "prior": ("Prior", "C", "Show or hide the prior beside this image"),
}
ACTIONS = {
    "left": ("⟲", "[", "Rotate 90° left"),
    "right": ("⟳", "]", "Rotate 90° right"),
    "in": ("+", "+", "Zoom in"),
    "out": ("\u2212", "-", "Zoom out"),
    "fit": ("Fit", "F", "Fit the whole image; double-click switches to 1:1"),
    "one": ("1:1", "O", "One image pixel per screen pixel"),
    "reset": ("Reset", "R", "Reset the view"),
    "gaze": ("Gaze…", "G", "Load fixations from a CSV file: x, y, duration"),
}
VIEWER_WORDS = {
    "window": "W",
    "level": "L",
    "lut": "VOI LUT",
    "mirrored": "FLIPPED",
    "turned": "ROTATED {}°",
    "negative": "INVERTED",
    "ratio": "ratio",
    "preview": "preview; full resolution is loading",
    "other_image": "Mark the region on the image the draft is made from.",
    "bad_gaze": "Not a table of fixations: the columns x, y and duration are required.",
    "max_regions": "At most {} regions: remove one first.",
}

# Draft
HINTS = "Below the reporting threshold, but worth a look"
INSERT = "Insert"
DRAFT_BUTTON = "Draft report"
STOP_BUTTON = "Stop"
PROVENANCE = "Prompt, model and timings"
NO_IMAGE = "Open an image first."
NO_DRAFT = "No draft"
EMPTY_SECTION = "No sentence from the evidence fits here."
WAITING_DRAFT = "The draft appears here, sentence by sentence, each with its sources."
WAITING_EVIDENCE = "The retrieved reports appear here."
SEARCHING = "Searching similar images …"
WRITING = "Drafting …"
COPIES = "{} identical reports"
NOT_CITED = "not cited"
VERBATIM = "These reports are about other patients, shown verbatim; XXXX marks removed identifiers."

# Reviewing the draft
ABSTAINED = "No draft: the system abstained"
EVIDENCE_ONLY = "The evidence is still usable: click a sentence in a report, or write your own."
SOURCE = "source"
NO_SOURCE = "No source: written by the reader."
SAYS_INSTEAD, NOT_MENTIONED = "says instead:", "does not mention it"
CONTRADICTS = "contradicts {} of this draft"
ADD = "Add"
SENTENCE_ACTIONS = {"accept": ("Accept", "A"), "edit": ("Edit", "E"), "remove": ("Remove", "X")}
DRAFT_WORDS = {
    "edit": "Edit",
    "save": "Save",
    "cancel": "Cancel",
    "redraft": "Draft again? Accepted, edited and added sentences ({}) will be discarded.",
}
ADD_HINT = "Add a sentence, or choose a normal phrase"
ADD_TO = "Add a sentence to the"
VOTES = "What the retrieved reports say about each finding"
VOTE_COLUMNS = ("Finding", "Reports", "Present", "Absent", "Image probability")
ADDENDUM = "Addendum"
SOURCES = "Sources of the sentence"
NO_SOURCES_SHOWN = "Point at a sentence, or move to it with the arrow keys, to see its sources."

# Evidence
REPORT = "Report"
CITED_BY = "cited by"
RULE_OUT, RULED_OUT = "Not relevant", "Not relevant ✗"
REDRAFT_WITHOUT = "Draft again without the reports marked not relevant ({})"
SIMILARITY = "cosine similarity of image and report; higher is more similar"
USE_SENTENCE = "Add this sentence to the draft (click or Enter)"
COMPARISON = {
    "shared": ("=", "shares"),
    "opposed": ("≠", "says the opposite:"),
    "only_here": ("+", "only here:"),
    "silent": ("∅", "does not mention"),
}

# Region
REGION_EVIDENCE = "Evidence for the marked region"
EXPERIMENTAL = "experimental"
EXPERIMENTAL_HINT = (
    "Share of retrieved reports that state the finding in the box: 0.51 with the box, "
    "0.42 without, 0.47 with the box of another image (docs/experiments.md)"
)
FINDING_REGION = (
    "{}: experimental; the location was right in {} % of {} images from another hospital"
)
UNMEASURED_REGION = "{}: experimental; how often the location is right has not been measured"
STEERED_TO = "Search steered towards {}. "
RANK_CHANGES = "{} new, {} dropped, {} moved."
NEW, DROPPED, SAME_RANK, MOVED = "new", "dropped", "same rank", "{} was {}"
NO_LONGER_RETRIEVED = "No longer retrieved"
DRAFT_WITH_REGION = "Draft with this region"
UNDO_REGION, CLEAR_REGIONS = "Undo region", "Clear"
UNDO_REGION_HINT = "Remove the last region (Backspace on the image)"
CLEAR_REGIONS_HINT = "Back to the evidence for the whole image"
NOTHING_FOUND = "No report was found for this image."

# Prior
PRIOR, PRIOR_OF = "Prior", "Prior of {}"
ADD_PRIOR = "Compare with an earlier study of this patient"
PRIOR_FILES = "Images, and the report as DICOM SR or text"
PRIOR_TEXT = "Or paste the report"
PRIOR_DATE = "Date, if not in a header (YYYY-MM-DD)"
USE_PRIOR, DROP_PRIOR = "Compare", "Remove the prior"
DAYS_EARLIER = "{} days earlier"
CHANGE_COLUMNS = ("Finding", "Prior report", "Then", "Now", "Change")
CHANGE_SIGNS = {"new": "+", "persists": "=", "resolved": "✓", "cannot tell": "?"}
CHANGE_HINT = (
    "Then, Now: probability in the prior image and in this one. "
    "Changes are stated only where tests found them right often enough (docs/priors.md)."
)
PRIOR_REPORT = "Prior report"
NO_CHANGES = "Neither the prior nor this image suggests any finding."
NO_PRIOR_GIVEN = "Add an image or a report of the earlier study."
PRIOR_PATIENTS = "{}. This image: {}. Prior: {}."
NO_PATIENT_NAME = "no name"

# Actions
UNKNOWN_ACTION = "Not possible here ({}). Reload the page."
NOTHING_TO_UNDO = "There is nothing to undo."
ALREADY_SIGNED = "The report is signed: add an addendum instead."
SUPERSEDED = "The page shows another image or draft now: nothing was changed."
SIGNED_MEANWHILE = "In the meantime this study was {}: open it again from the worklist."
NOTHING_TO_EXPORT = "There is nothing to export yet: draft a report first."
NO_REPORT_YET = "There is no report yet: draft one first."
NOT_DONE = "Not done"
INTERNAL_ERROR = "Internal error ({}). Try again; if it persists, see the log."
FILE_GONE = "Not found, or already deleted: files are kept for a limited time."
STOPPED = "The reader stopped the draft before it was finished."

# Signing
NO_STATE = "No report yet."
STATES = {
    "draft": ("○", "Draft"),
    "edited": ("✎", "Edited"),
    "signed": ("■", "Signed"),
    "signed with addendum": ("■+", "Signed, with addendum"),
}
TO_REVIEW = "{} sentence{} to review"
ALL_REVIEWED = "all sentences reviewed: ready to sign"
NO_SENTENCES = "no sentences yet: add one, or use one from the evidence"
SIGNED_BY = "by {}, {}. The text is locked."
SIGNER, SIGN = "Your name", "Sign"
ADDENDUM_SIGNER, ADD_ADDENDUM = "Your name, for an addendum", "Add addendum"
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
        ("Alt+0", "worklist, if there is one; ↑ ↓ and Enter open a study"),
        ("Alt+1 … Alt+4", "image, draft, evidence, signature"),
        ("Alt+5", "prior"),
        ("Alt+D", "draft report"),
    ],
    "Image": [
        ("drag", "window: right for less contrast, up for brighter"),
        ("wheel", "zoom at the cursor"),
        ("middle button, Shift+drag", "move the image"),
        ("arrow keys", "window and level"),
        ("1 2 3 4", "window: as stored, full range, lungs, mediastinum"),
        ("I R F O", "invert, reset, fit, 1:1"),
        ("[ ] H S", "rotate left, rotate right, flip; one image or all"),
        ("W P Z M", "tool: window, pan, zoom, measure; Escape clears the lines"),
        ("B", "tool: region; Enter adds a box, arrow keys move it, Shift+arrows resize it"),
        ("Backspace, Escape", "region tool: remove the last region, remove all"),
        ("V G", "show or hide the heatmap; load fixations from a CSV file"),
        ("L", "show or hide the outline of a sentence's finding"),
        ("K C", "prior: link or unlink; show or hide"),
    ],
    "Draft": [
        ("↑ ↓ or K J", "previous, next sentence"),
        ("A, Shift+A", "accept; accept all supported sentences"),
        ("E or Enter", "edit; Enter saves, Escape cancels"),
        ("X or Delete", "remove"),
        ("N", "add a sentence or a normal phrase"),
        ("U", "undo"),
    ],
    "Evidence": [
        ("↑ ↓ or K J", "previous, next sentence or report"),
        ("Enter", "add the sentence to the draft"),
        ("X", "mark the report as not relevant"),
    ],
}

# API
NO_ACCEPTED_IMAGE = "All images among these files were rejected."
API_TOO_LARGE = "an image is larger than {} MB (page.max_upload_mb)"
API_NO_IMAGE = "send the image as a file field named image (multipart/form-data)"
API_NO_DOCUMENT = "there is no document {}; choose from {}"
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
        "A lateral view is recommended.",
    ),
}
"""Suggestions for an added sentence."""
