"""What delivers an Alert."""
