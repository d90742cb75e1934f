"""A stack of networks as one computation: how a model is read, where its activations are, and what it leaves behind."""
