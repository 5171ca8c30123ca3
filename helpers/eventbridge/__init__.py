"""EventBridge: the pattern language, what was delivered, explanations, replays, templates and schedules."""
