"""Starts the parts of the flow's place quickly: imports everything once, and forks for each line it reads.

Reads JSON lines: `namespace` of the network, `log`, `kind` (node, liar, command) and `words`; writes the id
of each process. `python benchmarks/flow_parts.py`
"""

import json
import os
import signal
import sys
from typing import Any

from metainf.testing.networks import enter


def imported() -> None:
    """What all of them need, which takes seconds."""
    import torch
    import transformers
    import transformers.models.llama.modeling_llama

    import metainf.api.queueing
    import metainf.api.swarming
    import metainf.cli.app
    import metainf.swarm.host.running
    import metainf.testing.lying_node  # noqa: F401

    torch.set_num_threads(1)
    _ = (transformers.AutoTokenizer, transformers.AutoModelForCausalLM, transformers.AutoConfig)


def become(told: dict[str, Any]) -> None:
    """Go on as the part that is told."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    enter(told["namespace"])
    if told["kind"] == "command":
        from metainf.cli import main

        sys.argv = ["metainf", *told["words"]]
        main()
        return
    from metainf.swarm.host.running import Told, run
    from metainf.testing import lying_node

    if told["kind"] == "liar":
        lying_node.lie()
    run(Told.parse(told["words"][0]), lambda said: print(said.text, flush=True))


def serve() -> None:
    """Until the input ends."""
    imported()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                become(json.loads(line))
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException as error:
                print(f"ended: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        print(process, flush=True)


if __name__ == "__main__":
    serve()
