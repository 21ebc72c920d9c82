"""Our own Gradio components: an element with a script, fields for a line of text and for images."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.exceptions import Error


def scripted(
    module: str,
    html: str,
    *,
    events: Sequence[str] = (),
    words: Mapping[str, str] | None = None,
    **settings: Any,
) -> gr.HTML:
    """An element whose behaviour is in ``static/<module>.js``.

    Args:
        module: its ``mount`` function is called with the element and what Gradio offers it.
        html: the template; "${value}" stands for the value.
        events: names it may trigger.
        words: strings for the script, from `reading_room.strings`.
        settings: of `gr.HTML`.
    """
    names = ", ".join(f"'{event}'" for event in events)  # Gradio looks for them in this very text
    code = (
        f"/* events: {names} */ "
        f"import(new URL('reading-room/{module}.js', document.baseURI).href).then((m) => "
        f"m.mount(element, {{ props, watch, trigger, words: {json.dumps(words or {})} }}));"
    )
    return gr.HTML(
        html_template=html, js_on_load=code, apply_default_css=False, container=False, **settings
    )


def text_field(label: str, **settings: Any) -> gr.Textbox:
    """A line of text whose label is its placeholder."""
    return gr.Textbox(label=label, placeholder=label, show_label=False, max_lines=1, **settings)


def image_field(**settings: Any) -> gr.File:
    """A file field that takes uploads only: an address in their place is not fetched.

    Not a subclass: Gradio writes a stub file beside the module of every subclass.
    """
    field = gr.File(**settings)
    keep = field.async_move_resource_to_block_cache

    async def keep_upload(url_or_file_path: Any) -> str | None:
        if "://" in str(url_or_file_path or ""):
            raise Error("Images are uploaded, not fetched from an address.", print_exception=False)
        return await keep(url_or_file_path)

    field.async_move_resource_to_block_cache = keep_upload  # type: ignore[method-assign]
    return field
