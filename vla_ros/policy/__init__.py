"""Policies: an observation in, a chunk of absolute actions out. They run in the worker process."""
