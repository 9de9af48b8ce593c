"""How well a replayed policy decided: quantities, metrics of them, conditions on those, and a verdict."""
