"""What the plots of explorer and report share: their look, their letters, and a few pictures."""
