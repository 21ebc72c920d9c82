"""What a draft was made with: models, index, prompt, timings; shown on demand."""

from rag.prediction import Prediction
from reading_room.templating import render


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
    return render("provenance.html", rows=rows, messages=prediction.messages)
