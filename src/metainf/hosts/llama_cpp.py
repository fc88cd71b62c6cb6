"""llama.cpp's own HTTP server, in process: `python -m metainf.hosts.llama_cpp -m FILE --host H --port P ...`.

It takes the words of `llama-server` and serves what that serves: `/v1/completions`,
`/v1/chat/completions`, `/v1/models`, `/health`, and with `--metrics` `/metrics`, until SIGTERM or ^C.
Exit codes: 2 a word that it does not know, 3 a model that cannot be loaded, each with a reason in one line.
"""

import os
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MetaInfError, MissingExtra
from metainf.hosts.llama_words import AUTO_SLOTS, settings, words

BAD_WORDS, NO_MODEL = 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    try:
        library = _library()
        params = parameters(library, sys.argv[1:] if argv is None else argv)
    except MetaInfError as error:
        print(error, file=sys.stderr)
        return BAD_WORDS
    print(f"llama.cpp host: xllamacpp {library.__version__}", file=sys.stderr, flush=True)
    try:
        for path in (params.model.path, params.speculative.draft.mparams.path):
            require_gguf(path)
        server = library.Server(params)
    except (BadInput, RuntimeError, MemoryError) as error:
        sys.stderr.flush()
        print(f"llama.cpp host: {_reason(error)}", file=sys.stderr)
        return NO_MODEL
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    while not stop.wait(3600):
        pass
    del server
    return 0


def parameters(library: Any, argv: Sequence[str]) -> Any:
    """The library's parameters for these words; what the words leave open is as in `llama-server`.

    Raises BadInput for a word that it does not know or that names no model.
    """
    params = library.CommonParams()
    params.use_jinja, params.n_parallel = True, -1
    for path, value in settings(argv, words(library)):
        place, names = params, path.split(".")
        for name in names[:-1]:
            place = getattr(place, name)
        try:
            setattr(place, names[-1], value)
        except (TypeError, OverflowError) as error:
            raise BadInput(f"llama.cpp host: {names[-1]} cannot be {value!r}: {error}") from None
    if not params.model.path:
        raise BadInput("llama.cpp host: expected a GGUF file after -m, found none")
    if params.n_parallel < 0:
        params.n_parallel, params.kv_unified = AUTO_SLOTS, True
    return params


def require_gguf(path: str) -> None:
    """BadInput where a named file cannot be read or is no GGUF file; an empty name is no file."""
    if not path:
        return
    try:
        with Path(path).open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    if magic != b"GGUF":
        raise BadInput(f"{path} is no GGUF file: expected it to begin with GGUF, found {magic!r}")


def _library() -> Any:
    try:
        import xllamacpp
    except ImportError:
        raise MissingExtra("the llama.cpp host", "llamacpp") from None
    return xllamacpp


def _reason(error: BaseException) -> str:
    """Why it did not start: the engine's first error line where its log is a file, else the exception."""
    if isinstance(error, MemoryError):
        return "out of memory while loading the model"
    if isinstance(error, BadInput):
        return str(error)
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            for line in Path("/dev/fd/2").read_text(errors="replace").splitlines():
                if " E " in line[:20]:
                    return line.split(" E ", 1)[1].strip()
    return f"{error} (the lines above say why)"


if __name__ == "__main__":
    sys.exit(main())
