"""How a network learns: demonstrations, training, and honest evaluation in closed loop."""
