"""Load a service that runs, watch its latencies second by second, and judge them by thresholds."""
