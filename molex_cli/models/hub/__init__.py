"""The Hugging Face hub: where it is, which commit a name means there, its files, and what may go wrong."""
