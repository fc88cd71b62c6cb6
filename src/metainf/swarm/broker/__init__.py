"""Requests that wait for whoever may serve them: agents publish, consumer groups pull, urgent ones first.

The queue is NATS JetStream. Activations never go through it. docs/broker.md tells what holds and what not.
"""
