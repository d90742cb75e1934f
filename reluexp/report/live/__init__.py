"""What the page's figures that can be explored are made of: curves and dots as compact data, and the scripts."""
