"""Small models of random weights, for tests and measurements: folders like those of real checkpoints."""

from pathlib import Path
from typing import Any

from metainf.swarm.compute.weights import random_checkpoint

LAYERS, VOCABULARY = 4, 97
BYTES_VOCABULARY = 260
VARIED = 22
"""A seed whose Llama does not soon say the same token again and again."""
END, USER, ASSISTANT = "<|end|>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}  # fmt: skip
"""Words of transformers' configs, where nothing else is asked."""


def random_model(
    folder: Path, seed: int = VARIED, std: float = 0.3, family: str = "llama", **config: Any
) -> Path:
    """A small language model in safetensors, the same for the same seed; `config` changes its shape."""
    return random_checkpoint({"model_type": family, **SMALL, **config}, folder, seed, std)


def random_byte_model(folder: Path, seed: int = 3, **config: Any) -> Path:
    """One whose tokens are bytes, with its tokenizer and a chat template."""
    told = {"vocab_size": BYTES_VOCABULARY, "bos_token_id": None, "eos_token_id": 256, **config}
    random_model(folder, seed, **told)
    _byte_tokenizer().save_pretrained(folder)
    return folder


def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=entries, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, USER, ASSISTANT])
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    whole.chat_template = TEMPLATE
    return whole


def likeliest(folder: Path, tokens: list[int], count: int) -> list[int]:
    """The likeliest tokens that follow, as transformers writes them in one process."""
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    made = list(tokens)
    with torch.inference_mode():
        for _ in range(count):
            made.append(int(model(torch.tensor([made])).logits[0, -1].argmax()))
    return made[len(tokens) :]
