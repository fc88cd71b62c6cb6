"""Models that read text or pictures and generate nothing: embedders, rerankers, classifiers."""

import math
from collections.abc import Mapping
from typing import Any

from metainf.catalog.tables import table
from metainf.domain import NotSupported

ENCODERS = frozenset(
    {
        *("albert", "bert", "camembert", "clip", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("longformer", "modernbert", "mpnet", "new", "nomic_bert", "roberta", "siglip", "vit"),
        *("xlm-roberta", "xlm-roberta-xl"),
    }
)
HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def refuse_encoders(config: Mapping[str, Any], name: str) -> None:
    """Raise NotSupported, naming the text model of the nearest size, where a configuration has no decoder."""
    named = config.get("architectures")
    architectures = [str(item) for item in named] if isinstance(named, list) else []
    kind = config.get("model_type")
    headed = [item for item in architectures if item.endswith(HEADS)]
    if kind not in ENCODERS and not headed:
        return
    what = (headed or architectures or [str(kind)])[0]
    near = _nearest(config)
    raise NotSupported(
        f"{name} is a {what}: it gives embeddings or scores and generates no text, which is all that can be "
        f"predicted{f'; the text model of the nearest size is {near}' if near else ''}"
    )


def _nearest(config: Mapping[str, Any]) -> str | None:
    """The text model of the catalogue with about as many layers × width²."""
    layers, width = config.get("num_hidden_layers"), config.get("hidden_size")
    if not isinstance(layers, int) or not isinstance(width, int) or layers < 1 or width < 1:
        return None
    size = math.log(layers) + 2 * math.log(width)
    texts = [row for row in table("models") if row["modality"] == "text"]
    shapes = [(row["name"], row.get("num_layers"), row.get("hidden_size")) for row in texts]
    sizes = {str(name): math.log(n) + 2 * math.log(h) for name, n, h in shapes if n and h}
    return min(sizes, key=lambda name: (abs(sizes[name] - size), name), default=None)
