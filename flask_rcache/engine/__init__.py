"""The engine: the manager, and how values are loaded and shared."""
