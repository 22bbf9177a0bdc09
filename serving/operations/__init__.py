"""What operators see: metrics, traces, log lines, a record of each request."""
