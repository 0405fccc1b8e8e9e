"""What strings the other packages together: evaluation of models, sweeps, the demo."""
