"""What goes on around the steps of a run: batches, processes, clock, learning rate, health, checkpoints and options."""
