"""EventBridge: debug rules, their targets and health, and what a debugging run leaves behind."""
