"""Frames behind figures: from a study's tables to one number per trial, for means and bands over trials."""
