"""What is measured of a network, whosever it is: the definitions, the probe, causes of death, and `watch`."""
