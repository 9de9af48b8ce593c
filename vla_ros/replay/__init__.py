"""A bag through the decision path again: the same streams, ticks and guard as live, offline and reproducible."""
