"""From records to an honest table; nothing here imports torch."""
