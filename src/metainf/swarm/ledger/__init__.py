"""Who asked for what at which price, who did the work, and who is paid: orders, receipts, settlements.

The default is a file of signed entries, each bound to the one before. The same rules exist as a contract for
an Ethereum virtual machine. docs/ledger.md tells what this protects against and what not.
"""
