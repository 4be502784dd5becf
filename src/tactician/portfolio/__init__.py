"""Portfolios: regimes as target weights, trading costs, and the ledger."""
