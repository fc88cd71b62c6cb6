"""vLLM's own benchmark client, ready to run again and again: `python their_client.py`, with vLLM's Python.

Reads one line of JSON for each run, the words of `vllm bench serve`, and answers with one line that begins
with RESULT: output tokens, seconds, requests that failed, as that client counts them, and why.
"""

import asyncio
import json
import sys

from vllm.benchmarks.serve import add_cli_args, main_async
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main() -> None:
    """Until standard input ends."""
    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    print("READY", flush=True)
    for line in sys.stdin:
        found = asyncio.run(main_async(parser.parse_args(json.loads(line))))
        told = {name: found[name] for name in ("total_output_tokens", "duration", "completed", "failed")}
        told["errors"] = [error for error in found.get("errors", ()) if error]
        print("RESULT " + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
