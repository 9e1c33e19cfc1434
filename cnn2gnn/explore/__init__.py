"""See the learned graph: `state` answers, `figures` draws, `widgets` shows."""
