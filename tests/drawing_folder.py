"""A whole pipeline of SDXL's architecture with random weights, small enough to be written to a folder."""

import json
from pathlib import Path
from typing import Any

from metainf.catalog.architectures import architecture

LETTERS = "abcdefghijklmnopqrstuvwxyz"
START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH = 16
ONE_BLOCK = {
    "sample_size": 8, "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",),
    "mid_block_type": None, "block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4,
    "cross_attention_dim": 2 * WIDTH,
}  # fmt: skip
"""A UNet that compiles in seconds."""
OF_SDXL = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")


def write_pipeline(folder: Path, one_block: bool = False) -> Path:
    """The folder, as diffusers saves one: two text encoders, a UNet (of one block where so asked), an
    autoencoder, a scheduler."""
    import diffusers
    import torch
    import transformers

    found = architecture("sdxl-like/tiny")
    assert found is not None
    torch.manual_seed(0)
    unet = dict(found.denoiser_config)
    if one_block:
        unet = ONE_BLOCK | {name: unet[name] for name in OF_SDXL}
    tokenizer = _tokenizer(folder / "words")
    config = transformers.CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        vocab_size=len(tokenizer), projection_dim=WIDTH, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    pipe: Any = diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(**found.autoencoder_config),
        text_encoder=transformers.CLIPTextModel(config),
        text_encoder_2=transformers.CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=diffusers.UNet2DConditionModel(**unet),
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    pipe.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def _tokenizer(folder: Path) -> Any:
    """One that spells."""
    import transformers

    folder.mkdir(parents=True)
    words = [START, END, *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )
    return transformers.CLIPTokenizer.from_pretrained(str(folder))
