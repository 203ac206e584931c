"""What `largeds doctor` and `largeds bench` measure, as functions and dataclasses; the commands are in cli/.

doctor/ finds what limits an epoch, bench/ compares with other libraries. peers.py has the usual ways to do the same
work, classifier.py the model that both train. Not for users: it may change in any release.
"""
