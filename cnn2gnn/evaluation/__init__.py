"""Protocols, metrics, cost and audits: what explorer and report share."""
