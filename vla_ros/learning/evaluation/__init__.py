"""Closed-loop evaluation: a policy behind the live graph's decision path, on worlds that it has not learned from."""
