"""What an operator sees of a running site: probes, metrics, logs, traces and reported errors."""
