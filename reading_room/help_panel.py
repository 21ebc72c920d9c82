"""The head of the page with the mark of a draft, the help, and the place for sources."""

from html import escape

from reading_room import strings


def header_html() -> str:
    """Title, banner, and the dialog with all keys."""
    rows = "".join(
        f"<tr><td><kbd>{escape(key)}</kbd></td><td>{escape(what)}</td></tr>"
        for title, keys in strings.KEYS.items()
        for key, what in [("", title), *keys]
    ).replace("<td><kbd></kbd></td><td>", '<th colspan="2" scope="colgroup">')
    return (
        f'<header class="top"><h1>{strings.TITLE}</h1>'
        f'<div class="banner" role="note">{strings.BANNER}</div>'
        f'<button type="button" class="help" aria-keyshortcuts="?">{strings.HELP}</button></header>'
        f'<dialog class="help" aria-label="{strings.HELP}"><table>{rows}</table>'
        f'<form method="dialog"><button>{strings.CLOSE}</button></form></dialog>'
    )


def dock_html() -> str:
    """Where the source of the sentence in focus is shown, without moving anything."""
    return (
        f'<aside class="dock" aria-label="{strings.DOCK}"><div class="dock-body" '
        f'aria-live="polite">{strings.DOCK_EMPTY}</div></aside>'
    )
