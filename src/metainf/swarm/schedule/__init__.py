"""The meta-scheduler: which node, and with which acceleration, from forecasts and the present state.

Deciding and learning are pure and laid out in arrays, so that a thousand nodes take less than a millisecond.
docs/scheduler.md tells how well it does in simulation, and what it cannot know.
"""
