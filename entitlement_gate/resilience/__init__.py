"""What keeps a process well beside others that fail: single-flight, circuit breaker, token bucket, worker pool, forks.

It knows nothing of entitlements.
"""
