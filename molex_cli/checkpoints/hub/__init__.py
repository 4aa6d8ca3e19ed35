"""Runs on the Hugging Face hub: what of a run is sent, its card, sending it, opening it from there."""
