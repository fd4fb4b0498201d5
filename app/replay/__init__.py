"""Call every model on every Case of a block."""
