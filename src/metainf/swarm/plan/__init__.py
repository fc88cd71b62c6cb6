"""Pure decisions: routes, placement, rebalancing, and a simulator that plays them."""
