"""The studies that ship: which runs they hold, and what their records say."""
