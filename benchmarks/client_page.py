"""The words of docs/client.md; `bench_client` fills in the table."""

PAGE = """# What the measuring client costs

Written by `python benchmarks/bench_client.py --place VLLM --write docs/client.md`; no number is typed by
hand.

The engine and whatever measures it share the machine, so a client that computes much slows down what it
measures. Here our client and the one that vLLM ships (`vllm bench serve`, version {version}) send the same
{requests} prompts of {workload} to the same running server, {in_flight} in flight, greedy, with the same
lengths of answers, in turns: which of them begins changes from round to round. {rounds} rounds count, after
one that does not. A rate is output tokens over the seconds from the first sending to the last end, as a clock
around each client sees it; the ratio is ours over theirs within a round, its geometric mean over the rounds
with 95 % bounds of Student's t. The bar is that our client takes less than 2 %: a ratio of 0.98 or more.

What a client computes it takes from the engine, so the share of all cores that it used over a run bounds what
it costs, more narrowly than rates that vary from round to round. Theirs holds what it does before and after a
run as well, over the run's seconds.

{machine}

| server | ours, tokens/s | theirs, tokens/s | ours / theirs | bounds | bar | ours, cores | theirs, cores |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

*Met* needs the whole interval above the bar, *missed* the whole of it below; between them the rounds do not
tell. Rates are medians over the rounds.
"""
