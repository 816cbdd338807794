"""A sick Redis, restarts, soaks and the ends of processes: real processes, and what they leave behind."""
