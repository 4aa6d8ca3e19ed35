"""What a method costs: training steps, inference, matched budgets."""
