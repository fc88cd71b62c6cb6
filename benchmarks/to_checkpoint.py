"""A GGUF file as a Hugging Face checkpoint, for engines that read no GGUF.

    python benchmarks/to_checkpoint.py MODEL.gguf FOLDER [bfloat16 | float32]

Needs torch, transformers, gguf and accelerate. Weights are unpacked: what quantizing lost stays lost.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(source: Path, folder: Path, dtype: torch.dtype) -> None:
    """Write tokenizer, configuration and safetensors to the folder; the configuration last."""
    place, name = str(source.parent), source.name
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(folder)
    packed = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=dtype)
    config = packed.config
    config.__dict__.pop("quantization_config", None)
    config.dtype = dtype
    model = type(packed)(config).to(dtype)
    missing = model.load_state_dict(packed.state_dict(), strict=False).missing_keys
    left = [key for key in missing if not key.endswith("lm_head.weight")]
    if left:
        sys.exit(f"expected all weights in {source}, these are missing: {', '.join(left[:5])}")
    model.save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    wanted = sys.argv[3] if len(sys.argv) == 4 else "bfloat16"
    convert(Path(sys.argv[1]), Path(sys.argv[2]), getattr(torch, wanted))
