"""The long-running service: ticks, finds due slots and runs them, once each."""
