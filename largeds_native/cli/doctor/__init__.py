"""`largeds doctor`: what limits an epoch, and what to change. Parts alone in parts.py, the true loop in course.py, the
epoch from a window of it in steady.py, a user's script in script.py, the verdict in verdict.py."""
