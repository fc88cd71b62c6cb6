"""Which reader a model path belongs to."""

from pathlib import Path

from metainf.domain import BadInput, Model


def read_model(path: Path) -> Model:
    """Model of a Hugging Face folder or config.json, a diffusers folder or a GGUF file.

    Raises BadInput saying what was looked for.
    """
    if not path.exists():
        raise BadInput(
            f"{path} does not exist: give a catalogue name, or a folder, config.json or .gguf file"
        )
    if path.is_dir():
        if (path / "model_index.json").exists():
            from metainf.catalog.pipeline import read_pipeline

            return read_pipeline(path)
        if (path / "config.json").exists():
            from metainf.catalog.huggingface import read_config

            return read_config(path)
        ggufs = sorted(path.glob("*.gguf"))
        if len(ggufs) == 1:
            return read_model(ggufs[0])
        raise BadInput(f"{path} holds no config.json, no model_index.json and not exactly one .gguf file")
    with path.open("rb") as file:
        magic = file.read(4)
    if path.suffix == ".gguf" or magic == b"GGUF":
        from metainf.catalog.gguf_model import model_of_gguf

        return model_of_gguf(path)
    if path.name == "model_index.json":
        return read_model(path.parent)
    from metainf.catalog.huggingface import read_config

    return read_config(path)
