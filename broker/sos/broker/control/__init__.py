"""The control plane: what the doors may ask for. Decisions are the domain's; this carries them out, in this order:
decide, append, project, then act on NATS, then answer."""
