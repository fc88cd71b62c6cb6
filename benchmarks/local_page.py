"""The words of docs/closing_the_loop.md; `bench_local` fills in the tables."""

PAGE = """# The loop closes: choosing better from one machine's own runs

Written by `python benchmarks/bench_local.py --store OWN --write docs/closing_the_loop.md`; no number is typed
by hand. OWN holds {records} runs of our own ({failed} failed). {quality} A task is a model, a workload and a
load; its value is output tokens per second; repeats are merged by their median.

{facts}

## What own runs teach

Choices with none, a tenth and half of the runs known. The forecast is the shipped predictor's, which never
saw this machine's runs; *nothing* starts without one. *Random runs* are any runs; *whole tasks* are all runs
of some tasks, judged on the others alone; *planner* picks one after the other, as planning.md tells. Top-1
counts a choice within 2 % of the best. Means over {seeds} splits; intervals are 95 % bootstrap over them.

{known}

## Tune

`tune` against measuring every method of every task. *Alone*: each task knows nothing but the forecast. *One
after the other*: the runs of earlier tasks are known. The goal is at most 3 % regret with at most 15 % of the
runs; a winner was always run, so one run of each task is the least.

{tune}

What `tune` chose against always using one method: geometric mean over the tasks that measured it (methods
measured on at least half of the tasks). Above 1, tune is faster.

{fixed}
"""
