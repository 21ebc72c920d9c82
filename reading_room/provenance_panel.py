"""What a draft was made with: models, index, prompt, timings; shown on demand."""

from html import escape

from rag.prediction import Prediction


def provenance_html(prediction: Prediction | None) -> str:
    """A table of ids and seconds, then the prompt as it was sent."""
    if prediction is None or not prediction.index_id:
        return ""
    rows = {
        "language model": prediction.llm,
        "prompt": f"{prediction.prompt} {prediction.prompt_hash[:16]}",
        "encoder": prediction.encoder_id,
        "index": prediction.index_id,
        "seconds": ", ".join(f"{stage} {took:.2f}" for stage, took in prediction.seconds.items()),
    }
    table = "".join(
        f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items()
    )
    messages = "".join(
        f"<h4>{escape(role)}</h4><pre>{escape(content)}</pre>"
        for role, content in prediction.messages
    )
    return f'<div class="provenance"><table>{table}</table>{messages}</div>'
