"""What a config can name: activations, architectures, data sets, inits, optimizers, schedules."""
