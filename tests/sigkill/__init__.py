"""
Real processes, real sockets, SIGKILL: whatever line a bot dies on, nothing is lost and nothing done twice.

``python -m tests.sigkill --points 200`` prints what was hit and what was counted.
"""
