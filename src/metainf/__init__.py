"""MetaInf: which inference acceleration to turn on, on which machine, and what it will cost."""

__version__ = "0.1.0"
