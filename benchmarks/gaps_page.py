"""The words of docs/gaps.md; `bench_gaps` fills in the tables."""

PAGE = """# What is predicted beyond measured serving times

Written by `python benchmarks/bench_gaps.py --store HISTORY --write docs/gaps.md`; no number is typed by
hand. Widths are of 90 % intervals. HISTORY holds the public records.

## Campaigns that taught nothing

Time per output token of the shipped predictor on sources of which no run took part in the fit of the serving
learners: other people's engines, prompts and ways of measuring. *Never seen* models are in no run of the fit.
A ratio below 1 says that the prediction is too fast: the fit knows tuned engines of 2025 and 2026.
{campaigns}

## Energy

A device draws a constant share of its TDP and a share that saturates with the work per second. Costs are
fitted on runs that measured joules per token (ML.ENERGY v2 and v3: A100, H100, B200). Of other devices the
catalogue's TDP is used; without one the answer is unknown. Two sources of watts are left out of the fit and
stand below as a test: Argonne's 97 (its A100 is said to draw some 500 W of 400 W, and its single GPUs more
than twice what each of four draws, as if idle neighbours counted), and those of a Strix Halo machine, a
processor with a graphics part, where the model says too much: on hardware of another kind the intervals
are too narrow.

Groups are models or devices. The history says at which rate each run went, so the first rows judge the
power model alone; the last has the rate predicted too, for models that the serving learner never saw.
Prompt lengths are not stated there and stand at the usual 1024 tokens; rates of these runs, many of 2024,
are overestimated by that learner, which is why the interval of the energy is stretched to cover them.
{energy}

## Speculative decoding

Acceptance per drafted token is taken from publications (listed in `learn/speculation.py`), the cost of
verification from the roofline, and the interval from the spread of acceptance. Spec-Bench's yields were
among those publications, so its rows show the cost model, with chains instead of its trees; that wide trees
cost five drafting passes was set with gpustack's rows in view. Argonne's rows (a draft of 68 M in vLLM of
2024, whose documentation called speculation not yet optimised) were not used. A speed-up below 1 is a loss.
{speculation}

## Chunks and reused prefixes

Few published runs differ in the chunk alone; their prompts are shorter than the chunk, so that arithmetic
expects no effect and the measured ratios show noise and what else differed. Ratios are with chunk to
without. No pair of runs differs in prefix caching alone with a stated share of reuse, so its effect
(a shorter prefill, more room for sequences) is arithmetic that nothing here confirms.
{chunks}

## Monotone relations

Steps along one knob on random settings (8 models, 8 devices, 3 engines), and how many move a metric the
wrong way at all, by more than 5 %, and at worst.
{monotone}

## Images and video

Time of an image and step on what the fit never saw. *Within a cell* is the error of one method against the
others on the same model, device, batch and size, which is what a choice of method needs.
{images}
"""
