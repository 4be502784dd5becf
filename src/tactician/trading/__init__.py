"""The trained policy meets a broker: journal, plan, risk, orders, reconciliation."""
