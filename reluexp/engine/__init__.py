"""What executes stacks."""
