"""A model that runs through many unlike nodes, each of which holds some of its blocks.

Deciding (words, routing, placement, rebalancing) is pure; identities and certificates prove who speaks; what
exists and what does not yet is told in docs/swarm.md.
"""
