"""Before anything trains: which trials there are, how they stack, what they cost, what a machine cannot hold."""
