"""This machine, real engines: prompts are sent, times are taken, records are made."""
